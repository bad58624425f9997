//! The broker connection against a real broker, which `AMQP_URL` names. Queues have names of their
//! own and are deleted, so that the tests run side by side.

mod bundles;
mod consuming;
mod own_queues;
mod publishing;
mod support;
mod topology;
