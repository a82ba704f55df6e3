//! Random requests: most are valid, many are nearly valid, and some are nonsense.

use ipvs_netlink::wire::Command;
use ipvs_netlink::wire::netlink_packet_core::{
    NLM_F_ACK as ACK, NLM_F_DUMP as DUMP, NLM_F_REQUEST as REQUEST,
};
use ipvs_netlink::wire::netlink_packet_generic::constants::{
    CTRL_ATTR_FAMILY_ID, CTRL_ATTR_FAMILY_NAME, CTRL_CMD_GETFAMILY,
};
use ipvs_netlink::wire::uapi::{
    AF_INET, AF_INET6, FAMILY_VERSION, destination as of_destination, message,
    service as of_service,
};

use crate::random::Random;
use crate::request::{Attribute, Request, Step, To, Value};
use crate::scenario;

const PORTS: [u16; 4] = [0, 80, 443, 65535];

pub(crate) fn sequence(random: &mut Random) -> Vec<Step> {
    let count = 1 + random.below(30);
    let mut steps = Vec::new();
    if !random.once_in(3) {
        // Most of the later requests are about these services.
        for _ in 0..3 {
            let key = any_key(&mut random.familiar(2));
            let nest = Attribute::nest(message::SERVICE, service(random, key));
            steps.push(send(vec![request(Command::NewService, REQUEST | ACK, vec![nest])]));
        }
        steps.push(Step::Receive { datagrams: usize::MAX, room: 65536 });
    }
    while steps.len() < count {
        step(random, &mut steps);
    }
    steps
}

fn step(random: &mut Random, steps: &mut Vec<Step>) {
    // The two kernels list services in different orders. A listing of services is compared whole,
    // and is therefore read before the next request.
    if random.once_in(12) {
        steps.push(Step::Receive { datagrams: usize::MAX, room: 65536 });
        let mut list = request(Command::GetService, REQUEST | DUMP, Vec::new());
        mutate_request(random, &mut list);
        if list.flags & DUMP == DUMP {
            list.lie = 0;
        }
        steps.push(send(vec![list]));
        steps.push(Step::Receive { datagrams: usize::MAX, room: 65536 });
        return;
    }
    match random.below(2000) {
        0..4 => return scenario::daemons(random, steps),
        4..35 => return scenario::trash(random, steps),
        35..75 => return scenario::unprivileged(random, steps),
        75..90 => {
            fill(random, steps);
            return scenario::meanwhile(random, steps);
        }
        _ => {}
    }
    if random.once_in(60) {
        fill(random, steps);
    } else if random.once_in(200) {
        let times = 200 + random.below(80);
        let one = any_request(random, false);
        steps.push(Step::Send { requests: vec![one], times, tail: Vec::new() });
    } else {
        let count = if random.once_in(5) { 1 + random.below(5) } else { 1 };
        let requests = (0..count).map(|_| any_request(random, true)).collect();
        let tail = if random.once_in(40) {
            let length = random.below(24);
            random.bytes(length)
        } else {
            Vec::new()
        };
        steps.push(Step::Send { requests, times: 1, tail });
    }
    match random.below(10) {
        0 => {}
        1 => {
            let room = random.pick(&[1, 19, 36, 400, 3776, 4096, 8192, 16384, 65536]);
            steps.push(Step::Receive { datagrams: 1 + random.below(3), room });
        }
        _ => steps.push(Step::Receive { datagrams: usize::MAX, room: 65536 }),
    }
}

/// Adds so many destinations to a service that their listing comes in parts, and begins to list
/// them.
fn fill(random: &mut Random, steps: &mut Vec<Step>) {
    let count = u16::try_from(5 + random.below(150)).unwrap_or_default();
    let key = key(random);
    let named = Attribute::nest(message::SERVICE, key.clone());
    let mut requests = vec![request(
        Command::NewService,
        REQUEST,
        vec![Attribute::nest(message::SERVICE, service(random, key))],
    )];
    for port in 1..=count {
        let mut nest = destination(random);
        nest[0] = Attribute::new(of_destination::ADDRESS, [10, 0, 2, 1]);
        nest[1] = Attribute::new(of_destination::PORT, port.to_be_bytes());
        requests.push(request(
            Command::NewDest,
            REQUEST,
            vec![named.clone(), Attribute::nest(message::DESTINATION, nest)],
        ));
    }
    steps.push(send(requests));
    steps.push(Step::Receive { datagrams: usize::MAX, room: 65536 });
    steps.push(send(vec![request(Command::GetDest, REQUEST | DUMP, vec![named])]));
}

