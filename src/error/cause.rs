//! Why a request failed.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::model::Invalid;
use crate::protocol::{AnswerError, DecodeError};
use crate::uapi::Errno;

/// Why a request failed. Errors of the system are shared, so that one cause serves many operations.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Cause {
    #[error(transparent)]
    Invalid(#[from] Invalid),
    #[error("this kernel has no IPVS; load it with modprobe ip_vs")]
    NoIpvs,
    #[error(transparent)]
    Answer(#[from] AnswerError),
    #[error("the kernel's answer cannot be read: a datagram of more than {0} bytes")]
    Truncated(usize),
    #[error("nothing was sent: {0}")]
    NotSent(Arc<io::Error>),
    #[error("nothing was sent, since something before it failed")]
    Stopped,
    #[error("nothing was sent, since the caller called off the rest")]
    CalledOff,
    #[error("{0}")]
    Socket(Arc<io::Error>),
    #[error("the kernel did not answer within {0:?}")]
    TimedOut(Duration),
    #[error("the operation was dropped before the kernel's answer was read")]
    Dropped,
    #[error("the kernel did not answer the question")]
    NoAnswer,
    #[error("the service has no such destination")]
    NotListed,
    #[error("the kernel's module was loaded anew meanwhile, and its table was lost")]
    TableLost,
    #[error("others have undone it, again and again; find out who else writes to the table")]
    Overruled,
    #[error(
        "the kernel keeps another value than the one that was written; read it back to see which"
    )]
    NotKept,
}

impl Cause {
    pub(crate) fn not_sent(error: io::Error) -> Self {
        Self::NotSent(Arc::new(error))
    }

    pub(crate) fn socket(error: io::Error) -> Self {
        Self::Socket(Arc::new(error))
    }

    /// The error number of the kernel's answer.
    pub(crate) fn errno(&self) -> Option<Errno> {
        match self {
            Self::Answer(AnswerError::Kernel { errno, .. }) => Some(*errno),
            _ => None,
        }
    }

    /// Whether the kernel has received nothing of the request.
    pub(crate) fn is_not_sent(&self) -> bool {
        matches!(self, Self::Invalid(_) | Self::NotSent(_) | Self::Stopped | Self::CalledOff)
    }

    /// The cause of a request that was not sent because of this one.
    pub(crate) fn before_sending(&self) -> Self {
        match self {
            Self::NoIpvs | Self::NotSent(_) => self.clone(),
            other => Self::not_sent(io::Error::other(other.to_string())),
        }
    }
}

impl From<DecodeError> for Cause {
    fn from(error: DecodeError) -> Self {
        AnswerError::from(error).into()
    }
}
