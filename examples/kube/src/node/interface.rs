//! The dummy interface that has the virtual addresses, by rtnetlink.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Error, Result, anyhow, bail};
use futures_util::TryStreamExt as _;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressScope,
};
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkInfo};
use rtnetlink::{Handle, LinkDummy};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::host::Addresses;

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

/// How long the kernel may take for an answer.
const LONGEST: Duration = Duration::from_secs(30);

/// The interface, and the socket by which it is changed.
///
/// It belongs to the proxy, as it belonged to kube-proxy, and so does each address of it that a virtual address can be:
/// one of the full length and of universal scope, not in an excluded network. Other addresses are left as they are. It is
/// down, which does not matter to addresses of the node's own, and it does not speak ARP.
pub(crate) struct Interface {
    /// Opened when it is needed, and anew after it broke.
    socket: Option<Socket>,
    /// Tells the addresses that are somebody else's.
    is_excluded: Box<dyn Fn(IpAddr) -> bool + Send + Sync>,
    index: Option<u32>,
}

/// A socket to rtnetlink, which the runtime of tokio serves.
struct Socket {
    handle: Handle,
    connection: JoinHandle<()>,
}

impl Socket {
    fn open() -> Result<Self> {
        let (connection, handle, _) =
            rtnetlink::new_connection().context("no socket to the kernel's rtnetlink")?;
        Ok(Self { handle, connection: tokio::spawn(connection) })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// Whose an address of the interface is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Proxy,
    /// Of the link alone: the kernel makes them, and they go with the interface.
    Link,
    Other,
}

impl Interface {
    pub(crate) fn new(is_excluded: impl Fn(IpAddr) -> bool + Send + Sync + 'static) -> Self {
        Self { socket: None, is_excluded: Box::new(is_excluded), index: None }
    }

    /// Asks the kernel. A socket that broke, or on which no answer came, is closed: the next one is opened anew.
    async fn ask<T>(&mut self, ask: impl AsyncFnOnce(Handle) -> Result<T>) -> Result<T> {
        let socket = match self.socket.take() {
            Some(socket) if !socket.connection.is_finished() => socket,
            _ => Socket::open()?,
        };
        let answer = timeout(LONGEST, ask(socket.handle.clone())).await;
        let answer =
            answer.with_context(|| format!("rtnetlink did not answer within {LONGEST:?}"))?;
        // What a socket gave that broke may be less than all.
        if socket.connection.is_finished() {
            return answer.and_then(|_| bail!("the socket to the kernel's rtnetlink broke"));
        }
        self.socket = Some(socket);
        answer
    }

    /// Makes the interface if it is missing, and reads the addresses of the node.
    pub(crate) async fn addresses(&mut self) -> Result<Addresses> {
        let index = self.ask(async |handle| match find(&handle).await? {
            Some(index) => Ok(index),
            None => add(&handle).await,
        });
        let index = index.await?;
        self.index = Some(index);
        let all = self.ask(async |handle| {
            let all = handle.address().get().execute().try_collect::<Vec<_>>().await;
            all.map_err(cause).context("the addresses of the node cannot be read")
        });
        let mut addresses = Addresses::default();
        for message in all.await? {
            let Some(address) = address(&message) else { continue };
            if message.header.index != index {
                addresses.others.insert(address);
            } else if self.owner(&message) == Owner::Proxy {
                addresses.own.insert(address);
            }
        }
        Ok(addresses)
    }

    fn owner(&self, message: &AddressMessage) -> Owner {
        match (message.header.scope, address(message)) {
            (AddressScope::Link, _) => Owner::Link,
            (AddressScope::Universe, Some(address))
                if message.header.prefix_len == full_length(address)
                    && !(self.is_excluded)(address) =>
            {
                Owner::Proxy
            }
            _ => Owner::Other,
        }
    }

    pub(crate) async fn bind(&mut self, address: IpAddr) -> Result<()> {
        let index = self.index()?;
        let bound = self.ask(async |handle| {
            let mut request = handle.address().add(index, address, full_length(address));
            if address.is_ipv6() {
                // Nobody else is asked whether he has it, so it is usable at once.
                let attributes = &mut request.message_mut().attributes;
                attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
            }
            match request.execute().await {
                Err(error) if code(&error) != EEXIST => Err(not_bound(address, error)),
                _ => Ok(()),
            }
        });
        bound.await
    }

    pub(crate) async fn unbind(&mut self, address: IpAddr) -> Result<()> {
        let index = self.index()?;
        let unbound = self.ask(async |handle| {
            // The request to add says all that the one to remove has to.
            let mut request = handle.address().add(index, address, full_length(address));
            let message = request.message_mut().clone();
            match handle.address().del(message).execute().await {
                Err(error) if ![EADDRNOTAVAIL, ENODEV].contains(&code(&error)) => {
                    let error = cause(error);
                    Err(error.context(format!("{address} cannot be taken from {INTERFACE}")))
                }
                _ => Ok(()),
            }
        });
        unbound.await
    }

