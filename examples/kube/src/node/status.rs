//! How the node is doing: what `/healthz` and the metrics tell, as the passes leave it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use k8s_openapi::jiff::Timestamp;
use serde::Serialize;

use super::{CHECK_INTERVAL, Pass};
use crate::desired::Desired;

/// How the node is doing. Passes write it, and servers read it.
#[derive(Debug)]
pub struct Status(Mutex<State>);

#[derive(Debug, Clone)]
pub(crate) struct State {
    check_interval: Duration,
    /// When the node was in sync last.
    synced: Option<(Instant, Timestamp)>,
    /// Whether load balancers may send traffic here.
    pub(crate) is_eligible: bool,
    /// What the API server does not give, and why; `None` where none is asked.
    pub(crate) api_server: Option<Vec<String>>,
    pub(crate) last: Last,
    pub(crate) totals: Totals,
}

/// What the last pass left.
#[derive(Debug, Clone, Default)]
pub(crate) struct Last {
    pub(crate) failures: Vec<String>,
    pub(crate) is_withheld: bool,
    pub(crate) seconds: f64,
    pub(crate) services: usize,
    pub(crate) destinations: usize,
    pub(crate) draining: usize,
    pub(crate) notes: usize,
}

/// What all passes did.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Totals {
    pub(crate) passes: u64,
    pub(crate) failed: u64,
    pub(crate) changes: u64,
}

/// What `/healthz` answers: the fields of kube-proxy's answer, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// When the node was in sync last; null before.
    pub last_updated: Option<String>,
    /// The node's clock.
    pub current_time: String,
    /// Whether load balancers may send traffic here: the Node is not about to go.
    pub node_eligible: bool,
    /// Whether the node was in sync not long ago, but for what is withheld.
    pub synced: bool,
    /// Whether losses are withheld until they are confirmed. The node serves as it did.
    pub withheld: bool,
    /// What the last pass could not do.
    pub failures: Vec<String>,
    /// How the API server is; absent where none is asked. The node is healthy without it: traffic goes on as it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_server: Option<ApiServer>,
}

/// Whether the API server gives what it is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiServer {
    /// Whether it took the last request for each kind of objects.
    pub connected: bool,
    /// What it did not give, and why.
    pub errors: Vec<String>,
}

impl Default for Status {
    fn default() -> Self {
        Self(Mutex::new(State {
            check_interval: CHECK_INTERVAL,
            synced: None,
            is_eligible: true,
            api_server: None,
            last: Last::default(),
            totals: Totals::default(),
        }))
    }
}

impl Status {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // Whoever panicked wrote whole values.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_check_interval(&self, check_interval: Duration) {
        self.state().check_interval = check_interval;
    }

    /// Says how the API server is: what it does not give, and why. Empty where it gives all.
    pub fn set_api_server(&self, errors: Vec<String>) {
        self.state().api_server = Some(errors);
    }

    pub(super) fn end(&self, pass: &Pass, desired: &Desired, took: Duration) {
        let mut state = self.state();
        state.is_eligible = desired.is_eligible;
        if pass.serves() {
            state.synced = Some((Instant::now(), now()));
        }
        state.totals.passes += 1;
        state.totals.failed += u64::from(!pass.is_success());
        let report = pass.report.as_ref();
        let changed = report.map_or(0, |report| report.changed);
        state.totals.changes += u64::try_from(changed).unwrap_or(u64::MAX);
        state.last = Last {
            failures: pass.failures.iter().map(ToString::to_string).collect(),
            is_withheld: report.is_some_and(|report| report.excess.is_some()),
            seconds: took.as_secs_f64(),
            services: desired.rules.services().len(),
            destinations: desired.rules.destination_count(),
            draining: report.map_or(state.last.draining, |report| report.draining),
            notes: desired.notes.len() + pass.notes.len(),
        };
    }

    /// How the node is doing now.
    ///
    /// It is in sync while the last pass that brought it there is not older than two intervals of looking at the whole
    /// node; so a program that hangs is told, too. What failed of a part alone does not count: a service that the
    /// kernel refuses would otherwise take every node of the cluster from its load balancers. Nor does what is withheld,
    /// which is so on every node at once.
    pub fn health(&self) -> Health {
        let state = self.state();
        let most = state.check_interval.saturating_mul(2).saturating_add(LATE);
        Health {
            last_updated: state.synced.map(|(_, at)| at.to_string()),
            current_time: now().to_string(),
            node_eligible: state.is_eligible,
            synced: state.synced.is_some_and(|(at, _)| at.elapsed() < most),
            withheld: state.last.is_withheld,
            failures: state.last.failures.clone(),
            api_server: state
                .api_server
                .clone()
                .map(|errors| ApiServer { connected: errors.is_empty(), errors }),
        }
    }
}

/// The time in seconds, as kube-proxy tells it.
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).unwrap_or_default()
}

/// A pass takes its time.
const LATE: Duration = Duration::from_secs(5);
