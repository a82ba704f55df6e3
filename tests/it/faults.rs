//! The faults of other libraries, each by its name: none of it may happen here.
//!
//! What a real kernel can be brought to is a case; what none does at will is a test over bytes
//! made by hand. Each begins with what went wrong for the user.

mod exchanging;
mod reading;
mod writing;

use libtest_mimic::Trial;

use crate::case::Case;

/// Those that a kernel shows.
pub(crate) fn cases() -> Vec<Case> {
    [reading::cases(), writing::cases()].concat()
}

/// Those over bytes made by hand.
pub(crate) fn trials() -> Vec<Trial> {
    [reading::trials(), exchanging::trials()].into_iter().flatten().collect()
}
