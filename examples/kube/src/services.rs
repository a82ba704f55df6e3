//! What a Service asks for.

use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipvs_netlink::{Family, Protocol, Scheduler};
use k8s_openapi::api::core::v1 as api;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;

use crate::addresses::{parse_address, unusable};
use crate::health::HealthCheck;
use crate::network::Network;
use crate::notes::Notes;
use crate::options::{Options, parse_scheduler};

/// The annotation that chooses a Service's scheduler, with its options: `wlc`, `sh fallback`.
pub const SCHEDULER: &str = "ipvs-netlink/scheduler";

/// The label that gives an object to another proxy.
pub(crate) const OTHER_PROXY: &str = "service.kubernetes.io/service-proxy-name";

/// The label of what belongs to headless Services.
pub(crate) const HEADLESS: &str = "service.kubernetes.io/headless";

/// How long a client stays with its endpoint where the Service does not say it: three hours, as the API has it.
const DEFAULT_AFFINITY: i32 = 10800;

/// Names a Service among all namespaces.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ServiceName {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl ServiceName {
    pub(crate) fn of(metadata: &ObjectMeta) -> Self {
        Self { namespace: namespace(metadata), name: metadata.name.clone().unwrap_or_default() }
    }
}

impl From<&HealthCheck> for ServiceName {
    fn from(check: &HealthCheck) -> Self {
        Self { namespace: check.namespace.clone(), name: check.name.clone() }
    }
}

/// What kubectl takes for an object's namespace where a file does not name it.
pub(crate) const DEFAULT_NAMESPACE: &str = "default";

/// An object's namespace.
pub(crate) fn namespace(metadata: &ObjectMeta) -> String {
    metadata.namespace.clone().unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned())
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Service {}/{}", self.namespace.escape_debug(), self.name.escape_debug())
    }
}

/// A Service that has a cluster IP, and what it asks for.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) name: ServiceName,
    created: Option<Timestamp>,
    pub(crate) scheduler: Scheduler,
    pub(crate) affinity: Option<Duration>,
    /// Whether traffic to the cluster IP stays on the node.
    pub(crate) internal_local: bool,
    /// Whether traffic from outside stays on the node.
    pub(crate) external_local: bool,
    pub(crate) health_check_port: Option<u16>,
    pub(crate) ports: Vec<Port>,
    /// One for each family that it has a cluster IP of.
    pub(crate) frontends: Vec<Frontend>,
}

/// A port of a Service.
#[derive(Debug)]
pub(crate) struct Port {
    /// By this name and the protocol `EndpointSlice`s say where the port is on each endpoint.
    pub(crate) name: String,
    pub(crate) protocol: Protocol,
    pub(crate) number: u16,
    pub(crate) on_nodes: Option<u16>,
}

/// The addresses of a Service in one family.
#[derive(Debug)]
pub(crate) struct Frontend {
    pub(crate) family: Family,
    pub(crate) cluster_ip: IpAddr,
    pub(crate) external_ips: Vec<IpAddr>,
    pub(crate) ingress: Vec<IpAddr>,
    /// Who may come to the ingress; `None` is everybody.
    pub(crate) source_ranges: Option<Arc<[Network]>>,
}

impl Service {
    /// Reads a Service; `None` where it is not the proxy's.
    pub(crate) fn read(
        service: &api::Service,
        options: &Options,
        notes: &mut Notes,
    ) -> Option<Self> {
        let name = ServiceName::of(&service.metadata);
        let Some(spec) = &service.spec else {
            notes.add(&name, "not programmed: it has no spec");
            return None;
        };
        let is_external_name = spec.type_.as_deref() == Some("ExternalName");
        // kube-proxy asks for objects without these labels.
        let is_left_alone = service.metadata.labels.as_ref().is_some_and(|labels| {
            labels.contains_key(OTHER_PROXY) || labels.contains_key(HEADLESS)
        });
        if is_external_name || is_left_alone || is_headless(spec) {
            return None;
        }
        let frontends = frontends(service, spec, &name, notes);
        if frontends.is_empty() {
            notes.add(&name, "not programmed: it has no cluster IP");
            return None;
        }
        let ports: Vec<_> =
            spec.ports.iter().flatten().filter_map(|port| Port::read(port, &name, notes)).collect();
        if spec.ports.as_ref().is_none_or(Vec::is_empty) {
            notes.add(&name, "not programmed: it has no ports");
        }
        note_unknown_words(spec, &name, notes);
        let is_load_balancer = spec.type_.as_deref() == Some("LoadBalancer");
        let external_local = spec.external_traffic_policy.as_deref() == Some("Local");
        let mut health_check_port = None;
        // Nobody would be sent to a node for a Service without ports.
        if is_load_balancer && external_local && !ports.is_empty() {
            health_check_port = spec.health_check_node_port.and_then(port_number);
            if health_check_port.is_none() {
                notes.add(&name, "no health check: its healthCheckNodePort is missing or no port");
            }
        }
        Some(Self {
            created: service.metadata.creation_timestamp.as_ref().map(|time| time.0),
            scheduler: scheduler(&service.metadata, &name, options, notes),
            affinity: affinity(spec, &name, notes),
            internal_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
            external_local,
            health_check_port,
            ports,
            frontends,
            name,
        })
    }

