//! Linux's error numbers, with their names: the same on every host, whichever numbers the host
//! itself has.

use std::{fmt, io};

/// An error number of Linux.
///
/// The numbers with which kernels are known to answer IPVS's requests have a constant; the type can
/// hold any other number, too.
///
/// ```
/// use ipvs_netlink::Errno;
///
/// assert_eq!(Errno::SRCH.number(), 3);
/// assert_eq!(Errno::SRCH.name(), Some("ESRCH"));
/// assert_eq!(Errno::SRCH.to_string(), "ESRCH, no such process");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Errno(i32);

/// Whether the kernel numbers the errors above 34 as on MIPS or SPARC.
const MIPS: bool = cfg!(any(
    target_arch = "mips",
    target_arch = "mips32r6",
    target_arch = "mips64",
    target_arch = "mips64r6"
));
const SPARC: bool = cfg!(any(target_arch = "sparc", target_arch = "sparc64"));

/// Writes the table of error numbers: `NAME "ENAME" number "text"`, followed by the numbers on MIPS
/// and SPARC where these differ.
macro_rules! errnos {
    ($($name:ident $full:literal = $number:literal $(, $mips:literal, $sparc:literal)?; $text:literal)*) => {
        impl Errno {
            $(
                #[doc = concat!("`", $full, "`: ", $text, ".")]
                pub const $name: Self = Self(errnos!(@here $number $(, $mips, $sparc)?));
            )*

            fn known(self) -> Option<(&'static str, &'static str)> {
                match self {
                    $(Self::$name => Some(($full, $text)),)*
                    _ => None,
                }
            }
        }

        #[cfg(test)]
        const ALL: &[Errno] = &[$(Errno::$name),*];
    };
    (@here $number:literal) => { $number };
    (@here $number:literal, $mips:literal, $sparc:literal) => {
        if MIPS { $mips } else if SPARC { $sparc } else { $number }
    };
}

errnos! {
    PERM "EPERM" = 1; "operation not permitted"
    NOENT "ENOENT" = 2; "no such file or directory"
    SRCH "ESRCH" = 3; "no such process"
    INTR "EINTR" = 4; "interrupted by a signal"
    IO "EIO" = 5; "input/output error"
    BADF "EBADF" = 9; "bad file descriptor"
    AGAIN "EAGAIN" = 11; "try again"
    NOMEM "ENOMEM" = 12; "out of memory"
    ACCESS "EACCES" = 13; "permission denied"
    FAULT "EFAULT" = 14; "bad address"
    BUSY "EBUSY" = 16; "busy"
    EXIST "EEXIST" = 17; "already exists"
    NODEV "ENODEV" = 19; "no such device"
    INVAL "EINVAL" = 22; "invalid argument"
    NOSPC "ENOSPC" = 28; "no space left"
    RANGE "ERANGE" = 34; "out of range"
    NODATA "ENODATA" = 61, 61, 111; "no data"
    MSGSIZE "EMSGSIZE" = 90, 97, 40; "message too long"
    NOPROTOOPT "ENOPROTOOPT" = 92, 99, 42; "no such protocol option"
    PROTONOSUPPORT "EPROTONOSUPPORT" = 93, 120, 43; "protocol not supported"
    OPNOTSUPP "EOPNOTSUPP" = 95, 122, 45; "operation not supported"
    PFNOSUPPORT "EPFNOSUPPORT" = 96, 123, 46; "protocol family not supported"
    AFNOSUPPORT "EAFNOSUPPORT" = 97, 124, 47; "address family not supported"
    ADDRINUSE "EADDRINUSE" = 98, 125, 48; "address in use"
    ADDRNOTAVAIL "EADDRNOTAVAIL" = 99, 126, 49; "address not available"
    NETDOWN "ENETDOWN" = 100, 127, 50; "network is down"
    NETUNREACH "ENETUNREACH" = 101, 128, 51; "network is unreachable"
    NOBUFS "ENOBUFS" = 105, 132, 55; "no buffer space"
}