pub(crate) fn send(requests: Vec<Request>) -> Step {
    Step::Send { requests, times: 1, tail: Vec::new() }
}

pub(crate) fn request(command: Command, flags: u16, attributes: Vec<Attribute>) -> Request {
    Request {
        to: To::Ipvs,
        flags,
        command: command.number(),
        version: FAMILY_VERSION,
        reserved: 0,
        attributes,
        trailing: Vec::new(),
        lie: 0,
        bare: false,
    }
}

/// How many of 33 requests have each command. The others ask the controller of generic netlink.
const COMMANDS: [(usize, Command); 16] = [
    (4, Command::NewService),
    (2, Command::SetService),
    (1, Command::DelService),
    (2, Command::GetService),
    (6, Command::NewDest),
    (3, Command::SetDest),
    (2, Command::DelDest),
    (2, Command::GetDest),
    (1, Command::GetDaemon),
    (2, Command::SetConfig),
    (1, Command::GetConfig),
    (1, Command::GetInfo),
    (1, Command::Zero),
    (1, Command::Flush),
    (1, Command::NewDaemon),
    (1, Command::DelDaemon),
];

/// A command of the IPVS family, or `None` for a request to the controller of generic netlink.
fn any_command(random: &mut Random) -> Option<Command> {
    let mut at = random.below(33);
    COMMANDS.iter().find_map(|&(times, command)| {
        let is_meant = at < times;
        at = at.saturating_sub(times);
        is_meant.then_some(command)
    })
}

pub(crate) fn any_request(random: &mut Random, with_daemons: bool) -> Request {
    let service_key = key(random);
    let Some(command) = any_command(random) else { return controller(random) };
    let named = |key| Attribute::nest(message::SERVICE, key);
    let mut attributes = Vec::new();
    match command {
        Command::NewService | Command::SetService => {
            attributes.push(named(service(random, service_key)));
        }
        Command::DelService | Command::GetService | Command::GetDest => {
            attributes.push(named(service_key));
        }
        Command::NewDest | Command::SetDest => {
            attributes.push(named(service_key));
            attributes.push(Attribute::nest(message::DESTINATION, destination(random)));
        }
        Command::DelDest => {
            attributes.push(named(service_key));
            attributes.push(Attribute::nest(message::DESTINATION, destination_key(random)));
        }
        Command::Zero if random.once_in(2) => attributes.push(named(service_key)),
        Command::NewDaemon | Command::DelDaemon => {
            attributes.push(Attribute::nest(message::DAEMON, scenario::daemon(random)));
        }
        Command::SetConfig => {
            for kind in [message::TIMEOUT_TCP, message::TIMEOUT_TCP_FIN, message::TIMEOUT_UDP] {
                if random.once_in(2) {
                    let longest = (i32::MAX / 250).cast_unsigned();
                    let seconds = random.pick(&[0, 1, 900, longest, longest + 1, u32::MAX]);
                    attributes.push(Attribute::new(kind, seconds.to_ne_bytes()));
                }
            }
        }
        _ => {}
    }
    // The real kernel takes long to start and stop the threads of sync daemons.
    let is_of_daemons = matches!(command, Command::NewDaemon | Command::DelDaemon);
    let rarely = is_of_daemons && !(with_daemons && random.once_in(3));
    let command = if rarely { Command::GetInfo } else { command };
    let kind = match command {
        Command::GetDest | Command::GetDaemon => DUMP,
        _ => 0,
    };
    let ack = if random.once_in(4) { 0 } else { ACK };
    let mut request = request(command, REQUEST | kind | ack, attributes);
    mutate_request(random, &mut request);
    // The two kernels list services in different orders.
    if request.command == Command::GetService.number() && request.flags & DUMP == DUMP {
        request.flags &= !DUMP;
    }
    request
}

