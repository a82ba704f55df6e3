//! Generated calls: each option with values at and beyond its limits, addresses in all forms, and texts for
//! `-R`. Both programs print the same bytes, except for clocks and the connection table's size, which
//! change by themselves.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use anyhow::ensure;

use super::calls::{open_connections, stop_clock};
use super::{Pair, Program, Said};
use crate::case::{Outcome, cases};
use crate::subject::Subject;

cases![odd_values_come_to_the_same, odd_texts_are_restored_the_same, one_table_is_printed_the_same];

/// Numbers at and beyond the limits of 8, 16, 31, 32 and 64 bits, and in forms that C reads or
/// refuses.
const NUMBERS: &[&str] = &[
    "0",
    "255",
    "65535",
    "65536",
    "2147483647",
    "2147483648",
    "4294967296",
    "18446744073709551617",
    "-1",
    "+5",
    "010",
    "0x5",
    "' 5'",
    "'5 '",
    "''",
];

/// Addresses and ports in all forms, and texts that only look like them.
const ADDRESSES: &[&str] = &[
    "10.0.0.1",
    "10.0.0.1:http",
    "10.0.0.1:HTTP",
    "10.0.0.1:www",
    "10.0.0.1:domain",
    "10.0.0.1:",
    "'10.0.0.1:80 '",
    "'10.0.0.1: 80'",
    "10.0.0.1:080",
    "10.0.0.1:0x50",
    "10.0.0.1:80:80",
    "10.0.0.1::80",
    "10.0.0.1.:80",
    "10.0.0.1/24:80",
    "'10.0.0.1 x:80'",
    "012.1.1:80",
    "0xa000002:80",
    "0.0.0.0:80",
    "1.2.65536:80",
    "256.1:80",
    "lab",
    "LAB:http",
    "lab.example.:80",
    "nosuch.example:80",
    "'two words:80'",
    "six.example.com:80",
    ":80",
    "80",
    "8x:80",
    "*:80",
    "2001:db8::7",
    "'[2001:db8::7]'",
    "'[2001:db8::7]:http'",
    "'[2001:DB8:0::8]:+80'",
    "'[2001:db8::7]: 80'",
    "'[2001:db8::7]x:80'",
    "'[2001:db8::7]::80'",
    "'[[2001:db8::7]]:80'",
    "'[2001:db8::7:80'",
    "'[ 2001:db8::7]:80'",
    "'[2001:db8::7%eth0]:80'",
    "fe80::1%eth0",
    "'[::ffff:10.0.0.1]:80'",
    "'[::10.0.0.1]:80'",
    "'[::0.0.0.10]:80'",
    "10.0.0.4:plus",
    "10.0.0.4:wide",
    "'[10.0.0.3]:81'",
    "'[lab]:80'",
    "'[]:80'",
    "'['",
    "''",
];

const MASKS: &[&str] = &[
    "255.255.255.0",
    "255.0.255.0",
    "0.0.0.0",
    "24",
    "33",
    "0xffffff00",
    "'255.255.255.0 x'",
    "0377.0377.0.0",
    "lab",
    "nosuch.example",
    "64x",
    "+64",
    "' 64'",
    "128",
    "129",
    "-1",
    "ffff::",
    "/24",
    "''",
];

/// Groups for sync messages; groups that all hosts are in cannot be used.
const GROUPS: &[&str] = &[
    "224.0.0.1",
    "224.0.0.99",
    "239.255.255.255",
    "240.0.0.1",
    "223.255.255.255",
    "224.1",
    "'224.0.0.99 '",
    "0344.0.0.99",
    "lab",
    "ff02::1",
    "FF02::99",
    "ff05::99",
    "ff02::99%eth0",
    "'[ff02::99]'",
    "2001:db8::1",
    "''",
];

/// Options in odd combinations.
const FORMS: &[&str] = &[
    "-L -n=",
    "-Ln=5",
    "-L --numeric=",
    "-L --=x",
    "-L -- -n",
    "-- -L",
    "-L -",
    "'-L '",
    "' -L'",
    "-L -numeric",
    "-L --syncid 3",
    "-Lnn",
    "-hq",
    "-v -q",
    "--version=1",
    "--start-daemon=",
    "--start-daemon --syncid 3",
    "--start-daemon=backup --stop-daemon backup",
    "--start-daemon backup --stop-daemon=backup",
    "-A -t 10.0.0.9:80 -p -",
    "-A -t 10.0.0.9:80 -p -- 5",
    "-A -t 10.0.0.9:80 -p=",
    "-A -t=",
    "-A -t -s",
    "-Apt 10.0.0.9:80",
    "-a -t 10.0.0.1:80 -r 10.0.1.9 -mw",
    "-a -t 10.0.0.1:80 -r 10.0.1.9 -m=3",
    "-a -t 10.0.0.1:80 -r 10.0.1.9 -m3",
    "-a -t 10.0.0.1:80 -r 10.0.1.9 -w -m",
    "-A -q=5",
    "-A é",
    "--set=5 5 5",
    "--set -- 5 6 7",
    "--set 5 --sort 6 7",
    "--set '' '' ''",
    "-Rn",
    "-CL",
    "-A -f 10 -o -b flag-1,,flag-2",
    "-A -f 11 -s sh -b ' sh-port'",
    "-A -f 12 -s SH",
    "-A -f 13 -s ../rr",
    "-A -f 14 -p --pe SIP",
    "--start-daemon backup --mcast-interface 'eth0 '",
    "--start-daemon backup --mcast-interface a/b",
];

