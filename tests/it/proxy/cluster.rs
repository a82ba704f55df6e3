//! A cluster whose API server runs in the node, where the proxy watches it.

use anyhow::Context as _;
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

use super::place::NODE;
use crate::api::{Api, Kind, Nodes, Services, Slices};

/// The cluster's API server, until it is dropped.
pub(super) struct Cluster {
    api: Api,
    /// Of its own, since the test blocks its thread. It is there until it is dropped.
    runtime: Option<Runtime>,
    /// The objects that were told last.
    objects: Vec<Value>,
}

impl Cluster {
    /// Starts an API server that has these objects.
    pub(super) fn start(objects: &str) -> anyhow::Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let api = NODE.run(|| Ok(runtime.block_on(Api::start())))?;
        let mut cluster = Self { api, runtime: Some(runtime), objects: Vec::new() };
        cluster.set(objects)?;
        Ok(cluster)
    }

    pub(super) fn url(&self) -> String {
        self.api.url()
    }

    /// Tells those of the objects that are new or others than before.
    pub(super) fn set(&mut self, objects: &str) -> anyhow::Result<()> {
        let objects = objects.split("\n---").map(serde_saphyr::from_str::<Value>);
        let objects = objects.collect::<Result<Vec<_>, _>>()?;
        for object in objects.iter().filter(|object| !self.objects.contains(object)) {
            self.put(object)?;
        }
        self.objects = objects;
        Ok(())
    }

    /// The object of this name, as [`set`](Self::set) told it last.
    pub(super) fn object(&self, name: &str) -> anyhow::Result<Value> {
        let named = self.objects.iter().find(|object| object["metadata"]["name"] == name);
        named.cloned().with_context(|| format!("there is no {name}"))
    }

    /// Tells one object.
    pub(super) fn put(&self, object: &Value) -> anyhow::Result<()> {
        self.api.put(kind(object)?, object.clone());
        Ok(())
    }

    /// The API server goes away, and cuts all connections.
    pub(super) fn go(&mut self) -> anyhow::Result<()> {
        let Self { api, runtime, .. } = self;
        let runtime = runtime.as_ref().context("a runtime")?;
        NODE.run(|| {
            runtime.block_on(api.go());
            Ok(())
        })
    }

    /// It is back, at the address that it had.
    pub(super) fn come(&mut self) -> anyhow::Result<()> {
        let Self { api, runtime, .. } = self;
        let runtime = runtime.as_ref().context("a runtime")?;
        NODE.run(|| {
            runtime.block_on(api.come());
            Ok(())
        })
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // A test's thread may not wait for a runtime's end.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn kind(object: &Value) -> anyhow::Result<Kind> {
    match object["kind"].as_str() {
        Some("Service") => Ok(Services),
        Some("EndpointSlice") => Ok(Slices),
        Some("Node") => Ok(Nodes),
        other => anyhow::bail!("the proxy asks for no {other:?}"),
    }
}
