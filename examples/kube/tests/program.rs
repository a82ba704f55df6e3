//! The program as it is run, on a cluster of 35 Services.
#![allow(clippy::unwrap_used, missing_docs)]

use std::process::{Command, Output};

use clap::Parser;
use ipvs_kube::{Cluster, Desired, Options};
use ipvs_netlink::fake::Kernel;
use serde_json::json;

const CLUSTER: &str = include_str!("../cluster.json");

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: Options,
}

fn desired() -> Desired {
    let mut cluster = Cluster::default();
    cluster.read(CLUSTER).unwrap();
    assert!(cluster.services.as_ref().unwrap().len() >= 30);
    Desired::new(&cluster.objects("node-a").unwrap(), &Options::default())
}

fn run(arguments: &[&str]) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_ipvs-kube"));
    program.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap()
}

#[test]
fn a_dry_run_prints_all_that_is_desired() {
    let output = run(&["cluster.json", "--node", "node-a", "--dry-run"]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let desired = desired();
    assert!(text.ends_with(&desired.to_string()));
    for line in [
        "+ tcp 10.96.0.1:443 -> 192.168.1.11:6443 -m -w 1",
        "+ sctp 192.168.1.11:31412 -s rr",
        "+ tcp [fd00:96::16]:50051 -s wlc",
        "2001:db8:113::10",
        "port 32081: Service ingress/ingress-nginx, ready endpoints here: 1 of IPv4, 1 of IPv6",
        "table inet ipvs-kube {",
        "            198.51.100.0/25",
        "== Notes: 0",
    ] {
        assert!(text.lines().any(|found| found.trim_end_matches(',') == line), "{line}\n{text}");
    }
}

/// The VM's tests load the script that is kept among the crate's golden files.
#[test]
fn the_script_is_the_one_that_nft_is_given_in_tests() {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/kube.nft");
    let script = desired().nft.unwrap().to_string();
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    if update {
        std::fs::write(golden, &script).unwrap();
    }
    let kept = std::fs::read_to_string(golden).unwrap();
    assert!(
        kept == script,
        "the script is another: UPDATE_GOLDEN=1 cargo test, and look at the difference"
    );
}

/// Once: 40,000 source ranges took nft 13 s, and 10,000 one, since the kernel looks through a set of intervals of several
/// fields for each interval that it is given.
#[test]
fn no_set_of_several_fields_is_one_of_intervals() {
    let script = desired().nft.unwrap().to_string();
    let kinds: Vec<_> = script.lines().filter(|line| line.trim().starts_with("type ")).collect();
    let of_fields = kinds.iter().filter(|kind| kind.contains(" . ")).count();
    assert!(of_fields > 10, "{kinds:?}");
    for kind in kinds {
        assert!(!(kind.contains(" . ") && kind.contains("interval")), "{kind}");
    }
}

/// A load balancer with so many ports, and so many networks that may come to it.
fn restricted(ports: usize, ranges: usize) -> String {
    let ports: Vec<_> = (1..=ports)
        .map(|port| json!({ "name": format!("p{port}"), "port": port, "protocol": "TCP" }))
        .collect();
    let ranges: Vec<_> =
        (0..ranges).map(|index| format!("11.{}.{}.0/24", index / 256, index % 256)).collect();
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "namespace": "shop", "name": "web" },
        "spec": {
            "type": "LoadBalancer", "clusterIP": "10.96.0.1", "ports": ports, "loadBalancerSourceRanges": ranges,
        },
        "status": { "loadBalancer": { "ingress": [{ "ip": "203.0.113.7" }] } },
    });
    let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "a" } });
    let mut cluster = Cluster::default();
    cluster.read(&json!({ "kind": "List", "items": [service, node] }).to_string()).unwrap();
    cluster.slices = Some(Vec::new());
    let desired = Desired::new(&cluster.objects("a").unwrap(), &Options::default());
    desired.nft.unwrap().to_string()
}

/// Once: the script had each range of a load balancer for each of its ports, 160 MB for 400 ports and 8,000 ranges.
#[test]
fn the_script_grows_with_ports_and_with_ranges_and_not_with_their_product() {
    let lines = |ports, ranges| restricted(ports, ranges).lines().count();
    let (one, ports, ranges) = (lines(1, 1), lines(101, 1), lines(1, 101));
    assert_eq!(lines(101, 101) - one, (ports - one) + (ranges - one));
}

