//! The real `ipvsadm` prints the rules that we wrote, and we read the rules that it wrote.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use ipvs_netlink::{Destination, Family, Operation, Ruleset, Scheduler, Service, ServiceFlags};

use crate::case::{Outcome, cases};
use crate::random::{Speaker, rulesets, samples};
use crate::rules::{backend, real, rich, vip, web, write};
use crate::subject::{Subject, program};

cases![
    ipvsadm_prints_what_we_wrote,
    we_read_what_ipvsadm_wrote,
    ipvsadm_saves_any_rules_that_we_wrote,
    we_read_any_rules_that_ipvsadm_restored,
    we_read_any_rules_that_we_wrote,
    what_ipvsadm_loses_is_kept,
];

/// The number of random tables for each direction.
const TABLES: usize = 40;

/// The lines, sorted: the kernel promises no order.
fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<_> = text.lines().map(str::trim_end).collect();
    lines.sort_unstable();
    lines
}

/// Has the real program restore a text.
pub(crate) fn restore(text: &str) -> Outcome {
    let mut ipvsadm = Command::new("ipvsadm").arg("-R").stdin(Stdio::piped()).spawn()?;
    ipvsadm.stdin.take().context("a pipe")?.write_all(text.as_bytes())?;
    ensure!(ipvsadm.wait()?.success(), "ipvsadm refused:\n{text}");
    Ok(())
}

/// Writes rules by batches.
async fn write_all(subject: &mut Subject, rules: &Ruleset) -> Outcome {
    let mut operations = Vec::new();
    for rules in rules.services() {
        let service = *rules.service();
        operations.push(Operation::AddService(service));
        operations.extend(rules.destinations().map(|d| Operation::AddDestination(service.key, *d)));
    }
    for result in subject.client.batch(operations).await? {
        result?;
    }
    Ok(())
}

/// The same rules without the settings that `ipvsadm -S` leaves out.
fn without_thresholds(rules: &Ruleset) -> anyhow::Result<Ruleset> {
    let mut saved = Ruleset::new();
    for rules in rules.services() {
        saved.insert_service(*rules.service())?;
        for destination in rules.destinations() {
            saved.insert_destination(rules.key(), destination.thresholds(0, 0))?;
        }
    }
    Ok(saved)
}

async fn ipvsadm_prints_what_we_wrote(subject: &mut Subject) -> Outcome {
    let rules = rich();
    write(subject, &rules).await?;
    let saved = program("ipvsadm", &["-S", "-n"])?;
    assert_eq!(sorted(&saved), sorted(&rules.to_string()));
    assert_eq!(saved.parse::<Ruleset>()?, rules);
    Ok(())
}

async fn we_read_what_ipvsadm_wrote(subject: &mut Subject) -> Outcome {
    let rules = rich();
    restore(&rules.to_string())?;
    assert_eq!(subject.client.ruleset().await?, rules);
    Ok(())
}

async fn ipvsadm_saves_any_rules_that_we_wrote(subject: &mut Subject) -> Outcome {
    for rules in samples(rulesets(Speaker::Ipvsadm, subject.schedulers()), TABLES) {
        subject.client.flush().await?;
        write_all(subject, &rules).await.with_context(|| rules.to_string())?;
        let saved = program("ipvsadm", &["-S", "-n"])?;
        let wanted = without_thresholds(&rules)?;
        assert_eq!(sorted(&saved), sorted(&wanted.to_string()));
        assert_eq!(saved.parse::<Ruleset>()?, wanted);
    }
    Ok(())
}

async fn we_read_any_rules_that_ipvsadm_restored(subject: &mut Subject) -> Outcome {
    for rules in samples(rulesets(Speaker::Ipvsadm, subject.schedulers()), TABLES) {
        subject.client.flush().await?;
        restore(&rules.to_string())?;
        assert_eq!(subject.client.ruleset().await?, rules);
    }
    Ok(())
}

/// All values that a kernel holds, without ipvsadm.
async fn we_read_any_rules_that_we_wrote(subject: &mut Subject) -> Outcome {
    for rules in samples(rulesets(Speaker::Crate, subject.schedulers()), TABLES) {
        subject.client.flush().await?;
        write_all(subject, &rules).await.with_context(|| rules.to_string())?;
        assert_eq!(subject.client.ruleset().await?, rules);
    }
    Ok(())
}

/// `ipvsadm` cannot restore a saved mark of 4294967295, and loses all rules; it does not save
/// thresholds, the local method and the third flag of sh and mh; and a comment ends its restore
/// half-way.
async fn what_ipvsadm_loses_is_kept(subject: &mut Subject) -> Outcome {
    let mark = Service::mark(u32::MAX, Family::V4).unwrap();
    let mut rules = Ruleset::new();
    rules.insert_service(mark)?;
    rules
        .insert_service(web().scheduler(Scheduler::SOURCE_HASH).flags(ServiceFlags::SCHEDULER_3))?;
    rules.insert_destination(web().key, backend(1).thresholds(100, 50))?;
    rules.insert_destination(web().key, Destination::local(vip(), 81))?;
    rules.insert_destination(mark.key, Destination::bypass(real(2), 80))?;
    write_all(subject, &rules).await?;

    let theirs = program("ipvsadm", &["-S", "-n"])?;
    assert!(theirs.contains("-A -f -1 "), "{theirs}");
    assert!(theirs.lines().any(|line| line.trim_end().ends_with("-s sh -b")), "{theirs}");
    assert!(theirs.parse::<Ruleset>().is_err());

    let ours = subject.client.ruleset().await?.to_string();
    let commented = format!("# the table\n\n{ours}# the end\n");
    subject.client.flush().await?;
    write_all(subject, &commented.parse()?).await?;
    assert_eq!(subject.client.ruleset().await?, rules);
    Ok(())
}
