//! The crate's error: what was asked, what went wrong, and what to do about it.

mod cause;
mod kind;
mod remedy;
mod shell;

use std::fmt;
use std::sync::Arc;

use crate::protocol::{AnswerError, Operation, Request};
use crate::uapi::Errno;

pub(crate) use cause::Cause;
pub use kind::ErrorKind;
use remedy::remedy;
pub(crate) use shell::quoted;

/// A request that failed: what was asked, and why it failed.
///
/// Its text is one line: what was asked, what the kernel said, what to do. Programs match on its
/// [`kind`](Self::kind) or ask the predicates; [`errno`](Self::errno) and
/// [`kernel_message`](Self::kernel_message) have the kernel's own words.
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
pub struct Error(Arc<Parts>);

struct Parts {
    request: Request,
    cause: Cause,
}

impl Error {
    pub(crate) fn new(request: Request, cause: impl Into<Cause>) -> Self {
        Self(Arc::new(Parts { request, cause: cause.into() }))
    }

    pub(crate) fn cause(&self) -> &Cause {
        &self.0.cause
    }

    /// The request that failed.
    pub fn request(&self) -> &Request {
        &self.0.request
    }

    /// The kind of the error.
    ///
    /// ```no_run
    /// use ipvs_netlink::{ErrorKind, Service, blocking::Client};
    ///
    /// let mut ipvs = Client::connect()?;
    /// if let Err(error) = ipvs.remove_service(&Service::tcp([10, 0, 0, 1], 80)) {
    ///     match error.kind() {
    ///         ErrorKind::ServiceNotFound => println!("it is gone already"),
    ///         _ => return Err(error),
    ///     }
    /// }
    /// # Ok::<(), ipvs_netlink::Error>(())
    /// ```
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::new(self.request(), self.cause())
    }

    /// The kernel's error number, where the kernel answered with one, or a system call failed.
    pub fn errno(&self) -> Option<Errno> {
        match &self.0.cause {
            Cause::NoIpvs => Some(Errno::NOENT),
            Cause::Socket(error) | Cause::NotSent(error) => Errno::of(error),
            cause => cause.errno(),
        }
    }

    /// The kernel's extended message. IPVS itself never has one; the checks before it do.
    pub fn kernel_message(&self) -> Option<&str> {
        match &self.0.cause {
            Cause::Answer(AnswerError::Kernel { message, .. }) => message.as_deref(),
            _ => None,
        }
    }

    /// The kernel has no service as the request names it (`ESRCH`).
    pub fn is_service_not_found(&self) -> bool {
        self.kind() == ErrorKind::ServiceNotFound
    }

    /// The kernel has the service, but not the destination that the request names: the kernel said
    /// this (`ENOENT`), or its listing lacks the destination.
    pub fn is_destination_not_found(&self) -> bool {
        self.kind() == ErrorKind::DestinationNotFound
    }

    /// No sync daemon of the role that was to be stopped runs (`ESRCH`).
    pub fn is_daemon_not_found(&self) -> bool {
        self.kind() == ErrorKind::DaemonNotFound
    }

    /// The kernel has no such service, destination or sync daemon as the request names.
    pub fn is_not_found(&self) -> bool {
        matches!(
            self.kind(),
            ErrorKind::ServiceNotFound | ErrorKind::DestinationNotFound | ErrorKind::DaemonNotFound
        )
    }

    /// The kernel already has the service, the destination or the sync daemon that was to be added
    /// (`EEXIST`).
    pub fn is_already_exists(&self) -> bool {
        self.kind() == ErrorKind::AlreadyExists
    }

    /// The scheduler or the persistence engine of the service is not available (`ENOENT`).
    pub fn is_module_not_found(&self) -> bool {
        self.kind() == ErrorKind::ModuleNotFound
    }

    /// This kernel has no IPVS, or its module is not loaded.
    pub fn is_ipvs_not_found(&self) -> bool {
        self.kind() == ErrorKind::IpvsNotFound
    }

    /// The caller lacks `CAP_NET_ADMIN` in the initial user namespace (`EPERM`), or may not enter
    /// the network namespace.
    pub fn is_permission_denied(&self) -> bool {
        self.kind() == ErrorKind::PermissionDenied
    }

    /// The request was refused before it was sent, since no kernel would take it.
    pub fn is_invalid(&self) -> bool {
        self.kind() == ErrorKind::Invalid
    }

    /// The kernel has received nothing of the request: it was invalid, it could not be sent, or an
    /// operation before it failed.
    pub fn is_not_sent(&self) -> bool {
        self.0.cause.is_not_sent()
    }

    /// The kernel did not answer in time.
    pub fn is_timed_out(&self) -> bool {
        self.kind() == ErrorKind::TimedOut
    }

    /// The request was a change, and whether the kernel has made it is not known: the answer was
    /// lost, came late, or cannot be read. Read the state back before asking again.
    pub fn is_outcome_unknown(&self) -> bool {
        self.operation().is_some()
            && !self.is_not_sent()
            && !matches!(
                self.0.cause,
                Cause::NoIpvs
                    | Cause::Answer(AnswerError::Kernel { .. })
                    | Cause::Overruled
                    | Cause::NotKept
            )
    }

    /// Asking the same again may succeed, and does no harm. This holds if the kernel refused for a
    /// reason that passes (want of memory, a full buffer, a signal, another listing), if the table
    /// changed while it was read, if a question was not answered, or if nothing was sent since
    /// another request failed.
    ///
    /// A change of [unknown outcome](Self::is_outcome_unknown) is not retryable: read the state
    /// back first. Rule sync tries again by itself.
    pub fn is_retryable(&self) -> bool {
        let passes = match self.kind() {
            ErrorKind::TimedOut
            | ErrorKind::AnswerLost
            | ErrorKind::TableChanged
            | ErrorKind::Stopped => true,
            _ => self.errno().is_some_and(passes),
        };
        passes && !self.is_outcome_unknown()
    }

    /// The change was made and undone by others, again and again.
    pub fn is_overruled(&self) -> bool {
        self.kind() == ErrorKind::Overruled
    }

    /// The change was made, but the kernel keeps another value: one reason is a persistence timeout
    /// that is too long for this kernel.
    pub fn is_not_kept(&self) -> bool {
        self.kind() == ErrorKind::NotKept
    }

    pub(crate) fn is_table_lost(&self) -> bool {
        matches!(self.0.cause, Cause::TableLost)
    }

    /// The kernel refused for a reason that passes: want of memory, a full buffer, a signal.
    pub(crate) fn is_passing(&self) -> bool {
        self.0.cause.errno().is_some_and(passes)
    }

    /// The text without the request: errors with the same reason have the same text.
    pub(crate) fn reason(&self) -> String {
        WithoutRequest(self).to_string()
    }

    fn operation(&self) -> Option<&Operation> {
        match &self.0.request {
            Request::Operation(operation) => Some(operation),
            _ => None,
        }
    }
}

