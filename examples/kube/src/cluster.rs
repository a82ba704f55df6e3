//! Reading a cluster's objects from what `kubectl get` printed.

use std::collections::HashMap;
use std::fmt;

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{Metadata, Resource};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::notes::{Note, Notes};
use crate::services::DEFAULT_NAMESPACE;

/// The objects that are known so far. What is `None` is not known, which is not the same as there being none.
#[derive(Debug, Clone, Default)]
pub struct Cluster {
    /// The Services.
    pub services: Option<Vec<Service>>,
    /// The `EndpointSlice`s.
    pub slices: Option<Vec<EndpointSlice>>,
    /// The Nodes.
    pub nodes: Option<Vec<Node>>,
}

/// What the rules of a node follow from.
#[derive(Debug, Clone)]
pub struct Objects<'a> {
    /// All Services.
    pub services: Vec<&'a Service>,
    /// All `EndpointSlice`s.
    pub slices: Vec<&'a EndpointSlice>,
    /// The own Node.
    pub node: &'a Node,
    /// All Nodes.
    pub nodes: Vec<&'a Node>,
    /// What could not be read of the cluster, and what counts instead.
    pub notes: Vec<Note>,
}

/// Why no rules can be made yet: a table made of half of the objects would take the other half's traffic away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotKnown {
    /// No object of this kind was read.
    Kind(&'static str),
    /// The Node is not among those that were read.
    Node {
        /// The Node that was asked for.
        wanted: String,
        /// Those that were read.
        known: Vec<String>,
    },
}

impl fmt::Display for NotKnown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind(kind) => write!(
                f,
                "no {kind} was read, and every cluster has one: \
                 `kubectl get services,endpointslices,nodes -A -o json` prints all that is needed"
            ),
            Self::Node { wanted, known } => {
                let known: Vec<_> =
                    known.iter().map(|name| name.escape_debug().to_string()).collect();
                let (wanted, known) = (wanted.escape_debug(), known.join(", "));
                write!(f, "there is no Node {wanted}; those read are {known}")
            }
        }
    }
}

impl std::error::Error for NotKnown {}

impl Cluster {
    /// Adds the objects of a text, which is JSON or one or several documents of YAML: Lists, or objects by themselves.
    /// Kinds that the proxy does not need are skipped.
    ///
    /// # Errors
    /// Where the text cannot be read or an object is not of its kind's form; nothing can be said of the rest then.
    pub fn read(&mut self, text: &str) -> Result<()> {
        // One after the other, as several commands print them.
        let json = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
        let is_json = text.trim_start().starts_with('{');
        let json = json.collect::<Result<Vec<_>, _>>();
        if let (true, Ok(documents)) = (is_json, &json) {
            return self.add_documents(documents.iter().map(|document| document.get()));
        }
        // What tells the kinds apart reads JSON: each document goes on as that.
        let documents: Vec<serde_json::Value> =
            match (serde_saphyr::from_multiple_with_options(text, yaml()), json) {
                (Ok(documents), _) => documents,
                (Err(_), Err(error)) if is_json => {
                    return Err(error).context("this is neither JSON nor YAML");
                }
                (Err(error), _) => return Err(error).context("this is neither JSON nor YAML"),
            };
        let documents: Vec<_> = documents.iter().filter(|document| !document.is_null()).collect();
        ensure!(!documents.is_empty(), "there is nothing in it");
        self.add_documents(documents.into_iter().map(ToString::to_string))
    }

    fn add_documents(&mut self, documents: impl Iterator<Item: AsRef<str>>) -> Result<()> {
        for (index, document) in documents.enumerate() {
            let added = self.add_document(document.as_ref());
            added.with_context(|| format!("document {}", index + 1))?;
        }
        Ok(())
    }

    fn add_document(&mut self, text: &str) -> Result<()> {
        let Head { kind, items, .. } = Head::read(text)?;
        if kind != "List" {
            return self.add(text);
        }
        for (index, item) in items.context("a List has items")?.into_iter().enumerate() {
            self.add(item.get()).with_context(|| format!("item {}", index + 1))?;
        }
        Ok(())
    }

    fn add(&mut self, text: &str) -> Result<()> {
        let Head { api_version, kind, items, .. } = Head::read(text)?;
        // Other API groups have kinds of the same names: Knative a Service.
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        match (group, &*kind) {
            ("", "List") => bail!("this is a List within a List"),
            // Of a kind's own list: an empty one says that there are none.
            ("", "ServiceList") => extend(&mut self.services, items),
            ("", "NodeList") => extend(&mut self.nodes, items),
            ("discovery.k8s.io" | "", "EndpointSliceList") => extend(&mut self.slices, items),
            ("", "Service") => push(&mut self.services, text),
            ("", "Node") => push(&mut self.nodes, text),
            ("discovery.k8s.io" | "", "EndpointSlice") => push(&mut self.slices, text),
            _ => Ok(()),
        }
    }

    /// What the rules of a node follow from.
    ///
    /// # Errors
    /// Until Services, `EndpointSlice`s and the Node are known.
    pub fn objects(&self, node: &str) -> Result<Objects<'_>, NotKnown> {
        let services = self.services.as_ref().ok_or(NotKnown::Kind("Service"))?;
        let slices = self.slices.as_ref().ok_or(NotKnown::Kind("EndpointSlice"))?;
        let nodes = self.nodes.as_ref().ok_or(NotKnown::Kind("Node"))?;
        let name = |node: &Node| node.metadata.name.clone().unwrap_or_default();
        let own = nodes.iter().filter(|known| name(known) == node);
        let own = own.max_by_key(|node| age(&node.metadata, node)).ok_or_else(|| {
            NotKnown::Node { wanted: node.to_owned(), known: nodes.iter().map(name).collect() }
        })?;
        Ok(Objects {
            services: services.iter().collect(),
            slices: slices.iter().collect(),
            node: own,
            nodes: nodes.iter().collect(),
            notes: Vec::new(),
        })
    }
}

