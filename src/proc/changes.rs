//! The sysctls that were changed, with their values before and after.

use std::fmt;

/// The sysctls that were changed: [`Proc::apply`](super::Proc::apply) returns them, and
/// [`Proc::undo`](super::Proc::undo) takes them.
///
/// A program that may be killed before it undoes the changes keeps them in a file (feature
/// `serde`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(transparent))]
#[must_use = "these changes are the only way back"]
pub struct SysctlChanges {
    pub(super) changes: Vec<SysctlChange>,
}

/// A sysctl that was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
#[non_exhaustive]
pub struct SysctlChange {
    /// Its name: `net.ipv4.vs.conntrack`.
    pub name: String,
    /// The value that it had.
    pub before: String,
    /// The value that it was given, as the kernel prints it.
    pub after: String,
    /// The sysctls that the kernel has set along with it, and may set: forwarding is also set for
    /// each interface, and turning the forwarding of IPv6 off turns `force_forwarding` of each
    /// interface off, too. Empty if the kernel changed nothing else.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Vec::is_empty"))]
    pub along: Vec<SysctlChange>,
}

impl SysctlChanges {
    /// Whether every sysctl had the wanted value already.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The changes, in the order in which they were made.
    pub fn iter(&self) -> std::slice::Iter<'_, SysctlChange> {
        self.changes.iter()
    }

    pub(super) fn chain(mut self, later: Self) -> Self {
        self.changes.extend(later.changes);
        self
    }
}

impl<'a> IntoIterator for &'a SysctlChanges {
    type Item = &'a SysctlChange;
    type IntoIter = std::slice::Iter<'a, SysctlChange>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// A line for each change: `net.ipv4.vs.conntrack: 0 -> 1`.
impl fmt::Display for SysctlChanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, SysctlChange { name, before, after, .. }) in self.changes.iter().enumerate() {
            let end = if index == 0 { "" } else { "\n" };
            write!(f, "{end}{name}: {before} -> {after}")?;
        }
        Ok(())
    }
}

impl SysctlChange {
    pub(super) fn new(name: &str, before: String, after: String) -> Self {
        Self { name: name.to_owned(), before, after, along: Vec::new() }
    }
}
