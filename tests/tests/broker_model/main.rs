//! The simulated broker is held against RabbitMQ: every case is written once and runs on both. Where
//! they differ, the model is wrong.

mod consuming;
mod memory;
mod publishing;
mod rabbit;
mod redelivery;
mod server;
