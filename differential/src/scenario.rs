//! Sequences of related requests: sync daemons, removed destinations that come back, listings
//! during which another socket changes the table, and senders without privilege.

use std::net::Ipv6Addr;

use ipvs_netlink::wire::Command;
use ipvs_netlink::wire::netlink_packet_core::{
    NLM_F_ACK as ACK, NLM_F_DUMP as DUMP, NLM_F_REQUEST as REQUEST,
};
use ipvs_netlink::wire::uapi::{
    AF_INET, AF_INET6, daemon as of_daemon, destination as of_destination, forwarding, message,
    service as of_service,
};

use crate::generate::{any_request, request, send, service};
use crate::random::Random;
use crate::request::{Attribute, Step, To};
use crate::surroundings::AT_TIMES_BROADCAST;

const ALL: Step = Step::Receive { datagrams: usize::MAX, room: 65536 };
const ONE: Step = Step::Receive { datagrams: 1, room: 65536 };

/// Starts, stops and lists sync daemons.
pub(crate) fn daemons(random: &mut Random, steps: &mut Vec<Step>) {
    steps.push(ALL);
    let start = |random: &mut Random| {
        let nest = if random.once_in(3) { daemon(random) } else { sound_daemon(random) };
        request(Command::NewDaemon, REQUEST | ACK, vec![Attribute::nest(message::DAEMON, nest)])
    };
    for _ in 0..=random.below(4) {
        let one = match random.below(6) {
            0 => {
                let state = random.pick(&[of_daemon::STATE_MASTER, of_daemon::STATE_BACKUP]);
                let state = Attribute::new(of_daemon::STATE, state.to_ne_bytes());
                request(
                    Command::DelDaemon,
                    REQUEST | ACK,
                    vec![Attribute::nest(message::DAEMON, vec![state])],
                )
            }
            1 | 2 => request(Command::GetDaemon, REQUEST | DUMP, Vec::new()),
            _ => start(random),
        };
        steps.push(send(vec![one]));
        // Another daemon starts while they are listed.
        if random.once_in(3) {
            steps.push(send(vec![start(random)]));
        }
        steps.push(if random.once_in(3) { ONE } else { ALL });
    }
    steps.push(ALL);
}

/// A sync daemon that can be refused for nothing but its interface.
fn sound_daemon(random: &mut Random) -> Vec<Attribute> {
    let interface: &[u8] = random.pick(&[
        b"lo\0" as &[u8],
        b"down0\0",
        b"bare0\0",
        b"four0\0",
        b"small0\0",
        b"six0\0",
        b"large0\0",
    ]);
    let state = random.pick(&[of_daemon::STATE_MASTER, of_daemon::STATE_BACKUP]);
    let mut nest = daemon_of(state, interface, 5);
    if random.once_in(2) {
        nest.push(Attribute::new(
            of_daemon::GROUP6,
            Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x81).octets(),
        ));
    }
    nest
}

/// The attributes that a sync daemon must have.
fn daemon_of(state: u32, interface: &[u8], sync_id: u32) -> Vec<Attribute> {
    vec![
        Attribute::new(of_daemon::STATE, state.to_ne_bytes()),
        Attribute::new(of_daemon::INTERFACE, interface),
        Attribute::new(of_daemon::SYNC_ID, sync_id.to_ne_bytes()),
    ]
}

/// A sync daemon, sound or not.
pub(crate) fn daemon(random: &mut Random) -> Vec<Attribute> {
    let state: u32 = random.pick(&[1, 1, 2, 2, 0, 3, u32::MAX]);
    let interface: &[u8] = random.pick(&[
        b"lo\0" as &[u8],
        b"lo\0",
        b"down0\0",
        b"bare0\0",
        b"four0\0",
        b"small0\0",
        b"six0\0",
        b"large0\0",
        b"nosuch0\0",
        b"\0",
        b"lo",
        b"a23456789012345\0",
        b"a234567890123456\0",
    ]);
    let sync_id: u32 = random.pick(&[0, 1, 255, 256, u32::MAX]);
    let mut nest = daemon_of(state, interface, sync_id);
    if random.once_in(3) {
        let length: u16 = random.pick(&[0, 1, 500, 1023, 1024, 1400, 1472, 9000, 65535]);
        nest.push(Attribute::new(of_daemon::MAX_LENGTH, length.to_ne_bytes()));
    }
    if random.once_in(3) {
        let group = random.pick(&[[224, 0, 0, 81], [239, 0, 0, 9], [10, 0, 0, 1], [0; 4]]);
        nest.push(Attribute::new(of_daemon::GROUP, group));
    }
    if random.once_in(3) {
        let v6: Ipv6Addr = random
            .pick(&["ff02::81", "ff02::81", "ff05::81", "2001:db8::1"])
            .parse()
            .unwrap_or(Ipv6Addr::LOCALHOST);
        nest.push(Attribute::new(of_daemon::GROUP6, v6.octets()));
    }
    if random.once_in(3) {
        nest.push(Attribute::new(of_daemon::PORT, random.pick(&[0_u16, 8848, 9000]).to_ne_bytes()));
    }
    if random.once_in(3) {
        nest.push(Attribute::new(of_daemon::TTL, [random.pick(&[0_u8, 1, 255])]));
    }
    nest
}

