//! The kinds of errors, for programs that match on them.

use super::Cause;
use crate::protocol::{AnswerError, Operation, Request};
use crate::uapi::Errno;

/// The kind of an [`Error`](crate::Error), as [`Error::kind`](crate::Error::kind) tells it.
///
/// For any kind, [`Error::is_outcome_unknown`](crate::Error::is_outcome_unknown) tells whether a
/// change may have been made all the same, and [`Error::is_retryable`](crate::Error::is_retryable)
/// whether to ask again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// This kernel has no IPVS, or its module is not loaded.
    IpvsNotFound,
    /// The caller lacks `CAP_NET_ADMIN` in the initial user namespace, or may not enter the network
    /// namespace.
    PermissionDenied,
    /// No kernel would take the request, and nothing was sent.
    Invalid,
    /// The kernel has no such service.
    ServiceNotFound,
    /// The kernel has the service, but no such destination.
    DestinationNotFound,
    /// No sync daemon of the role runs.
    DaemonNotFound,
    /// The kernel already has the service, the destination or the sync daemon that was to be added.
    AlreadyExists,
    /// The service's scheduler or persistence engine is not available.
    ModuleNotFound,
    /// The kernel refused for another reason: see [`Error::errno`](crate::Error::errno).
    Refused,
    /// The kernel did not answer in time.
    TimedOut,
    /// The kernel's answer was lost or not waited for.
    AnswerLost,
    /// The kernel's answer cannot be read.
    Unreadable,
    /// The table changed while it was read, or was lost with its module.
    TableChanged,
    /// Nothing was sent, since an earlier request failed or the caller called off the rest.
    Stopped,
    /// A system call on the socket or the network namespace failed: see
    /// [`Error::errno`](crate::Error::errno).
    System,
    /// The change was made and undone by others, again and again.
    Overruled,
    /// The change was made, and the kernel keeps another value.
    NotKept,
}

impl ErrorKind {
    pub(super) fn new(request: &Request, cause: &Cause) -> Self {
        match cause {
            Cause::Invalid(_) => Self::Invalid,
            Cause::NoIpvs => Self::IpvsNotFound,
            Cause::NotListed => Self::DestinationNotFound,
            Cause::Answer(AnswerError::Kernel { errno, .. }) => refusal(request, *errno),
            Cause::Socket(error) | Cause::NotSent(error) => match error.kind() {
                std::io::ErrorKind::PermissionDenied => Self::PermissionDenied,
                _ => Self::System,
            },
            Cause::TimedOut(_) => Self::TimedOut,
            Cause::Answer(AnswerError::Lost) | Cause::NoAnswer | Cause::Dropped => Self::AnswerLost,
            Cause::Answer(AnswerError::Decode(_)) | Cause::Truncated(_) => Self::Unreadable,
            Cause::Answer(AnswerError::Interrupted) | Cause::TableLost => Self::TableChanged,
            Cause::Stopped | Cause::CalledOff => Self::Stopped,
            Cause::Overruled => Self::Overruled,
            Cause::NotKept => Self::NotKept,
        }
    }
}

/// The meaning of an error number for a request.
fn refusal(request: &Request, errno: Errno) -> ErrorKind {
    let operation = match request {
        Request::Operation(operation) => Some(operation),
        _ => None,
    };
    match (errno, operation) {
        (Errno::PERM, _) => ErrorKind::PermissionDenied,
        (Errno::EXIST, _) => ErrorKind::AlreadyExists,
        (Errno::SRCH, Some(Operation::StopDaemon(_))) => ErrorKind::DaemonNotFound,
        (Errno::SRCH, _) => ErrorKind::ServiceNotFound,
        (Errno::NOENT, Some(Operation::AddService(_) | Operation::UpdateService(_))) => {
            ErrorKind::ModuleNotFound
        }
        (
            Errno::NOENT,
            Some(Operation::UpdateDestination(..) | Operation::RemoveDestination(..)),
        ) => ErrorKind::DestinationNotFound,
        _ => ErrorKind::Refused,
    }
}
