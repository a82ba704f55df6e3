//! The meaning of a host's facts for a ruleset.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::{Facts, Loading, Module, needs_ipv6};
use super::finding::{Finding, Problem, Severity};
use super::forwarding::{self, destinations};
use super::{limits, refusals, tunnels, virtual_addresses};
use crate::model::{Family, HashOptions, Scheduler};
use crate::proc;
use crate::ruleset::Ruleset;

pub(super) fn judge(facts: &Facts, rules: &Ruleset) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(access(facts));
    schedulers(facts, rules, &mut findings);
    engines(facts, rules, &mut findings);
    addresses(facts, rules, &mut findings);
    refusals::judge(facts, rules, &mut findings);
    virtual_addresses::judge(facts, rules, &mut findings);
    forwarding::judge(facts, rules, &mut findings);
    findings.extend(unreadable_names(facts));
    tunnels::judge(facts, rules, &mut findings);
    limits::judge(facts, rules, &mut findings);
    findings
}

/// Whether the caller can use IPVS at all.
fn access(facts: &Facts) -> Vec<Finding> {
    let refused =
        |problem, text: &str, advice: &str| Finding::new(Severity::Refused, problem, text, advice);
    let mut findings = Vec::new();
    if facts.is_in_user_namespace {
        findings.push(refused(
            Problem::UserNamespace,
            "this process is in a user namespace of its own, where no capability counts for IPVS",
            "Run the program in the initial user namespace: as root of the host, outside of rootless \
             containers and of `unshare --user`.",
        ));
    } else if !facts.is_capable {
        findings.push(refused(
            Problem::Permission,
            "this process lacks CAP_NET_ADMIN",
            "Run the program as root, or give a container the capability NET_ADMIN.",
        ));
    }
    match &facts.answer {
        Ok(_) => {}
        Err(error) if error.is_ipvs_not_found() => findings.push(ipvs(facts)),
        Err(error) if error.is_permission_denied() && !findings.is_empty() => {}
        Err(error) => findings.push(unanswered(&error.to_string())),
    }
    findings
}

/// An answer that is not known.
fn unanswered(error: &str) -> Finding {
    let advice = "The text says what was asked and what the answer was.";
    Finding::new(Severity::Refused, Problem::Unanswered, error, advice)
}

/// A network namespace that does not exist, or that the caller may not enter.
pub(super) fn unentered(error: &proc::Error, is_in_user_namespace: bool) -> Finding {
    let text = error.to_string();
    let refused = |problem, advice| Finding::new(Severity::Refused, problem, &text, advice);
    if !error.is_permission_denied() {
        unanswered(&text)
    } else if is_in_user_namespace {
        let advice = "Run the program in the initial user namespace, as root of the host: in one of its \
                      own no capability counts for another's network namespace, nor for IPVS.";
        refused(Problem::UserNamespace, advice)
    } else {
        let advice = "Run the program as root, or give a container the capabilities SYS_ADMIN and \
                      NET_ADMIN.";
        refused(Problem::Permission, advice)
    }
}

fn ipvs(facts: &Facts) -> Finding {
    let finding =
        |text: &str, advice: &str| Finding::new(Severity::Refused, Problem::Ipvs, text, advice);
    match facts.modules.state("ip_vs") {
        Module::Absent if facts.modules.loading == Loading::Unsupported => finding(
            "this kernel has no IPVS built in, and takes no modules",
            "Install a kernel that is built with CONFIG_IP_VS.",
        ),
        Module::Absent => finding(
            "this kernel has no IPVS, neither built in nor as a module",
            &format!(
                "Install a kernel that is built with CONFIG_IP_VS, or the rest of this one's modules: \
                 on Ubuntu the package linux-modules-extra-{}.",
                facts.release
            ),
        ),
        Module::Ready | Module::Loadable => {
            finding("the module ip_vs is not loaded", "Load the module:")
                .command("modprobe ip_vs", &[])
        }
        Module::Barred => {
            let text = format!("the module ip_vs is not loaded, and {BARRED}");
            finding(&text, &at_boot("ip_vs"))
        }
        Module::Unknown => finding(
            "the module ip_vs is not loaded, and whether it is installed cannot be told here",
            "Load the module on the host, outside of any container:",
        )
        .command("modprobe ip_vs", &[]),
    }
}

