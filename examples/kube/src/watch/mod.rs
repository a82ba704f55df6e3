//! The cluster's objects, as its API server has them from moment to moment.

mod events;
mod options;
mod status;
mod store;
mod trim;

use std::fmt;
use std::time::Duration;

use anyhow::Result;
use futures_util::stream::{BoxStream, SelectAll, StreamExt as _};
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::core::DeserializeGuard;
use kube::runtime::watcher::{self, Event};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::cluster::{NotKnown, Objects};
use crate::notes::Notes;
use crate::services::{HEADLESS, OTHER_PROXY};
use events::{client, events, is_answer, text};
use store::Store;

pub use options::WatchOptions;
pub use status::{KindStatus, Status};

/// The cluster's objects, as its API server has them from moment to moment.
///
/// While the API server is away, and while it lists anew, the objects stay as they were last: a list counts once it is
/// whole. Of an object that cannot be read, the last state that could be counts, and a note tells of it.
pub struct Watch {
    node: String,
    gather: Duration,
    gather_at_most: Duration,
    services: Store<Service>,
    slices: Store<EndpointSlice>,
    nodes: Store<Node>,
    /// The own Node as it was last, be it gone since.
    own: Option<Node>,
    occurrences: SelectAll<BoxStream<'static, Occurrence>>,
    status: watch::Sender<Status>,
    changed: Option<Changed>,
}

/// What came from the API server, of one kind.
#[allow(clippy::large_enum_variant, reason = "it lives for as long as it takes to take it in")]
enum Occurrence {
    Service(Heard<Service>),
    Slice(Heard<EndpointSlice>),
    Node(Heard<Node>),
}

type Heard<K> = watcher::Result<Event<DeserializeGuard<K>>>;

/// When the objects changed, since they were last given out.
#[derive(Debug, Clone, Copy)]
struct Changed {
    first: Instant,
    last: Instant,
}

impl Watch {
    /// A watch for the rules of this Node. The API server is asked once [`next`](Self::next) is polled.
    ///
    /// # Errors
    /// Where the options, the kubeconfig or the service account name no API server that can be asked. One that is away is
    /// no error.
    pub async fn new(node: &str, options: &WatchOptions) -> Result<Self> {
        let config = options.config().await?;
        let status = watch::Sender::default();
        let client = |of| client(config.clone(), status.clone(), of);
        // As kube-proxy asks for them.
        let selector = format!("!{HEADLESS},!{OTHER_PROXY}");
        let (selector, pause) = (Some(&*selector), options.api_pause);
        let services = events(client(|status| &mut status.services)?, selector, pause);
        let slices = events(client(|status| &mut status.slices)?, selector, pause);
        let nodes = events(client(|status| &mut status.nodes)?, None, pause);
        let occurrences = [
            services.map(Occurrence::Service).boxed(),
            slices.map(Occurrence::Slice).boxed(),
            nodes.map(Occurrence::Node).boxed(),
        ];
        Ok(Self {
            node: node.to_owned(),
            gather: options.gather,
            gather_at_most: options.gather_at_most,
            services: Store::default(),
            slices: Store::default(),
            nodes: Store::default(),
            own: None,
            occurrences: occurrences.into_iter().collect(),
            status,
            changed: None,
        })
    }

    /// Whether the cluster is known and the API server in reach, as it changes. It is kept up while [`next`](Self::next)
    /// is polled.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// Waits for a change, gathers what changes along with it, and gives all objects. The first ones are given once all
    /// kinds were listed and the own Node is among the Nodes.
    ///
    /// It can be dropped and called again at any time: no change is lost.
    #[allow(clippy::missing_panics_doc, reason = "what it waits for is what it expects")]
    pub async fn next(&mut self) -> Objects<'_> {
        loop {
            let due = self.due();
            if due.is_some_and(|due| due <= Instant::now()) {
                break;
            }
            tokio::select! {
                Some(occurrence) = self.occurrences.next() => self.take(occurrence),
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            }
        }
        self.changed = None;
        self.objects().expect("due() waits until all is known")
    }

    /// All objects as they are known, for a pass without a change.
    ///
    /// # Errors
    /// Until all kinds were listed and the own Node is among the Nodes.
    pub fn objects(&self) -> Result<Objects<'_>, NotKnown> {
        let services = self.services.objects().ok_or(NotKnown::Kind("Service"))?;
        let slices = self.slices.objects().ok_or(NotKnown::Kind("EndpointSlice"))?;
        let nodes: Vec<_> = self.nodes.objects().ok_or(NotKnown::Kind("Node"))?.collect();
        let names = || nodes.iter().map(|node| node.metadata.name.clone().unwrap_or_default());
        let own = self.own.as_ref().ok_or_else(|| NotKnown::Node {
            wanted: self.node.clone(),
            known: names().collect(),
        })?;
        let mut unread = Notes::default();
        self.services.note(&mut unread);
        self.slices.note(&mut unread);
        self.nodes.note(&mut unread);
        if !names().any(|name| name == self.node) {
            let name = self.node.escape_debug();
            unread.add(
                format_args!("Node {name}"),
                "the cluster has it no more: its last state is kept",
            );
        }
        Ok(Objects {
            services: services.collect(),
            slices: slices.collect(),
            node: own,
            nodes,
            notes: unread.into_sorted(),
        })
    }

    /// When what changed is to be given out.
    fn due(&self) -> Option<Instant> {
        let Changed { first, last } = self.changed?;
        let is_known = self.services.is_listed() && self.slices.is_listed() && self.own.is_some();
        is_known.then(|| (last + self.gather).min(first + self.gather_at_most))
    }

    fn take(&mut self, occurrence: Occurrence) {
        let Self { node, services, slices, nodes, status, .. } = self;
        let is_changed = match occurrence {
            Occurrence::Service(heard) => {
                hear(services, heard, node, status, |status| &mut status.services)
            }
            Occurrence::Slice(heard) => {
                hear(slices, heard, node, status, |status| &mut status.slices)
            }
            Occurrence::Node(heard) => {
                let is_changed = hear(nodes, heard, node, status, |status| &mut status.nodes);
                if is_changed && nodes.is_listed() {
                    let is_own = |known: &&Node| known.metadata.name.as_ref() == Some(node);
                    let own = nodes.objects().into_iter().flatten().find(is_own);
                    self.own = own.cloned().or_else(|| self.own.take());
                    let has_node = self.own.is_some();
                    status.send_if_modified(|status| {
                        std::mem::replace(&mut status.has_node, has_node) != has_node
                    });
                }
                is_changed
            }
        };
        if is_changed {
            let last = Instant::now();
            let first = self.changed.map_or(last, |changed| changed.first);
            self.changed = Some(Changed { first, last });
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { node, status, changed, .. } = self;
        let mut debug = f.debug_struct("Watch");
        debug.field("node", node).field("status", &*status.borrow()).field("changed", changed);
        debug.finish_non_exhaustive()
    }
}

