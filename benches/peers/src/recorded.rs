//! A destination of a listing, as Linux 6.12 sent it on a machine of this byte order.

use anyhow::{Context, Result};

const RECORDED: &str = if cfg!(target_endian = "big") {
    include_str!("../../../tests/golden/linux-6.12-s390x.txt")
} else {
    include_str!("../../../tests/golden/linux-6.12.txt")
};
/// The length of a destination with its counters.
const LENGTH: u32 = 356;
/// `FWD_METHOD`: masquerade. The attribute follows the message's headers, the nest's header, the
/// address and the port.
const MASQUERADE: [[u8; 2]; 4] = [8_u16.to_ne_bytes(), 3_u16.to_ne_bytes(), [0; 2], [0; 2]];
const MASQUERADE_AT: usize = 16 + 4 + 4 + 20 + 8;

/// A masqueraded destination, netlink header included.
///
/// # Errors
/// The recording has no masqueraded destination.
pub fn destination() -> Result<Vec<u8>> {
    let answers = RECORDED.lines().filter_map(|line| line.strip_prefix("< "));
    for answer in answers {
        let bytes = answer.split_whitespace().map(|byte| Ok(u8::from_str_radix(byte, 16)?));
        let bytes: Vec<u8> = bytes.collect::<Result<_>>()?;
        let mut messages = bytes.chunks_exact(LENGTH as usize);
        let wanted = messages.find(|message| {
            message.starts_with(&LENGTH.to_ne_bytes())
                && message[MASQUERADE_AT..].starts_with(MASQUERADE.as_flattened())
        });
        if let Some(message) = wanted {
            return Ok(message.to_vec());
        }
    }
    None.context("no masqueraded destination was recorded")
}