const BARRED: &str =
    "this kernel takes no module until it is booted again, since kernel.modules_disabled is 1";

fn at_boot(module: &str) -> String {
    format!(
        "Have the module {module} loaded at boot before that is set, by a file below \
         /etc/modules-load.d, say, and boot again."
    )
}

fn schedulers(facts: &Facts, rules: &Ruleset, findings: &mut Vec<Finding>) {
    // Without its options, each scheduler comes once.
    let wanted: BTreeMap<_, _> = rules
        .services()
        .map(|rules| &rules.service().scheduler)
        .filter(|scheduler| **scheduler != Scheduler::Unbound)
        .map(|scheduler| (scheduler.name(), scheduler.with_hash_options(HashOptions::default())))
        .collect();
    for (name, scheduler) in wanted {
        let module = format!("ip_vs_{name}");
        let what = format!("the scheduler {name}");
        let since = since(scheduler);
        let state = facts.modules.state(&module);
        if state != Module::Ready && facts.is_before(since) {
            findings.push(Finding::new(
                Severity::Refused,
                Problem::Scheduler(scheduler),
                format!("{what} needs Linux {}.{} or later", since.0, since.1),
                "Give its services another scheduler, such as wlc, or use a newer kernel.",
            ));
        } else {
            let advice = "Give its services another scheduler, such as wlc, or use a kernel that has \
                          the module.";
            let missing = missing(facts, &module, &what, advice);
            findings.extend(
                missing
                    .map(|finding| Finding { problem: Problem::Scheduler(scheduler), ..finding }),
            );
        }
    }
}

fn engines(facts: &Facts, rules: &Ruleset, findings: &mut Vec<Finding>) {
    let engines = rules.services().filter_map(|rules| rules.service().persistence?.engine);
    for engine in engines.collect::<BTreeSet<_>>() {
        let what = format!("the persistence engine {engine}");
        let advice = "Leave it out of its services, or use a kernel that has the module.";
        let missing = missing(facts, &format!("ip_vs_pe_{engine}"), &what, advice);
        findings
            .extend(missing.map(|finding| Finding { problem: Problem::Engine(engine), ..finding }));
    }
}

/// The reason why a module's feature cannot be used, if it cannot.
fn missing(facts: &Facts, module: &str, what: &str, if_absent: &str) -> Option<Finding> {
    let finding = |text, advice: &str| Finding::new(Severity::Refused, Problem::Ipvs, text, advice);
    let not_loaded = format!(
        "{what} is in the module {module}, which is not loaded, and this kernel loads none by itself"
    );
    match facts.modules.state(module) {
        Module::Ready => None,
        // The kernel loads modules for containers, too.
        Module::Unknown if facts.modules.loading == Loading::ByItself => None,
        Module::Absent => {
            let text = format!("{what} is not installed: this kernel has no module {module}");
            Some(finding(text, if_absent))
        }
        Module::Barred => {
            let text =
                format!("{what} is in the module {module}, which is not loaded, and {BARRED}");
            Some(finding(text, &at_boot(module)))
        }
        Module::Loadable => {
            Some(finding(not_loaded, "Load the module:").command("modprobe", &[module]))
        }
        Module::Unknown => Some(
            finding(not_loaded, "Load the module on the host, outside of any container:")
                .command("modprobe", &[module]),
        ),
    }
}

/// The first kernel that has a scheduler; zeroes if all kernels have it.
fn since(scheduler: Scheduler) -> (u32, u32) {
    match scheduler {
        Scheduler::WeightedFailover => (3, 18),
        Scheduler::WeightedOverflow => (4, 3),
        Scheduler::MaglevHash(_) => (4, 18),
        Scheduler::TwoChoices => (5, 12),
        _ => (0, 0),
    }
}

fn addresses(facts: &Facts, rules: &Ruleset, findings: &mut Vec<Finding>) {
    let has_ipv4 = destinations(rules).any(|destination| destination.key.family() == Family::V4);
    if has_ipv4 && !facts.has_ipv4_table {
        findings.push(no_address(facts));
    }
    if needs_ipv6(rules) {
        findings.extend(no_ipv6(facts));
    }
}