    /// The older of two is served where both claim the same; those without a time of creation come last.
    pub(crate) fn seniority(&self) -> impl Ord + '_ {
        (self.created.is_none(), self.created, &self.name)
    }
}

impl Port {
    fn read(port: &api::ServicePort, service: &ServiceName, notes: &mut Notes) -> Option<Self> {
        let name = port.name.clone().unwrap_or_default();
        let mut refuse = |why: String| {
            notes.add(service, format!("port {} not programmed: {why}", port.port));
            None
        };
        let Some(protocol) = protocol(port.protocol.as_deref()) else {
            return refuse(format!(
                "IPVS balances TCP, UDP and SCTP, not {}",
                port.protocol.as_deref().unwrap_or_default().escape_debug()
            ));
        };
        let Some(number) = port_number(port.port) else {
            return refuse("a port is 1 to 65535".to_owned());
        };
        let mut on_nodes = None;
        if let Some(wanted) = port.node_port.filter(|number| *number != 0) {
            on_nodes = port_number(wanted);
            if on_nodes.is_none() {
                notes.add(
                    service,
                    format!("node port {wanted} not programmed: a port is 1 to 65535"),
                );
            }
        }
        Some(Self { name, protocol, number, on_nodes })
    }
}

impl Frontend {
    /// Whether there is another way to the port than by the cluster IP.
    pub(crate) fn is_externally_accessible(&self, port: &Port) -> bool {
        port.on_nodes.is_some() || !self.ingress.is_empty() || !self.external_ips.is_empty()
    }
}

/// A protocol as the API names it; TCP where it is not said.
pub(crate) fn protocol(name: Option<&str>) -> Option<Protocol> {
    match name.unwrap_or("TCP") {
        "TCP" => Some(Protocol::TCP),
        "UDP" => Some(Protocol::UDP),
        "SCTP" => Some(Protocol::SCTP),
        _ => None,
    }
}

/// A number of the API's as a port, which 0 is not.
pub(crate) fn port_number(number: i32) -> Option<u16> {
    u16::try_from(number).ok().filter(|port| *port > 0)
}

/// Words of the API have no other spelling. What is none of them counts as if it were not there.
fn note_unknown_words(spec: &api::ServiceSpec, name: &ServiceName, notes: &mut Notes) {
    let policies: &[&str] = &["Cluster", "Local"];
    for (field, word, known) in [
        ("type", &spec.type_, &["ClusterIP", "NodePort", "LoadBalancer"][..]),
        ("internalTrafficPolicy", &spec.internal_traffic_policy, policies),
        ("externalTrafficPolicy", &spec.external_traffic_policy, policies),
        ("sessionAffinity", &spec.session_affinity, &["ClientIP", "None"]),
    ] {
        if let Some(word) = word.as_deref().filter(|word| !word.is_empty() && !known.contains(word))
        {
            let known = known.join(", ");
            notes.add(name, format!("{field} {word:?} is left out: it is one of {known}"));
        }
    }
}

fn is_headless(spec: &api::ServiceSpec) -> bool {
    spec.cluster_ip.as_deref() == Some("None")
        || spec.cluster_ips.iter().flatten().any(|address| address == "None")
}

