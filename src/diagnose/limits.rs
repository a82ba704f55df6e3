//! The limits of kernels and settings.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::facts::Facts;
use super::finding::{Finding, Problem, Severity};
use crate::model::{Scheduler, ServiceKey};
use crate::ruleset::{Ruleset, ServiceRules};

/// A bucket with more services than this is slow to write and to read.
const CROWDED: usize = 1000;
/// After the removal of more destinations than this, adding destinations is slow.
const MANY: usize = 10_000;

pub(super) fn judge(facts: &Facts, rules: &Ruleset, findings: &mut Vec<Finding>) {
    if rules.services().next().is_some() {
        findings.extend(connections(facts));
        drops(facts, findings);
    }
    findings.extend(templates(facts, rules));
    let mut limited = |problem, text: &str, advice: &str| {
        findings.push(Finding::new(Severity::Limited, problem, text, advice));
    };
    let keeps_share = |is_of: &dyn Fn(Scheduler) -> bool| {
        rules.services().any(|rules| {
            is_of(rules.service().scheduler)
                && rules.destinations().any(|destination| destination.weight == 0)
        })
    };
    if keeps_share(&|it| it.hash_options().is_some_and(|options| !options.fallback)) {
        limited(
            Problem::WeightZero,
            "a destination of weight 0 under sh or mh keeps its share of new clients, and they are \
             refused",
            "Give the service the option sh-fallback or mh-fallback, or remove the destination.",
        );
    }
    if keeps_share(&|it| it == Scheduler::DestinationHash) {
        limited(
            Problem::WeightZero,
            "a destination of weight 0 under dh keeps the virtual addresses that are hashed to it: a \
             service with such an address refuses all new clients, whatever its other destinations",
            "Remove the destination, or give the service another scheduler.",
        );
    }
    if facts.is_before((6, 12)) && rules.services().next().is_some() {
        limited(
            Problem::ChangedScheduler,
            "changing the scheduler of a service refuses its new connections for a moment on kernels \
             before 6.12",
            "Change schedulers when few clients come.",
        );
    }
    if facts.is_before((7, 1)) && most_in_a_bucket(rules) > CROWDED {
        limited(
            Problem::SharedBucket,
            "more than a thousand services share one bucket of the kernel's table, since their \
             addresses or marks differ in their upper bytes alone: writing and reading them takes \
             several times as long before Linux 7.1",
            "Give services addresses, ports or marks that differ in the last byte.",
        );
    }
    if rules.destination_count() > MANY {
        limited(
            Problem::SlowAfterRemoval,
            "after many of these destinations were removed at once, or the table was flushed, adding \
             destinations takes many times as long for two to three minutes",
            "Change what differs, with Client::sync or Plan, rather than flush and add all again.",
        );
    }
}

/// A kernel that takes no connection.
fn connections(facts: &Facts) -> Option<Finding> {
    (facts.most_connections == Some(0)).then(|| {
        Finding::new(
            Severity::Broken,
            Problem::NoConnections,
            "this network namespace takes no connection of IPVS: the most is 0",
            "Raise it, as to 2^24, which the kernels of all machines take:",
        )
        .command("sysctl -w net.ipv4.vs.conn_max=16777216", &[])
    })
}

/// Defenses against floods that are always on.
fn drops(facts: &Facts, findings: &mut Vec<Finding>) {
    if let Some(rate) = facts.drop_rate {
        let (severity, share) = match rate {
            ..=1 => (Severity::Broken, "every new connection".to_owned()),
            more => (Severity::Limited, format!("one of {more} new connections")),
        };
        let text = format!("this network namespace drops the first packet of {share}, always");
        let advice = "Have it do so when memory is short only:";
        let finding = Finding::new(severity, Problem::Drops, text, advice);
        findings.push(finding.command("sysctl -w net.ipv4.vs.drop_packet=1", &[]));
    }
    if facts.drops_entries {
        let text = "this network namespace always drops entries of half-open connections at random";
        let advice = "Have it do so when memory is short only:";
        let finding = Finding::new(Severity::Limited, Problem::Drops, text, advice);
        findings.push(finding.command("sysctl -w net.ipv4.vs.drop_entry=1", &[]));
    }
}

