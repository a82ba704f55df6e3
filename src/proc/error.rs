//! Why a file of procfs could not be read, or a sysctl not be set.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::sync::Arc;

use super::changes::{SysctlChange, SysctlChanges};
use crate::model::Invalid;

/// Why a file of procfs could not be read, or a sysctl not be set.
///
/// Its text is one line: what was tried, what went wrong, what to do.
#[derive(Debug, Clone)]
pub struct Error {
    attempt: Attempt,
    cause: Cause,
    left: Option<Box<NotUndone>>,
}

/// The sysctls that stay changed.
#[derive(Debug, Clone)]
struct NotUndone {
    changes: SysctlChanges,
    /// Why the first of them could not be set back, unless the error itself says this.
    cause: Option<Error>,
}

/// The attempt that failed.
#[derive(Debug, Clone)]
pub(super) enum Attempt {
    /// Entering the network namespace.
    Enter,
    /// Reading a file below `/proc`.
    Read(Cow<'static, str>),
    /// Reading a sysctl.
    Get(Cow<'static, str>),
    /// Setting a sysctl to a value.
    Set(Cow<'static, str>, String),
}

#[derive(Debug, Clone)]
enum Cause {
    Io(Arc<io::Error>),
    /// The number of a line, from 1, and its fault.
    Line(u64, String),
    Invalid(Invalid),
    /// The value that the kernel keeps instead.
    NotKept(String),
}

impl Error {
    fn new(attempt: Attempt, cause: Cause) -> Self {
        Self { attempt, cause, left: None }
    }

    pub(super) fn io(attempt: Attempt, error: io::Error) -> Self {
        Self::new(attempt, Cause::Io(Arc::new(error)))
    }

    pub(super) fn line(attempt: Attempt, number: u64, reason: String) -> Self {
        Self::new(attempt, Cause::Line(number, reason))
    }

    pub(super) fn invalid(attempt: Attempt, invalid: Invalid) -> Self {
        Self::new(attempt, Cause::Invalid(invalid))
    }

    pub(super) fn not_kept(attempt: Attempt, kept: String) -> Self {
        Self::new(attempt, Cause::NotKept(kept))
    }

    /// The error, with the changes that it could not set back.
    pub(super) fn leaving(mut self, changes: SysctlChanges) -> Self {
        self.left = (!changes.is_empty()).then(|| Box::new(NotUndone { changes, cause: None }));
        self
    }

    /// The error, with the changes that a failed undoing has left.
    pub(super) fn and_not_undone(mut self, mut undoing: Self) -> Self {
        if let Some(left) = undoing.left.take() {
            let mut changes = left.changes;
            if let Some(own) = self.left.take() {
                changes = own.changes.chain(changes);
            }
            let cause = Some(left.cause.unwrap_or(undoing));
            self.left = Some(Box::new(NotUndone { changes, cause }));
        }
        self
    }

    /// The changes that [`Proc::apply`](super::Proc::apply) made before it failed and could not set
    /// back, or that [`Proc::undo`](super::Proc::undo) could not set back: `undo` takes them once
    /// the reason is gone. `None` if every sysctl is as it was.
    pub fn not_set_back(&self) -> Option<&SysctlChanges> {
        self.left.as_deref().map(|left| &left.changes)
    }

    pub(crate) fn enter(error: io::Error) -> Self {
        Self::io(Attempt::Enter, error)
    }

    /// The file or the sysctl does not exist: the kernel has no IPVS, its module is not loaded, or
    /// the kernel is too old or was built without the sysctl.
    pub fn is_not_found(&self) -> bool {
        self.is(io::ErrorKind::NotFound)
    }

    /// The caller may not read the file, set the sysctl, or enter the network namespace.
    pub fn is_permission_denied(&self) -> bool {
        self.is(io::ErrorKind::PermissionDenied)
    }

    /// No kernel would take the value, and nothing was written.
    pub fn is_invalid(&self) -> bool {
        matches!(self.cause, Cause::Invalid(_))
    }

    /// The number, from 1, of the line that could not be read, if a line was the cause. The lines
    /// after it can still be read.
    pub fn line_number(&self) -> Option<u64> {
        match self.cause {
            Cause::Line(number, _) => Some(number),
            _ => None,
        }
    }

    /// The error itself, as text.
    fn without_left(&self) -> String {
        Self { left: None, ..self.clone() }.to_string()
    }

    fn is(&self, kind: io::ErrorKind) -> bool {
        matches!(&self.cause, Cause::Io(error) if error.kind() == kind)
    }

    /// The remedy, if one is known.
    fn remedy(&self) -> Option<&'static str> {
        let is_of_ipvs = match &self.attempt {
            Attempt::Read(path) => path.starts_with("net/ip_vs"),
            Attempt::Get(name) | Attempt::Set(name, _) => name.starts_with("net.ipv4.vs."),
            Attempt::Enter => false,
        };
        match self.attempt {
            Attempt::Read(_) if self.is_not_found() && is_of_ipvs => Some(
                "load IPVS with modprobe ip_vs, if the kernel is not too old to have this file",
            ),
            Attempt::Get(_) | Attempt::Set(..) if self.is_not_found() && is_of_ipvs => Some(
                "load IPVS with modprobe ip_vs, if the kernel is not too old to have this sysctl \
                 and was not built without it",
            ),
            Attempt::Set(..) if self.is(io::ErrorKind::ReadOnlyFilesystem) => Some(
                "/proc/sys is mounted read-only, as containers have it unless they are privileged: set \
                 it on the host",
            ),
            Attempt::Set(..) if self.is_permission_denied() => Some(
                "this needs root, for net.ipv4.vs that of the initial user namespace; some sysctls nobody \
                 can set",
            ),
            Attempt::Read(_) | Attempt::Get(_) if self.is_permission_denied() => {
                Some("this needs root of the initial user namespace")
            }
            Attempt::Enter if self.is_permission_denied() => Some("this needs CAP_SYS_ADMIN"),
            _ => None,
        }
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Enter => f.write_str("enter the network namespace"),
            Self::Read(path) => write!(f, "read /proc/{path}"),
            Self::Get(name) => write!(f, "read the sysctl {name}"),
            Self::Set(name, value) => write!(f, "set the sysctl {name} to {value:?}"),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}", self.attempt)?;
        match &self.cause {
            Cause::Io(error) => write!(f, ": {error}")?,
            Cause::Line(number, reason) => write!(f, ", line {number}: {reason}")?,
            Cause::Invalid(invalid) => write!(f, ": {invalid}")?,
            Cause::NotKept(kept) => write!(f, ": the kernel took it and keeps {kept:?}")?,
        }
        if let Some(remedy) = self.remedy() {
            write!(f, "; {remedy}")?;
        }
        let Some(left) = &self.left else { return Ok(()) };
        f.write_str("; not set back:")?;
        for (index, SysctlChange { name, before, after, .. }) in left.changes.iter().enumerate() {
            let separator = if index == 0 { "" } else { "," };
            write!(f, "{separator} {name} is {after} and was {before}")?;
        }
        match &left.cause {
            Some(cause) => write!(f, " ({})", cause.without_left()),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.cause {
            Cause::Io(error) => Some(error),
            Cause::Line(..) | Cause::NotKept(_) => None,
            Cause::Invalid(invalid) => Some(invalid),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Once: the error told root that this needs root.
    #[test]
    fn root_is_told_what_it_lacks() {
        let set = || Attempt::Set("net.ipv4.vs.conntrack".into(), "1".to_owned());
        let said = |attempt, kind: io::ErrorKind| Error::io(attempt, kind.into()).to_string();
        let denied = said(set(), io::ErrorKind::PermissionDenied);
        assert!(denied.ends_with("user namespace; some sysctls nobody can set"), "{denied}");
        let denied =
            said(Attempt::Read("net/ip_vs_status".into()), io::ErrorKind::PermissionDenied);
        assert!(denied.ends_with("this needs root of the initial user namespace"), "{denied}");
        let read_only = said(set(), io::ErrorKind::ReadOnlyFilesystem);
        assert!(
            read_only.contains("mounted read-only") && !read_only.contains("root"),
            "{read_only}"
        );
    }
}