fn no_address(facts: &Facts) -> Finding {
    let text =
        "this network namespace has had no IPv4 address yet, so every IPv4 destination is refused";
    let finding = |advice: &str| Finding::new(Severity::Refused, Problem::NoAddress, text, advice);
    if facts.devices.up.as_ref().is_some_and(|up| up.contains("lo")) {
        finding("Give its loopback one:").command("ip address add 127.0.0.1/8 dev lo", &[])
    } else {
        finding("Bring up its loopback, which gives it one:").command("ip link set lo up", &[])
    }
}

/// A host that has no IPv6 at all. Each device has its own setting, and a device may have IPv6 disabled
/// on purpose while another one has it.
fn no_ipv6(facts: &Facts) -> Option<Finding> {
    let broken = |text: &str, advice| Finding::new(Severity::Broken, Problem::NoIpv6, text, advice);
    if !facts.has_ipv6 {
        return Some(broken(
            "this kernel has no IPv6, and some rules are of it",
            "Boot without ipv6.disable=1, or load the module ipv6.",
        ));
    }
    let outward = facts.devices.outward();
    if outward.iter().any(|(_, device)| device.disables_ipv6 == Some(false)) {
        return None;
    }
    if facts.disables_ipv6 {
        let text = "IPv6 is disabled in this network namespace, and some rules are of it";
        let command = "sysctl -w net.ipv6.conf.all.disable_ipv6=0";
        return Some(broken(text, "Enable it:").command(command, &[]));
    }
    let disabled = facts.devices.without_ipv6();
    if disabled.is_empty() {
        return None;
    }
    let text = format!("IPv6 is disabled on {}, and some rules are of it", disabled.join(", "));
    let finding = broken(&text, "Enable it, and give the interface its addresses again:");
    Some(disabled.into_iter().fold(finding, |finding, device| {
        finding.sysctl("net.ipv6.conf", device, "disable_ipv6", 0)
    }))
}

/// Devices whose settings cannot be read, since their names in procfs are not UTF-8.
fn unreadable_names(facts: &Facts) -> Option<Finding> {
    let is_unreadable = |name: &&String| name.contains(char::REPLACEMENT_CHARACTER);
    let names: Vec<_> =
        facts.devices.all.keys().filter(is_unreadable).map(|name| format!("{name:?}")).collect();
    let [first, ..] = &names[..] else { return None };
    let (devices, their, them) = match names.len() {
        1 => (format!("the device {first} has a name that is"), "its", "it"),
        _ => (format!("the devices {} have names that are", names.join(", ")), "their", "them"),
    };
    Some(Finding::new(
        Severity::Limited,
        Problem::DeviceName,
        format!("{devices} not UTF-8, so {their} settings were not looked at"),
        format!("Rename {them}, and diagnose again."),
    ))
}

#[cfg(all(test, feature = "fake"))]
mod tests {
    use super::*;
    use crate::diagnose::altered::{Altered, commands, rules, rules6};
    use crate::model::{Destination, Service};

    /// The rules with this host as a real server behind a tunnel, whose device exists.
    fn by_gre(host: &Altered) -> Ruleset {
        host.kernel.configure(|host| host.local.push([10, 0, 1, 1].into()));
        let mut rules = Ruleset::new();
        let web = Service::tcp([127, 0, 0, 1], 80);
        rules.insert_service(web).unwrap();
        let real = Destination::tunnel([10, 0, 1, 1], 80, crate::model::Tunnel::gre());
        rules.insert_destination(web.key, real).unwrap();
        rules
    }

