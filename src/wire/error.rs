//! The error of decoding: which attribute is wrong, and how.

/// The reason why bytes are no message of the family.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The message lacks an attribute that every message of its kind has.
    #[error("the attribute {0} is missing")]
    Missing(&'static str),
    /// An attribute is shorter than its type.
    #[error("the attribute {name} has {length} bytes, {needed} are needed")]
    #[non_exhaustive]
    Short {
        /// The attribute.
        name: &'static str,
        /// Its length in bytes.
        length: usize,
        /// The length its type needs.
        needed: usize,
    },
    /// An attribute's value has no meaning here.
    #[error("the attribute {name} is {value}")]
    #[non_exhaustive]
    Value {
        /// The attribute.
        name: &'static str,
        /// The value, and its fault.
        value: String,
    },
    /// The family has no command of this number.
    #[error("{0} is not a command of IPVS")]
    Command(u8),
    /// The datagram is not made of netlink messages.
    #[error("{0}")]
    Framing(String),
}

impl From<DecodeError> for netlink_packet_core::DecodeError {
    fn from(error: DecodeError) -> Self {
        error.to_string().into()
    }
}