fn controller(random: &mut Random) -> Request {
    let mut attributes = Vec::new();
    if random.once_in(4) {
        attributes
            .push(Attribute::new(CTRL_ATTR_FAMILY_ID, random.pick(&[0x7f_u16, 0]).to_ne_bytes()));
    } else {
        let name: &[u8] = random.pick(&[b"IPVS\0" as &[u8], b"IPVS\0", b"IPVS", b"ipvs\0"]);
        attributes.push(Attribute::new(CTRL_ATTR_FAMILY_NAME, name));
    }
    let mut request = Request {
        to: To::Controller,
        command: CTRL_CMD_GETFAMILY,
        ..request(Command::NewService, REQUEST | ACK, attributes)
    };
    if random.once_in(4) {
        mutate(random, &mut request.attributes);
    }
    // The real kernel has other families as well. Numbers this high belong to none of them.
    for attribute in &mut request.attributes {
        if let Value::Bytes(bytes) = &mut attribute.value
            && let (CTRL_ATTR_FAMILY_ID, [low, high, ..]) =
                (attribute.kind & 0x3fff, &mut bytes[..])
        {
            *if cfg!(target_endian = "little") { high } else { low } |= 0x40;
        }
    }
    request
}

fn mutate_request(random: &mut Random, request: &mut Request) {
    if random.once_in(3) {
        mutate(random, &mut request.attributes);
    }
    if !random.once_in(12) {
        return;
    }
    match random.below(10) {
        0 => request.flags ^= REQUEST,
        1 => request.flags ^= random.pick(&[DUMP, 0x100, 0x200, 0x400, 0x8, 0x8000]),
        2 => request.command = random.pick(&[0, 4, 8, 11, 14, 17, 18, 19, 200, 255]),
        3 => request.version = random.pick(&[0, 2, 255]),
        4 => request.reserved = 0x0101,
        5 => {
            let length = 1 + random.below(12);
            request.trailing = random.bytes(length);
        }
        6 => request.lie = random.pick(&[-1, -2, -4, 1, 4, 1000, -1000, i32::MIN]),
        7 => request.bare = true,
        8 => request.to = To::Type(random.pick(&[0, 1, 2, 3, 15, 0x3ff, 0x7fff, 0xffff])),
        _ => {
            request.command = random.pick(&[18, 100]);
            request.reserved = random.pick(&[0, 1]);
            request.flags |= random.pick(&[0, 0x10, 0x400, DUMP]);
        }
    }
}

/// Spoils one of the attributes, or one inside a nest.
fn mutate(random: &mut Random, attributes: &mut Vec<Attribute>) {
    if attributes.is_empty() || random.once_in(12) {
        let kind = random.pick(&[0, 1, 2, 3, 4, 7, 10, 12, 13, 16, 17, 255, 0x3fff]);
        let length = random.below(10);
        let value = random.bytes(length);
        let at = random.below(attributes.len() + 1);
        attributes.insert(at, Attribute::new(kind, value));
        return;
    }
    let index = random.below(attributes.len());
    if let Value::Nest(inner) = &mut attributes[index].value
        && !random.once_in(5)
    {
        return mutate(random, inner);
    }
    let attribute = &mut attributes[index];
    match random.below(9) {
        0 | 1 => drop(attributes.remove(index)),
        2 => {
            let copy = attribute.clone();
            let at = random.below(attributes.len() + 1);
            attributes.insert(at, copy);
        }
        3 => attribute.kind ^= random.pick(&[0x8000, 0x4000, 0xc000]),
        4 => attribute.kind = random.pick(&[0, 1, 5, 9, 13, 14, 30, 0x2000]),
        5 => attribute.lie = random.pick(&[-100, -5, -4, -3, -2, -1, 1, 2, 4, 100]),
        6 => {
            let length = random.below(24);
            attribute.value = Value::Bytes(random.bytes(length));
        }
        7 => attribute.padded = false,
        _ => {
            if let Value::Bytes(bytes) = &mut attribute.value {
                let length = random.below(bytes.len() + 5);
                bytes.resize(length, 0xaa);
            }
        }
    }
    if random.once_in(3) {
        mutate(random, attributes);
    }
}

