//! This crate.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use byteorder::{ByteOrder, NativeEndian};
use ipvs_netlink::blocking::Client;
use ipvs_netlink::wire::Message;
use ipvs_netlink::{Operation, Policy, Ruleset, ServiceKey};
use netlink_packet_core::{Emitable, NLM_F_ACK, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_generic::GenlMessage;

use crate::measure::time;
use crate::rules::{self, Size};
use crate::{Codec, Peer};

/// The client.
pub struct Ours;

impl Peer for Ours {
    fn name(&self) -> &'static str {
        "ipvs-netlink"
    }

    fn note(&self) -> &'static str {
        "a plan made beforehand"
    }

    fn write(&self, rules: &Ruleset) -> anyhow::Result<Duration> {
        let mut client = Client::connect()?;
        let plan = client.plan(rules, &Policy::new().verify(false))?;
        time(|| Ok(client.apply(plan).map(drop)?))
    }

    fn read(&self) -> anyhow::Result<(Duration, Size)> {
        let mut client = Client::connect()?;
        let start = Instant::now();
        let table = client.table()?;
        let took = start.elapsed();
        let destinations = table.services.iter().map(|entry| entry.destinations.len()).sum();
        Ok((took, Size { services: table.services.len(), destinations }))
    }
}

/// The messages of [`ipvs_netlink::wire`], with the headers of the crates below it.
pub struct Wire {
    service: ServiceKey,
    operation: Operation,
    bytes: Vec<u8>,
}

impl Default for Wire {
    fn default() -> Self {
        let service = rules::service().key;
        let operation = Operation::AddDestination(service, rules::destination());
        Self { service, operation, bytes: vec![0; 512] }
    }
}

impl Codec for Wire {
    const NAME: &'static str = "ipvs-netlink";

    fn encode(&mut self) -> &[u8] {
        const HEADER: usize = 16;
        let message = GenlMessage::from_payload(self.operation);
        let length = HEADER + message.buffer_len();
        let bytes = &mut self.bytes[..length];
        NativeEndian::write_u32(&mut bytes[..4], u32::try_from(length).unwrap_or(u32::MAX));
        NativeEndian::write_u16(&mut bytes[4..6], 0x20);
        NativeEndian::write_u16(&mut bytes[6..8], NLM_F_REQUEST | NLM_F_ACK);
        NativeEndian::write_u32(&mut bytes[8..12], 1);
        NativeEndian::write_u32(&mut bytes[12..16], 0);
        message.emit(&mut bytes[HEADER..]);
        bytes
    }

    fn decode(&self, message: &[u8]) -> anyhow::Result<(u32, u32)> {
        let message = NetlinkMessage::<GenlMessage<Message>>::deserialize(message)?;
        let NetlinkPayload::InnerMessage(message) = message.payload else {
            bail!("no message of the family");
        };
        let destination = message.payload.destination.context("no destination")?;
        let entry = destination.entry(self.service.family())?;
        Ok((entry.destination.weight, entry.active_connections))
    }
}
