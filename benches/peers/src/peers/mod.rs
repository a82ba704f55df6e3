//! The peers, a file each.

pub mod ipvsadm;
pub mod netlink_packet_ipvs;
pub mod nlrs;
pub mod ours;