/// A service's identity: mostly one of a few, so that several requests are about the same service.
fn key(random: &mut Random) -> Vec<Attribute> {
    if random.once_in(4) { any_key(random) } else { any_key(&mut random.familiar(2)) }
}

fn any_key(random: &mut Random) -> Vec<Attribute> {
    let family: u16 = if random.once_in(40) {
        random.pick(&[0, 1, 0x202])
    } else {
        random.pick(&[AF_INET, AF_INET, AF_INET6])
    };
    let mut key = vec![Attribute::new(of_service::AF, family.to_ne_bytes())];
    if random.once_in(4) {
        let mark: u32 = random.pick(&[1, 1, 2, u32::MAX, 0]);
        key.push(Attribute::new(of_service::FWMARK, mark.to_ne_bytes()));
        return key;
    }
    let protocol: u16 = random.pick(&[6, 6, 6, 17, 132, 0, 256 + 6, 65535]);
    key.push(Attribute::new(of_service::PROTOCOL, protocol.to_ne_bytes()));
    key.push(Attribute::new(of_service::ADDRESS, service_address(random)));
    key.push(Attribute::new(of_service::PORT, random.pick(&PORTS).to_be_bytes()));
    key
}

fn service_address(random: &mut Random) -> Vec<u8> {
    let mut address = vec![10, 0, 0, random.pick(&[1, 1, 2])];
    if random.once_in(8) {
        address = random.pick(&[[0; 4], [224, 0, 0, 1], [255; 4]]).to_vec();
    }
    if !random.once_in(8) {
        address.resize(16, 0);
    }
    if random.once_in(8) {
        address.truncate(random.below(16));
    }
    if random.once_in(8) && address.len() == 16 {
        address[15] = 7;
    }
    address
}

pub(crate) fn service(random: &mut Random, mut nest: Vec<Attribute>) -> Vec<Attribute> {
    let scheduler: &[u8] = if random.once_in(8) {
        random.pick(&[
            b"\0" as &[u8],
            b"none\0",
            b"nosuch\0",
            b"a23456789012345\0",
            b"a234567890123456\0",
            b"rr",
            b"rr\0junk",
            b"wlc\0\0\0\0",
            b"sh\0",
            b"fo\0",
            b"ovf\0",
            b"dh\0",
            b"sed\0",
            b"nq\0",
        ])
    } else {
        random.pick(&[b"rr\0" as &[u8], b"rr\0", b"rr\0", b"wlc\0"])
    };
    nest.push(Attribute::new(of_service::SCHEDULER, scheduler));
    let mut flags = random.pick(&[0_u32, 1, 2, 4, 0x38, u32::MAX, 0x4000]).to_ne_bytes().to_vec();
    flags.extend(random.pick(&[u32::MAX, u32::MAX, 0, 1, !2]).to_ne_bytes());
    if random.once_in(12) {
        flags.resize(random.below(11), 0x11);
    }
    nest.push(Attribute::new(of_service::FLAGS, flags));
    let timeout: u32 = random.pick(&[0, 1, 300, 17_179_869, 17_179_870, u32::MAX]);
    nest.push(Attribute::new(of_service::TIMEOUT, timeout.to_ne_bytes()));
    let netmask: u32 = if random.once_in(8) {
        random.pick(&[0, 129, u32::MAX, 0xffff])
    } else {
        random.pick(&[128, 64, 1])
    };
    nest.push(Attribute::new(of_service::NETMASK, netmask.to_ne_bytes()));
    if random.once_in(4) {
        let engine: &[u8] = random.pick(&[
            b"sip\0" as &[u8],
            b"sip\0",
            b"\0",
            b"nosuch\0",
            b"a234567890123456\0",
            b"a2345678901234567\0",
            b"sip",
        ]);
        nest.push(Attribute::new(of_service::PE_NAME, engine));
    }
    nest
}

