//! Metrics in Prometheus's text: IPVS's under the names that `node_exporter` has for them, and the proxy's own.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context as _, Result};
use ipvs_netlink::proc::Proc;
use ipvs_netlink::{Client, Protocol, ServiceKey, Stats, Table};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, prometheus_text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::status::{State, Status};

/// The format's name and version.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All metrics as they are now.
pub(crate) async fn text(status: &Status) -> Result<String> {
    let state = status.state().clone();
    let ipvs = match read().await {
        Ok((total, table)) => Some((total, backends(&table))),
        // The proxy's own say that IPVS cannot be reached.
        Err(_) => None,
    };
    encode(Metrics { state, ipvs })
}

fn encode(metrics: Metrics) -> Result<String> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(metrics));
    let mut text = String::new();
    prometheus_text::encode(&mut text, &registry).context("the metrics cannot be written")?;
    Ok(text)
}

/// By a client of its own, which waits for no pass.
async fn read() -> Result<(Stats, Table)> {
    let total = Proc::new().stats()?;
    Ok((total, Client::connect_tokio().await?.table().await?))
}

#[derive(Debug)]
struct Metrics {
    state: State,
    ipvs: Option<(Stats, BTreeMap<Labels, Backend>)>,
}

/// The labels of a backend, as `node_exporter` has them: of a service by firewall mark the mark alone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Labels {
    local_address: String,
    local_mark: String,
    local_port: String,
    proto: String,
    remote_address: String,
    remote_port: String,
}

#[derive(Debug, Clone, Copy, Default)]
struct Backend {
    active: u64,
    inactive: u64,
    weight: u64,
}

/// The backends by their labels. Those of equal labels, of a mark in both families say, are added up, as `node_exporter`
/// does it.
fn backends(table: &Table) -> BTreeMap<Labels, Backend> {
    let mut backends: BTreeMap<Labels, Backend> = BTreeMap::new();
    for service in &table.services {
        let key = service.entry.service.key;
        let (local_address, local_port) = match key.socket_address() {
            Some(at) => (at.ip().to_string(), at.port().to_string()),
            None => (String::new(), "0".to_owned()),
        };
        let local_mark = key.firewall_mark().map(|mark| format!("{mark:08X}")).unwrap_or_default();
        for entry in &service.destinations {
            let to = entry.destination.key;
            let labels = Labels {
                local_address: local_address.clone(),
                local_mark: local_mark.clone(),
                local_port: local_port.clone(),
                proto: protocol(key),
                remote_address: to.address.to_string(),
                remote_port: to.port.to_string(),
            };
            let sum = backends.entry(labels).or_default();
            sum.active += u64::from(entry.active_connections);
            sum.inactive += u64::from(entry.inactive_connections);
            sum.weight += u64::from(entry.destination.weight);
        }
    }
    backends
}

fn protocol(key: ServiceKey) -> String {
    key.protocol()
        .map_or("FWM".to_owned(), |protocol: Protocol| protocol.to_string().to_uppercase())
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let State { last, totals, api_server, .. } = &self.state;
        for (name, help, value) in [
            (
                "ipvs_kube_passes",
                "Passes that made the node as desired, or tried to",
                totals.passes,
            ),
            ("ipvs_kube_failed_passes", "Passes in which something failed", totals.failed),
            ("ipvs_kube_changes", "Changes of IPVS's table", totals.changes),
        ] {
            counter(&mut encoder, name, help, value)?;
        }
        let number = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        for (name, help, value) in [
            ("ipvs_kube_failures", "What the last pass could not do", number(last.failures.len())),
            ("ipvs_kube_services", "Virtual services that are desired", number(last.services)),
            ("ipvs_kube_destinations", "Destinations that are desired", number(last.destinations)),
            ("ipvs_kube_draining", "Destinations that drain", number(last.draining)),
            ("ipvs_kube_notes", "What is not programmed as it was asked", number(last.notes)),
            (
                "ipvs_kube_withheld",
                "Whether losses are withheld until they are confirmed",
                i64::from(last.is_withheld),
            ),
            ("ipvs_kube_ipvs_up", "Whether IPVS can be read", i64::from(self.ipvs.is_some())),
        ] {
            gauge(&mut encoder, name, help, &ConstGauge::new(value))?;
        }
        if let Some(errors) = api_server {
            let help = "Whether the API server gives what it is asked for";
            let is_up = ConstGauge::new(i64::from(errors.is_empty()));
            gauge(&mut encoder, "ipvs_kube_api_server_up", help, &is_up)?;
        }
        let help = "How long the last pass took, in seconds";
        gauge(&mut encoder, "ipvs_kube_last_pass_seconds", help, &ConstGauge::new(last.seconds))?;
        if let Some((total, backends)) = &self.ipvs {
            encode_ipvs(&mut encoder, total, backends)?;
        }
        Ok(())
    }
}

