//! Reads YAML that is no definition with the same care: places, unknown keys, what was probably meant.

pub use crate::definition::reader::{
    Fields, Reader, describe, is_name, is_reference, join, literal,
};
pub use crate::definition::text::{closest, did_you_mean};
pub use crate::definition::tree::{Key, Node, Place, Value, parse};
