//! The model as generic-netlink bytes, both ways: the only place that knows attribute numbers.
//!
//! [`Message`] is a citizen of the rust-netlink family: it implements
//! [`GenlFamily`](netlink_packet_generic::GenlFamily),
//! [`Emitable`](netlink_packet_core::Emitable) and
//! [`ParseableParametrized`](netlink_packet_core::ParseableParametrized), so it also travels with
//! the `genetlink` crate. It holds attributes as the kernel names them, each of them optional;
//! [`ServiceAttributes`] and its like turn into the types of [`model`](crate::model) and back.
//!
//! Decoding is as lenient as the kernel: unknown attributes are skipped, integers may be longer
//! than needed, of duplicates the last one counts. It never panics, whatever the bytes.
// Inlined into a request's encoding, attributes that are known to be absent cost nothing: a fifth
// fewer instructions for an operation of a batch.
#![allow(clippy::inline_always)]

mod daemon;
mod destination;
mod error;
mod message;
mod payload;
mod reader;
mod service;
mod stats;
pub mod uapi;
mod writer;

pub use daemon::DaemonAttributes;
pub use destination::DestinationAttributes;
pub use error::DecodeError;
pub use message::{Command, Message};
pub use service::ServiceAttributes;

pub(crate) use destination::OfDestination;
pub(crate) use payload::{About, Payload};
pub(crate) use reader::for_each_attribute;
pub(crate) use writer::{Length, Sink, Slice};
