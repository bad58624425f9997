//! What a coordinator decides in a turn.

pub mod rows;
