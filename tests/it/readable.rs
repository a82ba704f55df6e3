//! The same rules as text, JSON and YAML, and errors that say what is wrong with them.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::time::Duration;

use ipvs_netlink::{
    DaemonRole, Destination, DestinationKey, Family, HashOptions, Netmask, Protocol, Ruleset,
    Scheduler, Service, ServiceKey, Stats, SyncDaemon, Timeouts, TimeoutsUpdate, Tunnel, Version,
};
use proptest::test_runner::{Config, TestRunner};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::case::trials;
use crate::random::{Speaker, rulesets};
use crate::rules::{backend, real, rich, vip, vip6};

trials![
    the_rules_files_are_the_same_in_all_three_forms,
    the_documented_form_is_read,
    every_ruleset_survives_both_forms,
    every_part_of_the_model_survives_both_forms,
    names_are_written_and_defaults_left_out,
    what_is_wrong_is_told,
    a_value_may_be_said_in_a_word,
    keys_are_keys_of_maps,
    what_has_no_form_is_not_written,
];

const FILES: [[&str; 3]; 2] = [
    [
        include_str!("../../examples/rules/web.ipvs"),
        include_str!("../../examples/rules/web.json"),
        include_str!("../../examples/rules/web.yaml"),
    ],
    [
        include_str!("../../examples/rules/edge.ipvs"),
        include_str!("../../examples/rules/edge.json"),
        include_str!("../../examples/rules/edge.yaml"),
    ],
];

fn the_rules_files_are_the_same_in_all_three_forms() {
    for [text, json, yaml] in FILES {
        let rules: Ruleset = text.parse().unwrap();
        assert!(!rules.is_empty());
        assert_eq!(serde_json::from_str::<Ruleset>(json).unwrap(), rules);
        assert_eq!(serde_saphyr::from_str::<Ruleset>(yaml).unwrap(), rules);
    }
}

fn the_documented_form_is_read() {
    let page = include_str!("../../docs/rules.md");
    let (_, yaml) = page.split_once("```yaml\n").unwrap();
    let (yaml, short) = yaml.split_once("```").unwrap();
    let rules: Ruleset = serde_saphyr::from_str(yaml).unwrap();
    let text = "-A -t 192.0.2.80:443 -s sh -p 300 -M 255.255.255.0 --pe sip -b sh-fallback,sh-port,flag-3\n\
        -a -t 192.0.2.80:443 -r 198.51.100.11:443 -g -w 10 -x 1000 -y 800\n\
        -a -t 192.0.2.80:443 -r 198.51.100.12:443 -i -w 1 --tun-type ipip\n\
        -a -t 192.0.2.80:443 -r 198.51.100.13:443 -i -w 1 --tun-type gue --tun-port 6080 --tun-csum\n\
        -a -t 192.0.2.80:443 -r 198.51.100.14:443 -i -w 1 --tun-type gre --tun-csum\n\
        -a -t 192.0.2.80:443 -r 198.51.100.15:443 -i -w 1 --tun-type 7 --tun-port 0 --tun-flags 0x0\n\
        -A -f 21 -6 -s wlc\n\
        -a -f 21 -6 -r [2001:db8::1]:0 -m -w 1\n";
    assert_eq!(rules.to_string(), text);
    for (part, form) in
        [("persistence", "5m"), ("forwarding", "tunnel gue port 6080 checksum full")]
    {
        assert!(short.contains(&format!("`{part}: {form}`")), "{part}");
    }
}

fn survives<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) {
    let json = serde_json::to_string(value).unwrap();
    assert_eq!(serde_json::from_str::<T>(&json).unwrap(), *value, "{json}");
    let yaml = serde_saphyr::to_string(value).unwrap();
    assert_eq!(serde_saphyr::from_str::<T>(&yaml).unwrap(), *value, "{yaml}");
}

fn every_ruleset_survives_both_forms() {
    let mut schedulers = Scheduler::KNOWN.to_vec();
    schedulers.extend([Scheduler::Unbound, "vip7".parse().unwrap()]);
    let config = Config { cases: 256, failure_persistence: None, ..Config::default() };
    let rules = rulesets(Speaker::Crate, schedulers);
    TestRunner::new(config)
        .run(&rules, |rules| {
            survives(&rules);
            Ok(())
        })
        .unwrap();
    survives(&rich());
}

