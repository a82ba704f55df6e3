//! Encoding and decoding a message, compared with the peers, without a kernel:
//! `cargo bench -p peers --bench codec`.

mod answering;

use std::hint::black_box;
use std::time::Duration;

use anyhow::ensure;
use criterion::Criterion;
use ipvs_netlink::Operation;
use ipvs_netlink::blocking::Client;
use peers::measure::{Rounds, Row, print_ratio, run, time};
use peers::peers::netlink_packet_ipvs::PacketCodec;
use peers::peers::nlrs::NlrsCodec;
use peers::peers::ours::Wire;
use peers::{Codec, recorded, rules};

use answering::Answering;

/// How many messages a run of a row has, and how many listings the client reads them in.
const MESSAGES: usize = LISTINGS * Answering::LISTED;
const LISTINGS: usize = 400;

fn main() -> anyhow::Result<()> {
    let message = &recorded::destination()?[..];
    let (mut wire, mut nlrs, mut packet) =
        (Wire::default(), NlrsCodec::default(), PacketCodec::default());
    let decoded = wire.decode(message)?;
    ensure!(decoded == nlrs.decode(message)?, "nlrs decodes to other values");
    ensure!(decoded == packet.decode(message)?, "netlink-packet-ipvs decodes to other values");

    let mut criterion = Criterion::default().configure_from_args();
    with_criterion(&mut criterion, &mut wire, message);
    with_criterion(&mut criterion, &mut nlrs, message);
    with_criterion(&mut criterion, &mut packet, message);
    criterion.final_summary();
    in_turns(message)
}

fn with_criterion<C: Codec>(criterion: &mut Criterion, codec: &mut C, message: &[u8]) {
    criterion.bench_function(&format!("encode/{}", C::NAME), |bencher| {
        bencher.iter(|| black_box(codec.encode().len()));
    });
    criterion.bench_function(&format!("decode/{}", C::NAME), |bencher| {
        bencher.iter(|| codec.decode(black_box(message)));
    });
}

/// Times the codecs again in turns, which the ratios need, and the client's encoding and decoding.
fn in_turns(message: &[u8]) -> anyhow::Result<()> {
    let mut client = Client::connect_with(Answering::new(message))?;
    let (service, destination) = (rules::service(), rules::destination());
    let operation = Operation::AddDestination(service.key, destination);
    let operations = vec![operation; MESSAGES];
    let mut listing = Client::connect_with(Answering::new(message))?;

    let rows = vec![
        encode::<Wire>(),
        encode::<NlrsCodec>(),
        encode::<PacketCodec>(),
        Row::new("encode client", || {
            time(|| {
                let results = client.batch(operations.iter().copied())?;
                ensure!(results.iter().all(Result::is_ok), "an operation failed");
                Ok(())
            })
        })
        .note("an operation of a batch, with checks and results, and no kernel"),
        decode::<Wire>(message),
        decode::<NlrsCodec>(message),
        decode::<PacketCodec>(message),
        Row::new("decode client", || {
            time(|| {
                for _ in 0..LISTINGS {
                    let listed = listing.destinations(service.key)?.len();
                    ensure!(listed == Answering::LISTED, "{listed} were listed");
                }
                Ok(())
            })
        })
        .note("a destination of a listing, and no kernel"),
    ];
    let times = run("codecs", rows, Rounds::of(21))?;
    println!("\n### Encoding and decoding a destination\n");
    println!("| row | median | lowest to highest | how |");
    println!("|---|---:|---:|---|");
    for row in times.rows() {
        let (lowest, highest) = row.spread();
        let [median, lowest, highest] = [row.median(), lowest, highest].map(each);
        println!("| {} | {median} | {lowest} to {highest} | {} |", row.name, row.note);
    }
    println!();
    for what in ["encode", "decode"] {
        for peer in [NlrsCodec::NAME, PacketCodec::NAME] {
            let row = |name| format!("{what} {name}");
            print_ratio(&format!("{what}/{peer}"), times.ratio(&row(Wire::NAME), &row(peer))?);
        }
    }
    Ok(())
}

/// The time of one of the messages.
#[allow(clippy::cast_precision_loss)]
fn each(time: Duration) -> String {
    format!("{:.1} ns", time.as_secs_f64() * 1e9 / MESSAGES as f64)
}

fn encode<C: Codec + Default + 'static>() -> Row<'static> {
    let mut codec = C::default();
    Row::new(format!("encode {}", C::NAME), move || {
        time(|| {
            for _ in 0..MESSAGES {
                black_box(codec.encode().len());
            }
            Ok(())
        })
    })
}

fn decode<C: Codec + Default + 'static>(message: &[u8]) -> Row<'_> {
    let codec = C::default();
    Row::new(format!("decode {}", C::NAME), move || {
        time(|| {
            for _ in 0..MESSAGES {
                black_box(codec.decode(black_box(message))?);
            }
            Ok(())
        })
    })
}