async fn odd_values_come_to_the_same(_: &mut Subject) -> Outcome {
    let mut pair = Pair::new()?;
    let mut calls = Vec::new();
    let mut call = |line: &str| calls.push(format!("ipvsadm {line}"));
    call("-A -t 10.0.0.1:80");
    call("-a -t 10.0.0.1:80 -r 10.0.1.1 -m");
    call("-A -t '[2001:db8::1]:80'");
    for number in NUMBERS {
        for option in ["-w", "-x", "-y"] {
            call(&format!("-e -t 10.0.0.1:80 -r 10.0.1.1 -m {option} {number}"));
        }
        call(&format!("-e -t 10.0.0.1:80 -r 10.0.1.1 -i --tun-type gue --tun-port {number}"));
        call(&format!("-E -t 10.0.0.1:80 -p {number}"));
        // From this mark on the original prints negative numbers.
        if *number != "2147483648" {
            call(&format!("-A -f {number} -s rr"));
        }
        let port = number.trim_matches('\'');
        call(&format!("-A -t '10.0.0.2:{port}' -s rr"));
        call(&format!("--set {number} 5 5"));
        call(&format!("--set 900 120 {number}"));
        for option in ["--syncid", "--sync-maxlen", "--mcast-port", "--mcast-ttl"] {
            call(&format!("--start-daemon backup {option} {number}"));
            // Most of these calls have started no daemon.
            call("--stop-daemon backup");
        }
    }
    call("--set 900 120 300");
    call("-Ln");
    for mask in MASKS {
        call(&format!("-E -t 10.0.0.1:80 -p 5 -M {mask}"));
        call(&format!("-E -t '[2001:db8::1]:80' -p 5 -M {mask}"));
        call("-Sn");
    }
    for group in GROUPS {
        call(&format!("--start-daemon backup --mcast-group {group}"));
        call("-L --daemon");
        call("--stop-daemon backup");
    }
    for form in FORMS {
        call(form);
    }
    call("--set 900 120 300");
    for address in ADDRESSES {
        call(&format!("-A -u {address} -s rr"));
        call(&format!("-A -t {address} -s rr -p"));
        call(&format!("-a -t 10.0.0.1:80 -i -r {address}"));
    }
    // Destinations of both families and sync daemons exclude each other.
    call("--start-daemon backup");
    for line in calls {
        pair.call(&line, without_size)?;
    }
    let calls = pair.end()?;
    ensure!(calls >= 450, "{calls} calls are too few");
    Ok(())
}

/// Valid texts, for printf; the differences have the broken ones.
const TEXTS: &[&str] = &[
    "",
    "\\n\\n",
    " \\n\\t\\n",
    "-A -f 1\\r\\n\\r\\n-A -f 2 -s rr\\r\\n",
    "-A -f 1\\r\\r\\n-A -f 2\\r",
    "-A -f 1 \\r -s rr\\n",
    " -A\\t\\t-f 1  \\n \\n\\t-A -f 2 -s  rr\\t",
    "ipvsadm -A -f 1\\nipvsadm\\n  ipvsadm ipvsadm -A -f 2\\n-A -f 3 -s ipvsadm rr ipvsadm\\n",
    "-A -f 1\\n-L -n\\n-A -f 2\\n-S -n\\n-L --timeout\\n-L --daemon\\n-Z\\n",
    "-A -f 1\\n-v\\n-A -f 2\\n",
    "-h\\n-q\\n",
    "-A -f 1\\n-C\\n-A -f 2\\n-D -f 2\\n-A -f 2 -s rr\\n",
    "-A -t lab:http\\n-a -t lab:http -r localhost -m\\n-e -t lab:http -r localhost -m -w 3\\n",
    "-A -f1 -p\\n-a -f1 -r10.0.1.1 -mw5\\n-E -f1 -srr --\\n-d -f1 -r 10.0.1.1",
    "--add-service --fwmark-service=1\\n--list\\n--save\\n--clear\\n",
    "--set 1 2 3\\n--set 0 5 0\\n-L --timeout\\n--set 900 120 300\\n",
];

