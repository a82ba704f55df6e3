//! Which endpoints serve a Service on this node.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};

use ipvs_netlink::{Family, Protocol};
use k8s_openapi::api::discovery::v1 as api;

use crate::addresses::{parse_address, unusable};
use crate::notes::Notes;
use crate::services::{HEADLESS, OTHER_PROXY, ServiceName, namespace, port_number, protocol};

/// The label that names the Service of an `EndpointSlice`.
const SERVICE: &str = "kubernetes.io/service-name";

/// Where the proxy runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) node: &'a str,
    pub(crate) zone: Option<&'a str>,
}

/// The endpoints of all Services, as their slices have them.
#[derive(Debug, Default)]
pub(crate) struct Slices<'a>(HashMap<ServiceName, Vec<&'a api::EndpointSlice>>);

/// The endpoints of one port of a Service in one family, by their addresses.
pub(crate) type Endpoints<'a> = BTreeMap<SocketAddr, Endpoint<'a>>;

/// Names a port within a Service.
type PortKey = (String, Protocol);

/// An endpoint, and what decides whether it is used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Endpoint<'a> {
    pub(crate) is_local: bool,
    pub(crate) state: State,
    zones: &'a [api::ForZone],
    nodes: &'a [api::ForNode],
}

/// What an endpoint can be used for, the most useful last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    /// Nothing.
    Down,
    /// It still serves and is about to end: used where none is ready.
    Ending,
    /// New connections.
    Ready,
}

/// The endpoints that each traffic policy uses.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Usable {
    pub(crate) cluster: Vec<SocketAddr>,
    pub(crate) local: Vec<SocketAddr>,
}

impl<'a> Slices<'a> {
    /// Sorts slices by their Services.
    pub(crate) fn new(slices: &[&'a api::EndpointSlice]) -> Self {
        let mut by_service: HashMap<_, Vec<_>> = HashMap::new();
        for &slice in slices {
            let Some(labels) = &slice.metadata.labels else { continue };
            if labels.contains_key(OTHER_PROXY) || labels.contains_key(HEADLESS) {
                continue;
            }
            let Some(service) = labels.get(SERVICE).filter(|name| !name.is_empty()) else {
                continue;
            };
            let namespace = namespace(&slice.metadata);
            let name = ServiceName { namespace, name: service.clone() };
            by_service.entry(name).or_default().push(slice);
        }
        Self(by_service)
    }

    /// The endpoints of each port of a Service in one family. Of an endpoint that several slices have, the local one
    /// counts, and of those the most useful: while it moves from slice to slice, it is in both. The order of the slices
    /// decides nothing.
    pub(crate) fn of(
        &self,
        service: &ServiceName,
        family: Family,
        node: &str,
        notes: &mut Notes,
    ) -> HashMap<PortKey, Endpoints<'a>> {
        let mut by_port: HashMap<PortKey, Endpoints<'a>> = HashMap::new();
        for slice in self.0.get(service).into_iter().flatten() {
            if slice.address_type != family.to_string() {
                note_unknown_type(slice, service, notes);
                continue;
            }
            let mut endpoints = Vec::new();
            for endpoint in slice.endpoints.iter().flatten() {
                let address = address(endpoint, family, service, notes);
                endpoints.extend(address.map(|address| (address, Endpoint::read(endpoint, node))));
            }
            for (name, protocol, port) in ports(slice, service, notes) {
                let known = by_port.entry((name.to_owned(), protocol)).or_default();
                for (address, endpoint) in &endpoints {
                    let best = known.entry(SocketAddr::new(*address, port)).or_insert(*endpoint);
                    if endpoint.rank() > best.rank() {
                        *best = *endpoint;
                    }
                }
            }
        }
        by_port
    }
}

/// A slice of a type that no API has serves nobody.
fn note_unknown_type(slice: &api::EndpointSlice, service: &ServiceName, notes: &mut Notes) {
    if !["IPv4", "IPv6", "FQDN"].contains(&&*slice.address_type) {
        let name = slice.metadata.name.as_deref().unwrap_or_default().escape_debug();
        let wrong = &slice.address_type;
        notes.add(
            service,
            format!("EndpointSlice {name} is left out: addressType {wrong:?} is none of IPv4, IPv6, FQDN"),
        );
    }
}

/// The ports of a slice that can be used.
fn ports<'a>(
    slice: &'a api::EndpointSlice,
    service: &ServiceName,
    notes: &mut Notes,
) -> Vec<(&'a str, Protocol, u16)> {
    let mut ports = Vec::new();
    for port in slice.ports.iter().flatten() {
        let name = port.name.as_deref().unwrap_or_default();
        let why = match (protocol(port.protocol.as_deref()), port.port) {
            (None, _) => {
                let protocol = port.protocol.as_deref().unwrap_or_default();
                format!("IPVS balances TCP, UDP and SCTP, not {}", protocol.escape_debug())
            }
            (Some(_), None | Some(0)) => "it has no number".to_owned(),
            (Some(protocol), Some(number)) => match port_number(number) {
                Some(number) => {
                    ports.push((name, protocol, number));
                    continue;
                }
                None => format!("a port is 1 to 65535, not {number}"),
            },
        };
        let slice = slice.metadata.name.as_deref().unwrap_or_default().escape_debug();
        notes
            .add(service, format!("the port {name:?} of EndpointSlice {slice} is left out: {why}"));
    }
    ports
}

