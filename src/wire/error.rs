//! What can be wrong with bytes.

/// Bytes that do not say what they should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// An attribute that must be there is not.
    #[error("the attribute {0} is missing")]
    Missing(&'static str),
    /// An attribute is shorter than its type.
    #[error("the attribute {name} has {length} bytes, {needed} are needed")]
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
    Value {
        /// The attribute.
        name: &'static str,
        /// The value, and what is wrong with it.
        value: String,
    },
    /// A command number that is none of the family's seventeen.
    #[error("{0} is not a command of IPVS")]
    Command(u8),
    /// A datagram that is not made of netlink messages.
    #[error("{0}")]
    Framing(String),
}

impl From<DecodeError> for netlink_packet_core::DecodeError {
    fn from(error: DecodeError) -> Self {
        error.to_string().into()
    }
}
