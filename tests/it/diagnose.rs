//! A diagnosis finds what a host lacks for rules, and its advice, followed to the letter, mends
//! that.

use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context as _;
use ipvs_netlink::diagnose::{Diagnosis, Finding, Problem, Severity};
use ipvs_netlink::proc::sysctl;
use ipvs_netlink::{
    DaemonRole, Destination, Family, Options, Persistence, Ruleset, Scheduler, Service, SyncDaemon,
    Tunnel, blocking,
};

use crate::case::{Outcome, cases};
use crate::errors::{CHILD, child};
use crate::rules::{backend, real6, vip, vip6, web};
use crate::standstill;
use crate::subject::{Subject, program};
use crate::traffic::wait_until;

cases![
    nothing_stands_in_the_way_of_an_able_host,
    what_the_kernel_refuses_is_found,
    tables_that_rules_choose_are_known,
    an_interface_that_is_down_or_without_ipv6_is_known,
    ip_forward_is_turned_on,
    ipv6_is_enabled_and_forwarded,
    a_namespace_without_addresses_gets_one,
    a_scheduler_that_the_kernel_is_too_old_for_is_replaced,
    a_scheduler_that_nobody_has_is_replaced,
    a_module_of_a_scheduler_is_loaded,
    a_module_of_an_engine_is_loaded,
    an_engine_that_nobody_has_is_left_out,
    the_module_is_loaded,
    without_the_capability_root_is_needed,
    without_the_capability_a_namespace_is_not_entered,
    a_user_namespace_is_left,
    limits_of_a_kernel_are_known,
    limits_of_settings_are_raised,
];

const BLUE: &str = "/run/netns/blue";

/// The host of a case: it is diagnosed, and the advice is followed on it.
struct Host<'a> {
    subject: &'a Subject,
    options: Options,
}

impl<'a> Host<'a> {
    fn of(subject: &'a Subject) -> Self {
        Self { subject, options: Options::new() }
    }

    fn diagnose(&self, rules: &Ruleset) -> Diagnosis {
        match &self.subject.fake {
            Some(fake) => fake.diagnose(rules),
            None => self.options.diagnose(rules),
        }
    }

    /// Runs the commands of a finding. A fake host understands only those that it has.
    fn follow(&self, finding: &Finding) -> anyhow::Result<()> {
        assert!(!finding.commands.is_empty(), "{finding}");
        for command in &finding.commands {
            let Some(fake) = &self.subject.fake else {
                program("sh", &["-c", command])?;
                continue;
            };
            let words: Vec<_> = command.split([' ', '=']).collect();
            match words[..] {
                ["sysctl", "-w", name, value] => {
                    self.subject.proc().set_sysctl_named(name, value)?;
                }
                ["ip", "address", "add", address, "dev", "lo"] => {
                    let address = address.split('/').next().unwrap_or_default().parse()?;
                    fake.configure(|host| host.local.push(address));
                }
                ["ip", "link", "set", "lo", "up"] => fake.configure(|host| {
                    host.configured = true;
                    let lo = host.interfaces.iter_mut().filter(|it| it.name == "lo");
                    lo.for_each(|it| it.up = true);
                }),
                _ => anyhow::bail!("a fake host has no {command}"),
            }
        }
        Ok(())
    }

    /// Finds a problem, follows the advice, and finds it no more.
    fn mend(&self, rules: &Ruleset, problem: Problem) -> anyhow::Result<Finding> {
        let before = self.diagnose(rules);
        assert!(!before.is_able(), "{before}");
        let finding = before.finding(problem).unwrap_or_else(|| panic!("{before}")).clone();
        self.follow(&finding)?;
        let after = self.diagnose(rules);
        assert!(after.is_able(), "{before}\n\n{after}");
        Ok(finding)
    }
}

fn rules(scheduler: Scheduler) -> Ruleset {
    let mut rules = Ruleset::new();
    rules.insert_service(web().scheduler(scheduler)).unwrap();
    rules.insert_destination(web().key, backend(1)).unwrap();
    rules
}