/// The identities of two services that find each other's removed destinations, or that differ just
/// enough not to.
fn relatives(random: &mut Random) -> [Vec<Attribute>; 2] {
    let family = |family: u16| Attribute::new(of_service::AF, family.to_ne_bytes());
    if random.once_in(2) {
        let mark = Attribute::new(of_service::FWMARK, 7_u32.to_ne_bytes());
        return [AF_INET, AF_INET6].map(|number| vec![family(number), mark.clone()]);
    }
    let tail = random.pick(&[0, 0, 7]);
    let port = random.pick(&[80_u16, 0]);
    [(AF_INET, [10, 0, 0, 1], 0), (AF_INET6, [10, 0, 0, 1], tail)].map(|(number, start, last)| {
        let mut address = [0; 16];
        address[..4].copy_from_slice(&start);
        address[15] = last;
        vec![
            family(number),
            Attribute::new(of_service::PROTOCOL, 6_u16.to_ne_bytes()),
            Attribute::new(of_service::ADDRESS, address),
            Attribute::new(of_service::PORT, port.to_be_bytes()),
        ]
    })
}

/// Adds and removes destinations under two services of the same mark or address, while new
/// destinations may have their address or may not.
pub(crate) fn trash(random: &mut Random, steps: &mut Vec<Step>) {
    let keys = relatives(random);
    let named = keys.clone().map(|key| Attribute::nest(message::SERVICE, key));
    let add = keys.map(|key| {
        request(
            Command::NewService,
            REQUEST | ACK,
            vec![Attribute::nest(message::SERVICE, service(random, key))],
        )
    });
    steps.push(send(add.to_vec()));
    steps.push(ALL);
    let mut is_broadcast = false;
    for _ in 0..4 + random.below(8) {
        let of = random.below(2);
        let mut nest = destination(random);
        let one = match random.below(10) {
            0..=3 => request(
                Command::NewDest,
                REQUEST | ACK,
                vec![named[of].clone(), Attribute::nest(message::DESTINATION, nest)],
            ),
            4..=6 => {
                nest.truncate(3);
                request(
                    Command::DelDest,
                    REQUEST | ACK,
                    vec![named[of].clone(), Attribute::nest(message::DESTINATION, nest)],
                )
            }
            7 => request(Command::GetDest, REQUEST | DUMP, vec![named[of].clone()]),
            8 => {
                is_broadcast = !is_broadcast;
                steps.push(Step::Broadcast(is_broadcast));
                continue;
            }
            _ => {
                let remove = request(Command::DelService, REQUEST | ACK, vec![named[of].clone()]);
                steps.push(send(vec![remove, add[of].clone()]));
                steps.push(ALL);
                continue;
            }
        };
        steps.push(send(vec![one]));
        steps.push(ALL);
    }
    if is_broadcast {
        steps.push(Step::Broadcast(false));
    }
}

/// One of a few destinations of either family, all through a tunnel.
fn destination(random: &mut Random) -> Vec<Attribute> {
    let v4 = AT_TIMES_BROADCAST.to_ipv6_compatible().octets();
    let v6 = Ipv6Addr::new(0x0a00, 0x301, 0, 0, 0, 0, 0, random.pick(&[0, 1])).octets();
    let (family, address): (u16, Vec<u8>) =
        if random.once_in(3) { (AF_INET6, v6.to_vec()) } else { (AF_INET, v4[12..].to_vec()) };
    let mut nest = vec![
        Attribute::new(of_destination::ADDRESS, address),
        Attribute::fresh(of_destination::PORT),
        Attribute::new(of_destination::ADDRESS_FAMILY, family.to_ne_bytes()),
    ];
    let numbers = [
        (of_destination::FORWARDING_METHOD, forwarding::TUNNEL),
        (of_destination::WEIGHT, 1),
        (of_destination::UPPER_THRESHOLD, 0),
        (of_destination::LOWER_THRESHOLD, 0),
    ];
    nest.extend(numbers.map(|(kind, value)| Attribute::new(kind, value.to_ne_bytes())));
    nest
}

/// Changes the table over another socket between the parts of a listing.
pub(crate) fn meanwhile(random: &mut Random, steps: &mut Vec<Step>) {
    for _ in 0..=random.below(4) {
        let requests = (0..=random.below(3)).map(|_| any_request(random, false)).collect();
        steps.push(Step::Other(requests));
        steps.push(Step::Receive { datagrams: 1, room: random.pick(&[400, 4096, 65536]) });
    }
}

/// Requests without `CAP_NET_ADMIN`: of known and unknown commands, and of every kind.
pub(crate) fn unprivileged(random: &mut Random, steps: &mut Vec<Step>) {
    steps.push(ALL);
    steps.push(Step::Privileged(false));
    for _ in 0..=random.below(4) {
        let mut one = any_request(random, false);
        // The controller of generic netlink asks for no privilege.
        if one.to == To::Ipvs {
            one.flags ^= random.pick(&[DUMP, 0]);
            one.command = random.pick(&[one.command, one.command, 0, 1, 4, 8, 9, 11, 14, 15, 18]);
        }
        steps.push(send(vec![one]));
        steps.push(ALL);
    }
    steps.push(Step::Privileged(true));
}
