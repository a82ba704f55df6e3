//! The dummy interface that has the virtual addresses, by rtnetlink.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use anyhow::{Context as _, Error, Result, anyhow, bail};
use futures_util::TryStreamExt as _;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkInfo};
use rtnetlink::{Handle, LinkDummy};

/// The interface's name, as kube-proxy has it.
pub const INTERFACE: &str = "kube-ipvs0";

/// Errors of the kernel that have a remedy of their own.
const EPERM: i32 = 1;
const ENOENT: i32 = 2;
const EACCES: i32 = 13;
const EEXIST: i32 = 17;
const ENODEV: i32 = 19;
const EINVAL: i32 = 22;
const EOPNOTSUPP: i32 = 95;
const EADDRNOTAVAIL: i32 = 99;

/// The interface, and the socket by which it is changed.
///
/// It belongs to the proxy, as it belonged to kube-proxy, and so does each address of it that a virtual address can be:
/// one of the full length, neither in an excluded network nor link-local. Other addresses are left as they are. It is
/// down, which does not matter to addresses of the node's own, and it does not speak ARP.
pub(crate) struct Interface {
    handle: Handle,
    /// Tells the addresses that are somebody else's.
    is_excluded: Box<dyn Fn(IpAddr) -> bool + Send + Sync>,
    index: Option<u32>,
}

impl Interface {
    /// Opens the socket; the runtime of tokio serves it.
    pub(crate) fn open(
        is_excluded: impl Fn(IpAddr) -> bool + Send + Sync + 'static,
    ) -> Result<Self> {
        let (connection, handle, _) =
            rtnetlink::new_connection().context("no socket to the kernel's rtnetlink")?;
        tokio::spawn(connection);
        Ok(Self { handle, is_excluded: Box::new(is_excluded), index: None })
    }

    /// Makes the interface if it is missing, and reads its addresses.
    pub(crate) async fn addresses(&mut self) -> Result<BTreeSet<IpAddr>> {
        let index = match self.find().await? {
            Some(index) => index,
            None => self.add().await?,
        };
        self.index = Some(index);
        let all = self.handle.address().get().set_link_index_filter(index).execute();
        let all: Vec<AddressMessage> = all
            .try_collect()
            .await
            .map_err(cause)
            .with_context(|| format!("the addresses of {INTERFACE} cannot be read"))?;
        Ok(all.iter().filter_map(|message| self.own(message)).collect())
    }

    /// The address of a message, if it is the proxy's.
    fn own(&self, message: &AddressMessage) -> Option<IpAddr> {
        let find = |wanted: fn(&AddressAttribute) -> Option<IpAddr>| {
            message.attributes.iter().find_map(wanted)
        };
        // IPv4 has the peer's address in `Address`, where there is one.
        let local = find(|attribute| match attribute {
            AddressAttribute::Local(address) => Some(*address),
            _ => None,
        });
        let address = local.or_else(|| {
            find(|attribute| match attribute {
                AddressAttribute::Address(address) => Some(*address),
                _ => None,
            })
        })?;
        let is_link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        let is_whole = message.header.prefix_len == full_length(address);
        (is_whole && !is_link_local && !(self.is_excluded)(address)).then_some(address)
    }

