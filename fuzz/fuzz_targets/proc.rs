//! Any bytes as a file of procfs: each line is an entry or an error with the line's number, and
//! none is lost.
#![no_main]

use std::io::Cursor;

use ipvs_netlink::proc::{Connections, StatsPerCpu, Status};
use ipvs_netlink::{DestinationKey, ServiceKey};
use libfuzzer_sys::fuzz_target;

/// The headings of the files: chance alone would hardly ever write one.
const HEADINGS: [&str; 3] = [
    "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData\n",
    "CPU    Conns  Packets  Packets            Bytes            Bytes\n",
    "Conns:\t2\n",
];

fuzz_target!(|input: &[u8]| {
    let Some((&selector, bytes)) = input.split_first() else { return };
    let kind = usize::from(selector % 3);
    let heading = if selector & 0x80 == 0 { HEADINGS[kind] } else { "" };
    let bytes = &[heading.as_bytes(), bytes].concat()[..];
    match kind {
        0 => connections(bytes),
        1 => {
            if let Ok(text) = std::str::from_utf8(bytes)
                && let Ok(stats) = text.parse::<StatsPerCpu>()
            {
                assert!(stats.cpus.len() < text.lines().count());
            }
        }
        _ => {
            if let Ok(text) = std::str::from_utf8(bytes)
                && let Ok(status) = text.parse::<Status>()
            {
                assert!(status.other.len() < text.lines().count());
            }
        }
    }
});

fn connections(bytes: &[u8]) {
    let table = || Connections::new(Cursor::new(bytes.to_vec()));
    let lines = bytes.split_inclusive(|byte| *byte == b'\n').count();
    let (mut read, mut broken, mut last) = (Vec::new(), 0, 0);
    for entry in table() {
        match entry {
            Ok(entry) => read.push(entry),
            Err(error) => {
                let number = error.line_number().expect("the file itself is sound");
                assert!(number > last);
                last = number;
                broken += 1;
            }
        }
    }
    // Every line but the heading is an entry or an error, unless the heading is broken.
    if last != 1 {
        assert_eq!(read.len() + broken + 1, lines);
    }
    let Some(first) = read.first() else { return };
    // The filters leave all entries of the service and the destination.
    let service = ServiceKey::address(
        first.protocol,
        first.virtual_address.ip(),
        first.virtual_address.port(),
    );
    let destination: DestinationKey = first.destination;
    let filtered = table().of_service(service).of_destination(destination);
    let wanted = read
        .iter()
        .filter(|entry| entry.is_of_service(service) && entry.is_of_destination(destination));
    assert!(filtered.flatten().eq(wanted.cloned()));
}
