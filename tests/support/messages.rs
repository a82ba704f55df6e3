//! What is in a datagram of requests.

/// The message type of generic netlink's controller.
const CONTROLLER: u16 = 0x10;

/// The commands of a datagram's messages, less those to the controller.
pub(crate) fn commands(datagram: &[u8]) -> Vec<u8> {
    let mut commands = Vec::new();
    let mut rest = datagram;
    while let Some((header, _)) = rest.split_first_chunk::<20>() {
        let [l0, l1, l2, l3, t0, t1, ..] = *header;
        if u16::from_ne_bytes([t0, t1]) != CONTROLLER {
            commands.push(header[16]);
        }
        let length = usize::try_from(u32::from_ne_bytes([l0, l1, l2, l3])).unwrap();
        rest = &rest[length..];
    }
    commands
}
