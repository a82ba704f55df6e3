//! Errors that a datagram can tell.

use crate::uapi::Errno;
use crate::wire::DecodeError;

/// Why an exchange or an operation failed, as a datagram says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AnswerError {
    #[error("the kernel refused")]
    Kernel { errno: Errno, message: Option<String> },
    #[error("the kernel dropped answers, since the socket's receive buffer was full")]
    Lost,
    #[error("the table changed while it was read; read it again")]
    Interrupted,
    #[error("the kernel's answer cannot be read: {0}")]
    Decode(#[from] DecodeError),
}
