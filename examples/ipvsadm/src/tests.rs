//! The whole program on the fake kernel. What the original says to the same calls is held against it in
//! `tests/it/replacement` of the crate, on real kernels.

use ipvs_netlink::fake::{Fault, Interface, Kernel};
use ipvs_netlink::{
    DestinationKey, Protocol, Rates, Ruleset, Service, ServiceKey, Stats, SyncDaemon, Timeouts,
};

use super::*;

struct Host(Kernel);

impl Host {
    fn new() -> Self {
        let kernel = Kernel::new();
        kernel.configure(|host| host.interfaces.push(Interface::new("eth0")));
        Self(kernel)
    }

    /// What the program prints, on both streams, and its status.
    fn call(&self, line: &str, input: &str) -> (String, String, u8) {
        self.run(&words(line), input)
    }

    fn run(&self, words: &[OsString], input: &str) -> (String, String, u8) {
        let program = words[0].to_string_lossy().into_owned();
        let connect = || Ok(self.0.connect().unwrap());
        let mut out = Vec::new();
        let done = main_of(&program, &words[1..], connect, input.as_bytes(), &mut out);
        let (message, status) =
            done.map_or_else(|it| (it.message, it.status), |()| Default::default());
        (String::from_utf8(out).unwrap(), message, status)
    }

    /// The same of a call that must go well.
    fn good(&self, line: &str, input: &str) -> String {
        let (output, message, status) = self.call(line, input);
        assert_eq!((message.as_str(), status), ("", 0), "{line}");
        output
    }

    /// The sends and receives of a call.
    fn steps(&self, line: &str) -> u64 {
        self.call(line, "");
        self.0.steps()
    }

    fn state(&self) -> (Ruleset, Timeouts, Vec<SyncDaemon>) {
        let mut ipvs = Client::connect_with(self.0.observer()).unwrap();
        (ipvs.ruleset().unwrap(), ipvs.timeouts().unwrap(), ipvs.daemons().unwrap())
    }
}

const RULES: &str = "\
-A -t 10.0.0.9:80 -s sh -b sh-port,flag-3
-a -t 10.0.0.9:80 -r 10.0.1.2:81 -m -w 1 -x 100 -y 50
-a -t 10.0.0.9:80 -r 10.0.1.10:80 -g -w 1
-a -t 10.0.0.9:80 -r 10.0.1.11:80 --bypass -w 1
-A -t 10.0.0.10:80 -s wlc -p 360 -M 255.255.255.0
-A -u 10.0.0.1:53 -s rr -o
-A --sctp-service 192.168.0.1:5000 -s rr
-A -t [2001:db8::1]:80 -s rr
-a -t [2001:db8::1]:80 -r [2001:db8:1::1]:80 -i -w 2 --tun-type gue --tun-port 5555 --tun-remcsum
-A -f 7 -s rr
-A -f 7 -6 -s rr
-A -f 4294967295 -s rr
--set 100 20 30
--start-daemon backup --mcast-interface eth0 --syncid 7 --sync-maxlen 1472 --mcast-group 224.0.0.81 --mcast-port 8848 --mcast-ttl 1
";

#[test]
fn what_is_saved_is_restored() {
    let host = Host::new();
    host.good("ipvsadm -R", RULES);
    let before = host.state();
    assert_eq!(host.good("ipvsadm-save -n", ""), RULES);
    // The daemon that runs goes on.
    host.good("ipvsadm-restore", RULES);
    assert_eq!(host.state(), before);
}

/// What came before the broken line stayed, or all was lost.
#[test]
fn a_broken_text_changes_nothing() {
    for broken in [
        "-A -t 10.9.0.1:80 -s nosuch",
        "-A -t 10.0.0.2",
        "-q",
        "-R",
        "-D -t 10.9.0.9:80",
        "-a -t 10.0.0.10:80 -r 224.0.0.1",
        "-L -t 10.9.0.9:80",
        "--start-daemon backup --mcast-interface eth0 --syncid 8",
    ] {
        let host = Host::new();
        host.good("ipvsadm -R", RULES);
        let before = host.state();
        let text =
            format!("# others\n-A -t 10.8.0.1:80\n--set 1 1 1\n{broken}\n-A -t 10.8.0.2:80\n");
        for program in ["ipvsadm -R", "ipvsadm-restore"] {
            let (_, message, status) = host.call(program, &text);
            assert!(message.starts_with("line 4: ") && status > 0, "{broken}: {message}");
            assert_eq!(host.state(), before, "{program} of {broken}");
        }
    }
}

/// Once: the start was left out, since the daemon had run before the text.
#[test]
fn a_daemon_that_a_text_stops_and_starts_runs_again() {
    let host = Host::new();
    let start = "--start-daemon master --mcast-interface eth0 --syncid 1";
    host.good(&format!("ipvsadm {start}"), "");
    let before = host.state();
    host.good("ipvsadm -R", &format!("--stop-daemon master\n{start}\n"));
    assert_eq!((host.state(), before.2.len()), (before, 1));
}

