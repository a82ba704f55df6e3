//! The readable forms of the model (feature `serde`): names and not numbers.
//!
//! A value that can be said in a few words is text: keys, schedulers with their options, masks,
//! flags. A value with parts is a map, which leaves defaults out and refuses unknown keys; where
//! one of the parts is mostly all there is, it may stand for the map.

pub(crate) mod list;
mod maps;
pub(crate) mod seconds;
pub(crate) mod text;

pub(crate) use text::{OnlyMap, as_text};
