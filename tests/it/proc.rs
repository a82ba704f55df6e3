//! Connection table, counters and sysctls: the files below `/proc`.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use ipvs_netlink::proc::sysctl::{self, DefenseMode, SyncThreshold, Sysctl, Value};
use ipvs_netlink::proc::{Proc, Profile};

use crate::case::{Outcome, cases};
use crate::rules::{backend, web};
use crate::subject::Subject;

cases![
    every_sysctl_is_known,
    each_sysctl_is_written_and_read,
    a_value_out_of_range_is_refused_before_it_is_written,
    any_sysctl_is_at_hand_by_its_name,
    a_profile_is_applied_and_undone,
    what_others_set_meanwhile_is_left,
    a_profile_that_fails_sets_back_what_it_changed,
    the_state_of_the_tables_is_read,
];

/// A kernel's sysctl that is not listed would be reachable by its name alone.
async fn every_sysctl_is_known(subject: &mut Subject) -> Outcome {
    let series = subject.release.series();
    let known: BTreeSet<_> = sysctl::ALL
        .iter()
        .filter(|setting| series >= setting.since)
        .map(|setting| setting.name.to_owned())
        .collect();
    let there = subject.proc().sysctls()?;
    let names: BTreeSet<_> = there.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(names, known);
    for setting in sysctl::ALL.iter().filter(|setting| series >= setting.since) {
        let value = there.iter().find(|(name, _)| name == setting.name).map(|(_, value)| value);
        if let Some(default) = setting.default {
            assert_eq!(value.map(String::as_str), Some(default), "{}", setting.name);
        }
    }
    Ok(())
}

/// How many sysctls of a kernel were written.
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
    // None was forgotten.
    let all: BTreeSet<_> = sysctl::ALL.iter().map(|setting| setting.name).collect();
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

const IP_FORWARD: &str = "net.ipv4.ip_forward";

async fn a_profile_is_applied_and_undone(subject: &mut Subject) -> Outcome {
    let proc = subject.proc();
    proc.set_sysctl_named(IP_FORWARD, "0")?;
    let before = proc.sysctls()?;
    let profile = Profile::node_proxy().strict_arp();
    let changes = proc.apply(&profile)?;
    // No kernel among ours is before 5.9, so conn_reuse_mode stays.
    assert_eq!(
        changes.to_string(),
        "net.ipv4.vs.conntrack: 0 -> 1\n\
         net.ipv4.vs.expire_nodest_conn: 0 -> 1\n\
         net.ipv4.vs.expire_quiescent_template: 0 -> 1\n\
         net.ipv4.ip_forward: 0 -> 1\n\
         net.ipv4.conf.all.arp_ignore: 0 -> 1\n\
         net.ipv4.conf.all.arp_announce: 0 -> 2"
    );
    for change in changes.iter() {
        assert_eq!(proc.sysctl_named(&change.name)?, change.after);
    }
    assert!(proc.apply(&profile)?.is_empty());

    // It survives a restart of the program.
    let kept = serde_json::to_string(&changes)?;
    let undone = proc.undo(&serde_json::from_str(&kept)?)?;
    assert_eq!(undone.iter().count(), changes.iter().count());
    assert_eq!(proc.sysctls()?, before);
    for change in changes.iter() {
        assert_eq!(proc.sysctl_named(&change.name)?, change.before);
    }
    assert!(proc.undo(&changes)?.is_empty());
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
