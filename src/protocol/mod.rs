//! The protocol without its sockets: requests in, datagrams out; datagrams in, outcomes out.
//!
//! Nothing here performs I/O or looks at a clock.

mod engine;
mod frame;
mod operation;
mod request;

pub use operation::Operation;
pub use request::Request;

pub(crate) use engine::{Engine, Exchange, Progress, family_id};
