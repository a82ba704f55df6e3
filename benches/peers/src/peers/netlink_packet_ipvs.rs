//! The crate netlink-packet-ipvs, a codec without a client: a plain loop of ours sends and
//! receives, one message per round trip.

use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail, ensure};
use ipvs_netlink::{Ruleset, ServiceKey};
use netlink_packet_core_07::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_generic_03::GenlMessage;
use netlink_packet_generic_03::ctrl::nlas::GenlCtrlAttrs;
use netlink_packet_generic_03::ctrl::{GenlCtrl, GenlCtrlCmd};
use netlink_packet_ipvs::ctrl::nlas::destination::{
    Destination, DestinationExtended, ForwardTypeFull,
};
use netlink_packet_ipvs::ctrl::nlas::service::{
    Flags, Netmask, Protocol, Scheduler, Service, ServiceExtended,
};
use netlink_packet_ipvs::ctrl::nlas::{AddressFamily, IpvsCtrlAttrs};
use netlink_packet_ipvs::ctrl::{IpvsCtrlCmd, IpvsServiceCtrl};
use netlink_sys::protocols::NETLINK_GENERIC;
use netlink_sys::{Socket, SocketAddr};

use crate::measure::time;
use crate::rules::{self, Size};
use crate::{Codec, Peer};

/// The crate's messages, sent by a loop of ours.
pub struct NetlinkPacketIpvs;

/// A socket with the number of the family.
struct Loop {
    socket: Socket,
    family: u16,
    answer: Vec<u8>,
}

impl Loop {
    fn open() -> anyhow::Result<Self> {
        let mut socket = Socket::new(NETLINK_GENERIC)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        let mut this = Self { socket, family: 0, answer: Vec::with_capacity(64 * 1024) };
        let name = GenlCtrlAttrs::FamilyName("IPVS".to_owned());
        let query = GenlCtrl { cmd: GenlCtrlCmd::GetFamily, nlas: vec![name] };
        let mut query = NetlinkMessage::from(GenlMessage::from_payload(query));
        query.header.flags = NLM_F_REQUEST;
        query.finalize();
        let mut request = vec![0; query.buffer_len()];
        query.serialize(&mut request);
        this.send(&request)?;
        let answer = NetlinkMessage::<GenlMessage<GenlCtrl>>::deserialize(&this.answer)?;
        let NetlinkPayload::InnerMessage(answer) = answer.payload else {
            bail!("this kernel has no IPVS");
        };
        let family = answer.payload.nlas.iter().find_map(|attribute| match attribute {
            GenlCtrlAttrs::FamilyId(family) => Some(*family),
            _ => None,
        });
        this.family = family.context("the family has no number")?;
        Ok(this)
    }

    /// Sends a request and receives the first datagram of the answer.
    fn send(&mut self, request: &[u8]) -> anyhow::Result<()> {
        self.socket.send(request, 0)?;
        self.receive()
    }

    fn receive(&mut self) -> anyhow::Result<()> {
        self.answer.clear();
        self.socket.recv(&mut self.answer, 0)?;
        Ok(())
    }

    fn change(&mut self, cmd: IpvsCtrlCmd, nlas: Vec<IpvsCtrlAttrs>) -> anyhow::Result<()> {
        let message = IpvsServiceCtrl { cmd, nlas, family_id: self.family };
        self.send(&message.serialize(false))?;
        match NetlinkMessage::<GenlMessage<IpvsServiceCtrl>>::deserialize(&self.answer)?.payload {
            NetlinkPayload::Error(error) => {
                ensure!(error.code.is_none(), "an operation failed: {error:?}");
                Ok(())
            }
            _ => bail!("an operation was not acknowledged"),
        }
    }

    fn dump<T>(
        &mut self,
        cmd: IpvsCtrlCmd,
        nlas: Vec<IpvsCtrlAttrs>,
        read: impl Fn(&IpvsCtrlAttrs) -> anyhow::Result<T>,
    ) -> anyhow::Result<Vec<T>> {
        let message = IpvsServiceCtrl { cmd, nlas, family_id: self.family };
        self.send(&message.serialize(true))?;
        let mut entries = Vec::new();
        loop {
            let mut rest = &self.answer[..];
            while !rest.is_empty() {
                let message = NetlinkMessage::<GenlMessage<IpvsServiceCtrl>>::deserialize(rest)?;
                match message.payload {
                    NetlinkPayload::InnerMessage(message) => {
                        let attributes = message.payload.nlas;
                        entries.push(read(attributes.first().context("no attribute")?)?);
                    }
                    NetlinkPayload::Done(_) => return Ok(entries),
                    other => bail!("a dump failed: {other:?}"),
                }
                let length = usize::try_from(message.header.length)?;
                rest = rest.get(length..).unwrap_or_default();
            }
            self.receive()?;
        }
    }
}

