//! Storage against a real Postgres, with a database for each test: what is written can be loaded
//! again, nobody writes behind the fence, and the schema keeps its promises.

mod check;
mod commit;
mod constraints;
mod fence;
mod history;
mod items;
mod load;
mod messages;
mod partitions;
mod planted;
mod schema;
mod silent;
mod support;
mod task_log;
mod view;
mod watch;