/// Forwards IPv4 or not, and tells whether it did.
fn forward(subject: &Subject, value: &str) -> anyhow::Result<String> {
    let proc = subject.proc();
    let before = proc.sysctl_named("net.ipv4.ip_forward")?;
    proc.set_sysctl_named("net.ipv4.ip_forward", value)?;
    Ok(before)
}

async fn nothing_stands_in_the_way_of_an_able_host(subject: &mut Subject) -> Outcome {
    let before = forward(subject, "1")?;
    for scheduler in subject.schedulers() {
        let diagnosis = Host::of(subject).diagnose(&rules(scheduler));
        assert!(diagnosis.is_able(), "{diagnosis}");
        assert_eq!(diagnosis.kernel, subject.release.as_str());
        // As the diagnosis has said, the kernel takes the rules.
        subject.client.add_service(&web().scheduler(scheduler)).await?;
        subject.client.flush().await?;
    }
    let newest = subject.release.series() >= (6, 12);
    if subject.fake.is_none() {
        let diagnosis = Host::of(subject).diagnose(&rules(Scheduler::RoundRobin));
        assert!(diagnosis.finding(Problem::Route).is_some(), "{diagnosis}");
        program("ip", &["link", "add", "name", "out", "type", "dummy"])?;
        program("ip", &["link", "set", "out", "up"])?;
        program("ip", &["route", "add", "10.1.0.0/16", "dev", "out"])?;
    }
    let diagnosis = Host::of(subject).diagnose(&rules(Scheduler::RoundRobin));
    let finding = diagnosis.finding(Problem::VirtualAddress).unwrap();
    Host::of(subject).follow(finding)?;
    let said = Host::of(subject).diagnose(&rules(Scheduler::RoundRobin)).to_string();
    assert_eq!(said.ends_with("nothing stands in the way"), newest, "{said}");
    match &subject.fake {
        Some(fake) => fake.configure(|host| host.local.retain(|address| *address != vip())),
        None => {
            program("ip", &["address", "delete", "10.0.0.1/32", "dev", "lo"])?;
            program("ip", &["link", "delete", "out"])?;
        }
    }
    forward(subject, &before).map(drop)
}

/// Once: the diagnosis called a host able whose kernel refused the destinations.
async fn what_the_kernel_refuses_is_found(subject: &mut Subject) -> Outcome {
    for real in [
        "10.1.0.1",
        "127.0.0.1",
        "127.0.0.0",
        "127.255.255.255",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "2001:db8:1::1",
        "::1",
        "::",
        "ff02::1",
        "fe80::5",
        "::ffff:10.1.0.1",
    ] {
        let real: IpAddr = real.parse()?;
        let service = Service::tcp(if real.is_ipv4() { vip() } else { vip6() }, 80);
        let destination = Destination::direct_route(real, 80);
        let is_found = is_found(subject, service, destination, Problem::DestinationAddress)?;
        subject.client.add_service(&service).await?;
        let done = subject.client.add_destination(service.key, &destination).await;
        assert_eq!(done.is_err(), is_found, "{real}: {done:?}");
        subject.client.flush().await?;
    }

    let many = backend(1).thresholds(3_000_000_000, 0);
    let is_refused = subject.release.largest_threshold() < u32::MAX;
    assert_eq!(is_found(subject, web(), many, Problem::Threshold)?, is_refused);
    subject.client.add_service(&web()).await?;
    assert_eq!(subject.client.add_destination(web().key, &many).await.is_err(), is_refused);

    let other = Destination::tunnel(real6(1), 80, Tunnel::Ipip);
    assert!(!is_found(subject, web(), other, Problem::DestinationFamily)?);
    let daemon = SyncDaemon::new(DaemonRole::Backup, "lo".parse()?);
    subject.client.start_daemon(&daemon).await?;
    let found = is_found(subject, web(), other, Problem::DestinationFamily);
    let done = subject.client.add_destination(web().key, &other).await;
    subject.client.stop_daemon(DaemonRole::Backup).await?;
    assert!(found? && done.is_err(), "{done:?}");
    subject.client.add_destination(web().key, &other).await?;
    subject.client.flush().await?;
    Ok(())
}

