//! The differences in which our ipvsadm is right and the original is wrong.

use anyhow::Context as _;
use ipvs_netlink::Destination;
use ipvs_netlink::Forwarding;

use super::{Program, name_hosts_and_ports};
use crate::case::{Outcome, cases};
use crate::subject::Subject;

cases![
    listings_are_in_the_order_of_numbers,
    every_mark_survives_being_saved,
    a_broken_text_changes_nothing,
    what_the_original_does_not_save_is_saved,
    what_cannot_be_printed_is_an_error,
    what_is_no_text_and_no_flag_is_told_apart,
    a_daemon_is_started_and_stopped_by_one_text,
];

/// 192.168.0.1 came before 10.0.0.1, and 10.0.0.10 before 10.0.0.9.
async fn listings_are_in_the_order_of_numbers(_: &mut Subject) -> Outcome {
    let ours = Program::ours()?;
    let mut rules = Vec::new();
    for service in ["10.0.0.9", "10.0.0.10", "128.0.0.1", "192.168.0.1"] {
        rules.push(format!("-A -t {service}:80 -s wlc\n"));
        rules.extend(
            ["10.0.1.9", "10.0.1.10", "172.16.0.1", "192.168.0.2"]
                .map(|server| format!("-a -t {service}:80 -r {server}:80 -m -w 1\n")),
        );
    }
    let wanted = rules.concat();
    let mut lines: Vec<_> = wanted.lines().collect();
    // Reverse the lines, but keep services before their servers.
    lines.sort_by_key(|line| std::cmp::Reverse(line.starts_with("-A")));
    lines[4..].reverse();
    let said = ours.run(&format!("printf -- '{}\\n' | ipvsadm -R", lines.join("\\n")))?;
    assert_eq!((said.errors.as_str(), said.status), ("", Some(0)));
    assert_eq!(ours.run("ipvsadm -Sn")?.output, wanted);
    let listed = ours.run("ipvsadm -Ln")?.output;
    let names: Vec<_> = listed.lines().skip(3).map(|line| line[5..].split(' ').next()).collect();
    let saved: Vec<_> = wanted
        .lines()
        .map(|line| line.split(' ').nth(if line.starts_with("-A") { 2 } else { 4 }))
        .collect();
    assert_eq!(names, saved);
    Ok(())
}

/// The original saved a mark of 4294967295 as `-1`, which stopped the restore after the table was
/// cleared.
async fn every_mark_survives_being_saved(_: &mut Subject) -> Outcome {
    let mut ours = Program::ours()?;
    for mark in ["4294967295", "2147483648"] {
        assert_eq!(ours.run(&format!("ipvsadm -A -f {mark} -s rr"))?.status, Some(0));
    }
    let before = ours.left()?;
    let said = ours.run("ipvsadm-save -n > saved && cat saved && ipvsadm-restore < saved")?;
    assert_eq!(said.output, "-A -f 2147483648 -s rr\n-A -f 4294967295 -s rr\n");
    assert_eq!((said.errors.as_str(), said.status), ("", Some(0)));
    assert_eq!(ours.left()?, before);
    assert!(ours.run("ipvsadm -L")?.output.ends_with("FWM  2147483648 rr\nFWM  4294967295 rr\n"));
    Ok(())
}

/// With the original, the rules before the broken line stayed, and often those after it; the status
/// was that of the last line; and `ipvsadm-restore` had cleared the table by then.
async fn a_broken_text_changes_nothing(_: &mut Subject) -> Outcome {
    let mut ours = Program::ours()?;
    for line in ["-A -t 10.0.0.1:80 -s rr", "-a -t 10.0.0.1:80 -r 10.0.1.1 -m -w 3", "--set 9 8 7"]
    {
        assert_eq!(ours.run(&format!("ipvsadm {line}"))?.status, Some(0));
    }
    let before = ours.left()?;
    let hint = "Try `ipvsadm -h' or 'ipvsadm --help' for more information.";
    let unknown = "Scheduler or persistence engine not found";
    for (broken, status, message) in [
        ("-A -t 10.0.0.2:80 -s nosuch", 255, unknown),
        ("-E -t 10.0.0.3:80 -s nosuch", 255, unknown),
        ("-A -t 10.0.0.2:80\\n-A -t 10.0.0.2:80", 255, "Service already exists"),
        ("-A -t 10.0.0.2", 2, "Zero port specified for non-persistent service"),
        ("-A -q", 255, "-q: unknown option"),
        ("-q", 255, hint),
        ("add-service -t 10.0.0.2:80", 255, hint),
        ("-R", 255, hint),
        ("-A -t 10.0.0.2:80 extra", 2, "unexpected argument extra"),
        ("-a -t 10.0.0.9:80 -r 10.0.1.1", 255, "Service not defined"),
        ("-d -t 10.0.0.3:80 -r 10.0.1.9", 255, "No such destination"),
        ("-D -t 10.0.0.9:80", 255, "No such service"),
        ("-L -t 10.0.0.9:80", 1, "No such service"),
        ("--stop-daemon master", 255, "No daemon is running"),
        (
            "-a -t 10.0.0.3:80 -r 224.0.0.1",
            255,
            "Invalid operation.  Possibly wrong module version, address not unicast, ...",
        ),
    ] {
        let line = 4 + broken.matches("\\n").count();
        let text = format!(
            "# a comment\\n-A -t 10.0.0.3:80\\n--set 5 5 5\\n{broken}\\n-A -t 10.0.0.4:80\\n"
        );
        // All rules come back, whether the table was cleared or not.
        for (program, first) in [("ipvsadm -R", ""), ("ipvsadm-restore", "\\n")] {
            let said = ours.run(&format!("printf -- '{first}{text}' | {program}"))?;
            let number = line + first.len() / 2;
            assert_eq!(said.errors, format!("line {number}: {message}\n"), "{broken}");
            assert_eq!(said.status, Some(status), "{broken}");
            assert_eq!(ours.left()?, before, "{program} of {broken}");
        }
    }
    let said =
        ours.run("printf -- '\\n# all\\n  # of it\\n\\n-D -t 10.0.0.1:80\\n' | ipvsadm -R")?;
    assert_eq!((said.errors.as_str(), said.status), ("", Some(0)));
    Ok(())
}

