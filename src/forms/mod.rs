//! The readable forms of the model and of rules (feature `serde`): names and not numbers.
//!
//! A value of one word is text here: schedulers with their options, protocols, masks, flags. What
//! has parts is a map, from which defaults are left out and in which unknown keys are errors.

mod records;
pub(crate) mod seconds;
mod words;

pub(crate) use records::{Destination, Forwarding, Service, ServiceKey, Timeouts, Tunnel};
pub(crate) use records::{Entries, TimeoutsUpdate};
