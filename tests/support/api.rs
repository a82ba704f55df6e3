//! A small API server in the process: lists in pages, watches from a version on, and what can go wrong with both.
#![allow(dead_code)] // Not every test program needs all of it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A kind of objects, by its name in a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Services,
    Slices,
    Nodes,
}

pub(crate) use Kind::{Nodes, Services, Slices};

/// What was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asked {
    List { after: Option<String> },
    Watch { from: String, bookmarks: bool },
}

/// What one request gets instead of its answer.
pub(crate) enum Fault {
    /// An error with this code.
    Status(u16),
    /// The first half of the answer, and then the connection is cut.
    Half,
    /// Bytes that are no answer.
    Text(&'static str),
    /// The answer once this resolves.
    Until(BoxFuture<'static, ()>),
}

/// A handle on the server, and on its objects.
pub(crate) struct Api {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: Option<JoinHandle<()>>,
}

struct Shared {
    cluster: Mutex<Cluster>,
    asked: watch::Sender<Vec<(Kind, Asked)>>,
}

#[derive(Default)]
struct Cluster {
    version: u64,
    kinds: HashMap<Kind, Objects>,
}

#[derive(Default)]
struct Objects {
    by_name: BTreeMap<String, Value>,
    /// Each event with its version.
    events: Vec<(u64, String)>,
    watchers: Vec<UnboundedSender<io::Result<String>>>,
    faults: VecDeque<Fault>,
    page: Option<usize>,
}

impl Api {
    pub(crate) async fn start() -> Self {
        let shared = Arc::new(Shared {
            cluster: Mutex::new(Cluster { version: 100, ..Cluster::default() }),
            asked: watch::Sender::default(),
        });
        let mut api = Self { address: ([127, 0, 0, 1], 0).into(), shared, server: None };
        api.come().await;
        api
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Listens, at the address that it had before.
    pub(crate) async fn come(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.address = listener.local_addr().unwrap();
        let routes = Router::new()
            .route("/api/v1/{kind}", get(answer))
            .route("/apis/discovery.k8s.io/v1/{kind}", get(answer))
            .with_state(self.shared.clone());
        self.server = Some(tokio::spawn(async { axum::serve(listener, routes).await.unwrap() }));
    }

    /// Takes no connection any more, and cuts those of all watches.
    pub(crate) async fn go(&mut self) {
        let server = self.server.take().unwrap();
        server.abort();
        // The listener is gone once the task is.
        let _ = server.await;
        for kind in [Services, Slices, Nodes] {
            self.cut(kind, "");
        }
    }

    /// Adds or changes an object, and tells the watches.
    pub(crate) fn put(&self, kind: Kind, mut object: Value) {
        let mut cluster = self.shared.cluster.lock().unwrap();
        cluster.version += 1;
        let version = cluster.version;
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        let objects = cluster.kinds.entry(kind).or_default();
        let before = objects.by_name.insert(name(&object), object.clone());
        let type_ = if before.is_some() { "MODIFIED" } else { "ADDED" };
        objects.tell(version, &json!({ "type": type_, "object": object }));
    }

    pub(crate) fn delete(&self, kind: Kind, name: &str) {
        let mut cluster = self.shared.cluster.lock().unwrap();
        cluster.version += 1;
        let version = cluster.version;
        let objects = cluster.kinds.get_mut(&kind).unwrap();
        let mut object = objects.by_name.remove(name).unwrap();
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        objects.tell(version, &json!({ "type": "DELETED", "object": object }));
    }

    /// Removes all objects of a kind without telling the watches.
    pub(crate) fn forget(&self, kind: Kind) {
        let mut cluster = self.shared.cluster.lock().unwrap();
        cluster.kinds.get_mut(&kind).unwrap().by_name.clear();
    }

    /// Sends the watches of a kind this line, be it an event or not.
    pub(crate) fn send(&self, kind: Kind, line: &str) {
        let mut cluster = self.shared.cluster.lock().unwrap();
        cluster.kinds.entry(kind).or_default().send(|| Ok(format!("{line}\n")));
    }

    /// A bookmark of the newest version; what came before it is not sent again.
    pub(crate) fn bookmark(&self, kind: Kind) -> String {
        let version = {
            let mut cluster = self.shared.cluster.lock().unwrap();
            cluster.version += 1000;
            cluster.version.to_string()
        };
        let object = json!({ "kind": "Any", "apiVersion": "v1", "metadata": { "resourceVersion": version } });
        self.send(kind, &json!({ "type": "BOOKMARK", "object": object }).to_string());
        version
    }

    /// Cuts the watches of a kind after these bytes, which are no whole line.
    pub(crate) fn cut(&self, kind: Kind, bytes: &str) {
        let mut cluster = self.shared.cluster.lock().unwrap();
        let objects = cluster.kinds.entry(kind).or_default();
        objects.send(|| Ok(bytes.to_owned()));
        objects.send(|| Err(io::Error::other("cut")));
        objects.watchers.clear();
    }

    /// Ends the watches of a kind, as an API server does after some minutes.
    pub(crate) fn end(&self, kind: Kind) {
        let mut cluster = self.shared.cluster.lock().unwrap();
        cluster.kinds.entry(kind).or_default().watchers.clear();
    }

    /// What the next requests for a kind get.
    pub(crate) fn fail(&self, kind: Kind, faults: impl IntoIterator<Item = Fault>) {
        let mut cluster = self.shared.cluster.lock().unwrap();
        cluster.kinds.entry(kind).or_default().faults.extend(faults);
    }

    /// How many objects a page of a list has.
    pub(crate) fn page(&self, kind: Kind, size: usize) {
        self.shared.cluster.lock().unwrap().kinds.entry(kind).or_default().page = Some(size);
    }

    /// What was asked for a kind so far.
    pub(crate) fn asked(&self, kind: Kind) -> Vec<Asked> {
        of(kind, &self.shared.asked.borrow())
    }

    /// Waits until a kind was asked for so often.
    pub(crate) async fn until_asked(&self, kind: Kind, times: usize) {
        let mut asked = self.shared.asked.subscribe();
        asked.wait_for(|asked| of(kind, asked).len() >= times).await.unwrap();
    }
}

fn of(kind: Kind, asked: &[(Kind, Asked)]) -> Vec<Asked> {
    let asked = asked.iter().filter(|(asked, _)| *asked == kind);
    asked.map(|(_, asked)| asked.clone()).collect()
}

impl Objects {
    fn tell(&mut self, version: u64, event: &Value) {
        let line = format!("{event}\n");
        self.send(|| Ok(line.clone()));
        self.events.push((version, line));
    }

    fn send(&mut self, line: impl Fn() -> io::Result<String>) {
        self.watchers.retain(|watcher| watcher.send(line()).is_ok());
    }

    /// The objects after the one of this name.
    fn list(&self, version: u64, after: Option<&str>) -> Value {
        let mut rest: Vec<_> = self
            .by_name
            .iter()
            .filter(|(name, _)| after.is_none_or(|after| name.as_str() > after))
            .collect();
        let mut more = None;
        if let Some(page) = self.page.filter(|page| rest.len() > *page) {
            rest.truncate(page);
            more = rest.last().map(|(name, _)| (*name).clone());
        }
        let items: Vec<_> = rest.into_iter().map(|(_, object)| object).collect();
        let metadata = json!({ "resourceVersion": version.to_string(), "continue": more });
        json!({ "kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items })
    }
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    Path(kind): Path<String>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let kind = match &*kind {
        "services" => Services,
        "endpointslices" => Slices,
        "nodes" => Nodes,
        other => panic!("{other} are not asked for"),
    };
    let is_watch = query.get("watch").is_some_and(|watch| watch == "true");
    let after = query.get("continue").cloned();
    let from = query.get("resourceVersion").cloned().unwrap_or_default();
    let fault = {
        let mut cluster = shared.cluster.lock().unwrap();
        cluster.kinds.entry(kind).or_default().faults.pop_front()
    };
    shared.asked.send_modify(|asked| {
        let bookmarks = query.get("allowWatchBookmarks").is_some_and(|asked| asked == "true");
        asked.push((
            kind,
            if is_watch {
                Asked::Watch { from: from.clone(), bookmarks }
            } else {
                Asked::List { after: after.clone() }
            },
        ));
    });
    match fault {
        Some(Fault::Status(code)) => {
            let status = json!({
                "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Injected",
                "message": "as the test wants it", "code": code,
            });
            return (StatusCode::from_u16(code).unwrap(), status.to_string()).into_response();
        }
        Some(Fault::Text(text)) => return text.into_response(),
        Some(Fault::Until(moment)) => moment.await,
        Some(Fault::Half) if !is_watch => {
            let cluster = shared.cluster.lock().unwrap();
            let whole = cluster.kinds[&kind].list(cluster.version, after.as_deref()).to_string();
            let half = whole[..whole.len() / 2].to_owned();
            let chunks = [Ok(half), Err(io::Error::other("cut"))];
            return Body::from_stream(futures_util::stream::iter(chunks)).into_response();
        }
        Some(Fault::Half) | None => {}
    }
    let mut cluster = shared.cluster.lock().unwrap();
    let version = cluster.version;
    let objects = cluster.kinds.entry(kind).or_default();
    if !is_watch {
        return objects.list(version, after.as_deref()).to_string().into_response();
    }
    let from: u64 = from.parse().unwrap();
    let (sender, receiver) = unbounded_channel();
    for (_, line) in objects.events.iter().filter(|(version, _)| *version > from) {
        sender.send(Ok(line.clone())).unwrap();
    }
    objects.watchers.push(sender);
    let next = async |mut receiver: UnboundedReceiver<_>| Some((receiver.recv().await?, receiver));
    Body::from_stream(futures_util::stream::unfold(receiver, next)).into_response()
}

fn name(object: &Value) -> String {
    let metadata = &object["metadata"];
    match metadata["namespace"].as_str() {
        Some(namespace) => format!("{namespace}/{}", metadata["name"].as_str().unwrap()),
        None => metadata["name"].as_str().unwrap().to_owned(),
    }
}
