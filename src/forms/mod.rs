//! The readable forms of the model (feature `serde`): names and not numbers.
//!
//! A value that a few words can tell is text: keys, schedulers with their options, masks, flags. A
//! value with parts is a map, which leaves defaults out and refuses unknown keys; if most users set
//! only one of the parts, that part may stand for the map.

pub(crate) mod list;
mod maps;
pub(crate) mod seconds;
pub(crate) mod text;

pub(crate) use text::{OnlyMap, as_text};
