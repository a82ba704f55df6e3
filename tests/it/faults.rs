//! The faults of other libraries, a test for each: none of them may happen here.
//!
//! A fault that a real kernel can be brought to provoke is a case; any other is a test over bytes
//! made by hand. The comment of each test tells in the past tense what went wrong for the user.

mod exchanging;
mod reading;
mod writing;

use libtest_mimic::Trial;

use crate::case::Case;

/// The faults that a real kernel can provoke.
pub(crate) fn cases() -> Vec<Case> {
    [reading::cases(), writing::cases()].concat()
}

/// The faults over bytes made by hand.
pub(crate) fn trials() -> Vec<Trial> {
    [reading::trials(), exchanging::trials()].into_iter().flatten().collect()
}