async fn odd_texts_are_restored_the_same(_: &mut Subject) -> Outcome {
    let mut pair = Pair::new()?;
    let programs = ["ipvsadm -R", "ipvsadm-restore"];
    for (text, program) in TEXTS.iter().flat_map(|text| programs.map(|program| (text, program))) {
        pair.call(&format!("printf -- '{text}' | {program}"), without_size)?;
        pair.call("ipvsadm -Sn", without_size)?;
        pair.call("ipvsadm -C", without_size)?;
    }
    for line in [
        // Texts that arrive word by word, without an end of the last line, with far too much space,
        // and of many lines.
        "(printf -- '-A -t 10.6.'; sleep 1; printf '0.1:80\\n'; sleep 1; printf -- '-A -f 1') | ipvsadm -R",
        "(printf -- '-A'; printf %70000s; echo -f 2) | ipvsadm -R",
        "printf -- '-A -f 4\\000\\n-A -f 5\\0006 -s rr\\000' | ipvsadm -R",
        "(printf -- '-A -f 3 -s rr'; for i in $(seq 1000); do printf ' --sort'; done) | ipvsadm -R",
        "for i in $(seq 1 254); do echo -A -f 9$i; echo -a -f 9$i -r 10.0.1.$i -w $i; done > many; \
         ipvsadm -R < many",
        "ipvsadm -Sn",
        "ipvsadm -Ln",
        "ipvsadm-save > saved; ipvsadm-restore < saved; ipvsadm -S",
    ] {
        pair.call(line, without_size)?;
    }
    pair.end().map(drop)
}

/// In one namespace the kernel's order and all counters are the same as well.
async fn one_table_is_printed_the_same(_: &mut Subject) -> Outcome {
    let mut pair = Pair::new()?;
    let mut text = String::new();
    for n in 1..=12 {
        let line = format!(
            "-A -f {n}\n-A -f 9{n} -6\n-A -f {n} -6\n-A -t 10.0.{n}.1:80\n-A -u 10.0.1.{n}:5{n}\n\
             -A --sctp-service 10.0.1.1:{n}\n-A -t [2001:db8::{n}]:80\n-A -u [2001:db8:{n}::]:80\n\
             -a -f 1 -r 10.0.{n}.1 -m -w {n}\n-a -f 1 -r 10.0.1.{n}:{n} -m\n\
             -a -t [2001:db8::1]:80 -r [2001:db8::{n}]:80 -i\n\
             -a -t [2001:db8::1]:80 -r [2001:db8:{n}::]:80 -i --tun-type gue --tun-port {n}\n"
        );
        text.push_str(&line);
    }
    pair.theirs.run(&format!("printf -- '{}' | ipvsadm -R", text.replace('\n', "\\n")))?;
    carry_much(&pair.theirs)?;
    let _sockets = open_connections(&pair.theirs)?;
    for what in ["", "-t 10.9.8.1:5003", "-f 1", "-t '[2001:db8::1]:80'"] {
        for options in [
            "",
            "--nosort",
            "--stats",
            "--stats --nosort",
            "--stats -X",
            "--thresholds",
            "--persistent-conn",
            "--persistent-conn -X",
            "--tun-info",
        ] {
            for names in ["", "-n"] {
                pair.read(&format!("ipvsadm -L {what} {options} {names}"), without_size)?;
            }
        }
    }
    for line in ["-Lc", "-Lnc", "-Lc --persistent-conn", "-Lnc --persistent-conn", "-Lnc --nosort"]
    {
        pair.read(&format!("ipvsadm {line}"), without_clocks)?;
    }
    for line in ["ipvsadm -S", "ipvsadm -Sn", "ipvsadm-save", "ipvsadm-save -n"] {
        pair.read(line, |said| said)?;
    }
    let listed = pair.theirs.run("ipvsadm -Ln --stats")?.output;
    ensure!(listed.contains("M "), "nothing has come to millions:\n{listed}");
    pair.end().map(drop)
}

/// Sends so many bytes that listings show them in millions.
fn carry_much(program: &Program) -> anyhow::Result<()> {
    let service = |port| SocketAddr::from((Ipv4Addr::new(10, 9, 8, 1), port));
    for line in ["-A -u 10.9.8.1:5003 -s rr", "-a -u 10.9.8.1:5003 -r 10.9.8.1:6003 -m"] {
        let said = program.run(&format!("ipvsadm {line}"))?;
        ensure!(said.status == Some(0), "{line}: {said:?}");
    }
    program.namespace.run(|| {
        let server = UdpSocket::bind(service(6003))?;
        let client = UdpSocket::bind(service(40_004))?;
        let datagram = vec![0; 60_000];
        for _ in 0..17_000 {
            client.send_to(&datagram, service(5003))?;
        }
        drop(server);
        Ok(())
    })
}

/// The output without the size of the connection table, which kernels since Linux 7.1 change by
/// themselves.
fn without_size(said: Said) -> Said {
    let lines = said.output.split_inclusive('\n').map(|line| match line.find(" (size=") {
        Some(end) if line.starts_with("IP Virtual Server version") => &line[..end],
        _ => line,
    });
    Said { output: lines.collect(), ..said }
}

/// The output without clocks, which go on between the two programs.
fn without_clocks(said: Said) -> Said {
    let lines = said.output.split_inclusive('\n').enumerate().map(|(number, line)| {
        let mut line = line.to_owned();
        if number > 1 {
            stop_clock(&mut line);
        }
        line
    });
    Said { output: lines.collect(), ..said }
}
