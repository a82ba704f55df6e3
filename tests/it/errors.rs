//! Every error that a client can provoke: the kernel's number, the predicate, and what to do.

mod destinations;
mod family;
mod privileges;
mod services;
mod system;

use ipvs_netlink::Error;

use crate::case::Case;

pub(crate) use privileges::{CHILD, child, run_as_child};

pub(crate) fn cases() -> Vec<Case> {
    [
        services::cases(),
        destinations::cases(),
        system::cases(),
        family::cases(),
        privileges::cases(),
    ]
    .concat()
}

const ENOENT: i32 = 2;
const ESRCH: i32 = 3;
const EBUSY: i32 = 16;
const EEXIST: i32 = 17;
const ENODEV: i32 = 19;
const EINVAL: i32 = 22;
const ERANGE: i32 = 34;
const EOPNOTSUPP: i32 = 95;
const EAFNOSUPPORT: i32 = 97;
const ENETUNREACH: i32 = 101;

/// Asserts the kernel's number and what the text tells to do.
#[track_caller]
fn refused<T: std::fmt::Debug>(outcome: Result<T, Error>, errno: i32, remedy: &str) -> Error {
    let error = outcome.unwrap_err();
    assert_eq!(error.errno(), Some(errno), "{error}");
    assert!(error.to_string().contains(remedy), "{error}\ndoes not say: {remedy}");
    assert!(!error.is_outcome_unknown() && !error.is_invalid(), "{error}");
    error
}
