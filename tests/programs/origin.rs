//! The kernel that a program uses; every line about the fake one says so.

use ipvs_netlink::blocking::Client;

use crate::program::{example, folder, rules, run};

/// Each program, with its other arguments.
fn programs() -> Vec<(&'static str, Vec<String>)> {
    let file = rules("web.ipvs").display().to_string();
    vec![
        ("quickstart", vec![]),
        ("quickstart_tokio", vec![]),
        ("quickstart_smol", vec![]),
        ("list", vec![]),
        ("list", vec!["--json".to_owned()]),
        ("restore", vec![file.clone()]),
        ("sync", vec![file.clone()]),
        ("sync", vec!["--dry-run".to_owned(), file.clone()]),
        ("sync", vec!["--commands".to_owned(), file]),
    ]
}

#[track_caller]
fn assert_is_from_the_fake(said: &[String]) {
    assert!(!said.is_empty());
    for line in said {
        assert!(line.starts_with("fake: "), "{line:?} of {said:#?}");
    }
}

#[test]
fn every_line_from_the_fake_kernel_says_so() {
    for (name, arguments) in programs() {
        let (status, said) = run(example(name).args(["--kernel", "fake"]).args(&arguments));
        assert_eq!(status, Some(0), "{name} {arguments:?}: {said:#?}");
        assert_is_from_the_fake(&said);
    }
}

/// An error of the fake kernel is marked as well.
#[test]
fn an_error_from_the_fake_kernel_says_so() {
    let folder = folder();
    let file = folder.path().join("rules");
    std::fs::write(&file, "-A -t 10.0.0.1:80 -s nosuch\n").unwrap();
    for name in ["restore", "sync"] {
        let (status, said) = run(example(name).args(["--kernel", "fake"]).arg(&file));
        assert_eq!(status, Some(1), "{said:#?}");
        assert_is_from_the_fake(&said);
        // A line before the error tells what is in the way.
        let refused = "fake: refused: the scheduler nosuch is not installed";
        assert!(said.iter().any(|line| line.starts_with(refused)), "{name}: {said:#?}");
    }
}

/// These programs only read: if this host has IPVS, its table belongs to somebody.
#[test]
fn without_being_asked_the_fake_kernel_is_taken_only_where_there_is_no_ipvs() {
    let file = rules("web.ipvs");
    let of_host = Client::connect().and_then(|mut client| client.info());
    for (name, arguments) in
        [("list", vec![]), ("sync", vec!["--dry-run".to_owned(), file.display().to_string()])]
    {
        let (status, said) = run(example(name).args(arguments));
        match &of_host {
            Ok(_) => {
                assert_eq!(status, Some(0), "{said:#?}");
                assert!(!said.iter().any(|line| line.starts_with("fake")), "{said:#?}");
            }
            Err(error) if error.is_ipvs_not_found() => {
                assert_eq!(status, Some(0), "{said:#?}");
                assert_is_from_the_fake(&said);
                assert!(said.iter().any(|line| line.contains("modprobe ip_vs")), "{said:#?}");
            }
            Err(error) => {
                assert!(matches!(status, Some(1 | 2)), "{said:#?}");
                assert!(said.last().unwrap().contains(&error.to_string()), "{said:#?}");
            }
        }
    }
}

/// A user who asks for this host's kernel does not get the fake one.
#[test]
fn the_real_kernel_that_is_asked_for_and_not_there_is_an_error() {
    if Client::connect().and_then(|mut client| client.info()).is_ok() {
        // The table belongs to somebody, and is only read.
        let (status, said) = run(example("list").args(["--kernel", "real"]));
        assert_eq!(status, Some(0), "{said:#?}");
        assert!(!said.iter().any(|line| line.starts_with("fake")), "{said:#?}");
        return;
    }
    for (name, arguments) in programs() {
        let (status, said) = run(example(name).args(["--kernel", "real"]).args(&arguments));
        assert!(matches!(status, Some(1 | 2)), "{name}: {said:#?}");
        assert!(said.last().unwrap().starts_with("error: "), "{name}: {said:#?}");
        // A line before the error tells what is in the way.
        assert!(said.iter().any(|line| line.starts_with("refused: ")), "{name}: {said:#?}");
    }
}