    /// Once: `default` stayed as it was, and devices that came later did not filter any more.
    #[test]
    fn devices_that_come_later_filter_as_those_before() {
        let filter = |value| [("ipv4/rp_filter", value)];
        let host = Altered::new()
            .with("sys/net/ipv4/conf/all/rp_filter", "2")
            .with("sys/net/ipv4/conf/default/rp_filter", "1")
            .with_interface("gre0", &filter("0"))
            .with_interface("eth0", &filter("0"))
            .with_interface("a=b", &filter("1"));
        let rules = by_gre(&host);
        let diagnosis = host.diagnose(&rules);
        let finding = diagnosis.finding(Problem::ReversePath).unwrap();
        let wanted = [
            // sysctl would take b.rp_filter=2 for the value.
            "echo 2 > /proc/sys/net/ipv4/conf/a=b/rp_filter",
            "sysctl -w net.ipv4.conf.eth0.rp_filter=2",
            "sysctl -w net.ipv4.conf.default.rp_filter=2",
            "sysctl -w net.ipv4.conf.all.rp_filter=0",
            // This sysctl was never set, and takes on the value of `default`.
            "sysctl -w net.ipv4.conf.gre0.rp_filter=0",
        ];
        let commands: Vec<_> =
            finding.commands.iter().filter(|command| !command.contains(".lo.")).collect();
        assert_eq!(commands, wanted.iter().collect::<Vec<_>>(), "{diagnosis}");

        // The tunnel's own device is made later, and takes on the value that `default` has then.
        let host = Altered::new().with("sys/net/ipv4/conf/all/rp_filter", "1");
        let rules = by_gre(&host);
        let diagnosis = host.diagnose(&rules);
        let commands = &diagnosis.finding(Problem::ReversePath).unwrap().commands;
        let [.., default, all, own] = &commands[..] else { panic!("{diagnosis}") };
        assert_eq!(default, "sysctl -w net.ipv4.conf.default.rp_filter=1");
        assert_eq!(all, "sysctl -w net.ipv4.conf.all.rp_filter=0");
        assert_eq!(own, "sysctl -w net.ipv4.conf.gre0a000101.rp_filter=0");
    }

    /// Once: the diagnosis passed over such devices in silence.
    #[test]
    fn devices_whose_names_are_no_text_are_told() {
        let host = Altered::new().with("net/dev", "lo: 0\neth\u{fffd}: 0\n");
        let diagnosis = host.diagnose(&Ruleset::new());
        let finding = diagnosis.finding(Problem::DeviceName).unwrap();
        assert!(diagnosis.is_able());
        assert_eq!(
            finding.text,
            "the device \"eth\u{fffd}\" has a name that is not UTF-8, so its settings were not looked at"
        );
        let diagnosis = Altered::new().diagnose(&Ruleset::new());
        assert!(diagnosis.finding(Problem::DeviceName).is_none());
    }

    #[test]
    fn of_a_kernel_that_is_not_known_nothing_is_made_up() {
        for scheduler in ["wlc", "nosuch"] {
            let host = Altered::new().without("sys/kernel/osrelease");
            let diagnosis = host.without_module_index().diagnose(&rules(scheduler));
            assert_eq!(diagnosis.finding(Problem::ChangedScheduler), None, "{diagnosis}");
            assert!(!diagnosis.to_string().contains("needs Linux"), "{diagnosis}");
            assert!(diagnosis.to_string().starts_with("Linux of an unknown release:"));
        }
    }

    /// Without quotes, root would run the text that a rules file has as the name of its scheduler.
    #[test]
    fn a_shell_takes_a_name_as_it_is() {
        for (name, command) in
            [("$(id)", "modprobe 'ip_vs_$(id)'"), ("a'b", "modprobe 'ip_vs_a'\\''b'")]
        {
            let diagnosis = Altered::new().with("sys/kernel/modprobe", "").diagnose(&rules(name));
            let problem = Problem::Scheduler(Scheduler::named(name).unwrap());
            let finding = diagnosis.finding(problem).unwrap_or_else(|| panic!("{diagnosis}"));
            assert_eq!(commands(finding), [command]);
        }
        let host = Altered::new().with_interface("a;id", &[("ipv4/forwarding", "0")]);
        let route = format!("a;id\t{0:08X}\t0\t1\t0\t0\t0\t{0:08X}\t0\t0\t0\n", 0);
        let diagnosis = host
            .with("net/route", &route)
            .with("sys/net/ipv4/ip_forward", "1")
            .diagnose(&rules("wlc"));
        let finding = diagnosis.finding(Problem::Forwarding(Family::V4)).unwrap();
        assert_eq!(commands(finding), ["sysctl -w 'net.ipv4.conf.a;id.forwarding=1'"]);
    }