/// Whether an error number stands for a reason that passes.
fn passes(errno: Errno) -> bool {
    matches!(errno, Errno::NOMEM | Errno::NOBUFS | Errno::AGAIN | Errno::INTR | Errno::BUSY)
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
        write!(f, "cannot {}: {}", self.0.request, WithoutRequest(self))
    }
}

/// An error without its request.
struct WithoutRequest<'a>(&'a Error);

impl fmt::Display for WithoutRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parts { request, cause } = &*self.0.0;
        match cause {
            Cause::Answer(AnswerError::Kernel { errno, message }) => {
                match remedy(request, *errno) {
                    Some(remedy) => write!(f, "{remedy} ({errno})")?,
                    None => write!(f, "the kernel said: {errno}")?,
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
            Cause::Socket(error) | Cause::NotSent(error) => Some(&**error),
            Cause::Answer(AnswerError::Decode(error)) => Some(error),
            Cause::Invalid(error) => Some(error),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DaemonRole, Scheduler, Service, ServiceKey};
    use std::net::Ipv4Addr;

    fn refused(request: impl Into<Request>, errno: Errno) -> Error {
        Error::new(request.into(), AnswerError::Kernel { errno, message: None })
    }

    fn web() -> Service {
        Service::tcp(Ipv4Addr::new(10, 0, 0, 1), 80)
    }

    #[test]
    fn says_what_was_asked_what_the_kernel_said_and_what_to_do() {
        let options = crate::model::HashOptions::default().fallback(true);
        let service = web().scheduler(Scheduler::MaglevHash(options));
        let error = refused(Operation::AddService(service), Errno::NOENT);
        assert_eq!(
            error.to_string(),
            "cannot add service tcp 10.0.0.1:80: scheduler mh is not available; load it with \
             modprobe ip_vs_mh (ENOENT, no such file or directory)"
        );
        assert!(error.is_module_not_found() && !error.is_not_found());
    }

    /// Root runs the commands of an error's text exactly as they stand.
    #[test]
    fn a_name_in_a_command_is_quoted() {
        let scheduler = Scheduler::named("$(id)").unwrap();
        let persistence = crate::model::Persistence::new(std::time::Duration::from_secs(9));
        let sticky = persistence.engine("a;b".parse().unwrap());
        for (service, command) in [
            (web().scheduler(scheduler), "modprobe 'ip_vs_$(id)' ("),
            (
                web().scheduler(scheduler).persistence(sticky),
                "modprobe -a 'ip_vs_$(id)' 'ip_vs_pe_a;b' (",
            ),
        ] {
            let said = refused(Operation::AddService(service), Errno::NOENT).to_string();
            assert!(said.contains(command), "{said}");
        }
    }

    /// Other libraries report both as one error, which makes controllers mend the wrong thing.
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

    /// Once: the error for a sync daemon that does not run named a missing service.
    #[test]
    fn no_daemon_is_no_missing_service() {
        let error = refused(Operation::StopDaemon(DaemonRole::Master), Errno::SRCH);
        assert_eq!(error.kind(), ErrorKind::DaemonNotFound);
        assert!(error.is_daemon_not_found() && error.is_not_found());
        assert!(!error.is_service_not_found());
    }

    #[test]
    fn what_may_be_asked_again_is_told() {
        let change = Operation::AddService(web());
        let failed = |request: Request, cause: Cause| Error::new(request, cause);
        let full = || Cause::not_sent(std::io::Error::from_raw_os_error(Errno::NOBUFS.number()));
        for (error, retryable) in [
            (refused(change, Errno::NOMEM), true),
            (refused(change, Errno::EXIST), false),
            (refused(change, Errno::PERM), false),
            (failed(change.into(), full()), true),
            (failed(change.into(), Cause::Stopped), true),
            (failed(change.into(), AnswerError::Lost.into()), false),
            (failed(change.into(), Cause::NotKept), false),
            (failed(Request::Services, AnswerError::Lost.into()), true),
            (failed(Request::Services, AnswerError::Interrupted.into()), true),
            (failed(Request::Open, Cause::socket(std::io::ErrorKind::NotFound.into())), false),
        ] {
            assert_eq!(error.is_retryable(), retryable, "{error}");
        }
    }

    #[test]
    fn a_change_without_an_answer_is_of_unknown_outcome() {
        let lost = Error::new(Operation::Flush.into(), AnswerError::Lost);
        assert!(lost.is_outcome_unknown());
        let read = Error::new(
            Request::Service(ServiceKey::tcp(Ipv4Addr::LOCALHOST, 1)),
            AnswerError::Lost,
        );
        assert!(!read.is_outcome_unknown());
        assert!(!refused(Operation::Flush, Errno::PERM).is_outcome_unknown());
    }
}
