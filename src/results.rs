//! The results of a batch.

use std::ops::Deref;

use crate::error::Error;

/// The result of each operation of a batch, in the order of the operations: a slice, and an
/// iterator.
///
/// ```no_run
/// # use ipvs_netlink::{Operation, blocking::Client};
/// # let mut ipvs = Client::connect()?;
/// # let operations: Vec<Operation> = Vec::new();
/// // All are to succeed:
/// ipvs.batch(operations)?.into_result()?;
/// # Ok::<(), ipvs_netlink::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
#[must_use = "each operation may have failed: read the results, or ask `into_result` for the first error"]
pub struct Results(Vec<Result<(), Error>>);

impl Results {
    /// Whether all operations succeeded.
    ///
    /// # Errors
    /// The error of the first operation that failed.
    pub fn into_result(self) -> Result<(), Error> {
        self.into_iter().collect()
    }
}

impl From<Vec<Result<(), Error>>> for Results {
    fn from(results: Vec<Result<(), Error>>) -> Self {
        Self(results)
    }
}

impl Deref for Results {
    type Target = [Result<(), Error>];

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl IntoIterator for Results {
    type Item = Result<(), Error>;
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Results {
    type Item = &'a Result<(), Error>;
    type IntoIter = std::slice::Iter<'a, Result<(), Error>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}
