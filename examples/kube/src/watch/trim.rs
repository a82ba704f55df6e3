//! What is kept of an object. A change of anything else is none.

use k8s_openapi::api::core::v1::{Node, NodeSpec, NodeStatus, Service, ServiceStatus};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::services::SCHEDULER;

/// An object of which a part is kept.
pub(crate) trait Trim {
    /// Takes away what the rules of this Node do not depend on.
    fn trim(&mut self, node: &str);
}

impl Trim for Service {
    fn trim(&mut self, _: &str) {
        let status = self.status.take().and_then(|status| status.load_balancer);
        self.status = status.map(|load_balancer| ServiceStatus {
            load_balancer: Some(load_balancer),
            ..ServiceStatus::default()
        });
        trim_metadata(&mut self.metadata);
    }
}

impl Trim for EndpointSlice {
    fn trim(&mut self, _: &str) {
        for endpoint in self.endpoints.iter_mut().flatten() {
            endpoint.target_ref = None;
            endpoint.hostname = None;
            endpoint.deprecated_topology = None;
        }
        // Written with each of its changes, by the controller that made it.
        self.metadata.creation_timestamp = None;
        trim_metadata(&mut self.metadata);
    }
}

impl Trim for Node {
    fn trim(&mut self, own: &str) {
        let is_own = self.metadata.name.as_deref() == Some(own);
        let spec = self.spec.take().filter(|_| is_own);
        self.spec = spec.map(|spec| NodeSpec {
            pod_cidr: spec.pod_cidr,
            pod_cidrs: spec.pod_cidrs,
            taints: spec.taints,
            ..NodeSpec::default()
        });
        let deletion = self.metadata.deletion_timestamp.take().filter(|_| is_own);
        let addresses = self.status.take().and_then(|status| status.addresses);
        self.status = addresses
            .map(|addresses| NodeStatus { addresses: Some(addresses), ..NodeStatus::default() });
        if !is_own {
            self.metadata.labels = None;
        }
        self.metadata.creation_timestamp = None;
        trim_metadata(&mut self.metadata);
        self.metadata.deletion_timestamp = deletion;
    }
}

/// Leaves the name, the labels, the annotation that is read and the time of creation.
fn trim_metadata(metadata: &mut ObjectMeta) {
    let annotations = metadata.annotations.take().into_iter().flatten();
    let read: std::collections::BTreeMap<_, _> =
        annotations.filter(|(name, _)| name == SCHEDULER).collect();
    *metadata = ObjectMeta {
        name: metadata.name.take(),
        namespace: metadata.namespace.take(),
        labels: metadata.labels.take(),
        annotations: Some(read).filter(|read| !read.is_empty()),
        creation_timestamp: metadata.creation_timestamp.take(),
        ..ObjectMeta::default()
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Once: a Node that was about to go was told to be healthy, as what says it was taken away.
    #[test]
    fn of_the_own_node_is_kept_that_it_is_about_to_go() {
        let node = serde_json::json!({
            "metadata": { "name": "a", "deletionTimestamp": "2026-01-01T00:00:00Z" },
            "spec": { "taints": [{ "key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule" }] },
        });
        let trimmed = |own| {
            let mut node: Node = serde_json::from_value(node.clone()).expect("a Node");
            node.trim(own);
            let taints = node.spec.and_then(|spec| spec.taints);
            (node.metadata.deletion_timestamp.is_some(), taints.is_some_and(|it| it.len() == 1))
        };
        assert_eq!((trimmed("a"), trimmed("b")), ((true, true), (false, false)));
    }
}