/// Whether a diagnosis of a destination has a problem.
fn is_found(
    subject: &Subject,
    service: Service,
    destination: Destination,
    problem: Problem,
) -> anyhow::Result<bool> {
    let mut rules = Ruleset::new();
    rules.insert_service(service)?;
    rules.insert_destination(service.key, destination)?;
    let diagnosis = Host::of(subject).diagnose(&rules);
    let finding = diagnosis.finding(problem);
    Ok(finding.is_some_and(|finding| finding.severity == Severity::Refused))
}

/// Makes a network namespace anew, and gives what runs `ip` there.
fn blue() -> anyhow::Result<impl Fn(&str) -> anyhow::Result<String>> {
    let _ = program("ip", &["netns", "delete", "blue"]);
    program("ip", &["netns", "add", "blue"])?;
    Ok(|command: &str| {
        program("ip", &[&["-n", "blue"][..], &command.split(' ').collect::<Vec<_>>()].concat())
    })
}

/// Once: the address of an interface that is down counted as the host's, and IPv6 was to be enabled on an
/// interface that lacks it on purpose, because a real server had no route.
async fn an_interface_that_is_down_or_without_ipv6_is_known(_: &mut Subject) -> Outcome {
    let ip = blue()?;
    let options = Options::new().namespace(BLUE);
    let web = Service::tcp(vip6(), 80);
    let mut rules = Ruleset::new();
    rules.insert_service(web)?;
    rules.insert_destination(web.key, Destination::direct_route(real6(1), 80))?;
    ip("link add name out type dummy")?;
    ip("link set out up")?;
    options.proc()?.set_sysctl_named("net.ipv6.conf.out.disable_ipv6", "1")?;
    ip("link add name other type dummy")?;
    ip("link set other up")?;
    // Devices of the type dummy have no duplicate address detection.
    ip("link add name later type veth peer name peer")?;
    ip(&format!("address add {}/128 dev later", vip6()))?;
    let diagnosis = options.diagnose(&rules);
    let finding = diagnosis.finding(Problem::VirtualAddress);
    let finding = finding.unwrap_or_else(|| panic!("{diagnosis}"));
    assert!(finding.text.starts_with("not in use yet"), "{finding}");
    assert!(finding.commands.is_empty(), "{finding}");
    assert_eq!(diagnosis.finding(Problem::NoIpv6), None, "{diagnosis}");
    let finding = diagnosis.finding(Problem::Route).unwrap_or_else(|| panic!("{diagnosis}"));
    assert!(finding.text.ends_with("; IPv6 is disabled on out"), "{finding}");
    ip(&format!("-6 route add blackhole {}", real6(1)))?;
    assert_eq!(options.diagnose(&rules).finding(Problem::Route), None);

    for interface in ["later", "peer"] {
        ip(&format!("link set {interface} up"))?;
    }
    wait_until("the address is in use", || {
        Ok(options.diagnose(&rules).finding(Problem::VirtualAddress).is_none())
    })?;
    program("ip", &["netns", "delete", "blue"]).map(drop)
}