    /// Removes the interface, unless somebody else has addresses on it.
    pub(crate) async fn remove(&mut self) -> Result<()> {
        let Some(index) = self.ask(async |handle| find(&handle).await).await? else {
            return Ok(());
        };
        let all = self.ask(async |handle| {
            let all = handle.address().get().set_link_index_filter(index).execute();
            all.try_collect::<Vec<_>>().await.map_err(cause)
        });
        let all = all.await?;
        let others = all.iter().filter(|message| self.owner(message) == Owner::Other).count();
        if others > 0 {
            bail!("{INTERFACE} stays: {others} addresses on it are not the proxy's");
        }
        let removed = self.ask(async |handle| {
            let removed = handle.link().del(index).execute().await;
            removed.map_err(cause).with_context(|| format!("{INTERFACE} cannot be removed"))
        });
        removed.await
    }

    /// Whether it is there.
    pub(crate) async fn exists(&mut self) -> Result<bool> {
        self.ask(async |handle| Ok(find(&handle).await?.is_some())).await
    }

    fn index(&self) -> Result<u32> {
        self.index.with_context(|| format!("{INTERFACE} is not known yet"))
    }
}

/// The number of the interface, if it is there.
async fn find(handle: &Handle) -> Result<Option<u32>> {
    let found = handle.link().get().match_name(INTERFACE).execute().try_next().await;
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
async fn add(handle: &Handle) -> Result<u32> {
    let added = handle.link().add(LinkDummy::new(INTERFACE).build()).execute().await;
    match added {
        Err(error) if code(&error) != EEXIST => {
            let advice = match code(&error) {
                EPERM => "it needs CAP_NET_ADMIN",
                EOPNOTSUPP | ENOENT => "load the module: modprobe dummy",
                _ => "`ip link add kube-ipvs0 type dummy` tells more",
            };
            return Err(cause(error).context(format!("{INTERFACE} cannot be created ({advice})")));
        }
        _ => {}
    }
    find(handle).await?.with_context(|| format!("{INTERFACE} is gone right after it was created"))
}

/// The address of a message.
fn address(message: &AddressMessage) -> Option<IpAddr> {
    let find = |wanted: fn(&AddressAttribute) -> Option<IpAddr>| {
        message.attributes.iter().find_map(wanted)
    };
    // IPv4 has the peer's address in `Address`, where there is one.
    let local = find(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    local.or_else(|| {
        find(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn message(address: &str, length: u8, scope: AddressScope) -> AddressMessage {
        let mut message = AddressMessage::default();
        (message.header.prefix_len, message.header.scope) = (length, scope);
        let address = address.parse().expect("an address");
        message.attributes.push(AddressAttribute::Address(address));
        message
    }

    /// Once: the link-local address that the kernel makes kept the interface from being removed.
    #[test]
    fn addresses_of_the_link_are_neither_the_proxys_nor_in_its_way() {
        let excluded: IpAddr = "172.16.0.1".parse().expect("an address");
        let interface = Interface::new(move |address| address == excluded);
        for (address, length, scope, owner) in [
            ("10.96.0.1", 32, AddressScope::Universe, Owner::Proxy),
            ("2001:db8::1", 128, AddressScope::Universe, Owner::Proxy),
            ("fe80::1", 64, AddressScope::Link, Owner::Link),
            ("fe80::1", 128, AddressScope::Link, Owner::Link),
            ("169.254.7.7", 32, AddressScope::Link, Owner::Link),
            ("172.16.0.1", 32, AddressScope::Universe, Owner::Other),
            ("10.96.0.0", 24, AddressScope::Universe, Owner::Other),
            ("10.96.0.1", 32, AddressScope::Host, Owner::Other),
        ] {
            let message = message(address, length, scope);
            assert_eq!(interface.owner(&message), owner, "{address}/{length} {scope:?}");
        }
    }

    /// Once: one error of the socket, and no address was bound until the program was started again.
    #[tokio::test]
    async fn a_socket_that_broke_is_opened_anew() {
        let mut interface = Interface::new(|_| false);
        let before = interface.exists().await.expect("the kernel answers");
        let socket = interface.socket.as_ref().expect("it is open");
        socket.connection.abort();
        while !socket.connection.is_finished() {
            tokio::task::yield_now().await;
        }
        let after = interface.exists().await.expect("the kernel answers");
        assert_eq!(after, before);
        // What is read of one that breaks meanwhile may be less than all.
        let socket = interface.socket.as_ref().expect("it is open");
        let connection = socket.connection.abort_handle();
        let asked = interface.ask(async |_| {
            connection.abort();
            while !connection.is_finished() {
                tokio::task::yield_now().await;
            }
            Ok(())
        });
        let error = asked.await.expect_err("it broke").to_string();
        assert!(error.contains("broke"), "{error}");
        assert!(interface.socket.is_none());
    }
}