    /// Once: the advice led to an error each time.
    #[test]
    fn where_no_module_can_be_loaded_none_is_to_be() {
        let barred = || Altered::new().with("sys/kernel/modules_disabled", "1");
        let (name, problem) = ("$(id)", Problem::Scheduler(Scheduler::named("$(id)").unwrap()));
        let diagnosis = barred().diagnose(&rules(name));
        let finding = diagnosis.finding(problem).unwrap();
        assert!(finding.text.contains("kernel.modules_disabled is 1"), "{finding}");
        assert!(finding.advice.contains("at boot") && finding.commands.is_empty(), "{finding}");
        let diagnosis = barred().with("modules", "").without_answer().diagnose(&rules("wlc"));
        let finding = diagnosis.finding(Problem::Ipvs).unwrap();
        assert!(finding.text.contains("kernel.modules_disabled is 1"), "{finding}");
        assert!(finding.advice.contains("at boot") && finding.commands.is_empty(), "{finding}");

        // A kernel without modules has its schedulers built in, and has no file that says this.
        let monolithic = || Altered::new().without("modules");
        let diagnosis = monolithic().without_module_index().diagnose(&rules("sed"));
        assert_eq!(diagnosis.finding(Problem::Scheduler(Scheduler::ShortestExpectedDelay)), None);
        let diagnosis = monolithic().without_answer().diagnose(&rules("wlc"));
        let finding = diagnosis.finding(Problem::Ipvs).unwrap();
        assert!(finding.text.contains("takes no modules"), "{finding}");
        assert!(finding.commands.is_empty(), "{finding}");
        let diagnosis = monolithic().diagnose(&rules(name));
        assert!(diagnosis.finding(problem).unwrap().commands.is_empty(), "{diagnosis}");
    }

    /// Once: a kernel was said to load modules by itself whose program for that is not there.
    #[test]
    fn a_program_that_is_not_there_loads_no_module() {
        let problem = Problem::Scheduler(Scheduler::named("$(id)").unwrap());
        let host = || Altered::new().with("sys/kernel/modprobe", "/sbin/modprobe\n");
        assert_eq!(host().diagnose(&rules("$(id)")).finding(problem), None);
        let diagnosis = host().without_program().diagnose(&rules("$(id)"));
        assert_eq!(commands(diagnosis.finding(problem).unwrap()), ["modprobe 'ip_vs_$(id)'"]);
    }

    /// Once: where procfs shows processes alone (`subset=pid`), the kernel was said to take no modules.
    #[test]
    fn files_that_procfs_hides_are_not_missing() {
        let hidden = ["modules", "sys/kernel/osrelease", "sys/kernel/modprobe"];
        let host = || hidden.into_iter().fold(Altered::new(), Altered::without);
        let diagnosis = host().without_module_index().without_answer().diagnose(&rules("sed"));
        let finding = diagnosis.finding(Problem::Ipvs).unwrap();
        assert!(finding.text.contains("whether it is installed cannot be told"), "{finding}");
        let diagnosis = host().without_module_index().diagnose(&rules("sed"));
        assert_eq!(diagnosis.finding(Problem::Scheduler(Scheduler::ShortestExpectedDelay)), None);

        let host = || Altered::new().without("net/if_inet6");
        assert!(host().diagnose(&rules6()).finding(Problem::NoIpv6).is_some());
        let diagnosis = host().without("net/dev").diagnose(&rules6());
        assert_eq!(diagnosis.finding(Problem::NoIpv6), None, "{diagnosis}");
    }

