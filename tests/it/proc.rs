//! Connection table, counters and sysctls: the files below `/proc`.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use ipvs_netlink::proc::sysctl::{self, DefenseMode, SyncThreshold, Sysctl, Value};
use ipvs_netlink::proc::{Proc, Profile};

use crate::case::{Outcome, cases};
use crate::rules::{backend, web};
use crate::subject::{Subject, program};
use crate::traffic::wait_until;

cases![
    every_sysctl_is_known,
    each_sysctl_is_written_and_read,
    a_value_out_of_range_is_refused_before_it_is_written,
    any_sysctl_is_at_hand_by_its_name,
    texts_are_read_as_the_kernel_reads_them,
    a_profile_is_applied_and_undone,
    what_forwarding_sets_along_is_undone,
    interfaces_that_forward_ipv6_by_themselves_go_on,
    interfaces_that_others_set_meanwhile_are_left,
    interfaces_that_have_ipv6_keep_it,
    interfaces_of_a_profile_have_what_it_says,
    a_value_in_another_spelling_is_the_same,
    a_defense_that_the_kernel_moves_is_the_same,
    what_others_set_meanwhile_is_left,
    a_profile_that_fails_sets_back_what_it_changed,
    the_state_of_the_tables_is_read,
];

/// Whether a kernel has this sysctl only if it is built with `CONFIG_IP_VS_DEBUG`.
fn is_for_debugging(name: &str) -> bool {
    name == sysctl::DEBUG_LEVEL.name()
}

/// A kernel's sysctl that is not listed would be reachable by its name alone.
async fn every_sysctl_is_known(subject: &mut Subject) -> Outcome {
    let series = subject.release.series();
    let known: BTreeSet<_> = sysctl::ALL
        .iter()
        .filter(|setting| series >= setting.since && !is_for_debugging(setting.name))
        .map(|setting| setting.name.to_owned())
        .collect();
    let there = subject.proc().sysctls()?;
    let names = there.iter().map(|(name, _)| name.clone());
    let names: BTreeSet<_> = names.filter(|name| !is_for_debugging(name)).collect();
    assert_eq!(names, known);
    for setting in sysctl::ALL.iter().filter(|setting| known.contains(setting.name)) {
        let value = there.iter().find(|(name, _)| name == setting.name).map(|(_, value)| value);
        if let Some(default) = setting.default {
            assert_eq!(value.map(String::as_str), Some(default), "{}", setting.name);
        }
    }
    Ok(())
}

/// Counts the sysctls of a kernel that were written.
struct Written {
    proc: Proc,
    series: (u32, u32),
    names: BTreeSet<&'static str>,
}

impl Written {
    /// Writes values, reads each back, and leaves the sysctl as it was.
    fn try_each<T>(&mut self, sysctl: &Sysctl<T>, values: impl IntoIterator<Item = T>) -> Outcome
    where
        T: Value + Clone + PartialEq + Debug,
    {
        let name = sysctl.name();
        self.names.insert(name);
        if self.series < sysctl.setting().since {
            let error = self.proc.sysctl(sysctl).err().context(name)?;
            assert!(error.is_not_found(), "{error}");
            return Ok(());
        }
        let before = self.proc.sysctl(sysctl)?;
        if let Some(default) = sysctl.default() {
            assert_eq!(before, default, "{name}");
        }
        for value in values {
            assert_ne!(value, before, "{name}");
            self.proc.set_sysctl(sysctl, value.clone())?;
            assert_eq!(self.proc.sysctl(sysctl)?, value, "{name}");
        }
        self.proc.set_sysctl(sysctl, before.clone())?;
        assert_eq!(self.proc.sysctl(sysctl)?, before, "{name}");
        Ok(())
    }
}

