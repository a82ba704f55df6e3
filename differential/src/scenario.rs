//! Requests that belong together: sync daemons, removed destinations that come back, listings under
//! way while others change what is listed, and senders without privilege.

use std::net::Ipv6Addr;

use crate::generate::{ACK, DUMP, REQUEST, any_request, request, send, service};
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
        request(9, REQUEST | ACK, vec![Attribute::nest(3, nest)])
    };
    for _ in 0..=random.below(4) {
        let one = match random.below(6) {
            0 => {
                let state: u32 = random.pick(&[1, 2]);
                let state = Attribute::new(1, state.to_ne_bytes());
                request(10, REQUEST | ACK, vec![Attribute::nest(3, vec![state])])
            }
            1 | 2 => request(11, REQUEST | DUMP, Vec::new()),
            _ => start(random),
        };
        steps.push(send(vec![one]));
        // Another daemon while they are listed.
        if random.once_in(3) {
            steps.push(send(vec![start(random)]));
        }
        steps.push(if random.once_in(3) { ONE } else { ALL });
    }
    steps.push(ALL);
}

/// A sync daemon that is refused for its interface alone.
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
    let mut nest = daemon_of(random.pick(&[1, 2]), interface, 5);
    if random.once_in(2) {
        nest.push(Attribute::new(6, Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x81).octets()));
    }
    nest
}

/// All that a sync daemon must have.
fn daemon_of(state: u32, interface: &[u8], sync_id: u32) -> Vec<Attribute> {
    vec![
        Attribute::new(1, state.to_ne_bytes()),
        Attribute::new(2, interface),
        Attribute::new(3, sync_id.to_ne_bytes()),
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
        nest.push(Attribute::new(4, length.to_ne_bytes()));
    }
    if random.once_in(3) {
        let group = random.pick(&[[224, 0, 0, 81], [239, 0, 0, 9], [10, 0, 0, 1], [0; 4]]);
        nest.push(Attribute::new(5, group));
    }
    if random.once_in(3) {
        let v6: Ipv6Addr = random
            .pick(&["ff02::81", "ff02::81", "ff05::81", "2001:db8::1"])
            .parse()
            .unwrap_or(Ipv6Addr::LOCALHOST);
        nest.push(Attribute::new(6, v6.octets()));
    }
    if random.once_in(3) {
        nest.push(Attribute::new(7, random.pick(&[0_u16, 8848, 9000]).to_ne_bytes()));
    }
    if random.once_in(3) {
        nest.push(Attribute::new(8, [random.pick(&[0_u8, 1, 255])]));
    }
    nest
}

/// The identities of two services that find each other's removed destinations, or nearly.
fn relatives(random: &mut Random) -> [Vec<Attribute>; 2] {
    let family = |family: u16| Attribute::new(1, family.to_ne_bytes());
    if random.once_in(2) {
        let mark = Attribute::new(5, 7_u32.to_ne_bytes());
        return [2, 10].map(|number| vec![family(number), mark.clone()]);
    }
    let tail = random.pick(&[0, 0, 7]);
    let port = random.pick(&[80_u16, 0]);
    [(2, [10, 0, 0, 1], 0), (10, [10, 0, 0, 1], tail)].map(|(number, start, last)| {
        let mut address = [0; 16];
        address[..4].copy_from_slice(&start);
        address[15] = last;
        vec![
            family(number),
            Attribute::new(2, 6_u16.to_ne_bytes()),
            Attribute::new(3, address),
            Attribute::new(4, port.to_be_bytes()),
        ]
    })
}

/// Adds destinations under one service and another of the same mark or address, and removes them,
/// while their address is good for new ones or not.
pub(crate) fn trash(random: &mut Random, steps: &mut Vec<Step>) {
    let keys = relatives(random);
    let named = keys.clone().map(|key| Attribute::nest(1, key));
    let add =
        keys.map(|key| request(1, REQUEST | ACK, vec![Attribute::nest(1, service(random, key))]));
    steps.push(send(add.to_vec()));
    steps.push(ALL);
    let mut is_broadcast = false;
    for _ in 0..4 + random.below(8) {
        let of = random.below(2);
        let mut nest = destination(random);
        let one = match random.below(10) {
            0..=3 => request(5, REQUEST | ACK, vec![named[of].clone(), Attribute::nest(2, nest)]),
            4..=6 => {
                nest.truncate(3);
                request(7, REQUEST | ACK, vec![named[of].clone(), Attribute::nest(2, nest)])
            }
            7 => request(8, REQUEST | DUMP, vec![named[of].clone()]),
            8 => {
                is_broadcast = !is_broadcast;
                steps.push(Step::Broadcast(is_broadcast));
                continue;
            }
            _ => {
                let remove = request(3, REQUEST | ACK, vec![named[of].clone()]);
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

/// One of few destinations, by a tunnel, which may be of either family.
fn destination(random: &mut Random) -> Vec<Attribute> {
    let v4 = AT_TIMES_BROADCAST.to_ipv6_compatible().octets();
    let v6 = Ipv6Addr::new(0x0a00, 0x301, 0, 0, 0, 0, 0, random.pick(&[0, 1])).octets();
    let (family, address): (u16, Vec<u8>) =
        if random.once_in(3) { (10, v6.to_vec()) } else { (2, v4[12..].to_vec()) };
    let mut nest = vec![
        Attribute::new(1, address),
        Attribute::fresh(2),
        Attribute::new(11, family.to_ne_bytes()),
    ];
    let numbers: [(u16, u32); 4] = [(3, 2), (4, 1), (5, 0), (6, 0)];
    nest.extend(numbers.map(|(kind, value)| Attribute::new(kind, value.to_ne_bytes())));
    nest
}

/// Changes by another socket between the parts of a listing.
pub(crate) fn meanwhile(random: &mut Random, steps: &mut Vec<Step>) {
    for _ in 0..=random.below(4) {
        let requests = (0..=random.below(3)).map(|_| any_request(random, false)).collect();
        steps.push(Step::Other(requests));
        steps.push(Step::Receive { datagrams: 1, room: random.pick(&[400, 4096, 65536]) });
    }
}

/// Requests without `CAP_NET_ADMIN`: of commands that there are or not, and of every kind.
pub(crate) fn unprivileged(random: &mut Random, steps: &mut Vec<Step>) {
    steps.push(ALL);
    steps.push(Step::Privileged(false));
    for _ in 0..=random.below(4) {
        let mut one = any_request(random, false);
        // The controller needs no privilege.
        if one.to == To::Ipvs {
            one.flags ^= random.pick(&[DUMP, 0]);
            one.command = random.pick(&[one.command, one.command, 0, 1, 4, 8, 9, 11, 14, 15, 18]);
        }
        steps.push(send(vec![one]));
        steps.push(ALL);
    }
    steps.push(Step::Privileged(true));
}
