//! What goes wrong: a message for standard error, in ipvsadm's words, and an exit status.

use ipvs_netlink::{Errno, Error, Operation, Request};

/// A wrong use of the options.
pub(crate) const USAGE: u8 = 2;
/// A wrong option, and what the kernel refuses.
pub(crate) const REFUSED: u8 = 255;
/// A listing that cannot be had.
pub(crate) const NOT_LISTED: u8 = 1;

/// Nobody reads what is printed: what shells show of a program that SIGPIPE has ended.
pub(crate) const CUT_OFF: u8 = 128 + 13;

/// Why the program ends, and with which status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) message: String,
    pub(crate) status: u8,
}

impl Failure {
    pub(crate) fn new(status: u8, message: impl Into<String>) -> Self {
        Self { message: message.into(), status }
    }

    /// An option that is used wrongly.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(USAGE, message)
    }

    /// No command that is known.
    pub(crate) fn hint(program: &str) -> Self {
        let hint = format!("Try `{program} -h' or '{program} --help' for more information.");
        Self::new(REFUSED, hint)
    }

    /// A listing that the kernel refuses.
    pub(crate) fn not_listed(error: &Error) -> Self {
        Self::new(NOT_LISTED, words(error))
    }

    /// The kernel has no IPVS, or does not tell of it.
    pub(crate) fn no_ipvs(error: &Error) -> Self {
        let reason = if error.is_permission_denied() {
            words(error)
        } else {
            "Protocol not available".to_owned()
        };
        Self::usage(format!(
            "Can't initialize ipvs: {reason}\n\
             Are you sure that IP Virtual Server is built in the kernel or as module?"
        ))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(REFUSED, words(&error))
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self::new(CUT_OFF, "");
        }
        Self::new(NOT_LISTED, error.raw_os_error().map_or(error.to_string(), of_number))
    }
}

/// The error in ipvsadm's words, where it has some of its own.
fn words(error: &Error) -> String {
    let operation = match error.request() {
        Request::Operation(operation) => Some(operation),
        _ => None,
    };
    let is_about_server = matches!(
        operation,
        Some(
            Operation::AddDestination(..)
                | Operation::UpdateDestination(..)
                | Operation::RemoveDestination(..)
        )
    );
    let is_about_daemon =
        matches!(operation, Some(Operation::StartDaemon(_) | Operation::StopDaemon(_)));
    let text = if error.is_permission_denied() {
        "Permission denied (you must be root)"
    } else if error.is_already_exists() {
        match (is_about_server, is_about_daemon) {
            (true, _) => "Destination already exists",
            (_, true) => "Daemon has already run",
            _ => "Service already exists",
        }
    } else if error.is_destination_not_found() {
        "No such destination"
    } else if error.is_module_not_found() {
        "Scheduler or persistence engine not found"
    } else if error.is_not_found() {
        match (is_about_server, is_about_daemon) {
            (true, _) => "Service not defined",
            (_, true) => "No daemon is running",
            _ => "No such service",
        }
    } else if is_about_server && error.is_invalid() {
        // The one thing that the options let through: a lower threshold above the upper one.
        "Numerical result out of range"
    } else if let Some(errno) = error.errno() {
        return of_errno(errno);
    } else {
        return error.to_string();
    };
    text.to_owned()
}

/// What an error number means whatever was asked.
fn of_errno(errno: Errno) -> String {
    let text = match errno {
        Errno::INVAL => {
            "Invalid operation.  Possibly wrong module version, address not unicast, ..."
        }
        Errno::NOMEM => "Memory allocation problem",
        Errno::OPNOTSUPP => "Operation not supported with IPv6",
        Errno::AFNOSUPPORT => "Operation not supported with specified address family",
        Errno::MSGSIZE => "Module is wrong version",
        other => return of_number(other.number()),
    };
    text.to_owned()
}

/// The system's text for an error number.
fn of_number(number: i32) -> String {
    let text = std::io::Error::from_raw_os_error(number).to_string();
    let end = text.rfind(" (os error").unwrap_or(text.len());
    text[..end].to_owned()
}
