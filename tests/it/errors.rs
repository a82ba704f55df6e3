//! Every error that a client can provoke: the kernel's number, the predicate, and what to do.

mod destinations;
mod family;
mod privileges;
mod services;
mod system;

use ipvs_netlink::{Errno, Error};

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

/// Asserts the kernel's number and the advice in the text.
#[track_caller]
fn refused<T: std::fmt::Debug>(outcome: Result<T, Error>, errno: Errno, remedy: &str) -> Error {
    let error = outcome.unwrap_err();
    assert_eq!(error.errno(), Some(errno), "{error}");
    assert!(error.to_string().contains(remedy), "{error}\ndoes not say: {remedy}");
    assert!(!error.is_outcome_unknown() && !error.is_invalid(), "{error}");
    error
}