/// Persistent clients of a destination that is to get no more clients.
fn templates(facts: &Facts, rules: &Ruleset) -> Option<Finding> {
    let is_kept = |rules: &ServiceRules| {
        rules.service().persistence.is_some()
            && rules.destinations().any(|destination| destination.weight == 0)
    };
    (!facts.expires_templates && rules.services().any(is_kept)).then(|| {
        Finding::new(
            Severity::Limited,
            Problem::KeptTemplates,
            "a destination of weight 0 of a persistent service still gets new connections of the \
             clients that it had",
            "Have their templates expire:",
        )
        .command("sysctl -w net.ipv4.vs.expire_quiescent_template=1", &[])
    })
}

/// The most services in any one of the 256 buckets that kernels before 7.1 have for services by
/// address, and again for services by mark. The low bits of protocol, address and port choose the
/// bucket, or those of the mark.
fn most_in_a_bucket(rules: &Ruleset) -> usize {
    let mut buckets = BTreeMap::<_, usize>::new();
    for rules in rules.services() {
        let bucket = match rules.key() {
            ServiceKey::Address { protocol, address, port } => {
                let [high, low] = port.to_be_bytes();
                let byte = match address {
                    IpAddr::V4(v4) => v4.octets()[3],
                    // The kernel folds all four parts of the address into one.
                    IpAddr::V6(v6) => v6.octets().chunks(4).fold(0, |fold, part| fold ^ part[3]),
                };
                let [_, protocol] = protocol.number().to_be_bytes();
                ("address", protocol ^ byte ^ high ^ low)
            }
            ServiceKey::Mark { mark, .. } => ("mark", mark.get().to_be_bytes()[3]),
        };
        *buckets.entry(bucket).or_default() += 1;
    }
    buckets.into_values().max().unwrap_or(0)
}

#[cfg(all(test, feature = "fake"))]
mod tests {
    use super::*;
    use crate::diagnose::altered::{Altered, commands, rules};
    use crate::model::{Family, Service};

    /// Once: nothing stood in the way where the kernel drops the first packet of each connection.
    #[test]
    fn defenses_that_are_always_on_are_told() {
        let host = |mode: &str, rate: &str| {
            let host = Altered::new().with("sys/net/ipv4/vs/drop_packet", mode);
            let diagnosis = host.with("sys/net/ipv4/vs/am_droprate", rate).diagnose(&rules("wlc"));
            diagnosis.finding(Problem::Drops).map(|finding| finding.severity)
        };
        assert_eq!(host("3", "10"), Some(Severity::Limited));
        assert_eq!(host("3", "1"), Some(Severity::Broken));
        assert_eq!(host("3", "-1"), Some(Severity::Broken));
        assert_eq!(host("3", "0"), None);
        assert_eq!(host("1", "1"), None);
        let host = Altered::new().with("sys/net/ipv4/vs/drop_entry", "3");
        let diagnosis = host.diagnose(&rules("wlc"));
        let finding = diagnosis.finding(Problem::Drops).unwrap();
        assert_eq!(commands(finding), ["sysctl -w net.ipv4.vs.drop_entry=1"]);
    }

    /// Once: services by mark were passed over.
    #[test]
    fn services_by_mark_share_buckets_too() {
        let is_crowded = |shift: u32| {
            let mut rules = Ruleset::new();
            for n in 1..=2000 {
                rules.insert_service(Service::mark(n << shift, Family::V4).unwrap()).unwrap();
            }
            Altered::new().diagnose(&rules).finding(Problem::SharedBucket).is_some()
        };
        assert!(is_crowded(8));
        assert!(!is_crowded(0));
    }
}
