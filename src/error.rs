//! The crate's error: what was asked, what went wrong, and what to do about it.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;

use crate::model::{Invalid, Scheduler, Service};
use crate::protocol::{Operation, Request};
use crate::wire::DecodeError;

/// What came of a request that failed.
///
/// Its text is one line: what was asked, what the kernel said, what to do. Programs ask the
/// predicates; [`errno`](Self::errno) and [`kernel_message`](Self::kernel_message) have the
/// kernel's own words.
///
/// ```no_run
/// # use ipvs_netlink::{Service, blocking::Client};
/// # let mut ipvs = Client::connect()?;
/// # let web = Service::tcp(std::net::Ipv4Addr::new(10, 0, 0, 1), 80);
/// match ipvs.add_service(&web) {
///     Err(error) if error.is_already_exists() => ipvs.update_service(&web)?,
///     other => other?,
/// }
/// # Ok::<(), ipvs_netlink::Error>(())
/// ```
#[derive(Clone)]
pub struct Error(Arc<Failure>);

struct Failure {
    request: Request,
    cause: Cause,
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Cause {
    #[error(transparent)]
    Invalid(#[from] Invalid),
    #[error("this kernel has no IPVS; load it with modprobe ip_vs")]
    NoIpvs,
    #[error("the kernel refused")]
    Kernel { errno: i32, message: Option<String> },
    #[error("nothing was sent: {0}")]
    NotSent(#[source] io::Error),
    #[error("nothing was sent, since something before it failed")]
    Stopped,
    #[error("nothing was sent, since the caller called off the rest")]
    CalledOff,
    #[error("{0}")]
    Socket(#[source] io::Error),
    #[error("the kernel did not answer within {0:?}")]
    TimedOut(Duration),
    #[error("the kernel dropped answers, since the socket's receive buffer was full")]
    Lost,
    #[error("the table changed while it was read; read it again")]
    Interrupted,
    #[error("the kernel's answer cannot be read: {0}")]
    Decode(#[from] DecodeError),
    #[error("the kernel did not answer the question")]
    NoAnswer,
    #[error("others have undone it, again and again; find out who else writes to the table")]
    Overruled,
    #[error(
        "the kernel keeps another value than the one that was written; read it back to see which"
    )]
    NotKept,
}

impl Cause {
    /// Whether nothing of the request has reached the kernel.
    pub(crate) fn is_not_sent(&self) -> bool {
        matches!(self, Self::Invalid(_) | Self::NotSent(_) | Self::Stopped | Self::CalledOff)
    }

    /// What it means for a request that could not be sent for this cause.
    pub(crate) fn before_sending(&self) -> Self {
        match self {
            Self::NoIpvs => Self::NoIpvs,
            Self::NotSent(error) => Self::NotSent(repeated(error)),
            other => Self::NotSent(io::Error::other(other.to_string())),
        }
    }

    /// The same cause for another request.
    pub(crate) fn repeated(&self) -> Self {
        match self {
            Self::Invalid(invalid) => Self::Invalid(invalid.clone()),
            Self::NoIpvs => Self::NoIpvs,
            Self::Kernel { errno, message } => {
                Self::Kernel { errno: *errno, message: message.clone() }
            }
            Self::NotSent(error) => Self::NotSent(repeated(error)),
            Self::Stopped => Self::Stopped,
            Self::CalledOff => Self::CalledOff,
            Self::Socket(error) => Self::Socket(repeated(error)),
            Self::TimedOut(patience) => Self::TimedOut(*patience),
            Self::Lost => Self::Lost,
            Self::Interrupted => Self::Interrupted,
            Self::Decode(error) => Self::Decode(error.clone()),
            Self::NoAnswer => Self::NoAnswer,
            Self::Overruled => Self::Overruled,
            Self::NotKept => Self::NotKept,
        }
    }
}

/// I/O errors do not copy.
fn repeated(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(number) => io::Error::from_raw_os_error(number),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

impl Error {
    pub(crate) fn new(request: Request, cause: impl Into<Cause>) -> Self {
        Self(Arc::new(Failure { request, cause: cause.into() }))
    }

    pub(crate) fn cause(&self) -> &Cause {
        &self.0.cause
    }

    /// What was asked.
    pub fn request(&self) -> &Request {
        &self.0.request
    }

    /// The kernel's error number, where the kernel answered with one.
    pub fn errno(&self) -> Option<i32> {
        match &self.0.cause {
            Cause::Kernel { errno, .. } => Some(*errno),
            Cause::NoIpvs => Some(Errno::NOENT.raw_os_error()),
            Cause::Socket(error) | Cause::NotSent(error) => error.raw_os_error(),
            _ => None,
        }
    }

    /// The kernel's extended message. IPVS itself never has one; the checks before it do.
    pub fn kernel_message(&self) -> Option<&str> {
        match &self.0.cause {
            Cause::Kernel { message, .. } => message.as_deref(),
            _ => None,
        }
    }

    /// The service, or the sync daemon, that the request was about is not there (`ESRCH`).
    pub fn is_service_not_found(&self) -> bool {
        self.is(Errno::SRCH) && !matches!(self.operation(), Some(Operation::StopDaemon(_)))
    }

    /// The service is there, but not the destination that the request was about (`ENOENT`).
    pub fn is_destination_not_found(&self) -> bool {
        self.is(Errno::NOENT)
            && matches!(
                self.0.request,
                Request::Destination(..)
                    | Request::Operation(
                        Operation::UpdateDestination(..) | Operation::RemoveDestination(..)
                    )
            )
    }

    /// What the request was about is not there: a service, a destination or a sync daemon.
    pub fn is_not_found(&self) -> bool {
        self.is(Errno::SRCH) || self.is_destination_not_found()
    }

    /// What was to be added or started is there already (`EEXIST`).
    pub fn is_already_exists(&self) -> bool {
        self.is(Errno::EXIST)
    }

    /// The scheduler or the persistence engine of the service is not available (`ENOENT`).
    pub fn is_module_not_found(&self) -> bool {
        self.is(Errno::NOENT) && self.service().is_some()
    }

    /// This kernel has no IPVS, or its module is not loaded.
    pub fn is_ipvs_not_found(&self) -> bool {
        matches!(self.0.cause, Cause::NoIpvs)
    }

    /// The caller lacks `CAP_NET_ADMIN` in the initial user namespace (`EPERM`), or may not enter
    /// the network namespace.
    pub fn is_permission_denied(&self) -> bool {
        let denied = |error: &io::Error| error.kind() == io::ErrorKind::PermissionDenied;
        match &self.0.cause {
            Cause::Socket(error) | Cause::NotSent(error) => denied(error),
            _ => self.is(Errno::PERM),
        }
    }

    /// The request was refused before it was sent, since no kernel would take it.
    pub fn is_invalid(&self) -> bool {
        matches!(self.0.cause, Cause::Invalid(_))
    }

    /// Nothing of the request has reached the kernel: it was invalid, it could not be sent, or it
    /// was not sent since an operation before it failed.
    pub fn is_not_sent(&self) -> bool {
        self.0.cause.is_not_sent()
    }

    /// The kernel did not answer in time.
    pub fn is_timed_out(&self) -> bool {
        matches!(self.0.cause, Cause::TimedOut(_))
    }

    /// The request was a change, and whether the kernel has made it is not known: its answer was
    /// lost, late, or not to be read. Read the state back before asking again.
    pub fn is_outcome_unknown(&self) -> bool {
        self.operation().is_some()
            && !self.is_not_sent()
            && !matches!(
                self.0.cause,
                Cause::NoIpvs | Cause::Kernel { .. } | Cause::Overruled | Cause::NotKept
            )
    }

    /// The change was made and undone by others, again and again.
    pub fn is_overruled(&self) -> bool {
        matches!(self.0.cause, Cause::Overruled)
    }

    /// The change was made, and the kernel keeps another value: a persistence timeout that is too
    /// long for it, for one.
    pub fn is_not_kept(&self) -> bool {
        matches!(self.0.cause, Cause::NotKept)
    }

    /// The kernel refused for a reason that passes: want of memory, a full buffer, a signal.
    pub(crate) fn is_passing(&self) -> bool {
        [Errno::NOMEM, Errno::NOBUFS, Errno::AGAIN, Errno::INTR, Errno::BUSY]
            .into_iter()
            .any(|errno| self.is(errno))
    }

    /// The text without what was asked, by which errors are told to have one reason.
    pub(crate) fn reason(&self) -> String {
        Reason(self).to_string()
    }

    /// Whether this is the kernel's answer to the request.
    fn is(&self, wanted: Errno) -> bool {
        matches!(&self.0.cause, Cause::Kernel { errno, .. } if *errno == wanted.raw_os_error())
    }

    fn operation(&self) -> Option<&Operation> {
        match &self.0.request {
            Request::Operation(operation) => Some(operation),
            _ => None,
        }
    }

    /// The service that was to be written, if one was.
    fn service(&self) -> Option<&Service> {
        match self.operation()? {
            Operation::AddService(service) | Operation::UpdateService(service) => Some(service),
            _ => None,
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("request", &self.0.request)
            .field("cause", &self.0.cause)
            .finish()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: {}", self.0.request, Reason(self))
    }
}

/// An error without what was asked.
struct Reason<'a>(&'a Error);

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { request, cause } = &*self.0.0;
        match cause {
            Cause::Kernel { errno, message } => {
                let said = io::Error::from_raw_os_error(*errno);
                match remedy(request, *errno) {
                    Some(remedy) => write!(f, "{remedy} ({said})")?,
                    None => write!(f, "the kernel said: {said}")?,
                }
                match message {
                    Some(message) => write!(f, ": {message}"),
                    None => Ok(()),
                }
            }
            cause => cause.fmt(f),
        }?;
        if self.0.is_outcome_unknown() {
            f.write_str("; whether it took effect is not known: read the state back")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0.cause {
            Cause::Socket(error) | Cause::NotSent(error) => Some(error),
            Cause::Decode(error) => Some(error),
            Cause::Invalid(error) => Some(error),
            _ => None,
        }
    }
}

/// What an error number means for a request, and what to do, where that is known.
fn remedy(request: &Request, errno: i32) -> Option<String> {
    use Request as R;

    let text = match (request, Errno::from_raw_os_error(errno)) {
        (_, Errno::PERM) => {
            "this needs CAP_NET_ADMIN in the initial user namespace; run it as root"
        }
        (_, Errno::OPNOTSUPP) => "this kernel's IPVS does not know the command",
        (_, Errno::BUSY) => "another listing runs on the same socket; let it end first",
        (R::Operation(operation), errno) => return operation_remedy(operation, errno),
        (R::Service(_) | R::Destinations(_) | R::Destination(..), Errno::SRCH) => {
            "there is no such service"
        }
        (R::Destination(..), Errno::NOENT) => "the service has no such destination",
        _ => return None,
    };
    Some(text.to_owned())
}

fn operation_remedy(operation: &Operation, errno: Errno) -> Option<String> {
    use Operation as O;

    let text = match (operation, errno) {
        (O::AddService(service) | O::UpdateService(service), Errno::NOENT) => {
            return Some(missing_module(service));
        }
        (O::AddService(_), Errno::EXIST) => "the service is there already; update it instead",
        (O::AddService(_) | O::UpdateService(_), Errno::AFNOSUPPORT) => {
            "this kernel is built without that address family"
        }
        (O::AddDestination(..), Errno::EXIST) => {
            "the destination is there already; update it instead"
        }
        (O::UpdateDestination(..) | O::RemoveDestination(..), Errno::NOENT) => {
            "the service has no such destination"
        }
        (O::AddDestination(service, destination), Errno::INVAL)
            if service.family() != destination.key.family() =>
        {
            "a destination of another address family than its service's is refused while a \
             sync daemon runs; stop it first, and see that the address is unicast"
        }
        (
            O::AddDestination(_, destination) | O::UpdateDestination(_, destination),
            Errno::INVAL,
        ) if destination.forwarding.tunnel().is_some_and(|t| t.kind() == GUE && t.port() == 0) => {
            "a gue tunnel needs a port other than 0"
        }
        (
            O::AddDestination(_, destination) | O::UpdateDestination(_, destination),
            Errno::INVAL,
        ) if destination.upper_threshold > i32::MAX.cast_unsigned() => {
            "this kernel takes no upper threshold above 2147483647"
        }
        (O::AddDestination(_, destination), Errno::INVAL) if destination.key.address.is_ipv4() => {
            "the address must be local or unicast by the routing table; in a network namespace \
             without an IPv4 address none is, so bring up its loopback first"
        }
        (O::AddDestination(..), Errno::INVAL) => {
            "the address must be unicast, and not link-local unless it is this host's own"
        }
        (O::UpdateDestination(service, destination), Errno::INVAL)
            if service.family() != destination.key.family() =>
        {
            "a destination of another address family than its service's is refused while a \
             sync daemon runs; stop it first"
        }
        (O::StartDaemon(_), Errno::NODEV) => "there is no such interface",
        (O::StartDaemon(_), Errno::EXIST) => "one runs already; stop it first",
        (O::StartDaemon(_), Errno::NETUNREACH) => {
            "the interface is down or has no address of the group's family"
        }
        (O::StartDaemon(_), Errno::INVAL) => {
            "sync daemons cannot run while a destination is of another address family than its \
             service's; otherwise see that the group is multicast"
        }
        (O::StopDaemon(_), Errno::SRCH) => "none runs",
        (O::SetTimeouts(_), Errno::INVAL) => {
            "a timeout is too long: its clock ticks must fit 31 bits"
        }
        (_, Errno::SRCH) => "there is no such service",
        _ => return None,
    };
    Some(text.to_owned())
}

/// The kernel's number for a tunnel of generic UDP encapsulation.
const GUE: u8 = 1;

fn missing_module(service: &Service) -> String {
    let Service { scheduler, persistence, .. } = service;
    let module = format!("scheduler {scheduler} is not available; load it with modprobe ip_vs_");
    let engine = persistence.and_then(|p| p.engine);
    match (scheduler, engine) {
        (Scheduler::Unbound, Some(engine)) => {
            format!(
                "persistence engine {engine} is not available; load it with modprobe ip_vs_pe_{engine}"
            )
        }
        (scheduler, None) => format!("{module}{scheduler}"),
        (scheduler, Some(engine)) => format!(
            "scheduler {scheduler} or persistence engine {engine} is not available; load them with \
             modprobe -a ip_vs_{scheduler} ip_vs_pe_{engine}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ServiceKey;
    use std::net::Ipv4Addr;

    fn refused(request: impl Into<Request>, errno: Errno) -> Error {
        let cause = Cause::Kernel { errno: errno.raw_os_error(), message: None };
        Error::new(request.into(), cause)
    }

    fn web() -> Service {
        Service::tcp(Ipv4Addr::new(10, 0, 0, 1), 80)
    }

    #[test]
    fn says_what_was_asked_what_the_kernel_said_and_what_to_do() {
        let service = web().scheduler(Scheduler::MAGLEV_HASH);
        let error = refused(Operation::AddService(service), Errno::NOENT);
        assert_eq!(
            error.to_string(),
            "cannot add service tcp 10.0.0.1:80: scheduler mh is not available; load it with \
             modprobe ip_vs_mh (No such file or directory (os error 2))"
        );
        assert!(error.is_module_not_found() && !error.is_not_found());
    }

    /// Others report both as one error, and controllers mend the wrong thing.
    #[test]
    fn no_service_and_no_destination_stay_apart() {
        let backend = (Ipv4Addr::new(10, 0, 1, 1), 80).into();
        let remove = Operation::RemoveDestination(web().key, backend);
        let service = refused(remove, Errno::SRCH);
        assert!(service.is_service_not_found() && !service.is_destination_not_found());
        let destination = refused(remove, Errno::NOENT);
        assert!(destination.is_destination_not_found() && !destination.is_service_not_found());
        assert!(service.is_not_found() && destination.is_not_found());
    }

    #[test]
    fn a_change_without_an_answer_is_of_unknown_outcome() {
        let lost = Error::new(Operation::Flush.into(), Cause::Lost);
        assert!(lost.is_outcome_unknown());
        let read =
            Error::new(Request::Service(ServiceKey::tcp(Ipv4Addr::LOCALHOST, 1)), Cause::Lost);
        assert!(!read.is_outcome_unknown());
        assert!(!refused(Operation::Flush, Errno::PERM).is_outcome_unknown());
    }
}