fn service_entry(attribute: &IpvsCtrlAttrs) -> anyhow::Result<ServiceExtended> {
    match attribute {
        IpvsCtrlAttrs::Service(nlas) => {
            Service::from_nlas(nlas).map_err(|error| anyhow!("no service: {error}"))
        }
        IpvsCtrlAttrs::Destination(_) => bail!("a destination where a service belongs"),
    }
}

fn destination_entry(attribute: &IpvsCtrlAttrs) -> anyhow::Result<DestinationExtended> {
    match attribute {
        IpvsCtrlAttrs::Destination(nlas) => {
            DestinationExtended::from_nlas(nlas).map_err(|error| anyhow!("no destination: {error}"))
        }
        IpvsCtrlAttrs::Service(_) => bail!("a service where a destination belongs"),
    }
}

fn service_of(service: &ipvs_netlink::Service) -> anyhow::Result<Service> {
    let ServiceKey::Address { address, port, .. } = service.key else {
        bail!("its services by mark are broken");
    };
    Ok(Service {
        address,
        netmask: Netmask::new(32, AddressFamily::IPv4),
        scheduler: Scheduler::from(service.scheduler.name()),
        flags: Flags(0),
        port: Some(port),
        fw_mark: None,
        persistence_timeout: None,
        family: AddressFamily::IPv4,
        protocol: Protocol::TCP,
    })
}

fn destination_of(destination: &ipvs_netlink::Destination) -> Destination {
    Destination {
        address: destination.key.address,
        fwd_method: ForwardTypeFull::Masquerade,
        weight: destination.weight,
        upper_threshold: None,
        lower_threshold: None,
        port: destination.key.port,
        family: AddressFamily::IPv4,
    }
}

impl Peer for NetlinkPacketIpvs {
    fn name(&self) -> &'static str {
        "netlink-packet-ipvs"
    }

    fn note(&self) -> &'static str {
        "a codec without a client: with a plain loop of ours, one message a round trip"
    }

    fn write(&self, rules: &Ruleset) -> anyhow::Result<Duration> {
        let mut plain = Loop::open()?;
        time(|| {
            for rules in rules.services() {
                let service = IpvsCtrlAttrs::Service(service_of(rules.service())?.create_nlas());
                plain.change(IpvsCtrlCmd::NewService, vec![service.clone()])?;
                for server in rules.destinations() {
                    let server = IpvsCtrlAttrs::Destination(destination_of(server).create_nlas());
                    plain.change(IpvsCtrlCmd::NewDest, vec![service.clone(), server])?;
                }
            }
            Ok(())
        })
    }

    fn read(&self) -> anyhow::Result<(Duration, Size)> {
        let mut plain = Loop::open()?;
        let start = Instant::now();
        let services = plain.dump(IpvsCtrlCmd::GetService, Vec::new(), service_entry)?;
        let mut table = Vec::with_capacity(services.len());
        for entry in &services {
            let service = vec![IpvsCtrlAttrs::Service(entry.service.create_nlas())];
            table.push(plain.dump(IpvsCtrlCmd::GetDest, service, destination_entry)?);
        }
        let took = start.elapsed();
        let destinations = table.iter().map(Vec::len).sum();
        Ok((took, Size { services: services.len(), destinations }))
    }
}

/// The crate's encoding and decoding.
pub struct PacketCodec {
    service: Service,
    destination: Destination,
    bytes: Vec<u8>,
}

impl Default for PacketCodec {
    fn default() -> Self {
        let service = service_of(&rules::service()).expect("a service by its address");
        let destination = destination_of(&rules::destination());
        Self { service, destination, bytes: Vec::new() }
    }
}

impl Codec for PacketCodec {
    const NAME: &'static str = "netlink-packet-ipvs";

    fn encode(&mut self) -> &[u8] {
        let service = IpvsCtrlAttrs::Service(self.service.create_nlas());
        let destination = IpvsCtrlAttrs::Destination(self.destination.create_nlas());
        let nlas = vec![service, destination];
        let message = IpvsServiceCtrl { cmd: IpvsCtrlCmd::NewDest, nlas, family_id: 0x20 };
        self.bytes = message.serialize(false);
        &self.bytes
    }

    fn decode(&self, message: &[u8]) -> anyhow::Result<(u32, u32)> {
        let message = NetlinkMessage::<GenlMessage<IpvsServiceCtrl>>::deserialize(message)?;
        let NetlinkPayload::InnerMessage(message) = message.payload else {
            bail!("no message of the family");
        };
        let attribute = message.payload.nlas.first().context("no attribute")?;
        let entry = destination_entry(attribute)?;
        Ok((entry.destination.weight, entry.active_connections))
    }
}
