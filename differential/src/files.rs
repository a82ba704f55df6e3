//! The files of both kernels below `/proc`: the table, counters and headings after a sequence of
//! requests, and the values that sysctls keep of the texts written to them.

use std::io;

use anyhow::Result;
use ipvs_netlink::fake::Kernel;
use ipvs_netlink::proc::Proc;

use crate::side::Answer;

/// Files in which nothing depends on time while the kernel has neither connections nor packets.
const FILES: [&str; 5] = [
    "net/ip_vs",
    "net/ip_vs_conn",
    "net/ip_vs_conn_sync",
    "net/ip_vs_stats",
    "net/ip_vs_stats_percpu",
];

/// The texts of the files: the real kernel's, then the fake one's.
pub(crate) fn texts(fake: &Kernel) -> [Vec<Answer>; 2] {
    let real = |path: &str| std::fs::read_to_string(format!("/proc/{path}"));
    [
        FILES.iter().map(|path| answer(path, real(path))).collect(),
        FILES.iter().map(|path| answer(path, fake.proc_file(path))).collect(),
    ]
}

fn answer(path: &str, text: io::Result<String>) -> Answer {
    match text {
        Ok(text) => Answer::Text(format!("{path}\n{}", in_order(&text))),
        Err(error) => Answer::Failed(error.raw_os_error()),
    }
}

/// The text of a file with its services sorted, each with its destinations: the kernel lists
/// services in no particular order.
fn in_order(text: &str) -> String {
    let mut services: Vec<String> = Vec::new();
    let mut heading = String::new();
    for (number, line) in text.lines().enumerate() {
        match services.last_mut() {
            // The heading of destinations is the third line.
            _ if number < 3 => heading.extend([line, "\n"]),
            Some(service) if line.starts_with("  ->") => service.extend(["\n", line]),
            _ => services.push(line.to_owned()),
        }
    }
    // No other file has services.
    if text.starts_with("IP Virtual Server") {
        services.sort();
    }
    heading + &services.join("\n")
}

/// The texts that are written to each sysctl.
const TEXTS: [&str; 22] = [
    "",
    "0",
    "1",
    "2",
    "3",
    "4",
    "5",
    "8",
    "9",
    "-1",
    "-8",
    "-9",
    "20",
    "-20",
    "0x10",
    "2147483647",
    "2147483648",
    "-2147483648",
    "7 9",
    "9 7",
    "9 0",
    "x",
];

/// Sysctls whose values depend on the machine: on its memory and on its number of processors.
const OF_THE_MACHINE: [&str; 2] = ["net.ipv4.vs.sync_qlen_max", "net.ipv4.vs.est_cpulist"];

/// A sysctl and a text: the kernel reports the write as a success, and keeps the old value.
const NOT_TAKEN: (&str, &str) = ("net.ipv4.vs.conn_max", "-2147483648");

/// Sysctls whose value 2 the kernel turns into 1 by itself, sooner or later.
const TURNED_BACK: [&str; 3] =
    ["net.ipv4.vs.drop_entry", "net.ipv4.vs.drop_packet", "net.ipv4.vs.secure_tcp"];

/// How the sysctls of the two kernels differ: in their names, in their first values, or in the
/// value that each keeps of a text. Every sysctl gets its old value back.
pub(crate) fn sysctls(fake: &Kernel) -> Result<Option<String>> {
    let (real, fake) = (Proc::new(), fake.proc());
    let first = [&real, &fake].map(|proc| {
        let mut all = proc.sysctls().unwrap_or_default();
        all.retain(|(name, _)| !OF_THE_MACHINE.contains(&name.as_str()));
        all
    });
    if first[0] != first[1] {
        return Ok(Some(format!("at first: {first:#?}")));
    }
    let mut story = Vec::new();
    for (name, before) in &first[0] {
        let is_turned_back = TURNED_BACK.contains(&name.as_str());
        let is_left_out =
            |text: &str| is_turned_back && text == "2" || (name.as_str(), text) == NOT_TAKEN;
        for text in TEXTS.into_iter().filter(|text| !is_left_out(text)) {
            let [by_real, by_fake] = [&real, &fake].map(|proc| {
                let written = proc.set_sysctl_named(name, text).map_err(|error| error.to_string());
                (written, proc.sysctl_named(name).map_err(|error| error.to_string()))
            });
            if by_real != by_fake {
                let told =
                    format!("{name}, {text:?} written:\n  real {by_real:?}\n  fake {by_fake:?}");
                story.push(told);
            }
        }
        for proc in [&real, &fake] {
            proc.set_sysctl_named(name, before)?;
        }
    }
    Ok(Some(story.join("\n")).filter(|story| !story.is_empty()))
}