#[test]
fn a_script_changes_elements_unless_chains_or_networks_are_others() {
    let with = |line: &[&str]| {
        let mut cluster = Cluster::default();
        cluster.read(CLUSTER).unwrap();
        let options = Line::parse_from([&["ipvs-kube"], line].concat()).options;
        Desired::new(&cluster.objects("node-a").unwrap(), &options).nft.unwrap()
    };
    let loaded = with(&[]);
    assert_eq!(with(&[]).changes_from(&loaded), "");
    let excluded = with(&["--exclude", "10.96.0.10/32"]).changes_from(&loaded);
    let verbs = excluded.lines().filter(|line| line.ends_with('{')).map(|line| &line[..14]);
    assert_eq!(verbs.collect::<Vec<_>>(), ["delete element"; 2], "{excluded}");
    for whole in [&["--masquerade-all"], &["--masquerade-bit=3"], &["--pod-network=10.9.0.0/16"]] {
        let script = with(whole);
        assert_eq!(script.changes_from(&loaded), script.to_string(), "{whole:?}");
    }
}

#[test]
fn a_plan_from_a_table_has_what_differs_and_leaves_others_alone() {
    let folder = std::env::temp_dir().join(format!("kube-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let table = folder.join("table");
    let stranger = "-A -t 172.16.0.1:80 -s rr\n-A -f 7 -s rr\n";
    std::fs::write(&table, format!("{}{stranger}", desired().rules)).unwrap();
    let arguments =
        ["cluster.json", "--node", "node-a", "--dry-run", "--table", table.to_str().unwrap()];
    let plan = |more: &[&str]| {
        let output = run(&[&arguments[..], more].concat());
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines()
            .skip(1)
            .take_while(|line| !line.is_empty())
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let left = |what| format!("  {what} is not wanted; it is left: out of scope");
    let mark = left("IPv4 firewall mark 7");
    assert_eq!(plan(&[]), ["- tcp 172.16.0.1:80".to_owned(), mark.clone()]);
    assert_eq!(plan(&["--exclude", "172.16.0.0/12"]), [left("tcp 172.16.0.1:80"), mark]);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_closed_pipe_ends_it_quietly_and_a_full_disk_does_not() {
    let run = |to: std::process::Stdio| {
        let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_ipvs-kube"));
        program.args(["cluster.json", "--node", "node-a", "--dry-run"]).stdout(to);
        program.env_remove("RUST_BACKTRACE").output().unwrap()
    };
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = run(writer.into());
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = run(full.into());
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && error.contains("the plan cannot be printed"), "{error}");
}

#[test]
fn what_is_wrong_is_said_with_what_to_do() {
    let no_slices = r#"{ "kind": "ServiceList", "items": [] }"#;
    let folder = std::env::temp_dir().join(format!("kube-wrong-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("services.json");
    std::fs::write(&file, no_slices).unwrap();
    let file = file.to_str().unwrap();
    for (arguments, words) in [
        (vec![file, "--node", "a", "--dry-run"], "no EndpointSlice was read"),
        (
            vec!["cluster.json", "--node", "node-z", "--dry-run"],
            "those read are node-a, node-b, node-c",
        ),
        (vec!["missing.json", "--node", "a", "--dry-run"], "missing.json"),
        (vec!["cluster.json", "--dry-run"], "--node"),
        (vec!["cluster.json", "--node", "node-a", "--table", "now"], "--dry-run"),
        (
            vec!["cluster.json", "--node", "node-a", "--dry-run", "--scheduler", "fast"],
            "it is one of rr, wrr",
        ),
        (
            vec!["cluster.json", "--node", "node-a", "--dry-run", "--exclude", "10.0.0.1"],
            "expected a network",
        ),
    ] {
        let output = run(&arguments);
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && error.contains(words), "{arguments:?}: {error}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}

/// Once: the largest interval was a panic, and the shortest pause a loop without one.
#[test]
fn each_number_is_taken_to_its_ends_and_refused_beyond_them() {
    let most = u64::MAX.to_string();
    for (option, ends, beyond, words) in [
        ("--check-interval", ["1", "86400"], ["0", "86401"], "seconds from 1 to 86400"),
        ("--drain", ["0", "31536000"], ["-1", "31536001"], "seconds from 0 to 31536000"),
        ("--at-most", ["0", "1"], ["-0.1", "1.1"], "a number from 0 to 1"),
        ("--masquerade-bit", ["0", "31"], ["-1", "32"], "a bit from 0 to 31"),
        ("--gather", ["0s", "1m"], ["1", "61s"], "from 0s to 1m"),
        ("--gather-at-most", ["0s", "1m"], ["-1s", "1m 1ms"], "from 0s to 1m"),
        ("--api-timeout", ["1s", "1h"], ["999ms", "61m"], "from 1s to 1h"),
        ("--api-pause", ["1s", "1h"], ["0s", "61m"], "from 1s to 1h"),
    ] {
        let with = |value: &str| {
            let option = format!("{option}={value}");
            run(&["cluster.json", "--node", "node-a", "--dry-run", &option])
        };
        for value in ends {
            let output = with(value);
            assert!(output.status.success(), "{option} {value}: {output:?}");
        }
        for value in beyond.into_iter().chain(["", "NaN", "1e3", &most]) {
            let output = with(value);
            let error = String::from_utf8(output.stderr).unwrap();
            let is_refused = output.status.code() == Some(2);
            let is_clear = error.contains(words) || value.is_empty();
            assert!(is_refused && is_clear, "{option} {value:?}: {error}");
        }
    }
}

/// Nothing would take the place of what is taken away.
#[test]
fn without_nft_nothing_is_taken_over() {
    let output = run(&["cluster.json", "--node", "node-a", "--take-over", "--without-nft"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && error.contains("cannot be used with"), "{error}");
}

#[test]
fn a_kernel_takes_the_rules_and_then_has_them() {
    let desired = desired();
    let kernel = Kernel::new();
    let mut ipvs = kernel.connect().unwrap();
    let report = ipvs.sync(&desired.rules, &Options::default().policy()).unwrap();
    assert!(report.is_success(), "{report}");
    assert_eq!(ipvs.ruleset().unwrap(), desired.rules);
    let plan = ipvs.plan(&desired.rules, &Options::default().policy()).unwrap();
    assert!(plan.is_empty(), "{plan}");
}

/// TCP ends by itself, its inactive connections too, until the deadline; UDP and SCTP are cut.
#[test]
fn endpoints_that_went_are_drained_where_they_are_of_tcp() {
    use ipvs_netlink::{Change, Plan, Ruleset};
    for (service, is_drained) in [("-t", true), ("-u", false), ("--sctp-service", false)] {
        let rules = |endpoints: &str| -> Ruleset {
            format!("-A {service} 10.96.0.1:80 -s rr\n{endpoints}").parse().unwrap()
        };
        let endpoint = format!("-a {service} 10.96.0.1:80 -r 10.244.0.5:8080 -m");
        let policy = Options::default().policy();
        let plan = Plan::new(&rules(&endpoint), &rules(""), &policy);
        let drains =
            plan.changes().iter().any(|change| matches!(change, Change::DrainDestination(..)));
        assert_eq!(drains, is_drained, "{service}: {plan}");
        assert!(policy.draining.wait_for_inactive);
    }
}

#[test]
fn the_order_of_objects_does_not_matter() {
    let mut list: serde_json::Value = serde_json::from_str(CLUSTER).unwrap();
    list["items"].as_array_mut().unwrap().reverse();
    let mut cluster = Cluster::default();
    cluster.read(&list.to_string()).unwrap();
    let reversed = Desired::new(&cluster.objects("node-a").unwrap(), &Options::default());
    assert_eq!(reversed, desired());
}

#[test]
fn yaml_says_the_same_as_json() {
    let list: serde_json::Value = serde_json::from_str(CLUSTER).unwrap();
    let mut cluster = Cluster::default();
    cluster.read(&serde_saphyr::to_string(&list).unwrap()).unwrap();
    assert_eq!(Desired::new(&cluster.objects("node-a").unwrap(), &Options::default()), desired());
}
