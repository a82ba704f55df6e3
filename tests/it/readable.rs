//! The readable forms: the same rules as text, JSON and YAML, and errors that say what is wrong.

use std::fmt::Debug;
use std::num::NonZeroU32;
use std::time::Duration;

use ipvs_netlink::{
    DaemonRole, Destination, DestinationKey, Family, HashOptions, Protocol, Ruleset, Scheduler,
    Service, ServiceKey, Stats, SyncDaemon, TimeoutsUpdate, Tunnel,
};
use proptest::test_runner::{Config, TestRunner};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::case::trials;
use crate::random::{Speaker, rulesets};
use crate::rules::{backend, real, rich, vip, vip6};

trials![
    the_rules_files_are_the_same_in_all_three_forms,
    every_ruleset_survives_both_forms,
    every_part_of_the_model_survives_both_forms,
    names_are_written_and_defaults_left_out,
    what_is_wrong_is_told,
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
        survives(&ServiceKey::mark(NonZeroU32::MAX, family));
    }
    survives(&ServiceKey::address(Protocol(47), vip6(), 0));
    survives(&DestinationKey::new(vip(), 80));
    survives(&HashOptions::default().port(true));
    for tunnel in [Tunnel::Ipip, Tunnel::gre(), Tunnel::from_numbers(9, 8, 7)] {
        survives(&tunnel);
    }
    survives(&TimeoutsUpdate::default().udp(Duration::from_secs(30)));
    for role in [DaemonRole::Master, DaemonRole::Backup] {
        let daemon = SyncDaemon::new(role, "eth0".parse().unwrap());
        survives(&daemon);
        survives(&daemon.sync_id(7).group([224, 0, 0, 81]).port(8848).ttl(3).max_length(1400));
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
    let sticky = Service::mark(NonZeroU32::MIN, Family::V6)
        .scheduler(Scheduler::SourceHash(options))
        .persistent(Duration::from_secs(300));
    assert_eq!(
        json(&sticky),
        r#"{"mark":1,"family":"ipv6","scheduler":"sh fallback","persistence":{"timeout":300}}"#
    );
    assert_eq!(
        json(&backend(1)),
        r#"{"address":"10.1.0.1","port":8080,"forwarding":"masquerade"}"#
    );
    let tunnel = Destination::tunnel(real(1), 80, Tunnel::gue(6080.try_into().unwrap()));
    assert_eq!(
        json(&tunnel.weight(0)),
        r#"{"address":"10.1.0.1","port":80,"forwarding":{"tunnel":{"type":"gue","port":6080}},"weight":0}"#
    );
}

fn what_is_wrong_is_told() {
    let web = r#""protocol": "tcp", "address": "10.0.0.1", "port": 80"#;
    let server = r#""address": "10.1.0.1", "port": 80"#;
    let with = |service: &str, destinations: &str| {
        format!(
            r#"{{"services": [{{"service": {{{service}}}, "destinations": [{destinations}]}}]}}"#
        )
    };
    let sane = format!(r#"{{{server}, "forwarding": "masquerade"}}"#);
    let one = |rest: &str| with(web, &format!("{{{server}, {rest}}}"));
    for (json, says) in [
        (with("", ""), "a service has a protocol, an address and a port, or else a mark"),
        (with(&format!(r#"{web}, "mark": 7"#), ""), "or else a mark"),
        (with(&web.replace("tcp", "tpc"), ""), "\"tpc\" is no protocol: tcp, udp, sctp"),
        (with(&format!(r#"{web}, "shceduler": "rr""#), ""), "unknown field `shceduler`"),
        (with(&format!(r#"{web}, "scheduler": "rr port""#), ""), "scheduler rr has no options"),
        (with(&format!(r#"{web}, "scheduler": "sh prot""#), ""), "no option \"prot\""),
        (
            with(&format!(r#"{web}, "persistence": {{"timeout": 9, "netmask": 64}}"#), ""),
            "service tcp 10.0.0.1:80: the IPv6 prefix length 64 is of no use",
        ),
        (with(r#""mark": 0"#, ""), "nonzero"),
        (one(r#""forwarding": "nat""#), "unknown variant `nat`, expected one of `masquerade`"),
        (one(r#""forwarding": {"tunnel": {"type": "gue"}}"#), "missing field `port`"),
        (one(r#""forwarding": {"other": 3}"#), "5 to 7, not 3"),
        (
            one(r#""forwarding": "masquerade", "weight": 4294967295"#),
            "service tcp 10.0.0.1:80: destination 10.1.0.1:80: a weight is at most",
        ),
        (
            one(r#""forwarding": "masquerade", "lower_threshold": 9"#),
            "the lower threshold 9 is above the upper one",
        ),
        (with(web, &format!("{sane}, {sane}")), "destination 10.1.0.1:80 is there twice"),
        (
            format!(r#"{{"services": [{{"service": {{{web}}}}}, {{"service": {{{web}}}}}]}}"#),
            "service tcp 10.0.0.1:80 is there twice",
        ),
    ] {
        let error = serde_json::from_str::<Ruleset>(&json).unwrap_err();
        assert!(error.to_string().contains(says), "{json}\n{error}");
        // JSON is YAML.
        assert!(serde_saphyr::from_str::<Ruleset>(&json).is_err(), "{json}");
    }
    assert!(serde_json::from_str::<Ruleset>(&with(web, &sane)).is_ok());
    assert_eq!(serde_json::from_str::<Ruleset>(r#"{"services": []}"#).unwrap(), Ruleset::new());
}