/// Once: the route of a transparent proxy made every address this host's, and the main table counted
/// whatever other tables rules may choose.
async fn tables_that_rules_choose_are_known(_: &mut Subject) -> Outcome {
    let ip = blue()?;
    ip("link set lo up")?;
    ip("link add name out type dummy")?;
    ip("link set out up")?;
    ip("address add 10.5.0.1/24 dev out")?;
    ip("address add 2001:db8:5::1/64 dev out nodad")?;
    let options = Options::new().namespace(BLUE);
    let found = |service: Service, destination: Destination| -> anyhow::Result<_> {
        let mut rules = Ruleset::new();
        rules.insert_service(service)?;
        rules.insert_destination(service.key, destination)?;
        let diagnosis = options.diagnose(&rules);
        let problems = [Problem::VirtualAddress, Problem::Route];
        Ok(problems.map(|problem| diagnosis.finding(problem).is_some()))
    };
    let of_ipv4 = || found(web(), Destination::direct_route([10, 1, 0, 1], 80));
    let web6 = Service::tcp(vip6(), 80);
    let of_ipv6 = || found(web6, Destination::direct_route(real6(1), 80));
    assert_eq!([of_ipv4()?, of_ipv6()?], [[true, true]; 2]);
    // A network that another table has alone may have the packets, and so may those that it sends here.
    ip("route add local 0.0.0.0/0 dev lo table 100")?;
    assert_eq!([of_ipv4()?, of_ipv6()?], [[true, false], [true, true]]);
    ip("-6 route add 2001:db8:9::/48 dev out table 100")?;
    assert_eq!(of_ipv6()?, [true, false]);
    ip("-6 route add local ::/0 dev lo table 101")?;
    assert_eq!(of_ipv6()?, [false, false]);
    program("ip", &["netns", "delete", "blue"]).map(drop)
}

async fn ip_forward_is_turned_on(subject: &mut Subject) -> Outcome {
    let before = forward(subject, "0")?;
    let rules = rules(Scheduler::RoundRobin);
    let finding = Host::of(subject).mend(&rules, Problem::Forwarding(Family::V4))?;
    assert_eq!(finding.severity, Severity::Broken);
    assert_eq!(subject.proc().sysctl_named("net.ipv4.ip_forward")?, "1");

    // Direct route needs no forwarding.
    forward(subject, "0")?;
    let mut direct = Ruleset::new();
    direct.insert_service(web())?;
    direct.insert_destination(web().key, Destination::direct_route([10, 1, 0, 1], 80))?;
    assert!(Host::of(subject).diagnose(&direct).is_able());
    forward(subject, &before).map(drop)
}

async fn ipv6_is_enabled_and_forwarded(subject: &mut Subject) -> Outcome {
    let proc = subject.proc();
    let names = ["net.ipv6.conf.all.forwarding", "net.ipv6.conf.all.disable_ipv6"];
    let before = names.map(|name| proc.sysctl_named(name));
    let web = Service::tcp(vip6(), 80);
    let mut rules = Ruleset::new();
    rules.insert_service(web)?;
    let real = Destination::masquerade(real6(1), 80);
    rules.insert_destination(web.key, real)?;
    let host = Host::of(subject);
    for (name, [bad, good], problem) in [
        (names[0], ["0", "1"], Problem::Forwarding(Family::V6)),
        (names[1], ["1", "0"], Problem::NoIpv6),
    ] {
        proc.set_sysctl_named(name, bad)?;
        let finding = host.mend(&rules, problem)?;
        assert_eq!(finding.severity, Severity::Broken);
        assert_eq!(proc.sysctl_named(name)?, good);
    }
    for (name, before) in names.into_iter().zip(before) {
        proc.set_sysctl_named(name, &before?)?;
    }
    Ok(())
}

async fn a_namespace_without_addresses_gets_one(subject: &mut Subject) -> Outcome {
    let mut rules = Ruleset::new();
    rules.insert_service(web())?;
    rules.insert_destination(web().key, Destination::direct_route([10, 1, 0, 1], 80))?;
    let mut host = Host::of(subject);
    if let Some(fake) = &subject.fake {
        fake.configure(|host| {
            host.configured = false;
            host.interfaces.iter_mut().for_each(|it| it.up = false);
        });
        host.mend(&rules, Problem::NoAddress)?;
        return Ok(());
    }
    let _ = program("ip", &["netns", "delete", "blue"]);
    host.options = Options::new().namespace(BLUE);
    let diagnosis = host.diagnose(&rules);
    assert_eq!(diagnosis.findings.len(), 1, "{diagnosis}");
    let said = &diagnosis.finding(Problem::Unanswered).unwrap().text;
    assert!(said.contains(BLUE), "{said}");
    program("ip", &["netns", "add", "blue"])?;
    let diagnosis = host.diagnose(&rules);
    let finding = diagnosis.finding(Problem::NoAddress).unwrap_or_else(|| panic!("{diagnosis}"));
    // The commands run in the network namespace.
    for command in &finding.commands {
        program("ip", &["netns", "exec", "blue", "sh", "-c", command])?;
    }
    let diagnosis = host.diagnose(&rules);
    assert!(diagnosis.is_able(), "{diagnosis}");
    let mut blue = host.options.connect()?;
    assert!(blue.sync(&rules, &ipvs_netlink::Policy::new())?.is_success());
    Ok(())
}

