//! The protocol without its sockets: requests in, datagrams out; datagrams in, outcomes out.
//!
//! Nothing here performs I/O or looks at a clock.

mod engine;
mod frame;
mod operation;
mod request;
mod window;

pub use operation::Operation;
pub use request::Request;
pub use window::Batch;

pub(crate) use engine::{Answer, Engine, Exchange, LONGEST_MESSAGE, Progress, family_id};
pub(crate) use window::Window;