#[test]
fn a_file_without_rules_needs_a_word() {
    let folder = folder();
    for (name, text) in [
        ("a.ipvs", ""),
        ("b.ipvs", "# later\n"),
        ("c.json", r#"{"services":[]}"#),
        ("d.json", ""),
        ("e.yaml", "\n"),
    ] {
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        let sync = || {
            let mut sync = example("sync");
            sync.args(["--kernel", "fake"]).arg(&file);
            sync
        };
        let (status, said) = run(&mut sync());
        assert_eq!(status, Some(2), "{said:#?}");
        assert!(said[0].contains("--allow-empty"), "{said:#?}");
        assert!(said[0].contains("nothing was changed"), "{said:#?}");
        assert_eq!(run(sync().arg("--allow-empty")).0, Some(0));
    }
}

/// Once: a file with other services alone, of another data centre for example, removed all owned
/// services.
#[test]
fn a_file_without_rules_that_are_owned_needs_a_word_too() {
    let folder = folder();
    let file = folder.path().join("rules");
    std::fs::write(&file, "-A -t 10.9.0.1:80 -s rr\n").unwrap();
    for own in [["--own-network", "10.0.0.0/24"], ["--own-protocol", "udp"], ["--own-marks", "7"]] {
        let sync = || {
            let mut sync = example("sync");
            sync.args(["--kernel", "fake"]).args(own).arg(&file);
            sync
        };
        let (status, said) = run(&mut sync());
        assert_eq!(status, Some(2), "{said:#?}");
        assert!(said[0].contains("none of its rules is owned; --allow-empty"), "{said:#?}");
        assert_eq!(run(sync().arg("--allow-empty")).0, Some(0));
    }
}

/// Once: errors named types of Rust, and an error of YAML had five lines and a second "error:".
#[test]
fn what_is_wrong_with_a_file_is_told_in_one_line() {
    let folder = folder();
    let json = |service: &str, destination: &str| {
        format!(r#"{{"services": [{{"service": {service}, "destinations": [{destination}]}}]}}"#)
    };
    let (service, forwarding) =
        (r#"{"protocol": "tcp", "address": "10.0.0.1", "port": 80}"#, |forwarding| {
            format!(r#"{{"address": "10.0.0.2", "port": 80, "forwarding": {forwarding}}}"#)
        });
    for (text, expected) in [
        ("null".to_owned(), "a ruleset"),
        ("[null]".to_owned(), ""),
        (r#"{"services": [null]}"#.to_owned(), "a service and its destinations"),
        (json("null", ""), "a service"),
        (json("[]", ""), ""),
        (json(service, "null"), "a destination"),
        (json(service, &forwarding("7")), ""),
        (json(service, &forwarding(r#"{"tunnel": null}"#)), ""),
        (json(r#"{"mark": 7, "persistence": true}"#, ""), "a timeout in seconds"),
        (json(service, ""), "-"),
    ] {
        for (extension, program) in
            [("json", "sync"), ("json", "restore"), ("yaml", "sync"), ("yaml", "restore")]
        {
            let file = folder.path().join("rules").with_extension(extension);
            std::fs::write(&file, &text).unwrap();
            let (status, said) = run(example(program).args(["--kernel", "fake"]).arg(&file));
            if expected == "-" {
                assert_eq!(status, Some(0), "{said:#?}");
                continue;
            }
            println!("{said:?}");
            let [line] = &said[..] else { panic!("{said:#?}") };
            let begin = format!("error: {}: ", file.display());
            let Some(what) = line.strip_prefix(&begin) else { panic!("{said:#?}") };
            for inner in ["error:", "struct", "enum", "Entries", "Rules", "<input>"] {
                assert!(!what.contains(inner), "{what}");
            }
            // The YAML parser has its own texts for most of these.
            assert!(extension == "yaml" || what.contains(expected), "{what}");
        }
    }
}

/// Once: "1 changes", "1 services with 1 destinations".
#[test]
fn one_of_a_kind_is_counted_as_one() {
    let folder = folder();
    let file = folder.path().join("rules");
    std::fs::write(&file, "-A -t 10.0.0.1:80 -s rr\n").unwrap();
    let (_, said) = run(example("sync").args(["--kernel", "fake", "--dry-run"]).arg(&file));
    assert!(said.contains(&"fake: 1 change, none made".to_owned()), "{said:#?}");
    let (_, said) = run(example("restore").args(["--kernel", "fake"]).arg(&file));
    assert!(said[0].ends_with("as written: 1 service with 0 destinations"), "{said:#?}");
}

/// Once: with these options the program owned nothing, or other services, and did not say so.
#[test]
fn options_that_can_mean_nothing_are_refused() {
    let file = rules("web.ipvs");
    for (option, value, expected) in [
        ("--own-marks", "200-100", 2),
        ("--own-marks", "0", 2),
        ("--own-network", "10.0.0.0/99", 2),
        ("--own-network", "10.0.0.0/", 2),
        ("--own-network", "2001:db8::/129", 2),
        ("--own-protocol", "300", 2),
        ("--own-protocol", "nonsense", 2),
        ("--max-age", "0s", 2),
        ("--own-marks", "7", 0),
        ("--own-network", "10.0.0.1", 0),
        ("--own-network", "2001:db8::/128", 0),
        ("--own-protocol", "255", 0),
    ] {
        let mut sync = example("sync");
        sync.args(["--kernel", "fake", "--allow-empty", option, value]);
        let (status, said) = run(sync.arg(&file));
        assert_eq!(status, Some(expected), "{option} {value}: {said:#?}");
        assert!(expected == 0 || said[0].contains(option), "{option} {value}: {said:#?}");
    }
}