/// What a gauge shows of a backend.
type Value = fn(&Backend) -> u64;

fn encode_ipvs(
    encoder: &mut DescriptorEncoder<'_>,
    total: &Stats,
    backends: &BTreeMap<Labels, Backend>,
) -> fmt::Result {
    for (name, help, value) in [
        ("node_ipvs_connections", "The total number of connections made", total.connections),
        (
            "node_ipvs_incoming_packets",
            "The total number of incoming packets",
            total.incoming_packets,
        ),
        (
            "node_ipvs_outgoing_packets",
            "The total number of outgoing packets",
            total.outgoing_packets,
        ),
        ("node_ipvs_incoming_bytes", "The total amount of incoming data", total.incoming_bytes),
        ("node_ipvs_outgoing_bytes", "The total amount of outgoing data", total.outgoing_bytes),
    ] {
        counter(encoder, name, help, value)?;
    }
    let gauges: [(&str, &str, Value); 3] = [
        (
            "node_ipvs_backend_connections_active",
            "The current active connections by local and remote address",
            |backend| backend.active,
        ),
        (
            "node_ipvs_backend_connections_inactive",
            "The current inactive connections by local and remote address",
            |backend| backend.inactive,
        ),
        (
            "node_ipvs_backend_weight",
            "The current backend weight by local and remote address",
            |backend| backend.weight,
        ),
    ];
    for (name, help, value) in gauges {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, backend) in backends {
            let value = i64::try_from(value(backend)).unwrap_or(i64::MAX);
            ConstGauge::new(value).encode(family.encode_family(&labels.pairs())?)?;
        }
    }
    Ok(())
}

impl Labels {
    fn pairs(&self) -> [(&str, &str); 6] {
        [
            ("local_address", &self.local_address),
            ("local_mark", &self.local_mark),
            ("local_port", &self.local_port),
            ("proto", &self.proto),
            ("remote_address", &self.remote_address),
            ("remote_port", &self.remote_port),
        ]
    }
}

fn counter(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    let counter = ConstCounter::new(value);
    counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    gauge: &impl EncodeMetric,
) -> fmt::Result {
    gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
}

#[cfg(test)]
mod tests {
    use ipvs_netlink::fake::Kernel;
    use ipvs_netlink::{Options, Policy};

    use super::*;

    #[test]
    fn ipvs_has_the_names_that_dashboards_know() -> Result<()> {
        let mut ipvs = Options::new().connect_with(Kernel::new().link())?;
        let rules = "-A -t 192.0.2.1:80 -s rr\n-a -t 192.0.2.1:80 -r 10.0.0.1:8080 -m -w 3\n\
                     -A -u [2001:db8::1]:53 -s rr\n-a -u [2001:db8::1]:53 -r [fd00::1]:53 -m\n\
                     -A -f 256 -s rr\n-a -f 256 -r 10.0.0.1:0 -m\n\
                     -A -f 256 -6 -s rr\n-a -f 256 -6 -r [fd00::1]:0 -m\n";
        let _ = ipvs.sync(&rules.parse()?, &Policy::new())?;
        let status = Status::default();
        let state = status.state().clone();
        let ipvs = Some((Stats::default(), backends(&ipvs.table()?)));
        let text = encode(Metrics { state: state.clone(), ipvs })?;
        for line in [
            "# TYPE node_ipvs_connections_total counter",
            "node_ipvs_connections_total 0",
            "node_ipvs_incoming_packets_total 0",
            "node_ipvs_outgoing_bytes_total 0",
            "# TYPE node_ipvs_backend_weight gauge",
            r#"node_ipvs_backend_weight{local_address="192.0.2.1",local_mark="",local_port="80",proto="TCP",remote_address="10.0.0.1",remote_port="8080"} 3"#,
            r#"node_ipvs_backend_connections_active{local_address="2001:db8::1",local_mark="",local_port="53",proto="UDP",remote_address="fd00::1",remote_port="53"} 0"#,
            r#"node_ipvs_backend_connections_inactive{local_address="",local_mark="00000100",local_port="0",proto="FWM",remote_address="fd00::1",remote_port="0"} 0"#,
            "ipvs_kube_passes_total 0",
            "ipvs_kube_ipvs_up 1",
            "ipvs_kube_withheld 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        // Without IPVS the proxy's own are told all the same.
        let text = encode(Metrics { state, ipvs: None })?;
        assert!(text.contains("ipvs_kube_ipvs_up 0") && !text.contains("node_ipvs"), "{text}");
        // Without an API server nothing is told of one.
        assert!(!text.contains("api_server"), "{text}");
        for (errors, line) in [(vec![], "up 1"), (vec!["it is away".to_owned()], "up 0")] {
            status.set_api_server(errors);
            let text = encode(Metrics { state: status.state().clone(), ipvs: None })?;
            assert!(text.contains(&format!("ipvs_kube_api_server_{line}")), "{text}");
        }
        Ok(())
    }
}
