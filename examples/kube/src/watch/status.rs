//! Whether the cluster is known and the API server in reach.

use std::fmt;

/// Whether the cluster is known and the API server in reach.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// The watch of Services.
    pub services: KindStatus,
    /// The watch of `EndpointSlice`s.
    pub slices: KindStatus,
    /// The watch of Nodes.
    pub nodes: KindStatus,
    /// Whether the own Node was ever among the Nodes.
    pub has_node: bool,
}

/// How the watch of one kind of objects is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KindStatus {
    /// Whether all of its objects were listed once.
    pub is_listed: bool,
    /// Whether the API server took the last request. That a version is gone is an answer: a list follows.
    pub is_connected: bool,
    /// The last error, be it of long ago.
    pub error: Option<String>,
}

impl Status {
    /// Whether rules can be made: every kind was listed, and the own Node is among the Nodes.
    pub fn is_known(&self) -> bool {
        self.has_node && self.kinds().iter().all(|(_, kind)| kind.is_listed)
    }

    /// Whether the API server takes the requests for all kinds.
    pub fn is_connected(&self) -> bool {
        self.kinds().iter().all(|(_, kind)| kind.is_connected)
    }

    /// The errors of what is not connected; where all is, none.
    pub fn errors(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let failing = self.kinds().into_iter().filter(|(_, kind)| !kind.is_connected);
        failing.filter_map(|(name, kind)| Some((name, kind.error.as_deref()?)))
    }

    /// The errors as they are told: each once, with the kinds that have it.
    pub fn failing(&self) -> Vec<String> {
        let mut by_error: Vec<(&str, Vec<&str>)> = Vec::new();
        for (kind, error) in self.errors() {
            match by_error.iter_mut().find(|(known, _)| *known == error) {
                Some((_, kinds)) => kinds.push(kind),
                None => by_error.push((error, vec![kind])),
            }
        }
        by_error
            .into_iter()
            .map(|(error, kinds)| format!("{}: {error}", kinds.join(", ")))
            .collect()
    }

    fn kinds(&self) -> [(&'static str, &KindStatus); 3] {
        [("Services", &self.services), ("EndpointSlices", &self.slices), ("Nodes", &self.nodes)]
    }
}

/// A line for each kind, and one for the own Node where it is missing.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, kind)) in self.kinds().into_iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            let listed = if kind.is_listed { "listed" } else { "not listed yet" };
            let connected = if kind.is_connected { "connected" } else { "not connected" };
            write!(f, "{separator}{name}: {listed}, {connected}")?;
            if let Some(error) = &kind.error {
                write!(f, "; last error: {error}")?;
            }
        }
        if self.nodes.is_listed && !self.has_node {
            f.write_str("\nthe own Node is not among the Nodes: is --node its name?")?;
        }
        Ok(())
    }
}
