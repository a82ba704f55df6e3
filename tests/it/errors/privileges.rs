//! The errors of a process without privileges, or in another namespace.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::ensure;
use ipvs_netlink::blocking::Client;
use ipvs_netlink::{DaemonRole, Errno, Error, TimeoutsUpdate};

use crate::case::{Outcome, cases};
use crate::program::{example, folder};
use crate::rules::{backend, real6, vip6, web};
use crate::subject::Subject;

cases![
    an_ordinary_user_is_refused_everything,
    root_of_a_user_namespace_is_refused_everything,
    a_fresh_network_namespace_has_a_table_of_its_own,
    an_ordinary_users_sync_is_an_error_and_not_the_fake_kernels,
];

/// The environment variable that makes this program a child of a case, which sends requests and
/// prints the answers.
pub(crate) const CHILD: &str = "IPVS_NETLINK_TEST_CHILD";

/// Runs as a child of a case, if this process is one.
pub(crate) fn run_as_child() -> bool {
    match std::env::var(CHILD).as_deref() {
        Ok("everything") => print_everything(),
        Ok("namespace") => print_namespace(),
        Ok("diagnosis") => crate::diagnose::print_diagnosis(),
        Ok("controller") => crate::traffic::control(),
        Ok("namespaces") => crate::namespaces::print_refusals(),
        _ => return false,
    }
    true
}

/// Makes each request once, and prints a line for each answer.
fn print_everything() {
    let mut ipvs = Client::connect().expect("anyone may ask for the family");
    let print = |name: &str, outcome: Result<(), Error>| match outcome {
        Ok(()) => println!("{name}: taken"),
        Err(error) => println!(
            "{name}: errno {} permission {} {error}",
            error.errno().map_or(0, Errno::number),
            error.is_permission_denied()
        ),
    };
    let key = web().key;
    let daemon = ipvs_netlink::SyncDaemon::new(DaemonRole::Backup, "lo".parse().unwrap());
    print("info", ipvs.info().map(drop));
    print("services", ipvs.services().map(drop));
    print("service", ipvs.service(key).map(drop));
    print("destinations", ipvs.destinations(key).map(drop));
    print("timeouts", ipvs.timeouts().map(drop));
    print("daemons", ipvs.daemons().map(drop));
    print("add service", ipvs.add_service(&web()));
    print("update service", ipvs.update_service(&web()));
    print("remove service", ipvs.remove_service(key));
    print("add destination", ipvs.add_destination(key, &backend(1)));
    print("update destination", ipvs.update_destination(key, &backend(1)));
    print("remove destination", ipvs.remove_destination(key, backend(1).key));
    print("zero", ipvs.zero());
    print("zero service", ipvs.zero_service(key));
    print("flush", ipvs.flush());
    let update = TimeoutsUpdate::default().udp(std::time::Duration::from_secs(9));
    print("set timeouts", ipvs.set_timeouts(update));
    print("start daemon", ipvs.start_daemon(&daemon));
    print("stop daemon", ipvs.stop_daemon(DaemonRole::Backup));
}

const REQUESTS: usize = 18;

/// Fills the table of a network namespace without any configuration.
fn print_namespace() {
    let mut ipvs = Client::connect().expect("the family is in every namespace");
    println!("{} services", ipvs.services().unwrap().len());
    ipvs.add_service(&web()).unwrap();
    println!("{}", ipvs.add_destination(web().key, &backend(1)).unwrap_err());
    let service = ipvs_netlink::Service::tcp(vip6(), 80);
    ipvs.add_service(&service).unwrap();
    let v6 = ipvs_netlink::Destination::masquerade(real6(1), 80);
    println!("IPv6: {:?}", ipvs.add_destination(service.key, &v6).map_err(|e| e.to_string()));
    // The remedy that the error names.
    crate::subject::program("ip", &["link", "set", "lo", "up"]).unwrap();
    ipvs.add_destination(web().key, &backend(1)).unwrap();
    println!("taken");
}

/// The output of this program as a child, which another program or the program itself starts.
pub(crate) fn child(command: &mut Command, what: &str) -> anyhow::Result<String> {
    let output = command.env(CHILD, what).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} ended with {}: {said}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

fn assert_all_refused(said: &str) {
    assert_eq!(said.lines().count(), REQUESTS, "{said}");
    for line in said.lines() {
        assert!(line.contains("errno 1 permission true"), "{line}");
        let remedy = "needs CAP_NET_ADMIN in the initial user namespace; run it as root";
        assert!(line.contains(remedy), "{line}");
    }
}

async fn an_ordinary_user_is_refused_everything(subject: &mut Subject) -> Outcome {
    subject.client.add_service(&web()).await?;
    let this = std::env::current_exe()?;
    let said = child(Command::new(this).uid(65534).gid(65534), "everything")?;
    assert_all_refused(&said);
    assert_eq!(subject.client.services().await?.len(), 1);
    Ok(())
}

/// All capabilities in a user namespace are not enough, and the error says so.
async fn root_of_a_user_namespace_is_refused_everything(subject: &mut Subject) -> Outcome {
    subject.client.add_service(&web()).await?;
    let mut unshare = Command::new("unshare");
    let said = child(unshare.arg("-Urn").arg(std::env::current_exe()?), "everything")?;
    assert_all_refused(&said);
    Ok(())
}

/// The kernel refuses every IPv4 destination in a network namespace until it has its first address,
/// which puzzles people.
async fn a_fresh_network_namespace_has_a_table_of_its_own(subject: &mut Subject) -> Outcome {
    subject.client.add_service(&web()).await?;
    let mut unshare = Command::new("unshare");
    let said = child(unshare.arg("-n").arg(std::env::current_exe()?), "namespace")?;
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines[0], "0 services");
    assert!(
        lines[1].contains("without an IPv4 address none is, so bring up its loopback"),
        "{said}"
    );
    assert_eq!(lines[2..], ["IPv6: Ok(())", "taken"]);
    assert_eq!(subject.client.services().await?.len(), 1);
    Ok(())
}

/// Once: the example synced a fake kernel instead, and reported its changes as made.
async fn an_ordinary_users_sync_is_an_error_and_not_the_fake_kernels(
    subject: &mut Subject,
) -> Outcome {
    let folder = folder();
    let file = folder.path().join("rules");
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
    std::fs::write(&file, "-A -t 10.0.0.1:80 -s rr\n")?;
    let sync = || {
        let mut sync = example("sync");
        sync.uid(65534).gid(65534).arg(&file);
        sync
    };
    for arguments in [&[][..], &["--kernel", "real"], &["--dry-run"], &["--watch"]] {
        let (status, said) = crate::program::run(sync().args(arguments));
        assert_eq!(status, Some(2), "{said:#?}");
        // The first line tells what is in the way, the last one is the error.
        let [first, .., last] = &said[..] else { panic!("{said:#?}") };
        assert!(first.starts_with("refused: "), "{said:#?}");
        assert!(last.contains("needs CAP_NET_ADMIN"), "{said:#?}");
        assert!(last.ends_with("nothing was changed"), "{said:#?}");
    }
    assert!(subject.client.services().await?.is_empty());

    let (status, said) = crate::program::run(sync().args(["--kernel", "fake"]));
    assert_eq!(status, Some(0), "{said:#?}");
    assert!(said.iter().all(|line| line.starts_with("fake: ")), "{said:#?}");
    assert!(subject.client.services().await?.is_empty());
    Ok(())
}
