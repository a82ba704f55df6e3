//! The crate nlrs, with its own client.
//!
//! The client sends one message at a time here. It can put several into one send, but its message
//! for a destination is 20 bytes longer than its header tells, and the kernel drops everything
//! behind the first of them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use ipvs_netlink::{DestinationKey, Ruleset, ServiceKey};
use nlrs::genetlink::GenericMessageBuilder;
use nlrs::genetlink::socket::{GenericNetlinkSocket, GenericRequestBuilder};
use nlrs::ipvs::destination::{
    DestinationAttribute, GetDestinationMessageBuilder, IpvsDestination, IpvsForwardMethod,
    NewDestinationMessageBuilder, read_get_destination_response,
};
use nlrs::ipvs::service::{GetServiceMessageBuilder, NewServiceMessageBuilder};
use nlrs::ipvs::{IPVS_FAMILY, IpvsService, Protocol};
use nlrs::netlink::socket::{NlSocket, NlSocketType};
use nlrs::socket::NetlinkSocket;

use crate::measure::time;
use crate::rules::{self, Size};
use crate::{Codec, Peer};

/// A dump must fit its receive buffer as a whole.
const RECEIVE_BUFFER: usize = 16 * 1024 * 1024;

/// The client.
pub struct Nlrs;

type Socket = GenericNetlinkSocket<Vec<u8>, Vec<u8>, NlSocket>;

fn connect() -> anyhow::Result<Socket> {
    let socket = NlSocket::new(NlSocketType::NETLINK_GENERIC)?;
    let socket = NetlinkSocket::vectored_from_socket_with_capacity(socket, RECEIVE_BUFFER);
    Ok(GenericNetlinkSocket::from_netlink_socket(socket, IPVS_FAMILY.to_owned())?)
}

fn service_of(key: ServiceKey) -> anyhow::Result<IpvsService> {
    let service_address = key.socket_address().context("nlrs has no services by mark")?;
    Ok(IpvsService { service_address, protocol: Protocol::TCP })
}

fn address_of(key: DestinationKey) -> SocketAddr {
    SocketAddr::new(key.address, key.port)
}

impl Peer for Nlrs {
    fn name(&self) -> &'static str {
        "nlrs"
    }

    fn note(&self) -> &'static str {
        "one message a send: of several destinations in one only the first arrives"
    }

    fn write(&self, rules: &Ruleset) -> anyhow::Result<Duration> {
        let mut socket = connect()?;
        time(|| {
            for rules in rules.services() {
                let service = service_of(rules.key())?;
                let mut message: NewServiceMessageBuilder<'_, _> = socket.message_builder(service);
                rules.service().scheduler.name().clone_into(&mut message.sched_name);
                message.call().map_err(failed)?;
                for server in rules.destinations() {
                    let both = (service, address_of(server.key));
                    let mut message: NewDestinationMessageBuilder<'_, _> =
                        socket.message_builder(both);
                    message.set_forwarding_method(IpvsForwardMethod::Masquerade);
                    message.set_weight(server.weight);
                    message.call().map_err(failed)?;
                }
            }
            Ok(())
        })
    }

    fn read(&self) -> anyhow::Result<(Duration, Size)> {
        let mut socket = connect()?;
        let start = Instant::now();
        let message: GetServiceMessageBuilder<'_, _> = socket.message_builder(());
        let services = message.call()?;
        let mut table = Vec::with_capacity(services.len());
        for service in &services {
            let key = IpvsService {
                service_address: service.service_address,
                protocol: service.protocol,
            };
            let message: GetDestinationMessageBuilder<'_, _> = socket.message_builder(key);
            table.push(message.call()?);
        }
        let took = start.elapsed();
        let destinations = table.iter().map(Vec::len).sum();
        Ok((took, Size { services: services.len(), destinations }))
    }
}

fn failed(error: nlrs::ResponseError<()>) -> anyhow::Error {
    anyhow::Error::new(error)
}

/// Its message builders and parsers.
pub struct NlrsCodec {
    service: IpvsService,
    destination: SocketAddr,
    weight: u32,
    bytes: Vec<u8>,
}

impl Default for NlrsCodec {
    fn default() -> Self {
        let destination = rules::destination();
        Self {
            service: service_of(rules::service().key).expect("a service by its address"),
            destination: address_of(destination.key),
            weight: destination.weight,
            bytes: Vec::with_capacity(512),
        }
    }
}

impl Codec for NlrsCodec {
    const NAME: &'static str = "nlrs";

    fn encode(&mut self) -> &[u8] {
        self.bytes.clear();
        let both = (self.service, self.destination);
        let (mut message, _) = NewDestinationMessageBuilder::new(&mut self.bytes, 0x20, 1, both);
        message.set_forwarding_method(IpvsForwardMethod::Masquerade);
        message.set_weight(self.weight);
        message.build().expect("a vector takes what is written");
        &self.bytes
    }

    fn decode(&self, mut message: &[u8]) -> anyhow::Result<(u32, u32)> {
        let attributes =
            read_get_destination_response(&mut message).next().context("nothing")??;
        let destination = IpvsDestination::try_from(attributes?)
            .map_err(|error| anyhow!("no destination: {error:?}"))?;
        let active = destination.attributes.iter().find_map(|attribute| match attribute {
            DestinationAttribute::ActiveConns(active) => Some(*active),
            _ => None,
        });
        Ok((destination.weight, active.context("no active connections")?))
    }
}