/// The newest state of each object, in no order; those without names are all there.
pub(crate) fn newest<'a, T>(objects: &[&'a T], notes: &mut Notes) -> Vec<&'a T>
where
    T: Metadata<Ty = ObjectMeta> + Serialize,
{
    let mut newest: HashMap<ObjectName<'_>, Vec<&T>> = HashMap::new();
    let mut nameless = Vec::new();
    for &object in objects {
        match ObjectName::of::<T>(object.metadata()) {
            Some(name) => newest.entry(name).or_default().push(object),
            None => nameless.push(object),
        }
    }
    let chosen = newest.into_iter().filter_map(|(name, mut states)| {
        if states.len() > 1 {
            states.sort_by_cached_key(|state| age(state.metadata(), *state));
            notes.add(name, given_more_than_once(&states));
        }
        states.pop()
    });
    let mut all: Vec<_> = chosen.collect();
    all.append(&mut nameless);
    all
}

/// Which of several states of an object counts, the newest being the last.
fn given_more_than_once<T: Metadata<Ty = ObjectMeta>>(states: &[&T]) -> &'static str {
    let mut versions: Vec<_> = states.iter().map(|state| version(state.metadata())).collect();
    let newest = versions.pop().flatten();
    if newest.is_some() && versions.iter().all(|version| version.is_some() && *version < newest) {
        "it is given more than once: the newest counts"
    } else {
        "it is given more than once, and no resourceVersion says which is the newest: one of them counts"
    }
}

/// Names an object among all of its cluster.
#[derive(PartialEq, Eq, Hash)]
struct ObjectName<'a> {
    kind: &'static str,
    /// A Node has none.
    namespace: Option<&'a str>,
    name: &'a str,
}

impl<'a> ObjectName<'a> {
    fn of<T: Resource>(metadata: &'a ObjectMeta) -> Option<Self> {
        let namespace = metadata.namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE);
        Some(Self {
            kind: T::KIND,
            namespace: (T::KIND != Node::KIND).then_some(namespace),
            name: metadata.name.as_deref()?,
        })
    }
}

impl fmt::Display for ObjectName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.kind)?;
        if let Some(namespace) = self.namespace {
            write!(f, "{}/", namespace.escape_debug())?;
        }
        write!(f, "{}", self.name.escape_debug())
    }
}

/// Orders states of one object, the newest last: an API server counts its versions. Where they do not tell, the order in
/// which the objects were read is not to decide either.
fn age(metadata: &ObjectMeta, object: &impl Serialize) -> (Option<u64>, String) {
    (version(metadata), serde_json::to_string(object).unwrap_or_default())
}

fn version(metadata: &ObjectMeta) -> Option<u64> {
    metadata.resource_version.as_ref().and_then(|version| version.parse().ok())
}

/// YAML as Kubernetes reads it: a Service may be named `on` or `n`. And a large cluster is no attack.
fn yaml() -> serde_saphyr::Options {
    let most = usize::MAX;
    let budget = serde_saphyr::budget! {
        max_events: most, max_nodes: most, max_documents: most, max_total_scalar_bytes: most,
    };
    serde_saphyr::options! { strict_booleans: true, budget: budget }
}

/// As much of an object as tells what to take it for.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head<'a> {
    #[serde(default)]
    api_version: String,
    kind: String,
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
    #[serde(default)]
    metadata: Part,
}

/// Whether a list is all of what it lists.
#[derive(Deserialize, Default)]
struct Part {
    #[serde(rename = "continue", default)]
    rest: Option<String>,
}

impl<'a> Head<'a> {
    fn read(text: &'a str) -> Result<Self> {
        let head: Self = serde_json::from_str(text).context(
            "this is no Kubernetes object: `kubectl get services,endpointslices,nodes -A -o json` prints what is needed",
        )?;
        ensure!(
            head.metadata.rest.as_ref().is_none_or(String::is_empty),
            "this is the first part of a {}, and the rest is elsewhere: ask for all of it, as kubectl get does",
            head.kind.escape_debug()
        );
        Ok(head)
    }
}

fn push<T: DeserializeOwned>(objects: &mut Option<Vec<T>>, text: &str) -> Result<()> {
    let object = serde_json::from_str(text).with_context(|| {
        let name = serde_json::from_str::<Named>(text).unwrap_or_default().metadata;
        format!("{}/{}", name.namespace.escape_debug(), name.name.escape_debug())
    })?;
    objects.get_or_insert_default().push(object);
    Ok(())
}

fn extend<T: DeserializeOwned>(
    objects: &mut Option<Vec<T>>,
    items: Option<Vec<&RawValue>>,
) -> Result<()> {
    objects.get_or_insert_default();
    for (index, item) in items.unwrap_or_default().into_iter().enumerate() {
        push(objects, item.get()).with_context(|| format!("item {}", index + 1))?;
    }
    Ok(())
}

/// As much of an object as names it in an error.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Named {
    metadata: Name,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Name {
    namespace: String,
    name: String,
}
