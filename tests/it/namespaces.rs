//! Network namespaces: each has a table of its own, and a client can connect to any of them.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::ensure;
use ipvs_netlink::Options;
use ipvs_netlink::proc::sysctl;

use crate::case::{Outcome, cases, run};
use crate::client::{Client, Flavour};
use crate::errors::child;
use crate::rules::{backend, web};
use crate::subject::{Subject, program};

cases![
    a_network_namespace_has_a_table_of_its_own,
    a_network_namespace_has_sysctls_of_its_own,
    the_network_namespace_of_a_process_is_found,
    the_callers_thread_stays_where_it_is,
    a_missing_network_namespace_is_named,
    a_network_namespace_that_may_not_be_entered_is_a_refusal,
];

const BLUE: &str = "/run/netns/blue";

/// Makes a namespace anew, without any service.
fn add_blue() -> anyhow::Result<()> {
    // The namespace does not exist before the first case.
    let _ = program("ip", &["netns", "delete", "blue"]);
    program("ip", &["netns", "add", "blue"]).map(drop)
}

/// Waits until a condition holds.
fn comes_true(is_so: impl Fn() -> bool) -> bool {
    (0..1000).any(|_| {
        thread::sleep(Duration::from_millis(10));
        is_so()
    })
}

async fn a_network_namespace_has_a_table_of_its_own(subject: &mut Subject) -> Outcome {
    add_blue()?;
    let mut blue = Client::connect(subject.flavour, &Options::new().namespace(BLUE)).await?;
    subject.client.add_service(&web()).await?;
    assert!(blue.services().await?.is_empty());
    blue.add_service(&web()).await?;

    // Without an IPv4 address no destination is unicast there.
    let error = blue.add_destination(web().key, &backend(1)).await.unwrap_err();
    assert!(error.to_string().contains("bring up its loopback"), "{error}");
    program("ip", &["-netns", "blue", "link", "set", "lo", "up"])?;
    blue.add_destination(web().key, &backend(1)).await?;
    assert!(subject.client.destinations(web().key).await?.is_empty());
    Ok(())
}

async fn a_network_namespace_has_sysctls_of_its_own(subject: &mut Subject) -> Outcome {
    add_blue()?;
    let blue = Options::new().namespace(BLUE).proc()?;
    blue.set_sysctl(&sysctl::SYNC_RETRIES, 3)?;
    assert_eq!(blue.sysctl(&sysctl::SYNC_RETRIES)?, 3);
    assert_eq!(subject.proc().sysctl(&sysctl::SYNC_RETRIES)?, 0);
    assert_eq!(blue.sysctls()?.len(), subject.proc().sysctls()?.len());
    // The client keeps the namespace open, so its name may go.
    program("ip", &["netns", "delete", "blue"])?;
    assert_eq!(blue.sysctl(&sysctl::SYNC_RETRIES)?, 3);

    let error = Options::new().namespace(BLUE).proc().unwrap_err();
    assert!(error.is_not_found() && error.to_string().contains(BLUE), "{error}");
    Ok(())
}

async fn the_network_namespace_of_a_process_is_found(subject: &mut Subject) -> Outcome {
    add_blue()?;
    subject.client.add_service(&web()).await?;
    let mut process = Command::new("ip").args(["netns", "exec", "blue", "sleep", "600"]).spawn()?;
    let of = |pid| fs::read_link(format!("/proc/{pid}/ns/net"));
    let here = of(std::process::id())?;
    // The process starts in our namespace, and enters the other one later.
    let entered = comes_true(|| of(process.id()).is_ok_and(|there| there != here));
    let options = Options::new().namespace_of(process.id());
    let connected = Client::connect(subject.flavour, &options).await;
    process.kill()?;
    process.wait()?;
    ensure!(entered, "the process did not enter the namespace");
    let mut blue = connected?;
    assert!(blue.services().await?.is_empty());

    let own = Options::new().namespace_of(std::process::id());
    let mut own = Client::connect(subject.flavour, &own).await?;
    assert_eq!(own.services().await?.len(), 1);
    Ok(())
}

/// A separate thread enters the namespace, and has ended when the client is connected.
async fn the_callers_thread_stays_where_it_is(subject: &mut Subject) -> Outcome {
    add_blue()?;
    let place = || fs::read_link("/proc/thread-self/ns/net");
    let threads = || fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    let before = (place()?, threads());
    let _blue = Client::connect(subject.flavour, &Options::new().namespace(BLUE)).await?;
    assert_eq!(place()?, before.0);
    // A thread that was joined is listed for a moment longer.
    ensure!(comes_true(|| threads() == before.1), "there are {} threads", threads());
    Ok(())
}

async fn a_missing_network_namespace_is_named(subject: &mut Subject) -> Outcome {
    let options = Options::new().namespace("/run/netns/nosuch");
    let error = Client::connect(subject.flavour, &options).await.err().unwrap();
    assert!(error.to_string().contains("/run/netns/nosuch"), "{error}");
    Ok(())
}

/// An ordinary user cannot even open the namespace of another user's process, and cannot enter a
/// namespace that can be opened.
async fn a_network_namespace_that_may_not_be_entered_is_a_refusal(_: &mut Subject) -> Outcome {
    add_blue()?;
    let this = std::env::current_exe()?;
    let said = child(Command::new(this).uid(65534).gid(65534), "namespaces")?;
    assert_eq!(said.lines().count(), 6, "{said}");
    for line in said.lines() {
        assert!(line.contains("permission true"), "{line}");
        assert!(line.contains("network namespace"), "{line}");
    }
    Ok(())
}

/// Has every client connect to namespaces that it may not enter, and prints a line for each error.
pub(crate) fn print_refusals() {
    let options = [Options::new().namespace_of(1), Options::new().namespace(BLUE)];
    let asked = run(async {
        for flavour in [Flavour::Blocking, Flavour::Tokio, Flavour::Smol] {
            for options in &options {
                match Client::connect(flavour, options).await {
                    Ok(_) => println!("{flavour}: connected"),
                    Err(error) => {
                        println!("{flavour}: permission {} {error}", error.is_permission_denied());
                    }
                }
            }
        }
        Ok(())
    });
    asked.unwrap();
}