fn destination_key(random: &mut Random) -> Vec<Attribute> {
    let mut address: Vec<u8> = vec![10, 0, 1, random.pick(&[1, 1, 2])];
    if random.once_in(8) {
        address = random
            .pick(&[
                [0; 4],
                [224, 0, 0, 1],
                [239, 1, 2, 3],
                [240, 0, 0, 1],
                [255; 4],
                [127, 0, 0, 1],
                [127, 255, 255, 255],
                [127, 0, 0, 0],
                [0, 0, 0, 1],
                [169, 254, 1, 1],
            ])
            .to_vec();
    }
    address.resize(16, 0);
    if random.once_in(6) {
        let v6 = [
            "::",
            "::1",
            "::2",
            "fe80::1",
            "ff02::1",
            "::ffff:10.0.0.1",
            "2001:db8::1",
            "fc00::1",
            "fec0::1",
            "1::",
            "64:ff9b::1",
            "0:0:0:0:1::1",
            "febf::1",
        ];
        let v6: std::net::Ipv6Addr =
            random.pick(&v6).parse().unwrap_or(std::net::Ipv6Addr::LOCALHOST);
        address = v6.octets().to_vec();
    }
    if random.once_in(12) {
        address.truncate(random.below(16));
    }
    let mut key = vec![
        Attribute::new(of_destination::ADDRESS, address),
        Attribute::new(of_destination::PORT, random.pick(&PORTS).to_be_bytes()),
    ];
    if random.once_in(3) {
        let family: u16 = random.pick(&[AF_INET, AF_INET, AF_INET6, AF_INET6, 0, 1, 0x102]);
        key.push(Attribute::new(of_destination::ADDRESS_FAMILY, family.to_ne_bytes()));
    }
    key
}

fn destination(random: &mut Random) -> Vec<Attribute> {
    let mut nest = destination_key(random);
    let mut put = |kind, value: u32| nest.push(Attribute::new(kind, value.to_ne_bytes()));
    // Few destinations have an odd weight: a request that is refused for its weight tests nothing
    // else.
    let odd = random.once_in(8);
    put(
        of_destination::FORWARDING_METHOD,
        random.pick(&[0, 0, 1, 2, 2, 2, 3, 4, 5, 7, 8, 10, u32::MAX]),
    );
    put(
        of_destination::WEIGHT,
        if odd {
            random.pick(&[0x8000_0000, u32::MAX])
        } else {
            random.pick(&[0, 1, 100, 0x7fff_ffff])
        },
    );
    let (upper, lower) = if random.once_in(8) {
        random.pick(&[(5, 10), (0, 1), (0x8000_0000, 0), (u32::MAX, u32::MAX), (1, 0x8000_0000)])
    } else {
        random.pick(&[(0, 0), (10, 5), (10, 10), (0x7fff_ffff, 0)])
    };
    put(of_destination::UPPER_THRESHOLD, upper);
    put(of_destination::LOWER_THRESHOLD, lower);
    if random.once_in(4) {
        nest.push(Attribute::new(
            of_destination::TUNNEL_TYPE,
            [random.pick(&[0_u8, 1, 1, 2, 3, 255])],
        ));
    }
    if random.once_in(4) {
        nest.push(Attribute::new(of_destination::TUNNEL_PORT, random.pick(&PORTS).to_be_bytes()));
    }
    if random.once_in(4) {
        nest.push(Attribute::new(
            of_destination::TUNNEL_FLAGS,
            random.pick(&[0_u16, 1, 2, 3, 0xffff]).to_ne_bytes(),
        ));
    }
    if random.once_in(8) {
        nest.push(Attribute::new(of_destination::ACTIVE_CONNECTIONS, 9_u32.to_ne_bytes()));
    }
    nest
}