/// The rules that the advice for a scheduler leads to.
fn replaced(finding: &Finding) -> Ruleset {
    assert!(finding.advice.contains("another scheduler, such as wlc"), "{finding}");
    rules(Scheduler::WeightedLeastConnection)
}

async fn a_scheduler_that_the_kernel_is_too_old_for_is_replaced(subject: &mut Subject) -> Outcome {
    let before = forward(subject, "1")?;
    let rules = rules(Scheduler::TwoChoices);
    let diagnosis = Host::of(subject).diagnose(&rules);
    let finding = diagnosis.finding(Problem::Scheduler(Scheduler::TwoChoices));
    // 6.1 is new enough, but Debian leaves it out.
    assert_eq!(finding.is_none(), subject.release.has_twos(), "{diagnosis}");
    assert_eq!(diagnosis.is_able(), subject.release.has_twos(), "{diagnosis}");
    if let Some(finding) = finding {
        let is_too_old = subject.release.series() < (5, 12);
        assert_eq!(finding.text.contains("needs Linux 5.12 or later"), is_too_old, "{finding}");
        let diagnosis = Host::of(subject).diagnose(&replaced(finding));
        assert!(diagnosis.is_able(), "{diagnosis}");
    }
    forward(subject, &before).map(drop)
}

async fn a_scheduler_that_nobody_has_is_replaced(subject: &mut Subject) -> Outcome {
    let before = forward(subject, "1")?;
    let nosuch = Scheduler::named("nosuch")?;
    let diagnosis = Host::of(subject).diagnose(&rules(nosuch));
    let finding = diagnosis.finding(Problem::Scheduler(nosuch)).unwrap();
    assert_eq!(finding.severity, Severity::Refused);
    assert!(finding.text.contains("no module ip_vs_nosuch"), "{finding}");
    assert!(Host::of(subject).diagnose(&replaced(finding)).is_able());
    forward(subject, &before).map(drop)
}

/// Runs an act without this module, and while the kernel loads no module by itself.
pub(crate) fn without_module<T>(
    module: &str,
    run: impl FnOnce() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    // Other cases leave rules in this namespace, and the rules hold modules.
    let _ = program("ip", &["netns", "delete", "blue"]);
    let proc = ipvs_netlink::proc::Proc::new();
    let modprobe = proc.sysctl_named("kernel.modprobe")?;
    let loaded = program("grep", &["-o", "^ip_vs[a-z_0-9]*", "/proc/modules"])?;
    proc.set_sysctl_named("kernel.modprobe", "")?;
    let loaded: Vec<&str> = loaded.lines().collect();
    // The other modules need `ip_vs`.
    let removed: &[&str] = if module == "ip_vs" { &loaded } else { &[module] };
    let outcome = remove_modules(removed).and_then(|()| run());
    proc.set_sysctl_named("kernel.modprobe", &modprobe)?;
    program("modprobe", &[&["-a"], &loaded[..]].concat())?;
    outcome
}

/// A module is in use until the kernel has cleaned up a namespace that was deleted. Those that are not
/// there any more do not matter.
fn remove_modules(names: &[&str]) -> anyhow::Result<()> {
    let mut refused = None;
    let removed = wait_until("nothing uses the modules", || {
        let loaded = std::fs::read_to_string("/proc/modules")?;
        let is_loaded =
            |name: &&str| loaded.lines().any(|line| line.split(' ').next() == Some(name));
        let left: Vec<&str> = names.iter().copied().filter(is_loaded).collect();
        if !left.is_empty() {
            refused = program("rmmod", &left).err();
        }
        Ok(left.is_empty())
    });
    // Whatever lives in a namespace with services keeps them.
    removed.with_context(|| format!("{refused:?}\n{}", standstill::described()))
}