    pub(crate) async fn bind(&mut self, address: IpAddr) -> Result<()> {
        let mut request = self.handle.address().add(self.index()?, address, full_length(address));
        if address.is_ipv6() {
            // Nobody else is asked whether he has it, so it is usable at once.
            request.message_mut().attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        match request.execute().await {
            Err(error) if code(&error) != EEXIST => Err(not_bound(address, error)),
            _ => Ok(()),
        }
    }

    pub(crate) async fn unbind(&mut self, address: IpAddr) -> Result<()> {
        // The request to add says all that the one to remove has to.
        let mut request = self.handle.address().add(self.index()?, address, full_length(address));
        let message = request.message_mut().clone();
        match self.handle.address().del(message).execute().await {
            Err(error) if ![EADDRNOTAVAIL, ENODEV].contains(&code(&error)) => {
                let error = cause(error);
                Err(error.context(format!("{address} cannot be taken from {INTERFACE}")))
            }
            _ => Ok(()),
        }
    }

    /// Removes the interface, unless somebody else has addresses on it.
    pub(crate) async fn remove(&mut self) -> Result<()> {
        let Some(index) = self.find().await? else { return Ok(()) };
        let all = self.handle.address().get().set_link_index_filter(index).execute();
        let all: Vec<AddressMessage> = all.try_collect().await.map_err(cause)?;
        let others = all.iter().filter(|message| self.own(message).is_none()).count();
        if others > 0 {
            bail!("{INTERFACE} stays: {others} addresses on it are not the proxy's");
        }
        let removed = self.handle.link().del(index).execute().await;
        removed.map_err(cause).with_context(|| format!("{INTERFACE} cannot be removed"))
    }

    /// Whether it is there.
    pub(crate) async fn exists(&self) -> Result<bool> {
        Ok(self.find().await?.is_some())
    }

    fn index(&self) -> Result<u32> {
        self.index.with_context(|| format!("{INTERFACE} is not known yet"))
    }

    async fn find(&self) -> Result<Option<u32>> {
        let found = self.handle.link().get().match_name(INTERFACE).execute().try_next().await;
        let link = match found {
            Ok(None) => return Ok(None),
            Ok(Some(link)) => link,
            Err(error) if code(&error) == ENODEV => return Ok(None),
            Err(error) => {
                return Err(cause(error).context(format!("{INTERFACE} cannot be looked up")));
            }
        };
        let kind = link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::LinkInfo(infos) => infos.iter().find_map(|info| match info {
                LinkInfo::Kind(kind) => Some(kind.clone()),
                _ => None,
            }),
            _ => None,
        });
        if kind.as_ref() != Some(&InfoKind::Dummy) {
            let kind = kind.map_or("an interface of its own".to_owned(), |kind| format!("{kind}"));
            bail!(
                "{INTERFACE} is {kind}, not the dummy interface that the virtual addresses are to be on: \
                 rename it (ip link set {INTERFACE} name NAME)"
            );
        }
        Ok(Some(link.header.index))
    }

    /// A dummy interface has no ARP from the beginning.
    async fn add(&self) -> Result<u32> {
        let added = self.handle.link().add(LinkDummy::new(INTERFACE).build()).execute().await;
        match added {
            Err(error) if code(&error) != EEXIST => {
                let advice = match code(&error) {
                    EPERM => "it needs CAP_NET_ADMIN",
                    EOPNOTSUPP | ENOENT => "load the module: modprobe dummy",
                    _ => "`ip link add kube-ipvs0 type dummy` tells more",
                };
                return Err(
                    cause(error).context(format!("{INTERFACE} cannot be created ({advice})"))
                );
            }
            _ => {}
        }
        self.find()
            .await?
            .with_context(|| format!("{INTERFACE} is gone right after it was created"))
    }
}

fn full_length(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn not_bound(address: IpAddr, error: rtnetlink::Error) -> Error {
    let advice = match (code(&error), address) {
        (EPERM, _) => " (it needs CAP_NET_ADMIN)".to_owned(),
        (EACCES, IpAddr::V6(_)) => format!(
            " (IPv6 is disabled there: sysctl net.ipv6.conf.{INTERFACE}.disable_ipv6=0 enables it)"
        ),
        (EOPNOTSUPP, IpAddr::V6(_)) => " (this kernel has no IPv6)".to_owned(),
        (EINVAL, IpAddr::V6(_)) => {
            format!(" (IPv6 needs an MTU of 1280 or more: ip link set {INTERFACE} mtu 1500)")
        }
        _ => String::new(),
    };
    cause(error).context(format!("{address} cannot be put on {INTERFACE}{advice}"))
}

/// The number of the kernel's error; 0 where it was not the kernel's.
fn code(error: &rtnetlink::Error) -> i32 {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.raw_code().abs(),
        _ => 0,
    }
}

/// The error as the kernel named it.
fn cause(error: rtnetlink::Error) -> Error {
    match code(&error) {
        0 => anyhow!(error),
        code => io::Error::from_raw_os_error(code).into(),
    }
}