async fn each_sysctl_is_written_and_read(subject: &mut Subject) -> Outcome {
    let seconds = Duration::from_secs;
    let mut written =
        Written { proc: subject.proc(), series: subject.release.series(), names: BTreeSet::new() };
    for flag in [
        sysctl::BACKUP_ONLY,
        sysctl::CACHE_BYPASS,
        sysctl::CONNTRACK,
        sysctl::EXPIRE_NODEST_CONN,
        sysctl::EXPIRE_QUIESCENT_TEMPLATE,
        sysctl::IGNORE_TUNNELED,
        sysctl::NAT_ICMP_SEND,
        sysctl::SCHEDULE_ICMP,
        sysctl::SLOPPY_SCTP,
        sysctl::SLOPPY_TCP,
        sysctl::SYNC_PERSIST_MODE,
    ] {
        written.try_each(&flag, [true])?;
    }
    for flag in [sysctl::PMTU_DISC, sysctl::RUN_ESTIMATION, sysctl::SNAT_REROUTE] {
        written.try_each(&flag, [false])?;
    }
    for number in [sysctl::AM_DROPRATE, sysctl::AMEMTHRESH, sysctl::SYNC_SOCK_SIZE] {
        written.try_each(&number, [7, i32::MAX, i32::MIN])?;
    }
    for factor in [sysctl::CONN_LFACTOR, sysctl::SVC_LFACTOR] {
        written.try_each(&factor, [-8, 8])?;
    }
    for mode in [sysctl::DROP_ENTRY, sysctl::DROP_PACKET, sysctl::SECURE_TCP] {
        // With memory to spare the kernel turns 2 into 1 within a second.
        written.try_each(&mode, [DefenseMode::Automatic, DefenseMode::Always])?;
    }
    for expiration in [sysctl::LBLC_EXPIRATION, sysctl::LBLCR_EXPIRATION] {
        written.try_each(&expiration, [seconds(1), seconds(8_000_000)])?;
    }
    written.try_each(&sysctl::CONN_MAX, [0, 1000])?;
    written.try_each(&sysctl::CONN_REUSE_MODE, [0, 2])?;
    written.try_each(&sysctl::EST_CPULIST, ["0".to_owned(), String::new()])?;
    written.try_each(&sysctl::EST_NICE, [-20, 19])?;
    written.try_each(&sysctl::SYNC_PORTS, [2, 1 << 30])?;
    written.try_each(&sysctl::SYNC_QLEN_MAX, [0, u64::MAX])?;
    written.try_each(&sysctl::SYNC_REFRESH_PERIOD, [seconds(8_000_000)])?;
    written.try_each(&sysctl::SYNC_RETRIES, [1, 3])?;
    let once = SyncThreshold { threshold: 100, period: 0 };
    let often = SyncThreshold { threshold: 0, period: i32::MAX.cast_unsigned() };
    written.try_each(&sysctl::SYNC_THRESHOLD, [once, often])?;
    written.try_each(&sysctl::SYNC_VERSION, [0])?;
    // Every known sysctl was tried.
    let all = sysctl::ALL.iter().map(|setting| setting.name);
    let all: BTreeSet<_> = all.filter(|name| !is_for_debugging(name)).collect();
    assert_eq!(written.names, all);
    Ok(())
}

async fn a_value_out_of_range_is_refused_before_it_is_written(subject: &mut Subject) -> Outcome {
    let proc = subject.proc();
    let refused = |refused: Result<(), ipvs_netlink::proc::Error>| {
        let error = refused.unwrap_err();
        assert!(error.is_invalid(), "{error}");
        error.to_string()
    };
    let said = refused(proc.set_sysctl(&sysctl::SYNC_RETRIES, 4));
    assert_eq!(
        said,
        "cannot set the sysctl net.ipv4.vs.sync_retries to \"4\": 4 is out of range: 0 to 3"
    );
    refused(proc.set_sysctl(&sysctl::SYNC_PORTS, 3));
    refused(proc.set_sysctl(&sysctl::SYNC_PORTS, 0));
    refused(proc.set_sysctl(&sysctl::CONN_LFACTOR, 9));
    refused(proc.set_sysctl(&sysctl::SYNC_REFRESH_PERIOD, Duration::from_millis(1500)));
    refused(proc.set_sysctl(&sysctl::EST_CPULIST, "0\n1".to_owned()));
    let threshold = SyncThreshold { threshold: 5, period: 5 };
    refused(proc.set_sysctl(&sysctl::SYNC_THRESHOLD, threshold));
    // The kernel has the same ranges.
    for (name, value) in [
        ("sync_retries", "4"),
        ("sync_ports", "3"),
        ("sync_threshold", "5 5"),
        ("drop_entry", "4"),
        ("sync_refresh_period", "9000000"),
    ] {
        let error = proc.set_sysctl_named(&format!("net.ipv4.vs.{name}"), value).unwrap_err();
        assert!(error.to_string().contains("Invalid argument"), "{error}");
        assert!(!error.is_invalid());
    }
    Ok(())
}