/// The addresses of each family that the Service has a cluster IP of.
fn frontends(
    service: &api::Service,
    spec: &api::ServiceSpec,
    name: &ServiceName,
    notes: &mut Notes,
) -> Vec<Frontend> {
    // The first of `clusterIPs` is `clusterIP`; an object of an old cluster has the latter alone.
    let mut cluster_ips: Vec<&String> = spec.cluster_ips.iter().flatten().collect();
    if cluster_ips.is_empty() {
        cluster_ips.extend(spec.cluster_ip.iter().filter(|address| !address.is_empty()));
    }
    let cluster_ips = addresses(cluster_ips, "cluster IP", name, notes);
    let external_ips = addresses(spec.external_ips.iter().flatten(), "external IP", name, notes);
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = status.and_then(|status| status.ingress.as_ref()).into_iter().flatten();
    let mut own = Vec::new();
    for ingress in ingress {
        match ingress.ip_mode.as_deref() {
            None | Some("VIP") => own.extend(ingress.ip.as_ref().filter(|ip| !ip.is_empty())),
            Some("Proxy") => {}
            Some(mode) => notes.add(
                name,
                format!("an ingress with ipMode {mode:?} is left out: it is one of VIP, Proxy"),
            ),
        }
    }
    let ingress = addresses(own, "ingress", name, notes);
    let source_ranges = source_ranges(spec, name, notes);

    let mut frontends: Vec<Frontend> = Vec::new();
    for &cluster_ip in &cluster_ips {
        let family = Family::from(cluster_ip);
        if frontends.iter().any(|known| known.family == family) {
            notes.add(
                name,
                format!("cluster IP {cluster_ip} not programmed: it has one of {family} already"),
            );
            continue;
        }
        let of_family = |all: &[IpAddr]| {
            all.iter().copied().filter(|address| Family::from(*address) == family).collect()
        };
        let of_this = |ranges: &Vec<Network>| {
            Network::without_covered(
                ranges.iter().copied().filter(|range| range.family() == family),
            )
        };
        let ranges = source_ranges.as_ref().map(of_this);
        // Everybody may come where a range is all there is of the family.
        let ranges = ranges.filter(|ranges| ranges.iter().all(|range| range.prefix() > 0));
        frontends.push(Frontend {
            family,
            cluster_ip,
            external_ips: of_family(&external_ips),
            ingress: of_family(&ingress),
            source_ranges: ranges.map(Arc::from),
        });
    }
    if frontends.is_empty() {
        return frontends;
    }
    for (what, all) in [("external IP", &external_ips), ("ingress", &ingress)] {
        for address in all {
            let family = Family::from(*address);
            if !frontends.iter().any(|known| known.family == family) {
                notes.add(
                    name,
                    format!("{what} {address} not programmed: it has no cluster IP of {family}"),
                );
            }
        }
    }
    for frontend in &frontends {
        let family = frontend.family;
        if !frontend.ingress.is_empty()
            && frontend.source_ranges.as_ref().is_some_and(|ranges| ranges.is_empty())
        {
            notes.add(name, format!("nobody may come to its ingress: none of its loadBalancerSourceRanges is of {family}"));
        }
    }
    frontends
}

/// Addresses of an object, each once; what is none, and what no virtual address can be, is noted.
fn addresses<'a>(
    texts: impl IntoIterator<Item = &'a String>,
    what: &str,
    service: &ServiceName,
    notes: &mut Notes,
) -> Vec<IpAddr> {
    let (mut addresses, mut seen) = (Vec::new(), HashSet::new());
    for text in texts {
        let address = parse_address(text);
        let why = address.as_ref().map_or(Some("it is no address"), |address| unusable(*address));
        match (address, why) {
            (Ok(address), None) if !seen.insert(address) => {}
            (Ok(address), None) => addresses.push(address),
            (_, why) => {
                let (text, why) = (text.escape_debug(), why.unwrap_or_default());
                notes.add(service, format!("{what} {text} not programmed: {why}"));
            }
        }
    }
    addresses
}

/// Who may come to the ingress; `None` where the Service does not say it. What cannot be read lets nobody in.
fn source_ranges(
    spec: &api::ServiceSpec,
    name: &ServiceName,
    notes: &mut Notes,
) -> Option<Vec<Network>> {
    let texts = spec.load_balancer_source_ranges.as_ref().filter(|texts| !texts.is_empty())?;
    let mut ranges = Vec::new();
    for text in texts {
        match text.parse() {
            Ok(range) => ranges.push(range),
            Err(error) => {
                notes
                    .add(name, format!("a range of loadBalancerSourceRanges is left out: {error}"));
            }
        }
    }
    Some(ranges)
}

fn scheduler(
    metadata: &ObjectMeta,
    name: &ServiceName,
    options: &Options,
    notes: &mut Notes,
) -> Scheduler {
    let wanted = metadata.annotations.as_ref().and_then(|annotations| annotations.get(SCHEDULER));
    let Some(wanted) = wanted else { return options.scheduler };
    parse_scheduler(wanted).unwrap_or_else(|error| {
        notes.add(name, format!("the annotation {SCHEDULER} is left out: {error}"));
        options.scheduler
    })
}

fn affinity(spec: &api::ServiceSpec, name: &ServiceName, notes: &mut Notes) -> Option<Duration> {
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return None;
    }
    let config = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
    let seconds = config.and_then(|config| config.timeout_seconds).unwrap_or(DEFAULT_AFFINITY);
    match u64::try_from(seconds) {
        Ok(seconds @ 1..=86400) => Some(Duration::from_secs(seconds)),
        _ => {
            notes
                .add(name, format!("no session affinity: {seconds} s is not within 1 s and a day"));
            None
        }
    }
}