/// Takes what came of one kind, and tells whether anything that matters is another now.
fn hear<K>(
    store: &mut Store<K>,
    heard: Heard<K>,
    node: &str,
    status: &watch::Sender<Status>,
    of: events::Of,
) -> bool
where
    K: kube::Resource<DynamicType = ()> + trim::Trim + PartialEq,
{
    match heard {
        Ok(event) => {
            let is_changed = store.take(event, node);
            let is_listed = store.is_listed();
            status.send_if_modified(|status| {
                std::mem::replace(&mut of(status).is_listed, is_listed) != is_listed
            });
            is_changed
        }
        Err(error) => {
            store.fail();
            status.send_modify(|status| {
                let kind = of(status);
                kind.is_connected &= is_answer(&error);
                kind.error = Some(text(&error));
            });
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use kube::api::ObjectMeta;

    use super::*;

    /// A watch of a cluster with nothing but the own Node, and then a Service after each of these pauses.
    fn watch(pauses: &'static [u64]) -> Watch {
        let own = Node {
            metadata: ObjectMeta { name: Some("a".to_owned()), ..ObjectMeta::default() },
            ..Node::default()
        };
        let lists = [
            Occurrence::Service(Ok(Event::InitDone)),
            Occurrence::Slice(Ok(Event::InitDone)),
            Occurrence::Node(Ok(Event::InitApply(DeserializeGuard(Ok(own))))),
            Occurrence::Node(Ok(Event::InitDone)),
        ];
        let services = stream::iter(pauses.iter().enumerate()).then(|(index, pause)| async move {
            tokio::time::sleep(Duration::from_millis(*pause)).await;
            let metadata = ObjectMeta { name: Some(index.to_string()), ..ObjectMeta::default() };
            let service = Service { metadata, ..Service::default() };
            Occurrence::Service(Ok(Event::Apply(DeserializeGuard(Ok(service)))))
        });
        let occurrences = [stream::iter(lists).chain(services).boxed()];
        Watch {
            node: "a".to_owned(),
            gather: Duration::from_millis(100),
            gather_at_most: Duration::from_secs(1),
            services: Store::default(),
            slices: Store::default(),
            nodes: Store::default(),
            own: None,
            occurrences: occurrences.into_iter().collect(),
            status: watch::Sender::default(),
            changed: None,
        }
    }

    /// The time is the runtime's own, and passes where all wait.
    #[tokio::test(start_paused = true)]
    async fn changes_are_gathered_until_they_pause_or_for_the_longest_time() {
        // The first objects, two changes that are close together, and one that is not.
        let mut short = watch(&[150, 50, 150]);
        for services in [0, 2, 3] {
            assert_eq!(short.next().await.services.len(), services);
        }
        // Without a pause long enough: after a second those that came in it.
        let mut long = watch(&[60; 40]);
        assert_eq!(long.next().await.services.len(), 16);
        assert_eq!(long.next().await.services.len(), 33);
        assert_eq!(long.next().await.services.len(), 40);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_is_given_up_loses_no_change() {
        let mut watch = watch(&[150, 50]);
        let _ = watch.next().await;
        for _ in 0..12 {
            let wait = tokio::time::timeout(Duration::from_millis(10), watch.next());
            assert!(wait.await.is_err(), "gathering goes on");
        }
        assert_eq!(watch.next().await.services.len(), 2);
    }
}