/// Once: the rules came back before the daemon was stopped, and the kernel refused them.
#[test]
fn a_daemon_that_a_broken_text_started_is_stopped_before_the_rules_come_back() {
    let host = Host::new();
    let destination = "-t 10.0.0.1:80 -r [2001:db8::1]:80";
    host.good("ipvsadm -R", &format!("-A -t 10.0.0.1:80\n-a {destination} -i\n"));
    let before = host.state();
    let start = "--start-daemon master --mcast-interface eth0";
    let text = format!("-d {destination}\n{start}\n-A -t 10.0.0.2:80 -s nosuch\n");
    let (_, message, status) = host.call("ipvsadm -R", &text);
    assert!(message.starts_with("line 3: ") && !message.contains("undone"), "{message}");
    assert!(status > 0);
    assert_eq!(host.state(), before);
}

#[test]
fn the_programs_name_is_passed_over_in_a_text() {
    let host = Host::new();
    host.good("ipvsadm -R", "ipvsadm ipvsadm -A -f 1\n  ipvsadm\n-A -f 2 -s ipvsadm rr\n");
    assert_eq!(host.good("ipvsadm -Sn", ""), "-A -f 1 -s wlc\n-A -f 2 -s rr\n");
}

#[test]
fn a_word_of_a_text_ends_at_a_nul() {
    let host = Host::new();
    host.good("ipvsadm -R", "-A -f 1\0\n-A -f 2\09 -s rr\0\n");
    assert_eq!(host.good("ipvsadm -Sn", ""), "-A -f 1 -s wlc\n-A -f 2 -s rr\n");
}

#[test]
fn a_text_is_written_in_few_sends() {
    let host = Host::new();
    let lines = (0..10_000).map(|n| format!("-a -f 1 -r 10.1.{}.{}:80 -m\n", n / 250, n % 250 + 1));
    let text: String = std::iter::once("-A -f 1\n".to_owned()).chain(lines).collect();
    let before = host.0.steps();
    host.good("ipvsadm -R", &text);
    assert_eq!(host.state().0.destination_count(), 10_000);
    assert!(host.0.steps() - before < 1000, "{} steps", host.0.steps() - before);
}

/// Numbers that the original says by words of its own, whatever it asked the kernel for.
#[test]
fn error_numbers_are_told_in_the_originals_words() {
    let invalid = "Invalid operation.  Possibly wrong module version, address not unicast, ...";
    for (number, words) in [
        (1, "Permission denied (you must be root)"),
        (12, "Memory allocation problem"),
        (16, "Device or resource busy"),
        (22, invalid),
        (90, "Module is wrong version"),
        (95, "Operation not supported with IPv6"),
        (97, "Operation not supported with specified address family"),
    ] {
        for call in [
            "-C",
            "-A -t 10.0.0.1:80",
            "-D -t 10.0.0.1:80",
            "-Z",
            "--set 1 2 3",
            "--start-daemon backup",
            "--stop-daemon backup",
        ] {
            let call = format!("ipvsadm {call}");
            let steps = Host::new().steps(&call);
            let host = Host::new();
            // The last two are the question and its answer.
            host.0.inject(steps - 1, Fault::Refuse(number));
            let (_, message, ended) = host.call(&call, "");
            assert_eq!((message.as_str(), ended), (words, 255), "{call}");
        }
    }
}

/// `-M` takes what an address is given by, and numbers as C reads them.
#[test]
fn masks_are_read_as_the_original_reads_them() {
    for (mark, mask, saved) in [
        ("7", "localhost", "-M 127.0.0.1"),
        ("7", "255.255", "-M 255.0.0.255"),
        ("7 -6", "+64", "-M 64"),
        ("7 -6", "' 64'", "-M 64"),
        ("7 -6", "64x", "-M 64"),
    ] {
        let host = Host::new();
        host.good(&format!("ipvsadm -A -f {mark} -p 5 -M {mask}"), "");
        let rules = host.good("ipvsadm -Sn", "");
        assert_eq!(rules, format!("-A -f {mark} -s wlc -p 5 {saved}\n"), "{mask}");
    }
}

/// What the original answered on Linux 6.12, call by call.
const WRONG: &str = include_str!("tests/wrong.txt");

#[test]
fn wrong_options_are_told_in_the_originals_words() {
    let host = Host::new();
    let mut calls = 0;
    for line in WRONG.lines().filter(|line| !line.starts_with('#')) {
        let [status, call, message] = line.splitn(3, '\t').collect::<Vec<_>>()[..] else {
            panic!("{line}");
        };
        let words = words(call);
        let (output, said, ended) = host.run(&words, "");
        let message = message.replace("\\n", "\n");
        assert_eq!(
            (output.as_str(), said, ended.to_string().as_str()),
            ("", message, status),
            "{call}"
        );
        calls += 1;
    }
    assert!(calls > 240, "{calls} calls");
}

