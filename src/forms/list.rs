//! Lists, with an error that helps users who have left one empty.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

use crate::model::Invalid;

/// Reads a list. The error for any other input, such as no value behind `services:`, says how an
/// empty list is written.
pub(crate) fn deserialize<'de, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    let mut list = Vec::new();
    each(deserializer, |entry| {
        list.push(entry);
        Ok(())
    })?;
    Ok(list)
}

/// Reads a list entry by entry. The error for a refused entry tells the entry's place in the text.
pub(crate) fn each<'de, T, D>(
    deserializer: D,
    take: impl FnMut(T) -> Result<(), Invalid>,
) -> Result<(), D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    deserializer.deserialize_any(List { take, entry: PhantomData })
}

struct List<F, T> {
    take: F,
    entry: PhantomData<T>,
}

impl<'de, T: Deserialize<'de>, F: FnMut(T) -> Result<(), Invalid>> Visitor<'de> for List<F, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list, which is written [] where it is empty")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut entries: A) -> Result<(), A::Error> {
        while let Some(entry) = entries.next_element()? {
            (self.take)(entry).map_err(A::Error::custom)?;
        }
        Ok(())
    }
}
