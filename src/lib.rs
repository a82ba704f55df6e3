//! Control IPVS, the load balancer in the Linux kernel, over generic netlink.
#![forbid(unsafe_code)]
#![deny(missing_docs)]
