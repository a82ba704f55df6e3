//! The objects of one kind, as their list and the events since have them.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::DeserializeGuard;
use kube::runtime::watcher::Event;

use super::trim::Trim;
use crate::notes::Notes;

/// Names an object among all namespaces.
type Name = (String, String);

/// The objects of one kind. A list replaces them once it is whole: until then, and where it fails, they stay.
#[derive(Debug)]
pub(crate) struct Store<K> {
    known: Option<BTreeMap<Name, Entry<K>>>,
    /// What has come of a list that is under way.
    listed: BTreeMap<Name, Entry<K>>,
}

#[derive(Debug)]
struct Entry<K> {
    /// As it could be read last; of one that never could, nothing.
    object: Option<Arc<K>>,
    version: Option<u64>,
    /// Why its newest state could not be read.
    error: Option<String>,
}

/// Derived, it would ask for objects that can be copied.
impl<K> Clone for Entry<K> {
    fn clone(&self) -> Self {
        Self { object: self.object.clone(), version: self.version, error: self.error.clone() }
    }
}

impl<K: PartialEq> Entry<K> {
    fn says_the_same(&self, other: &Self) -> bool {
        self.object == other.object && self.error == other.error
    }
}

impl<K> Default for Store<K> {
    fn default() -> Self {
        Self { known: None, listed: BTreeMap::new() }
    }
}

impl<K: Resource<DynamicType = ()> + Trim + PartialEq> Store<K> {
    pub(crate) fn is_listed(&self) -> bool {
        self.known.is_some()
    }

    pub(crate) fn objects(&self) -> Option<impl Iterator<Item = &K>> {
        let entries = self.known.as_ref()?.values();
        Some(entries.filter_map(|entry| entry.object.as_deref()))
    }

    /// Notes what could not be read.
    pub(crate) fn note(&self, notes: &mut Notes) {
        for ((namespace, name), entry) in self.known.iter().flatten() {
            let Some(error) = &entry.error else { continue };
            let kept = match entry.object {
                Some(_) => "its last state that could be read is kept",
                None => "it is left out",
            };
            let (kind, namespace, name) =
                (K::kind(&()), namespace.escape_debug(), name.escape_debug());
            let separator = if namespace.clone().next().is_none() { "" } else { "/" };
            notes.add(
                format_args!("{kind} {namespace}{separator}{name}"),
                format!("{kept}: it cannot be read: {error}"),
            );
        }
    }

    /// What was listed of a list that failed is forgotten.
    pub(crate) fn fail(&mut self) {
        self.listed.clear();
    }

    /// Takes an event, and tells whether anything that matters is another now.
    pub(crate) fn take(&mut self, event: Event<DeserializeGuard<K>>, node: &str) -> bool {
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(object) => {
                let (name, entry) = self.read(object, node);
                self.listed.insert(name, entry);
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut self.listed);
                let known = self.known.replace(listed);
                let (Some(known), Some(listed)) = (known, &self.known) else { return true };
                return known.len() != listed.len()
                    || known.iter().zip(listed).any(|(known, listed)| {
                        known.0 != listed.0 || !known.1.says_the_same(listed.1)
                    });
            }
            Event::Apply(object) => {
                let (name, entry) = self.read(object, node);
                let known = self.known.get_or_insert_default();
                let before = known.get(&name);
                if before.is_some_and(|before| is_older(entry.version, before.version)) {
                    return false;
                }
                let is_changed = before.is_none_or(|before| !entry.says_the_same(before));
                known.insert(name, entry);
                return is_changed;
            }
            Event::Delete(object) => {
                let (name, version) = (name(object.meta()), version(object.meta()));
                let known = self.known.get_or_insert_default();
                if known.get(&name).is_some_and(|before| !is_older(version, before.version)) {
                    known.remove(&name);
                    return true;
                }
            }
        }
        false
    }

    /// What is kept of an object. One that equals what is known shares its memory.
    fn read(&self, object: DeserializeGuard<K>, node: &str) -> (Name, Entry<K>) {
        let (name, version) = (name(object.meta()), version(object.meta()));
        let known = self.known.as_ref().and_then(|known| known.get(&name));
        let known = known.and_then(|known| known.object.clone());
        let (object, error) = match object.0 {
            Ok(mut object) => {
                object.trim(node);
                let known = known.filter(|known| **known == object);
                (Some(known.unwrap_or_else(|| Arc::new(object))), None)
            }
            Err(invalid) => (known, Some(invalid.error)),
        };
        (name, Entry { object, version, error })
    }
}

/// An API server counts the versions of its objects; a connection that is made anew can repeat some.
fn is_older(version: Option<u64>, known: Option<u64>) -> bool {
    matches!((version, known), (Some(version), Some(known)) if version < known)
}

fn name(metadata: &ObjectMeta) -> Name {
    (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}

fn version(metadata: &ObjectMeta) -> Option<u64> {
    metadata.resource_version.as_ref().and_then(|version| version.parse().ok())
}