/// Which options the original took with which command on Linux 6.12.
const TAKEN: &str = include_str!("tests/taken.txt");

#[test]
fn a_command_takes_the_options_that_the_original_takes() {
    let mut lines = TAKEN.lines().filter(|line| !line.starts_with('#'));
    let options: Vec<&str> = lines.next().unwrap().split(", ").collect();
    for line in lines {
        let (command, taken) = line.split_once(" : ").unwrap();
        let taken: Vec<&str> = taken.split(", ").collect();
        for option in &options {
            let (_, message, _) = Host::new().call(&format!("ipvsadm {command} {option}"), "");
            let is_taken = !message.starts_with("Illegal '");
            assert_eq!(is_taken, taken.contains(option), "{command} {option}: {message}");
        }
    }
}

/// What the original printed of these counters, which a library between it and the C library gave it.
#[test]
fn counters_are_shortened_as_the_original_shortens_them() {
    for (bytes, printed) in [
        (99_999_999, "99999999 33333333"),
        (100_000_000, " 100000K 33333333"),
        (999_999_999, " 999999K  333333K"),
        (1_000_000_000, "   1000M  333333K"),
        (99_999_999_999, "  99999M   33333M"),
        (100_000_000_000, "    100G   33333M"),
        (99_999_999_999_999, "  99999G   33333G"),
        (100_000_000_000_000, "    100T   33333G"),
        (9_999_999_999_999_999_999, "9999999T 3333333T"),
    ] {
        let counters = Stats::default().incoming_bytes(bytes).outgoing_bytes(bytes / 3);
        let rates = Rates::default().incoming_bytes(bytes);
        let host = Host::new();
        host.good("ipvsadm -R", "-A -t 10.0.0.1:80\n-a -t 10.0.0.1:80 -r 10.0.1.1");
        let service = ServiceKey::tcp([10, 0, 0, 1], 80);
        let server = DestinationKey::new([10, 0, 1, 1], 80);
        let stats = counters.rates(rates);
        assert!(host.0.set_service_stats(service, stats));
        assert!(host.0.set_destination_stats(service, server, stats));
        let service = "TCP  10.0.0.1:80                 ";
        let server = "  -> 10.0.1.1:80                 ";
        let lines = |call| {
            let printed = host.good(call, "");
            let lines: Vec<_> = printed.lines().skip(3).map(ToOwned::to_owned).collect();
            lines
        };
        let zeros = "        0        0        0";
        let shortened = format!("{zeros} {printed}");
        assert_eq!(
            lines("ipvsadm -Ln --stats"),
            [format!("{service}{shortened}"), format!("{server}{shortened}")]
        );
        let incoming = &printed[..8];
        let full = format!("{bytes:>8}");
        assert_eq!(
            lines("ipvsadm -Ln --rate"),
            [
                format!("{service}{zeros} {incoming}        0"),
                format!("{server}{zeros} {full}        0")
            ]
        );
        let exact = format!("{zeros} {full} {:>8}", bytes / 3);
        assert_eq!(
            lines("ipvsadm -Ln --stats -X"),
            [format!("{service}{exact}"), format!("{server}{exact}")]
        );
    }
}

/// A service of another protocol, which others have made, was saved as one of TCP.
#[test]
fn other_protocols_are_not_taken_for_tcp() {
    let host = Host::new();
    let key = ServiceKey::address(Protocol::from_number(50), [10, 0, 0, 1], 80);
    host.0.connect().unwrap().add_service(&Service::new(key)).unwrap();
    assert_eq!(host.good("ipvsadm -Sn", ""), "-A --xxx-service 10.0.0.1:80 -s wlc\n");
    assert!(host.good("ipvsadm -Ln", "").ends_with("\n?    10.0.0.1:80 wlc\n"));
}

/// The words of a line whose quotes are around whole words.
fn words(line: &str) -> Vec<OsString> {
    let mut words = Vec::new();
    for (index, part) in line.split('\'').enumerate() {
        if index % 2 == 1 {
            words.push(part.into());
        } else {
            words.extend(part.split_whitespace().map(OsString::from));
        }
    }
    words
}

/// The kernel is asked for the service before the thresholds; the thresholds are looked at here.
#[test]
fn errors_come_in_the_kernels_order() {
    let host = Host::new();
    let line = "ipvsadm -a -t 10.0.0.1:80 -r 10.0.1.1 -y 9";
    assert_eq!(host.call(line, "").1, "Service not defined");
    host.good("ipvsadm -A -t 10.0.0.1:80", "");
    assert_eq!(host.call(line, "").1, "Numerical result out of range");
}
