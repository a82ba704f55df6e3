//! Short names the kernel keeps in fixed arrays: schedulers, persistence engines, interfaces.

use std::fmt;
use std::str::FromStr;

use super::Invalid;

/// The name of a scheduler: 1 to 15 bytes.
pub type SchedulerName = Name<15>;
/// The name of a persistence engine: 1 to 16 bytes.
pub type EngineName = Name<16>;
/// The name of a network interface: 1 to 15 bytes.
pub type InterfaceName = Name<15>;

/// A name of 1 to `MAX` bytes without white space or control characters, stored in place.
// A name has no NUL, and zeros follow it, so the derived comparisons compare the text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name<const MAX: usize> {
    bytes: [u8; MAX],
    length: u8,
}

impl<const MAX: usize> Name<MAX> {
    /// Checks and takes a name.
    ///
    /// # Errors
    /// When it is empty, longer than `MAX` bytes, or holds white space or control characters.
    pub fn new(name: &str) -> Result<Self, Invalid> {
        if name.is_empty() {
            return Err(Invalid::new("a name is empty"));
        }
        if name.len() > MAX {
            return Err(Invalid::new(format!(
                "the name {name:?} has {} bytes, the kernel keeps {MAX}",
                name.len()
            )));
        }
        if name.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(Invalid::new(format!(
                "the name {name:?} has white space or control characters"
            )));
        }
        let mut bytes = [0; MAX];
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        const { assert!(MAX <= u8::MAX as usize) };
        #[allow(clippy::cast_possible_truncation)]
        let length = name.len() as u8;
        Ok(Self { bytes, length })
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        // The bytes are always UTF-8, since only a `&str` fills them.
        std::str::from_utf8(&self.bytes[..usize::from(self.length)]).unwrap_or_default()
    }
}

impl<const MAX: usize> FromStr for Name<MAX> {
    type Err = Invalid;

    fn from_str(name: &str) -> Result<Self, Invalid> {
        Self::new(name)
    }
}

impl<const MAX: usize> AsRef<str> for Name<MAX> {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl<const MAX: usize> PartialEq<str> for Name<MAX> {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl<const MAX: usize> PartialEq<&str> for Name<MAX> {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl<const MAX: usize> fmt::Display for Name<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl<const MAX: usize> fmt::Debug for Name<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_names_up_to_the_kernels_limit() {
        assert_eq!(SchedulerName::new("a23456789012345").unwrap().as_str().len(), 15);
        assert!(SchedulerName::new("a234567890123456").is_err());
        assert!(EngineName::new("a234567890123456").is_ok());
    }

    #[test]
    fn refuses_what_would_break_a_rules_file() {
        for name in ["", "a b", "a\n", "a\0"] {
            assert!(SchedulerName::new(name).is_err(), "{name:?}");
        }
    }
}