fn every_part_of_the_model_survives_both_forms() {
    for family in [Family::V4, Family::V6] {
        survives(&family);
        survives(&ServiceKey::mark(u32::MAX, family).unwrap());
    }
    survives(&ServiceKey::address(Protocol::from_number(47), vip6(), 0));
    survives(&DestinationKey::new(vip(), 80));
    survives(&HashOptions::default().port(true));
    for tunnel in [Tunnel::Ipip, Tunnel::gre(), Tunnel::from_numbers(9, 8, 7)] {
        survives(&tunnel);
    }
    survives(&TimeoutsUpdate::default().udp(Duration::from_secs(30)));
    for role in [DaemonRole::Master, DaemonRole::Backup] {
        let daemon = SyncDaemon::new(role, "eth0".parse().unwrap());
        survives(&daemon);
        // A kernel may run one that `check` refuses.
        let mut odd = daemon;
        odd.sync_id = 256;
        survives(&odd);
        survives(&daemon.sync_id(7).group([224, 0, 0, 81]).port(8848).ttl(3).max_length(1400));
    }
    survives(&Version::from_number(0x0102_0304));
    for length in [0, 1, 128, u8::MAX] {
        survives(&Netmask::V6(length));
    }
    let mut stats = Stats::default();
    stats.incoming_bytes = u64::MAX;
    stats.rates.connections = 1;
    survives(&stats);
}

fn names_are_written_and_defaults_left_out() {
    fn json(value: &impl Serialize) -> String {
        serde_json::to_string(value).unwrap()
    }
    assert_eq!(
        json(&Service::tcp(vip(), 80)),
        r#"{"protocol":"tcp","address":"10.0.0.1","port":80}"#
    );
    let options = HashOptions::default().fallback(true);
    let sticky = Service::mark(1, Family::V6)
        .unwrap()
        .scheduler(Scheduler::SourceHash(options))
        .persistence(Duration::from_secs(300));
    assert_eq!(
        json(&sticky),
        r#"{"mark":1,"family":"IPv6","scheduler":"sh fallback","persistence":{"timeout":300}}"#
    );
    assert_eq!(
        json(&backend(1)),
        r#"{"address":"10.1.0.1","port":8080,"forwarding":"masquerade"}"#
    );
    let tunnel = Destination::tunnel(real(1), 80, Tunnel::gue(6080).unwrap());
    assert_eq!(
        json(&tunnel.weight(0)),
        r#"{"address":"10.1.0.1","port":80,"forwarding":{"tunnel":{"type":"gue","port":6080}},"weight":0}"#
    );
}

/// Once: the short forms that people write first were refused, with messages about maps and
/// strings.
fn a_value_may_be_said_in_a_word() {
    let yaml = "
services:
- service: {mark: 7, family: ipv6, persistence: 5m, scheduler: mh fallback}
  destinations:
  - {address: '2001:db8::1', port: 80, forwarding: tunnel gue port 6080 checksum full}
- service: {protocol: tcp, address: 10.0.0.1, port: 80, persistence: 300, flags: 'flag-1,0x40'}
  destinations:
  - {address: 10.1.0.1, port: 80, forwarding: {tunnel: ipip}}
- service: {protocol: udp, address: 10.0.0.1, port: 80, persistence: {timeout: 2h, netmask: 255.255.255.0}}
  destinations: []
- service: udp [2001:db8::1]:53
  destinations: ['[2001:db8::2]:53 direct-route']
- service: fwmark 9
- service: {fwmark: 10, scheduler: sh port, flags: flag-1}
- service: {protocol: TCP, address: '[2001:db8::1]', port: 80, family: IPv6, flags: 64}
";
    let rules: Ruleset = serde_saphyr::from_str(yaml).unwrap();
    let text = "-A -t 10.0.0.1:80 -s wlc -p 300 -b flag-1 --flags 0x40\n\
        -a -t 10.0.0.1:80 -r 10.1.0.1:80 -i -w 1 --tun-type ipip\n\
        -A -t [2001:db8::1]:80 -s wlc --flags 0x40\n\
        -A -u 10.0.0.1:80 -s wlc -p 7200 -M 255.255.255.0\n\
        -A -u [2001:db8::1]:53 -s wlc\n\
        -a -u [2001:db8::1]:53 -r [2001:db8::2]:53 -g -w 1\n\
        -A -f 7 -6 -s mh -p 300 -b mh-fallback\n\
        -a -f 7 -6 -r [2001:db8::1]:80 -i -w 1 --tun-type gue --tun-port 6080 --tun-csum\n\
        -A -f 9 -s wlc\n\
        -A -f 10 -s sh -b sh-fallback,sh-port\n";
    assert_eq!(rules.to_string(), text);
    let error = serde_saphyr::from_str::<Ruleset>("services: [{service: '10.0.0.1:80'}]");
    let error = error.unwrap_err().to_string();
    assert!(error.contains("expected tcp 10.0.0.1:80 or IPv4 firewall mark 7"), "{error}");
}

