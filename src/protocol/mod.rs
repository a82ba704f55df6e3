//! The protocol without its sockets: requests in, datagrams out; datagrams in, answers out.
//!
//! This module performs no I/O and reads no clock.

pub(crate) mod answer;
mod encoder;
mod error;
mod exchange;
mod frame;
mod operation;
mod request;
mod window;

pub use operation::Operation;
pub use request::Request;

pub(crate) use crate::wire::{DecodeError, FromAttributes};
pub(crate) use answer::Answer;
pub(crate) use encoder::{Encoder, LONGEST_MESSAGE};
pub(crate) use error::AnswerError;
pub(crate) use exchange::{Exchange, Heard};
pub(crate) use window::{Filling, Window};