/// The original lost thresholds, timeouts, daemons and flags, and made direct route of the local
/// method.
async fn what_the_original_does_not_save_is_saved(_: &mut Subject) -> Outcome {
    let mut ours = Program::ours()?;
    let lines = [
        "-A -t 10.0.0.1:80 -s sh -b sh-port,flag-3",
        "-a -t 10.0.0.1:80 -r 10.0.1.1:80 --bypass -w 1",
        "-a -t 10.0.0.1:80 -r 10.0.1.2:81 -m -w 1 -x 100 -y 50",
        "-a -t 10.0.0.1:80 -r 10.9.8.1:82 --local -w 1",
        "--set 100 20 30",
        "--start-daemon backup --mcast-interface eth0 --syncid 7 --sync-maxlen 1472 \
         --mcast-group 224.0.0.81 --mcast-port 8848 --mcast-ttl 1",
    ];
    for line in lines {
        let said = ours.run(&format!("ipvsadm {line}"))?;
        assert_eq!((said.errors.as_str(), said.status), ("", Some(0)), "{line}");
    }
    let before = ours.left()?;
    let said = ours.run("ipvsadm -Sn > saved; cat saved")?;
    assert_eq!(said.output, format!("{}\n", lines.join("\n")));
    assert!(ours.run("ipvsadm -L")?.output.contains(" sh (sh-port,flag-3)\n"));
    // The daemon keeps running.
    let said = ours.run("ipvsadm-restore < saved")?;
    assert_eq!((said.errors.as_str(), said.status), ("", Some(0)));
    assert_eq!(ours.left()?, before);
    let said = ours
        .run("ipvsadm -C; ipvsadm --stop-daemon backup; ipvsadm --set 1 2 3; ipvsadm -R < saved")?;
    assert_eq!((said.errors.as_str(), said.status), ("", Some(0)));
    assert_eq!(ours.left()?, before);
    let local = Destination::local([10, 9, 8, 1], 82);
    let service = ours.left()?.rules;
    let rules = service.services().next().context("a service")?;
    assert_eq!(rules.destination(local.key).map(|it| it.forwarding), Some(Forwarding::Local));
    Ok(())
}

/// The original lost output for which the disk had no room, without an error.
async fn what_cannot_be_printed_is_an_error(_: &mut Subject) -> Outcome {
    name_hosts_and_ports()?;
    let ours = Program::ours()?;
    let said = ours.run("ipvsadm -Sn > /dev/null && ipvsadm -Ln > /dev/full")?;
    assert_eq!(said.status, Some(1));
    assert!(said.errors.contains("No space left on device"), "{said:?}");
    let said = ours.run("(trap '' PIPE; sleep 1; ipvsadm -h; echo $? >&2) | true")?;
    assert_eq!(said.errors, "141\n");
    Ok(())
}

/// The original took a text that cannot be read for an empty one, and crashed on a list of commas.
async fn what_is_no_text_and_no_flag_is_told_apart(_: &mut Subject) -> Outcome {
    let ours = Program::ours()?;
    let said = ours.run("ipvsadm -R < /")?;
    assert_eq!((said.errors.as_str(), said.status), ("Is a directory\n", Some(1)));
    let said = ours.run("ipvsadm -A -f 1 -s sh -b ,")?;
    assert_eq!((said.errors.as_str(), said.status), ("", Some(0)));
    assert_eq!(ours.run("ipvsadm -S")?.output, "-A -f 1 -s sh\n");
    Ok(())
}

/// To the end of a daemon whose thread has not run yet the kernel answers nothing, and the original
/// waited for ever.
async fn a_daemon_is_started_and_stopped_by_one_text(_: &mut Subject) -> Outcome {
    let mut ours = Program::ours()?;
    let before = ours.left()?;
    for _ in 0..5 {
        let said =
            ours.run("printf -- '--start-daemon backup\\n--stop-daemon backup\\n' | ipvsadm -R")?;
        assert_eq!((said.errors.as_str(), said.status), ("", Some(0)));
        assert_eq!(ours.left()?, before);
    }
    Ok(())
}