async fn any_sysctl_is_at_hand_by_its_name(subject: &mut Subject) -> Outcome {
    let proc = subject.proc();
    let name = "net.ipv4.vs.sync_threshold";
    assert_eq!(proc.sysctl_named(name)?, "3\t50");
    proc.set_sysctl_named(name, "4 60")?;
    assert_eq!(proc.sysctl_named(name)?, "4\t60");
    proc.set_sysctl_named(name, "3 50")?;
    let error = proc.sysctl_named("net.ipv4.vs.nosuch").unwrap_err();
    assert!(error.is_not_found());
    assert!(error.to_string().contains("modprobe ip_vs"), "{error}");
    for name in ["", "net.ipv4..vs", "net/ipv4", "net.ipv4.vs.", "../etc/passwd"] {
        assert!(proc.sysctl_named(name).unwrap_err().is_invalid(), "{name}");
    }
    Ok(())
}

/// Real kernels and the fake one keep the same of a text, and refuse the same texts.
async fn texts_are_read_as_the_kernel_reads_them(subject: &mut Subject) -> Outcome {
    let proc = subject.proc();
    let invalid = Err("Invalid argument");
    let mut wrong = Vec::new();
    for (name, text, wanted) in [
        ("am_droprate", "+5", invalid),
        ("am_droprate", "", invalid),
        ("am_droprate", "5x", invalid),
        ("am_droprate", "08", invalid),
        ("am_droprate", "0x", invalid),
        ("am_droprate", "- 5", invalid),
        ("am_droprate", "5\r", invalid),
        ("am_droprate", "5\u{b}6", invalid),
        ("am_droprate", "2147483648", invalid),
        ("am_droprate", "000000000000000000005", invalid),
        ("am_droprate", "00000000000000000005", Ok("5")),
        ("am_droprate", "010", Ok("8")),
        ("am_droprate", "0X1f", Ok("31")),
        ("am_droprate", "-0x10", Ok("-16")),
        ("am_droprate", "\u{b} \t7 x", Ok("7")),
        ("am_droprate", "10", Ok("10")),
        ("sync_retries", "0x3", Ok("3")),
        ("sync_retries", "0", Ok("0")),
        ("sync_refresh_period", "-1", Ok("-1")),
        ("sync_refresh_period", "8589935", invalid),
        ("sync_refresh_period", "00", Ok("0")),
        ("sync_qlen_max", "+1", invalid),
        ("sync_qlen_max", "0x10", Ok("16")),
        ("sync_qlen_max", "18446744073709551616", invalid),
        ("sync_threshold", "4 x", invalid),
        ("sync_threshold", "4 0x40 x", Ok("4\t64")),
        ("sync_threshold", "010", Ok("8\t64")),
        ("sync_threshold", "3 50", Ok("3\t50")),
        ("est_cpulist", "+1", invalid),
        ("est_cpulist", "1-0", invalid),
        ("est_cpulist", "0-5", Err("Numerical result out of range")),
        ("est_cpulist", ",1,", Ok("1")),
        ("est_cpulist", "0 1", Ok("0-1")),
        ("est_cpulist", "0", Ok("0")),
        ("est_cpulist", "all", Ok("0-1")),
    ] {
        let name = format!("net.ipv4.vs.{name}");
        let of_kernel = |setting: &&sysctl::Setting| setting.name == name;
        let setting = sysctl::ALL.iter().find(of_kernel).context("known")?;
        if subject.release.series() < setting.since {
            continue;
        }
        let kept = proc.set_sysctl_named(&name, text).and_then(|()| proc.sysctl_named(&name));
        let is_right = match (&kept, wanted) {
            (Ok(kept), Ok(wanted)) => kept == wanted,
            (Err(error), Err(wanted)) => error.to_string().contains(wanted),
            _ => false,
        };
        if !is_right {
            wrong.push(format!("{name} {text:?}: {:?}", kept.map_err(|error| error.to_string())));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}

const IP_FORWARD: &str = "net.ipv4.ip_forward";

async fn a_profile_is_applied_and_undone(subject: &mut Subject) -> Outcome {
    let proc = subject.proc();
    proc.set_sysctl_named(IP_FORWARD, "0")?;
    let before = proc.sysctls()?;
    let profile = Profile::node_proxy().strict_arp();
    let changes = proc.apply(&profile)?;
    // No tested kernel is older than 5.9, so conn_reuse_mode stays.
    assert_eq!(
        changes.to_string(),
        "net.ipv4.vs.conntrack: 0 -> 1\n\
         net.ipv4.vs.expire_nodest_conn: 0 -> 1\n\
         net.ipv4.vs.expire_quiescent_template: 0 -> 1\n\
         net.ipv4.ip_forward: 0 -> 1\n\
         net.ipv4.conf.all.arp_ignore: 0 -> 1\n\
         net.ipv4.conf.all.arp_announce: 0 -> 2"
    );
    for change in &changes {
        assert_eq!(proc.sysctl_named(&change.name)?, change.after);
    }
    assert!(proc.apply(&profile)?.is_empty());

    // The changes survive a restart of the program.
    let kept = serde_json::to_string(&changes)?;
    let undone = proc.undo(&serde_json::from_str(&kept)?)?;
    assert_eq!(undone.iter().count(), changes.iter().count());
    assert_eq!(proc.sysctls()?, before);
    for change in &changes {
        assert_eq!(proc.sysctl_named(&change.name)?, change.before);
    }
    assert!(proc.undo(&changes)?.is_empty());
    Ok(())
}

/// Once: undoing a profile overwrote values that the host had set by itself. When forwarding is
/// turned off, the kernel turns redirects on and the forwarding of each interface off.
async fn what_forwarding_sets_along_is_undone(subject: &mut Subject) -> Outcome {
    let proc = subject.proc();
    program("ip", &["link", "add", "name", "dot.100", "type", "dummy"])?;
    let v4 = |name: &str| format!("net.ipv4.conf.{name}");
    let names = [v4("all.accept_redirects"), v4("lo.forwarding"), v4("dot/100.forwarding")];
    for [redirects, of_lo, of_dummy] in [["0", "1", "0"], ["1", "0", "1"]] {
        proc.set_sysctl_named(IP_FORWARD, "0")?;
        let before = [redirects, of_lo, of_dummy];
        for (name, value) in names.iter().zip(before) {
            proc.set_sysctl_named(name, value)?;
        }
        let values = || -> Result<Vec<String>, _> {
            names.iter().map(|name| proc.sysctl_named(name)).collect()
        };
        let changes = proc.apply(&Profile::node_proxy())?;
        assert_eq!(values()?, ["0", "1", "1"]);
        let kept = serde_json::to_string(&changes)?;
        let _ = proc.undo(&serde_json::from_str(&kept)?)?;
        assert_eq!(proc.sysctl_named(IP_FORWARD)?, "0");
        assert_eq!(values()?, before);
    }
    // An interface that is gone meanwhile is no error.
    let changes = proc.apply(&Profile::node_proxy())?;
    program("ip", &["link", "delete", "dot.100"])?;
    let _ = proc.undo(&changes)?;
    proc.set_sysctl_named(&names[1], "0")?;
    Ok(())
}

/// Once: undoing a profile that turns the forwarding of IPv6 on or off left every interface without its
/// own forwarding, which the kernel turns off along with the host's.
async fn interfaces_that_forward_ipv6_by_themselves_go_on(subject: &mut Subject) -> Outcome {
    let proc = subject.proc();
    let forced = |name: &str| format!("net.ipv6.conf.{name}.force_forwarding");
    if subject.release.series() < (6, 17) {
        assert!(proc.sysctl_named(&forced("lo")).unwrap_err().is_not_found());
        return Ok(());
    }
    let all = "net.ipv6.conf.all.forwarding";
    let before = proc.sysctl_named(all)?;
    let outcome = with_interfaces(["own.way", "common"], || {
        let values = || -> Result<Vec<String>, _> {
            [&forced("own/way"), &forced("common"), all]
                .iter()
                .map(|name| proc.sysctl_named(name))
                .collect()
        };
        for (at_first, then) in [("0", "1"), ("1", "0")] {
            proc.set_sysctl_named(all, at_first)?;
            proc.set_sysctl_named(&forced("own/way"), "1")?;
            let changes = proc.apply(&Profile::new().with_named(all, then))?;
            let along: Vec<_> = changes.iter().flat_map(|change| &change.along).collect();
            let of_own = along.iter().find(|change| change.name == forced("own/way"));
            let of_own = of_own.context("force_forwarding is recorded")?;
            assert_eq!((of_own.before.as_str(), of_own.after.as_str()), ("1", then));
            let _ = proc.undo(&changes)?;
            assert_eq!(values()?, ["1", "0", at_first]);
        }
        Ok(())
    });
    proc.set_sysctl_named(all, &before)?;
    outcome
}

/// Adds dummy interfaces while an act runs.
fn with_interfaces<const N: usize>(names: [&str; N], run: impl FnOnce() -> Outcome) -> Outcome {
    for name in names {
        program("ip", &["link", "add", "name", name, "type", "dummy"])?;
    }
    let outcome = run();
    for name in names {
        program("ip", &["link", "delete", name])?;
    }
    outcome
}

/// Once: undoing a profile turned off the forwarding of an interface that somebody had turned on, and
/// passed over interfaces whose names have characters other than letters and digits.
async fn interfaces_that_others_set_meanwhile_are_left(subject: &mut Subject) -> Outcome {
    let proc = subject.proc();
    proc.set_sysctl_named(IP_FORWARD, "0")?;
    let of = |name: &str| format!("net.ipv4.conf.{name}.forwarding");
    with_interfaces(["first", "a+b~$(c)", "..."], || {
        proc.set_sysctl_named(&of("a+b~$(c)"), "1")?;
        let changes = proc.apply(&Profile::node_proxy())?;
        // Somebody turns forwarding on for one interface and off for another; a third interface
        // comes.
        proc.set_sysctl_named(&of("lo"), "0")?;
        proc.set_sysctl_named(&of("lo"), "1")?;
        proc.set_sysctl_named(&of("first"), "0")?;
        with_interfaces(["late"], || {
            assert_eq!(proc.sysctl_named(&of("late"))?, "1");
            let _ = proc.undo(&changes)?;
            assert_eq!(proc.sysctl_named(IP_FORWARD)?, "0");
            for (name, value) in
                [("first", "0"), ("a+b~$(c)", "1"), ("///", "0"), ("late", "0"), ("default", "0")]
            {
                assert_eq!(proc.sysctl_named(&of(name))?, value, "{name}");
            }
            Ok(())
        })?;

        // Somebody has turned these on, before the profile and after it.
        proc.set_sysctl_named(&of("first"), "0")?;
        let changes = proc.apply(&Profile::new().with_named(of("all"), "1"))?;
        assert_eq!(proc.sysctl_named(&of("first"))?, "1");
        proc.set_sysctl_named(&of("first"), "0")?;
        let _ = proc.undo(&changes)?;
        let values = ["first", "a+b~$(c)"].map(|name| proc.sysctl_named(&of(name)).ok());
        assert_eq!(values, ["0", "1"].map(|value| Some(value.to_owned())));
        Ok(())
    })
}

/// Once: undoing a profile that enables IPv6 took it, and the addresses with it, from interfaces that
/// had IPv6 before.
async fn interfaces_that_have_ipv6_keep_it(subject: &mut Subject) -> Outcome {
    let proc = subject.proc();
    let of = |name: &str| format!("net.ipv6.conf.{name}.disable_ipv6");
    let all = ["all", "lo"].map(|name| proc.sysctl_named(&of(name)));
    let outcome = with_interfaces(["has.it", "hasnot"], || {
        proc.set_sysctl_named(&of("all"), "1")?;
        proc.set_sysctl_named(&of("has/it"), "0")?;
        program("ip", &["address", "add", "2001:db8:77::1/64", "dev", "has.it", "nodad"])?;
        let changes = proc.apply(&Profile::new().with_named(of("all"), "0"))?;
        assert_eq!(proc.sysctl_named(&of("hasnot"))?, "0");
        let undone = proc.undo(&changes)?;
        let names: Vec<_> = undone.iter().map(|change| change.name.as_str()).collect();
        assert!(names.contains(&of("hasnot").as_str()), "{names:?}");
        for (name, value) in [("has/it", "0"), ("hasnot", "1"), ("lo", "1"), ("default", "1")] {
            assert_eq!(proc.sysctl_named(&of(name))?, value, "{name}");
        }
        let addresses = program("ip", &["-6", "address", "show", "dev", "has.it"])?;
        assert!(addresses.contains("2001:db8:77::1"), "{addresses}");

        // If no interface had IPv6 before, all is as before.
        proc.set_sysctl_named(&of("all"), "1")?;
        let changes = proc.apply(&Profile::new().with_named(of("all"), "0"))?;
        let _ = proc.undo(&changes)?;
        for name in ["all", "has/it", "hasnot", "default"] {
            assert_eq!(proc.sysctl_named(&of(name))?, "1", "{name}");
        }
        Ok(())
    });
    let [all, lo] = all;
    proc.set_sysctl_named(&of("all"), &all?)?;
    proc.set_sysctl_named(&of("lo"), &lo?)?;
    outcome
}

/// Once: setting the host's forwarding overwrote each interface's forwarding that the profile had set
/// before. The profile was applied without an error, did not hold, and changed something when it was
/// applied again.
async fn interfaces_of_a_profile_have_what_it_says(subject: &mut Subject) -> Outcome {
    let proc = subject.proc();
    proc.set_sysctl_named(IP_FORWARD, "0")?;
    with_interfaces(["one", "two"], || {
        let [one, two] = ["one", "two"].map(|name| format!("net.ipv4.conf.{name}.forwarding"));
        proc.set_sysctl_named(&two, "1")?;
        let profile = Profile::new()
            .with_named(one.clone(), "0")
            .with_named(two.clone(), "0")
            .with_named(IP_FORWARD, "1");
        let values = || -> Result<Vec<String>, _> {
            [&one, &two, IP_FORWARD].iter().map(|name| proc.sysctl_named(name)).collect()
        };
        let changes = proc.apply(&profile)?;
        assert_eq!(values()?, ["0", "0", "1"]);
        assert!(proc.apply(&profile)?.is_empty());
        let _ = proc.undo(&changes)?;
        assert_eq!(values()?, ["0", "1", "0"]);

        // Both values at once cannot be had.
        let profile = Profile::new()
            .with_named(IP_FORWARD, "1")
            .with_named("net.ipv4.conf.all.forwarding", "0");
        let error = proc.apply(&profile).unwrap_err();
        assert!(error.to_string().contains("the kernel took it and keeps"), "{error}");
        assert_eq!(values()?, ["0", "1", "0"]);
        // Of two values for one sysctl the later one counts.
        let profile = Profile::node_proxy().with_named(IP_FORWARD, "0");
        let changes = proc.apply(&profile)?;
        assert!(proc.apply(&profile)?.is_empty());
        assert_eq!(values()?, ["0", "1", "0"]);
        let _ = proc.undo(&changes)?;
        Ok(())
    })
}

/// Once: the kernel prints 0,1 as 0-1 and 0x10 as 16, and a profile was rolled back, or failed when
/// it was applied again.
async fn a_value_in_another_spelling_is_the_same(subject: &mut Subject) -> Outcome {
    let proc = subject.proc();
    let before = proc.sysctls()?;
    let mut profile = Profile::new()
        .with(&sysctl::CACHE_BYPASS, true)?
        .with_named(sysctl::AM_DROPRATE.name(), "0x10")
        .with_named(sysctl::SYNC_THRESHOLD.name(), "07");
    if subject.release.series() >= sysctl::EST_CPULIST.setting().since {
        profile = profile.with(&sysctl::EST_CPULIST, "0,1".to_owned())?;
    }
    let changes = proc.apply(&profile)?;
    assert!(changes.to_string().contains("am_droprate: 10 -> 16"), "{changes}");
    assert!(proc.apply(&profile)?.is_empty());
    let _ = proc.undo(&changes)?;
    assert_eq!(proc.sysctls()?, before);
    Ok(())
}

/// Once: a kernel that is short of memory turns 1 into 2. A profile could then not be applied again,
/// and undoing it left the defense on.
async fn a_defense_that_the_kernel_moves_is_the_same(subject: &mut Subject) -> Outcome {
    let proc = subject.proc();
    let before = proc.sysctls()?;
    proc.set_sysctl(&sysctl::AMEMTHRESH, i32::MAX)?;
    let mut profile = Profile::new();
    for mode in [sysctl::DROP_ENTRY, sysctl::DROP_PACKET, sysctl::SECURE_TCP] {
        profile = profile.with(&mode, DefenseMode::Automatic)?;
    }
    let changes = proc.apply(&profile)?;
    if subject.fake.is_none() {
        wait_until("the kernel defends itself", || {
            Ok(proc.sysctl(&sysctl::SECURE_TCP)? == DefenseMode::Active)
        })?;
    }
    assert!(proc.apply(&profile)?.is_empty());
    let undone = proc.undo(&changes)?;
    assert_eq!(undone.iter().count(), 3, "{undone}");
    proc.set_sysctl(&sysctl::AMEMTHRESH, 1024)?;
    assert_eq!(proc.sysctls()?, before);
    Ok(())
}

async fn what_others_set_meanwhile_is_left(subject: &mut Subject) -> Outcome {
    let proc = subject.proc();
    let profile =
        Profile::new().with(&sysctl::SYNC_RETRIES, 1)?.with(&sysctl::EXPIRE_NODEST_CONN, true)?;
    let changes = proc.apply(&profile)?;
    proc.set_sysctl(&sysctl::SYNC_RETRIES, 2)?;
    let undone = proc.undo(&changes)?;
    assert_eq!(undone.to_string(), "net.ipv4.vs.expire_nodest_conn: 1 -> 0");
    assert_eq!(proc.sysctl(&sysctl::SYNC_RETRIES)?, 2);
    proc.set_sysctl(&sysctl::SYNC_RETRIES, 0)?;
    Ok(())
}

async fn a_profile_that_fails_sets_back_what_it_changed(subject: &mut Subject) -> Outcome {
    let proc = subject.proc();
    let before = proc.sysctls()?;
    for (name, value) in [("net.ipv4.vs.nosuch", "1"), ("net.ipv4.vs.sync_version", "7")] {
        let profile = Profile::new()
            .with(&sysctl::CACHE_BYPASS, true)?
            .with(&sysctl::AM_DROPRATE, 3)?
            .with_named(name, value);
        let error = proc.apply(&profile).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
        assert_eq!(proc.sysctls()?, before);
    }
    Ok(())
}

async fn the_state_of_the_tables_is_read(subject: &mut Subject) -> Outcome {
    let proc = subject.proc();
    if subject.release.series() < (7, 1) {
        let error = proc.status().unwrap_err();
        assert!(error.is_not_found(), "{error}");
        return Ok(());
    }
    subject.client.add_service(&web()).await?;
    subject.client.add_destination(web().key, &backend(1)).await?;
    let status = proc.status()?;
    assert_eq!((status.services.entries, status.services.load_factor), (1, -3));
    assert!(status.services.buckets >= 16 && status.services.buckets.is_power_of_two());
    let info = subject.client.info().await?;
    assert_eq!(status.connections.buckets, u64::from(info.connection_table_size));
    ensure!(status.other.is_empty(), "there is more in ip_vs_status: {:?}", status.other);
    Ok(())
}