/// Once: a map whose keys are services could not be written as JSON at all.
fn keys_are_keys_of_maps() {
    let services = [
        (ServiceKey::tcp(vip(), 80), 1),
        (ServiceKey::address(Protocol::from_number(47), vip6(), 0), 2),
        (ServiceKey::mark(u32::MAX, Family::V6).unwrap(), 3),
    ];
    let services = BTreeMap::from(services);
    survives(&services);
    assert_eq!(
        serde_json::to_string(&services).unwrap(),
        r#"{"tcp 10.0.0.1:80":1,"47 [2001:db8::1]:0":2,"IPv6 firewall mark 4294967295":3}"#
    );
    survives(&BTreeMap::from([(DestinationKey::new(vip6(), 80), DaemonRole::Backup)]));
    survives(&HashMap::from([(Protocol::TCP, 1), (Protocol::from_number(47), 2)]));
    survives(&HashMap::from([(Scheduler::SOURCE_HASH, 1), (Scheduler::NeverQueue, 2)]));
}

/// Once: a second and a half was written as one second.
fn what_has_no_form_is_not_written() {
    let update = TimeoutsUpdate::default().udp(Duration::from_millis(1500));
    let error = serde_json::to_string(&update).unwrap_err();
    assert!(error.to_string().contains("1.5s is no whole number of seconds"), "{error}");
}