async fn a_module_of_a_scheduler_is_loaded(subject: &mut Subject) -> Outcome {
    let before = forward(subject, "1")?;
    let rules = rules(Scheduler::ShortestExpectedDelay);
    let problem = Problem::Scheduler(Scheduler::ShortestExpectedDelay);
    without_module("ip_vs_sed", || {
        let mut ipvs = blocking::Client::connect()?;
        let service = web().scheduler(Scheduler::ShortestExpectedDelay);
        assert!(ipvs.add_service(&service).unwrap_err().is_module_not_found());
        // A program that is not there loads nothing, either.
        let proc = ipvs_netlink::proc::Proc::new();
        for program in ["/nonexistent", "/proc/version", ""] {
            proc.set_sysctl_named("kernel.modprobe", program)?;
            let diagnosis = Host::of(subject).diagnose(&rules);
            assert!(diagnosis.finding(problem).is_some(), "{program:?}: {diagnosis}");
        }
        let finding = Host::of(subject).mend(&rules, problem)?;
        assert_eq!(finding.commands, ["modprobe ip_vs_sed"]);
        Ok(ipvs.add_service(&service)?)
    })?;
    forward(subject, &before).map(drop)
}

fn rules_with_engine(name: &str) -> anyhow::Result<(Ruleset, Service, Problem)> {
    let engine = name.parse()?;
    let persistence = Persistence::new(std::time::Duration::from_secs(60)).engine(engine);
    let calls = Service::udp(vip(), 5060).persistence(persistence);
    let mut rules = Ruleset::new();
    rules.insert_service(calls)?;
    Ok((rules, calls, Problem::Engine(engine)))
}

async fn a_module_of_an_engine_is_loaded(subject: &mut Subject) -> Outcome {
    let (rules, calls, problem) = rules_with_engine("sip")?;
    without_module("ip_vs_pe_sip", || {
        let mut ipvs = blocking::Client::connect()?;
        assert!(ipvs.add_service(&calls).unwrap_err().is_module_not_found());
        let finding = Host::of(subject).mend(&rules, problem)?;
        assert_eq!(finding.commands, ["modprobe ip_vs_pe_sip"]);
        Ok(ipvs.add_service(&calls)?)
    })
}

async fn an_engine_that_nobody_has_is_left_out(subject: &mut Subject) -> Outcome {
    let (rules, calls, problem) = rules_with_engine("nosuch")?;
    assert!(subject.client.add_service(&calls).await.unwrap_err().is_module_not_found());
    let diagnosis = Host::of(subject).diagnose(&rules);
    let finding = diagnosis.finding(problem).unwrap_or_else(|| panic!("{diagnosis}"));
    assert_eq!(finding.severity, Severity::Refused);
    assert!(finding.advice.contains("Leave it out of its services"), "{finding}");
    let (rules, calls, _) = rules_with_engine("sip")?;
    assert!(Host::of(subject).diagnose(&rules).is_able());
    subject.client.add_service(&calls).await?;
    Ok(())
}

async fn the_module_is_loaded(subject: &mut Subject) -> Outcome {
    let host = Host::of(subject);
    without_module("ip_vs", || {
        let connected = blocking::Client::connect().err();
        assert!(connected.is_some_and(|error| error.is_ipvs_not_found()));
        let diagnosis = host.diagnose(&Ruleset::new());
        let finding = diagnosis.finding(Problem::Ipvs).unwrap_or_else(|| panic!("{diagnosis}"));
        assert_eq!(finding.severity, Severity::Refused);
        host.follow(finding)?;
        let diagnosis = host.diagnose(&Ruleset::new());
        assert!(diagnosis.is_able(), "{diagnosis}");
        blocking::Client::connect()?;
        Ok(())
    })
}

/// The network namespace that a child of a case diagnoses, if it is not the child's own.
const NAMESPACE: &str = "IPVS_NETLINK_TEST_NAMESPACE";

