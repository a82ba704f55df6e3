//! Connection tracking: what the kernel remembers of UDP flows that would go astray, by netlink.
//!
//! With `net.ipv4.vs.conntrack` 1 the entry of a flow says where it goes, and what was masqueraded. IPVS removes those of its
//! own connections: with `net.ipv4.vs.expire_nodest_conn` 1 when their endpoint is removed, since Linux 5.9, and before with
//! their next packet. This is for the entries that are left: those that say that a flow goes to an endpoint that was
//! removed, and those from before the virtual address had an endpoint, by which nothing would be masqueraded. A flow of
//! UDP does not end, so that they would stay for as long as the client asks.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use futures_util::StreamExt as _;
use netlink_packet_netfilter::conntrack::{
    ConntrackAttribute, ConntrackMessage, IPTuple, ProtoTuple, Protocol, Tuple,
};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
};
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload, Nla as _,
};
use rtnetlink::proto::{ConnectionHandle, new_connection};
use rtnetlink::sys::SocketAddr as Peer;
use rtnetlink::sys::protocols::NETLINK_NETFILTER;
use tokio::time::sleep;

/// What tells entries of equal addresses apart: their number, and the zone that they are in.
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const ENOENT: i32 = 2;

type Handle = ConnectionHandle<NetfilterMessage>;

/// How long the kernel may take: millions of entries are a matter of seconds.
const LONGEST: Duration = Duration::from_secs(60);

/// Has the kernel forget flows to these virtual addresses, or what of them went to an endpoint. Gives how many.
pub(crate) async fn forget(stale: &BTreeSet<(SocketAddr, Option<SocketAddr>)>) -> Result<usize> {
    let (connection, handle, _) = new_connection::<NetfilterMessage>(NETLINK_NETFILTER)
        .context("no socket to the kernel's connection tracking")?;
    let mut connection = tokio::spawn(connection);
    let forgotten = tokio::select! {
        // First, since what came by then may be less than all.
        biased;
        _ = &mut connection => Err(anyhow!("the socket to the kernel's connection tracking broke")),
        forgotten = forget_by(&handle, stale) => forgotten,
        () = sleep(LONGEST) => Err(anyhow!("connection tracking did not answer within {LONGEST:?}")),
    };
    connection.abort();
    forgotten
}

async fn forget_by(
    handle: &Handle,
    stale: &BTreeSet<(SocketAddr, Option<SocketAddr>)>,
) -> Result<usize> {
    let mut count = 0;
    for (family, is_v4) in [(NetfilterProtoFamily::IPv4, true), (NetfilterProtoFamily::IPv6, false)]
    {
        if !stale.iter().any(|(to, _)| to.is_ipv4() == is_v4) {
            continue;
        }
        let flows = list(handle, family)
            .await
            .context("connection tracking cannot be read (modprobe nf_conntrack_netlink?)")?;
        for flow in flows.iter().filter(|flow| flow.is_in(stale)) {
            count += usize::from(flow.remove(handle, family).await?);
        }
    }
    Ok(count)
}

async fn list(handle: &Handle, family: NetfilterProtoFamily) -> Result<Vec<Flow>> {
    let request = message(family, NLM_F_REQUEST | NLM_F_DUMP, ConntrackMessage::Get(Vec::new()));
    let mut answers = handle.clone().request(request, Peer::new(0, 0))?;
    let mut flows = Vec::new();
    while let Some(answer) = answers.next().await {
        match answer.payload {
            NetlinkPayload::InnerMessage(NetfilterMessage {
                inner: NetfilterMessageInner::Conntrack(ConntrackMessage::New(attributes)),
                ..
            }) => flows.extend(Flow::new(attributes)),
            NetlinkPayload::Error(error) if error.code.is_some() => {
                return Err(error.to_io().into());
            }
            _ => {}
        }
    }
    Ok(flows)
}

fn message(
    family: NetfilterProtoFamily,
    flags: u16,
    message: ConntrackMessage,
) -> NetlinkMessage<NetfilterMessage> {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    let message = NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), message);
    NetlinkMessage::new(header, NetlinkPayload::from(message))
}

/// An entry of a UDP flow.
struct Flow {
    /// Where its client sends to, and who replies.
    to: SocketAddr,
    from: SocketAddr,
    /// What names the entry to the kernel.
    name: Vec<ConntrackAttribute>,
}

impl Flow {
    /// `None` for other protocols.
    fn new(attributes: Vec<ConntrackAttribute>) -> Option<Self> {
        let (mut to, mut from, mut name) = (None, None, Vec::new());
        for attribute in attributes {
            match &attribute {
                ConntrackAttribute::CtaTupleOrig(tuple) => {
                    to = Some(End::of(tuple)?.destination);
                    name.push(attribute);
                }
                ConntrackAttribute::CtaTupleReply(tuple) => from = Some(End::of(tuple)?.source),
                ConntrackAttribute::Other(other) if [CTA_ID, CTA_ZONE].contains(&other.kind()) => {
                    name.push(attribute);
                }
                _ => {}
            }
        }
        Some(Self { to: to?, from: from?, name })
    }

    fn is_in(&self, stale: &BTreeSet<(SocketAddr, Option<SocketAddr>)>) -> bool {
        stale.contains(&(self.to, None)) || stale.contains(&(self.to, Some(self.from)))
    }

    /// Tells whether it was there still.
    async fn remove(&self, handle: &Handle, family: NetfilterProtoFamily) -> Result<bool> {
        let request = ConntrackMessage::Delete(self.name.clone());
        let request = message(family, NLM_F_REQUEST | NLM_F_ACK, request);
        let mut answers = handle.clone().request(request, Peer::new(0, 0))?;
        while let Some(answer) = answers.next().await {
            if let NetlinkPayload::Error(error) = answer.payload {
                match error.code.map_or(0, |code| code.get().abs()) {
                    0 => {}
                    ENOENT => return Ok(false),
                    _ => {
                        let what = format!("the UDP flow to {} cannot be forgotten", self.to);
                        return Err(anyhow::Error::from(error.to_io()).context(what));
                    }
                }
            }
        }
        // The acknowledgement ends the answers, and is none of them.
        Ok(true)
    }
}

/// The two ends of one direction of a flow.
struct End {
    source: SocketAddr,
    destination: SocketAddr,
}

impl End {
    /// `None` unless it is of UDP.
    fn of(tuple: &[Tuple]) -> Option<Self> {
        let (mut addresses, mut ports, mut is_udp) = ((None, None), (None, None), false);
        for part in tuple {
            match part {
                Tuple::Ip(inner) => inner.iter().for_each(|part| match part {
                    IPTuple::SourceAddress(address) => addresses.0 = Some(*address),
                    IPTuple::DestinationAddress(address) => addresses.1 = Some(*address),
                    _ => {}
                }),
                Tuple::Proto(inner) => inner.iter().for_each(|part| match part {
                    ProtoTuple::Protocol(protocol) => is_udp = *protocol == Protocol::Udp,
                    ProtoTuple::SourcePort(port) => ports.0 = Some(*port),
                    ProtoTuple::DestinationPort(port) => ports.1 = Some(*port),
                    _ => {}
                }),
                _ => {}
            }
        }
        is_udp.then_some(())?;
        Some(Self {
            source: SocketAddr::new(addresses.0?, ports.0?),
            destination: SocketAddr::new(addresses.1?, ports.1?),
        })
    }
}
