//! The model as generic-netlink bytes, both ways.
//!
//! [`Message`] is a citizen of the rust-netlink family: it implements
//! [`GenlFamily`](netlink_packet_generic::GenlFamily),
//! [`Emitable`](netlink_packet_core::Emitable) and
//! [`ParseableParametrized`](netlink_packet_core::ParseableParametrized), which makes it usable
//! with the `genetlink` crate, too. A message holds attributes as the kernel names them, each of
//! them optional; [`ServiceAttributes`] and the other attribute types can be turned into the types
//! of the crate's root, such as [`Service`](crate::Service), and back.
//!
//! Its traits are those of `netlink-packet-core` 0.9 and `netlink-packet-generic` 0.5, re-exported
//! as [`netlink_packet_core`] and [`netlink_packet_generic`] so that the versions match; they work
//! with `genetlink` 0.3. Moving to other versions of them is a breaking change of this crate.
//!
//! ```no_run
//! use futures_util::StreamExt as _;
//! use ipvs_netlink::wire::netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
//! use ipvs_netlink::wire::netlink_packet_generic::GenlMessage;
//! use ipvs_netlink::{Operation, Service};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let (connection, mut handle, _) = genetlink::new_connection()?;
//! tokio::spawn(connection);
//! let add = Operation::AddService(Service::tcp([10, 0, 0, 1], 80));
//! let mut request = NetlinkMessage::from(GenlMessage::from_payload(add.message()));
//! request.header.flags = NLM_F_REQUEST | NLM_F_ACK;
//! let mut answers = handle.request(request).await?;
//! while let Some(answer) = answers.next().await {
//!     if let NetlinkPayload::Error(error) = answer?.payload {
//!         println!("the kernel's answer: {:?}", error.code);
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Decoding is as lenient as the kernel: unknown attributes are skipped, integers may be longer
//! than needed, and of duplicates the last one counts. No input makes the decoder panic.
// Inlined into a request's encoding, attributes that are known to be absent cost nothing: a fifth
// fewer instructions for an operation of a batch.
#![allow(clippy::inline_always)]

mod codec;
mod daemon;
mod destination;
mod error;
mod message;
mod payload;
mod reader;
mod service;
mod stats;
mod table;
mod writer;

pub use daemon::DaemonAttributes;
pub use destination::DestinationAttributes;
pub use error::DecodeError;
pub use message::{InfoAttributes, Message, TimeoutAttributes};
pub use service::ServiceAttributes;

pub use crate::uapi::Command;
pub use crate::uapi::ipvs as uapi;
pub use {netlink_packet_core, netlink_packet_generic};

pub(crate) use destination::FromAttributes;
pub(crate) use payload::{Mention, Payload};
pub(crate) use reader::for_each_attribute;
pub(crate) use writer::{Length, Sink, Slice, Written};