    /// Once: a network namespace whose addresses were all deleted was said to refuse every destination,
    /// and its loopback, which is up, to get an address by being brought up.
    #[test]
    fn a_namespace_that_once_had_an_address_takes_destinations() {
        let problem = Problem::NoAddress;
        let tables =
            |text: &str| Altered::new().with("net/fib_trie", "").with("net/fib_triestat", text);
        let diagnosis = tables("Main:\nLocal:\n").diagnose(&rules("wlc"));
        assert_eq!(diagnosis.finding(problem), None, "{diagnosis}");
        let diagnosis = tables("Main:\n").diagnose(&rules("wlc"));
        let finding = diagnosis.finding(problem).unwrap();
        assert_eq!(commands(finding), ["ip address add 127.0.0.1/8 dev lo"]);
        let host = tables("");
        host.kernel.configure(|host| host.interfaces.iter_mut().for_each(|it| it.up = false));
        let diagnosis = host.diagnose(&rules("wlc"));
        assert_eq!(commands(diagnosis.finding(problem).unwrap()), ["ip link set lo up"]);
    }

    #[test]
    fn ipv6_is_had_by_interfaces() {
        let is_disabled = |host: Altered| {
            let diagnosis = host.diagnose(&rules6());
            diagnosis.finding(Problem::NoIpv6).map(|finding| finding.commands.clone())
        };
        let all = "sys/net/ipv6/conf/all/disable_ipv6";
        let with = |own: &str| Altered::new().with_interface("eth0", &[("ipv6/disable_ipv6", own)]);
        assert_eq!(is_disabled(with("0").with(all, "0")), None);
        assert_eq!(is_disabled(with("0").with(all, "1")), None);
        let command = "sysctl -w net.ipv6.conf.all.disable_ipv6=0".to_owned();
        assert_eq!(is_disabled(with("1").with(all, "1")), Some(vec![command]));
        let command = "sysctl -w net.ipv6.conf.eth0.disable_ipv6=0".to_owned();
        assert_eq!(is_disabled(with("1").with(all, "0")), Some(vec![command]));
        let commands = ["b/7", "eth0"]
            .map(|device| format!("sysctl -w net.ipv6.conf.{device}.disable_ipv6=0"));
        let both = with("1").with_interface("b.7", &[("ipv6/disable_ipv6", "1")]);
        assert_eq!(is_disabled(both), Some(commands.to_vec()));
    }

    /// Once: where one device has IPv6 disabled on purpose, any real server without a route had it called
    /// broken, with the command that enables IPv6 there.
    #[test]
    fn a_device_may_have_no_ipv6_while_another_one_has() {
        let host = |routes: &str| {
            Altered::new()
                .with_interface("eth0", &[("ipv6/disable_ipv6", "0")])
                .with_interface("b.7", &[("ipv6/disable_ipv6", "1")])
                .with("net/ipv6_route", routes)
                .with("sys/net/ipv6/conf/all/forwarding", "1")
        };
        let zero = "00000000000000000000000000000000";
        let route = |metric: &str, flags: &str, device: &str| {
            format!("{zero} 00 {zero} 00 {zero} {metric} 1 0 {flags} {device}\n")
        };
        let found = |routes: &str| {
            let diagnosis = host(routes).diagnose(&rules6());
            assert!(diagnosis.is_able(), "{diagnosis}");
            diagnosis.finding(Problem::Route).cloned()
        };
        assert_eq!(found(&route("00000400", "00000003", "eth0")), None);
        assert_eq!(found(&route("00000400", "00200200", "lo")), None, "a blackhole is wanted");
        let finding = found(&route("ffffffff", "00200200", "lo")).unwrap();
        assert!(finding.text.ends_with("; IPv6 is disabled on b.7"), "{finding}");
        assert!(finding.commands.is_empty(), "{finding}");
    }

    /// Once: for rules of IPv4 alone the kernel took seconds to list many IPv6 routes.
    #[test]
    fn nothing_of_ipv6_is_read_for_rules_of_ipv4() {
        let of_ipv6 = &["net/ipv6_route", "net/if_inet6", "net/udp6", "sys/net/ipv6/"];
        let diagnosis = Altered::new().forbidding(of_ipv6).diagnose(&rules("wlc"));
        assert_eq!(diagnosis.finding(Problem::NoIpv6), None);
        let mut by_mark = Ruleset::new();
        by_mark.insert_service(Service::mark(7, Family::V6).unwrap()).unwrap();
        assert!(needs_ipv6(&by_mark) && needs_ipv6(&rules6()) && !needs_ipv6(&rules("wlc")));
    }
}