/// Diagnoses a plain ruleset as a child of a case, and prints it as JSON.
pub(crate) fn print_diagnosis() {
    let options = match std::env::var(NAMESPACE) {
        Ok(namespace) => Options::new().namespace(namespace),
        Err(_) => Options::new(),
    };
    let diagnosis = options.diagnose(&rules(Scheduler::RoundRobin));
    println!("{}", serde_json::to_string(&diagnosis).unwrap());
}

fn diagnosis_of(command: &mut Command) -> anyhow::Result<Diagnosis> {
    Ok(serde_json::from_str(&child(command, "diagnosis")?)?)
}

async fn without_the_capability_root_is_needed(subject: &mut Subject) -> Outcome {
    let before = forward(subject, "1")?;
    let this = std::env::current_exe()?;
    let diagnosis = diagnosis_of(Command::new(&this).uid(65534).gid(65534))?;
    let finding = diagnosis.finding(Problem::Permission).unwrap_or_else(|| panic!("{diagnosis}"));
    assert!(finding.advice.contains("Run the program as root"), "{finding}");
    assert!(!diagnosis.is_able());
    assert_eq!(diagnosis.finding(Problem::UserNamespace), None);
    let diagnosis = diagnosis_of(Command::new(this).uid(0))?;
    assert!(diagnosis.is_able(), "{diagnosis}");
    forward(subject, &before).map(drop)
}

/// Once: the diagnosis made up a kernel that is too old for everything, and did not tell of the
/// missing permission.
async fn without_the_capability_a_namespace_is_not_entered(subject: &mut Subject) -> Outcome {
    let _ = program("ip", &["netns", "delete", "blue"]);
    program("ip", &["netns", "add", "blue"])?;
    let this = std::env::current_exe()?;
    let diagnosis = diagnosis_of(Command::new(&this).uid(65534).gid(65534).env(NAMESPACE, BLUE))?;
    assert_eq!(diagnosis.kernel, subject.release.as_str());
    assert_eq!(diagnosis.findings.len(), 1, "{diagnosis}");
    let finding = diagnosis.finding(Problem::Permission).unwrap_or_else(|| panic!("{diagnosis}"));
    assert_eq!(finding.severity, Severity::Refused);
    assert!(finding.text.contains("this needs CAP_SYS_ADMIN"), "{finding}");
    assert!(finding.advice.contains("as root"), "{finding}");
    let diagnosis =
        diagnosis_of(Command::new("unshare").arg("-Ur").arg(&this).env(NAMESPACE, BLUE))?;
    assert_eq!(diagnosis.findings.len(), 1, "{diagnosis}");
    assert!(diagnosis.finding(Problem::UserNamespace).is_some(), "{diagnosis}");
    program("ip", &["netns", "delete", "blue"]).map(drop)
}

async fn a_user_namespace_is_left(subject: &mut Subject) -> Outcome {
    let before = forward(subject, "1")?;
    let this = std::env::current_exe()?;
    let root = diagnosis_of(Command::new("unshare").arg("-Ur").arg(&this))?;
    for diagnosis in [root, diagnosis_among_all_users(&this)?] {
        let finding = diagnosis.finding(Problem::UserNamespace);
        let finding = finding.unwrap_or_else(|| panic!("{diagnosis}"));
        assert!(finding.advice.contains("in the initial user namespace"), "{finding}");
        assert!(!diagnosis.is_able());
        assert_eq!(diagnosis.finding(Problem::Permission), None);
    }
    let diagnosis = diagnosis_of(&mut Command::new(this))?;
    assert!(diagnosis.is_able(), "{diagnosis}");
    forward(subject, &before).map(drop)
}

