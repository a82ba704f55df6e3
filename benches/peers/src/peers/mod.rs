//! The peers, each in a file of its own.

pub mod ipvsadm;
pub mod netlink_packet_ipvs;
pub mod nlrs;
pub mod ours;