/// The address of an endpoint. It may have several, and whoever uses it is to take the first.
fn address(
    endpoint: &api::Endpoint,
    family: Family,
    service: &ServiceName,
    notes: &mut Notes,
) -> Option<IpAddr> {
    let Some(text) = endpoint.addresses.first() else {
        notes.add(service, "an endpoint is left out: it has no address");
        return None;
    };
    let address = parse_address(text);
    let is_usable = address
        .as_ref()
        .is_ok_and(|address| Family::from(*address) == family && unusable(*address).is_none());
    if !is_usable {
        let text = text.escape_debug();
        notes.add(
            service,
            format!("endpoint {text} is left out: it is no endpoint's address of {family}"),
        );
    }
    address.ok().filter(|_| is_usable)
}

impl<'a> Endpoint<'a> {
    fn read(endpoint: &'a api::Endpoint, node: &str) -> Self {
        let conditions = endpoint.conditions.as_ref();
        let is = |condition: Option<bool>, unless_told| condition.unwrap_or(unless_told);
        let is_ready = is(conditions.and_then(|conditions| conditions.ready), true);
        let is_serving = is(conditions.and_then(|conditions| conditions.serving), true);
        let is_terminating = is(conditions.and_then(|conditions| conditions.terminating), false);
        let state = match (is_ready, is_serving && is_terminating) {
            (true, _) => State::Ready,
            (false, true) => State::Ending,
            (false, false) => State::Down,
        };
        let hints = endpoint.hints.as_ref();
        Self {
            is_local: endpoint.node_name.as_deref().is_some_and(|name| name == node),
            state,
            zones: hints.and_then(|hints| hints.for_zones.as_deref()).unwrap_or_default(),
            nodes: hints.and_then(|hints| hints.for_nodes.as_deref()).unwrap_or_default(),
        }
    }

    /// Which of two that are one endpoint counts.
    fn rank(&self) -> impl Ord + 'a {
        let zones = self.zones.iter().map(|hint| &*hint.name).collect::<Vec<_>>();
        let nodes = self.nodes.iter().map(|hint| &*hint.name).collect::<Vec<_>>();
        (self.is_local, self.state, Reverse((zones, nodes)))
    }

    fn is_for_node(&self, place: Place<'_>) -> bool {
        self.nodes.iter().any(|hint| hint.name == place.node)
    }

    fn is_for_zone(&self, place: Place<'_>) -> bool {
        self.zones.iter().any(|hint| Some(&*hint.name) == place.zone)
    }
}

impl Usable {
    /// Chooses among the endpoints of a port, as [kube-proxy] does: the ready ones; where none is ready, those that
    /// end and still serve. This is decided for each policy by itself, and hints count for Cluster alone.
    ///
    /// [kube-proxy]: https://github.com/kubernetes/kubernetes/blob/v1.34.0/pkg/proxy/topology.go
    pub(crate) fn choose(endpoints: &Endpoints<'_>, place: Place<'_>) -> Self {
        let with = |wanted: &dyn Fn(&Endpoint<'_>) -> bool| -> Vec<SocketAddr> {
            endpoints.iter().filter(|(_, endpoint)| wanted(endpoint)).map(|(at, _)| *at).collect()
        };
        let best = |within: &dyn Fn(&Endpoint<'_>) -> bool| {
            endpoints
                .values()
                .filter(|endpoint| within(endpoint))
                .map(|endpoint| endpoint.state)
                .max()
        };
        let of_state = |state, within: &dyn Fn(&Endpoint<'_>) -> bool| match state {
            None | Some(State::Down) => Vec::new(),
            Some(state) => with(&|endpoint| endpoint.state == state && within(endpoint)),
        };
        let hinted = hinted(endpoints, place);
        let cluster = match best(&|_| true) {
            Some(State::Ready) => {
                of_state(Some(State::Ready), &|endpoint| hinted.allows(endpoint, place))
            }
            state => of_state(state, &|_| true),
        };
        let local = of_state(best(&|endpoint| endpoint.is_local), &|endpoint| endpoint.is_local);
        Self { cluster, local }
    }
}

/// Which hints decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hinted {
    Nowhere,
    ToNode,
    ToZone,
}

impl Hinted {
    fn allows(self, endpoint: &Endpoint<'_>, place: Place<'_>) -> bool {
        match self {
            Self::Nowhere => true,
            Self::ToNode => endpoint.is_for_node(place),
            Self::ToZone => endpoint.is_for_zone(place),
        }
    }
}

/// Hints count where every ready endpoint has them and one of them is for here; the node's before the zone's.
fn hinted(endpoints: &Endpoints<'_>, place: Place<'_>) -> Hinted {
    let ready = || endpoints.values().filter(|endpoint| endpoint.state == State::Ready);
    if ready().all(|endpoint| !endpoint.nodes.is_empty())
        && ready().any(|endpoint| endpoint.is_for_node(place))
    {
        Hinted::ToNode
    } else if ready().all(|endpoint| !endpoint.zones.is_empty())
        && ready().any(|endpoint| endpoint.is_for_zone(place))
    {
        Hinted::ToZone
    } else {
        Hinted::Nowhere
    }
}
