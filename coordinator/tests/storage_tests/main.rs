//! Storage against a real Postgres, with a database for each test: what is written can be loaded
//! again, nobody writes behind the fence, and the schema keeps its promises.

mod commit;
mod fence;
mod load;
mod messages;
mod partitions;
mod schema;
mod support;
mod view;