impl Errno {
    /// The error with this number.
    pub const fn from_number(number: i32) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn number(self) -> i32 {
        self.0
    }

    /// The name, such as `ESRCH`, if the number has a constant.
    pub fn name(self) -> Option<&'static str> {
        Some(self.known()?.0)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.known() {
            Some((name, text)) => write!(f, "{name}, {text}"),
            None => write!(f, "error number {}", self.0),
        }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "Errno({})", self.0),
        }
    }
}

impl std::error::Error for Errno {}

impl From<Errno> for io::Error {
    /// On Linux, the system's own error. Other systems have other numbers: an error there keeps the
    /// number as its source and has the same kind.
    fn from(errno: Errno) -> Self {
        if cfg!(target_os = "linux") { Self::from_raw_os_error(errno.0) } else { foreign(errno) }
    }
}

impl Errno {
    /// Linux's error number in an error of a transport, whether the system or a fake kernel made
    /// the error.
    pub(crate) fn of(error: &io::Error) -> Option<Self> {
        let own = || error.raw_os_error().filter(|_| cfg!(target_os = "linux")).map(Self);
        error.get_ref().and_then(|source| source.downcast_ref().copied()).or_else(own)
    }
}

/// The error on a system that does not have this number, or uses it for another error.
fn foreign(errno: Errno) -> io::Error {
    let kind = match errno {
        Errno::PERM | Errno::ACCESS => io::ErrorKind::PermissionDenied,
        Errno::NOENT => io::ErrorKind::NotFound,
        Errno::INTR => io::ErrorKind::Interrupted,
        Errno::AGAIN => io::ErrorKind::WouldBlock,
        Errno::NOMEM => io::ErrorKind::OutOfMemory,
        Errno::EXIST => io::ErrorKind::AlreadyExists,
        Errno::INVAL => io::ErrorKind::InvalidInput,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, errno)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use rustix::io::Errno as Host;

    /// The host of this test is Linux: the system's library has the same numbers.
    #[test]
    fn numbers_are_those_of_linux() {
        for (ours, host) in [
            (Errno::PERM, Host::PERM),
            (Errno::NOENT, Host::NOENT),
            (Errno::SRCH, Host::SRCH),
            (Errno::AGAIN, Host::AGAIN),
            (Errno::NODATA, Host::NODATA),
            (Errno::MSGSIZE, Host::MSGSIZE),
            (Errno::OPNOTSUPP, Host::OPNOTSUPP),
            (Errno::AFNOSUPPORT, Host::AFNOSUPPORT),
            (Errno::ADDRNOTAVAIL, Host::ADDRNOTAVAIL),
            (Errno::NETUNREACH, Host::NETUNREACH),
            (Errno::NOBUFS, Host::NOBUFS),
        ] {
            assert_eq!(ours.number(), host.raw_os_error(), "{ours}");
        }
    }

    /// Programs decide by the kind and the number.
    #[test]
    fn an_error_on_another_system_is_the_one_that_linux_has() {
        for errno in ALL.iter().copied() {
            let (here, elsewhere) = (io::Error::from(errno), foreign(errno));
            assert_eq!(Errno::of(&here), Some(errno));
            assert_eq!(Errno::of(&elsewhere), Some(errno));
            if elsewhere.kind() != io::ErrorKind::Other {
                assert_eq!(elsewhere.kind(), here.kind(), "{errno}");
            }
        }
        assert_eq!(Errno::of(&io::ErrorKind::TimedOut.into()), None);
    }

    #[test]
    fn each_number_has_one_name() {
        for (index, errno) in ALL.iter().enumerate() {
            assert!(!ALL[..index].contains(errno), "{errno}");
            assert!(errno.name().is_some_and(|name| name.starts_with('E')), "{errno}");
        }
        assert_eq!(Errno::from_number(4000).to_string(), "error number 4000");
    }
}