fn what_is_wrong_is_told() {
    let web = r#""protocol": "tcp", "address": "10.0.0.1", "port": 80"#;
    let server = r#""address": "10.1.0.1", "port": 8080"#;
    let with = |service: &str, destinations: &str| {
        format!(
            r#"{{"services": [{{"service": {{{service}}}, "destinations": [{destinations}]}}]}}"#
        )
    };
    let sane = format!(r#"{{{server}, "forwarding": "masquerade"}}"#);
    let one = |rest: &str| with(web, &format!("{{{server}, {rest}}}"));
    for (json, says) in [
        (with("", ""), "a service needs a protocol, an address and a port, or else a mark"),
        (
            with(&format!(r#"{web}, "mark": 7"#), ""),
            "a mark or else a protocol, an address and a port",
        ),
        (with(&web.replace(r#", "port": 80"#, ""), ""), "the service has no port"),
        (with(r#""address": "10.0.0.1""#, ""), "the service has no protocol and no port"),
        (with(&format!(r#"{web}, "family": "IPv6""#), ""), "is none of the family IPv6"),
        (with(&format!(r#"{web}, "persistence": 99999999999"#), ""), "timeout of 99999999999 s"),
        (with(&web.replace("10.0.0.1", "10.0.0.1:80"), ""), "address: 10.0.0.1 and port: 80"),
        (with(&web.replace("10.0.0.1", "localhost"), ""), "names are not looked up"),
        (with(&format!(r#"{web}, "flags": 4"#), ""), "0x4 one-packet scheduling"),
        (with(web, r#""10.1.0.1:80""#), "as 10.0.1.1:80 masquerade, not"),
        (
            with(&web.replace("tcp", "tpc"), ""),
            "expected tcp, udp, sctp or a protocol number, not \"tpc\"",
        ),
        (with(&format!(r#"{web}, "shceduler": "rr""#), ""), "unknown field `shceduler`"),
        (with(&format!(r#"{web}, "scheduler": "rr port""#), ""), "scheduler rr has no options"),
        (with(&format!(r#"{web}, "scheduler": "sh prot""#), ""), "no option \"prot\""),
        (
            with(&format!(r#"{web}, "persistence": {{"timeout": 9, "netmask": 64}}"#), ""),
            "service tcp 10.0.0.1:80: the IPv6 prefix length 64 is of no use",
        ),
        (with(r#""mark": 0"#, ""), "nonzero"),
        (one(r#""forwarding": "nat""#), "expected masquerade, direct-route, local, bypass"),
        (one(r#""forwarding": {"tunnel": {"type": "gue"}}"#), "missing field `port`"),
        (one(r#""forwarding": "method 3""#), "method 5 to 7, not \"method 3\""),
        (one(r#""forwarding": {"tunnle": "ipip"}"#), "unknown field `tunnle`"),
        (
            one(r#""forwarding": {"tunnel": {"type": "ipip", "nonsense": 1}}"#),
            "unknown field `nonsense`",
        ),
        (one(r#""forwarding": {"tunnel": "gue"}"#), "expected ipip, gue port 6080"),
        (with(&format!(r#"{web}, "persistence": {{}}"#), ""), "missing field `timeout`"),
        (with(&format!(r#"{web}, "persistence": "soon""#), ""), "expected a number of seconds"),
        (with(&format!(r#"{web}, "persistence": 0"#), ""), "persistence of 0 s"),
        (with(&format!(r#"{web}, "one_packet": true"#), ""), "one-packet scheduling is for UDP"),
        (with(&web.replace("80", "0"), ""), "port 0 stands for every port"),
        (with(&format!(r#"{web}, "flags": "0x1""#), ""), "0x1 is persistence"),
        (with(&web.replace("10.0.0.1", "fe80::1%2"), ""), "IPVS keeps no scope"),
        ("{}".to_owned(), "missing field `services`"),
        ("[[]]".to_owned(), "expected a ruleset: a map with its services"),
        (
            r#"{"services": [["tcp 10.0.0.1:80"]]}"#.to_owned(),
            "expected a map of a service and its",
        ),
        (with(web, r#"["10.0.0.2", 80, "masquerade"]"#), "expected a destination as 10.0.1.1:80"),
        (
            one(r#""forwarding": {"tunnel": {"type": "other", "kind": 1, "port": 0}}"#),
            "a gue tunnel needs a port",
        ),
        (r#"{"services": null}"#.to_owned(), "a list, which is written [] where it is empty"),
        (r#"{"services": {}}"#.to_owned(), "a list, which is written [] where it is empty"),
        (with(web, "").replace("[]", "null"), "a list, which is written [] where it is empty"),
        (
            one(r#""forwarding": "masquerade", "weight": 4294967295"#),
            "service tcp 10.0.0.1:80: destination 10.1.0.1:8080: a weight is at most",
        ),
        (
            one(r#""forwarding": "masquerade", "lower_threshold": 9"#),
            "the lower threshold 9 is above the upper one",
        ),
        (with(web, &format!("{sane}, {sane}")), "destination 10.1.0.1:8080 is there twice"),
        (
            format!(r#"{{"services": [{{"service": {{{web}}}}}, {{"service": {{{web}}}}}]}}"#),
            "service tcp 10.0.0.1:80 is there twice",
        ),
    ] {
        let error = serde_json::from_str::<Ruleset>(&json).unwrap_err();
        assert!(error.to_string().contains(says), "{json}\n{error}");
        let has_place = error.to_string().contains(" at line 1 column ");
        assert!(has_place || json == "[[]]", "{json}\n{error}");
        // Any JSON is YAML, too.
        let error = serde_saphyr::from_str::<Ruleset>(&json).unwrap_err();
        assert!(error.location().is_some() || json == "[[]]", "{json}\n{error}");
    }
    assert!(serde_json::from_str::<Timeouts>("[900, 120, 300]").is_err());
    assert!(serde_json::from_str::<TimeoutsUpdate>("[900, 120]").is_err());
    let listed = serde_json::from_str::<SyncDaemon>(r#"["master", "eth0", 7]"#).unwrap_err();
    assert!(listed.to_string().contains("a sync daemon: a map with its role"), "{listed}");
    let unknown = r#"{"role": "master", "interface": "eth0", "syncid": 7}"#;
    let unknown = serde_json::from_str::<SyncDaemon>(unknown).unwrap_err();
    assert!(unknown.to_string().contains("unknown field `syncid`"), "{unknown}");
    assert!(serde_json::from_str::<Ruleset>(&with(web, &sane)).is_ok());
    assert_eq!(serde_json::from_str::<Ruleset>(r#"{"services": []}"#).unwrap(), Ruleset::new());
}
