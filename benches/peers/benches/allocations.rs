//! The number of allocations that encoding and decoding a message take:
//! `cargo bench -p peers --bench allocations`.

use allocation_counter::{AllocationInfo, measure};
use anyhow::ensure;
use peers::peers::netlink_packet_ipvs::PacketCodec;
use peers::peers::nlrs::NlrsCodec;
use peers::peers::ours::Wire;
use peers::{Codec, recorded};

fn main() -> anyhow::Result<()> {
    let message = recorded::destination()?;
    println!("\n### Allocations of a message\n");
    println!("| library | to encode | to decode |");
    println!("|---|---:|---:|");
    let (encode, decode) = count(&mut Wire::default(), &message);
    count(&mut NlrsCodec::default(), &message);
    count(&mut PacketCodec::default(), &message);
    ensure!(encode.count_total == 0, "encoding allocates");
    ensure!(decode.count_total <= 1, "decoding allocates more than once");
    Ok(())
}

fn count<C: Codec>(codec: &mut C, message: &[u8]) -> (AllocationInfo, AllocationInfo) {
    // The first message allocates the buffers that later ones use again.
    codec.encode();
    let encode = measure(|| {
        codec.encode();
    });
    let decode = measure(|| {
        let decoded = codec.decode(message);
        assert!(decoded.is_ok(), "{decoded:?}");
    });
    let shown = |info: &AllocationInfo| format!("{}, {} bytes", info.count_total, info.bytes_total);
    println!("| {} | {} | {} |", C::NAME, shown(&encode), shown(&decode));
    (encode, decode)
}