/// Diagnoses in a user namespace that has all users as they are, so that its map says nothing.
fn diagnosis_among_all_users(this: &Path) -> anyhow::Result<Diagnosis> {
    let mut unshare = Command::new("unshare");
    unshare.args(["-U", "sh", "-c", "read mapped; exec \"$0\""]).arg(this);
    unshare.env(CHILD, "diagnosis").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = unshare.spawn()?;
    let of_child = |file: &str| format!("/proc/{}/{file}", child.id());
    let initial = std::fs::read_link("/proc/self/ns/user")?;
    wait_until("the child has a user namespace", || {
        Ok(std::fs::read_link(of_child("ns/user"))? != initial)
    })?;
    for map in ["uid_map", "gid_map"] {
        std::fs::write(of_child(map), "0 0 4294967295")?;
    }
    child.stdin.take().context("a pipe")?.write_all(b"mapped\n")?;
    Ok(serde_json::from_slice(&child.wait_with_output()?.stdout)?)
}

async fn limits_of_a_kernel_are_known(subject: &mut Subject) -> Outcome {
    let host = Host::of(subject);
    let before = forward(subject, "1")?;
    let series = subject.release.series();
    let mut sticky = rules(Scheduler::SOURCE_HASH);
    assert_eq!(host.diagnose(&sticky).finding(Problem::WeightZero), None);
    sticky.insert_destination(web().key, backend(2).weight(0))?;
    let diagnosis = host.diagnose(&sticky);
    assert!(diagnosis.finding(Problem::WeightZero).is_some() && diagnosis.is_able());
    let changed = diagnosis.finding(Problem::ChangedScheduler);
    assert_eq!(changed.is_some(), series < (6, 12), "{diagnosis}");

    let mut many = Ruleset::new();
    for n in 0..2000u16 {
        let [high, low] = n.to_be_bytes();
        many.insert_service(Service::tcp([10, high, low, 1], 80))?;
    }
    let crowded = host.diagnose(&many);
    assert_eq!(crowded.finding(Problem::SharedBucket).is_some(), series < (7, 1), "{crowded}");
    assert_eq!(crowded.finding(Problem::SlowAfterRemoval), None);

    let mut large = rules(Scheduler::RoundRobin);
    for n in 0..10_000 {
        large.insert_destination(web().key, backend(n))?;
    }
    assert_eq!(large.destination_count(), 10_000);
    assert_eq!(host.diagnose(&large).finding(Problem::SlowAfterRemoval), None);
    large.insert_destination(web().key, backend(10_000))?;
    let slow = host.diagnose(&large);
    assert!(slow.finding(Problem::SlowAfterRemoval).is_some() && slow.is_able(), "{slow}");

    forward(subject, &before).map(drop)
}

async fn limits_of_settings_are_raised(subject: &mut Subject) -> Outcome {
    let before = forward(subject, "1")?;
    let host = Host::of(subject);
    let proc = subject.proc();
    let sticky = web().persistence(std::time::Duration::from_secs(300));
    let mut draining = Ruleset::new();
    draining.insert_service(sticky)?;
    draining.insert_destination(sticky.key, backend(1))?;
    assert_eq!(host.diagnose(&draining).finding(Problem::KeptTemplates), None);
    draining.insert_destination(sticky.key, backend(2).weight(0))?;
    let diagnosis = host.diagnose(&draining);
    let finding = diagnosis.finding(Problem::KeptTemplates).unwrap();
    assert_eq!(finding.severity, Severity::Limited);
    host.follow(finding)?;
    assert!(proc.sysctl(&sysctl::EXPIRE_QUIESCENT_TEMPLATE)?);
    assert_eq!(host.diagnose(&draining).finding(Problem::KeptTemplates), None);
    proc.set_sysctl(&sysctl::EXPIRE_QUIESCENT_TEMPLATE, false)?;

    if subject.release.series() >= sysctl::CONN_MAX.setting().since {
        let most = proc.sysctl(&sysctl::CONN_MAX)?;
        proc.set_sysctl(&sysctl::CONN_MAX, 0)?;
        let finding = host.mend(&rules(Scheduler::RoundRobin), Problem::NoConnections)?;
        assert_eq!(finding.severity, Severity::Broken);
        assert!(proc.sysctl(&sysctl::CONN_MAX)? > 0);
        proc.set_sysctl(&sysctl::CONN_MAX, most)?;
    }
    forward(subject, &before).map(drop)
}
