//! `schema`: what editors complete and check workflow files by.

use flotilla_engine::definition::schema;

use crate::failure::Exit;
use crate::output::print;

/// Prints the JSON Schema, in either form of output: it is one JSON document.
pub fn run() -> Exit {
    print(&format!("{:#}", schema()));
    Exit::Done
}
