//! The meaning of an error number for a request, and what to do about it.

use std::borrow::Cow;

use super::shell::quoted;
use crate::model::{Scheduler, Service};
use crate::protocol::{Operation, Request};
use crate::uapi::Errno;

/// The meaning of an error number for a request, and what to do, if both are known.
pub(super) fn remedy(request: &Request, errno: Errno) -> Option<Cow<'static, str>> {
    use Request as R;

    let text = match (request, errno) {
        (_, Errno::PERM) => {
            "this needs CAP_NET_ADMIN in the initial user namespace; run it as root"
        }
        (_, Errno::OPNOTSUPP) => "this kernel's IPVS does not know the command",
        (_, Errno::BUSY) => "another listing runs on the same socket; let it end first",
        (R::Operation(operation), errno) => return operation_remedy(operation, errno),
        (R::Service(_) | R::Destinations(_) | R::Destination(..), Errno::SRCH) => {
            "there is no such service"
        }
        _ => return None,
    };
    Some(text.into())
}

fn operation_remedy(operation: &Operation, errno: Errno) -> Option<Cow<'static, str>> {
    use Operation as O;

    let text = match (operation, errno) {
        (O::AddService(service) | O::UpdateService(service), Errno::NOENT) => {
            return Some(missing_module(service).into());
        }
        (O::AddService(_), Errno::EXIST) => "the service is there already; update it instead",
        (O::AddService(_) | O::UpdateService(_), Errno::AFNOSUPPORT) => {
            "this kernel is built without that address family"
        }
        (O::AddDestination(..), Errno::EXIST) => {
            "the destination is there already; update it instead"
        }
        (O::UpdateDestination(..) | O::RemoveDestination(..), Errno::NOENT) => {
            "the service has no such destination"
        }
        (O::AddDestination(service, destination), Errno::INVAL)
            if service.family() != destination.key.family() =>
        {
            "a destination of another address family than its service's is refused while a \
             sync daemon runs; stop it first, and see that the address is unicast"
        }
        (
            O::AddDestination(_, destination) | O::UpdateDestination(_, destination),
            Errno::INVAL,
        ) if destination.upper_threshold > i32::MAX.cast_unsigned() => {
            "this kernel takes no upper threshold above 2147483647"
        }
        (O::AddDestination(_, destination), Errno::INVAL) if destination.key.address.is_ipv4() => {
            "the address must be local or unicast by the routing table; in a network namespace \
             without an IPv4 address none is, so bring up its loopback first"
        }
        (O::AddDestination(..), Errno::INVAL) => {
            "the address must be unicast, and not link-local unless it is this host's own"
        }
        (O::UpdateDestination(service, destination), Errno::INVAL)
            if service.family() != destination.key.family() =>
        {
            "a destination of another address family than its service's is refused while a \
             sync daemon runs; stop it first"
        }
        (O::StartDaemon(_), Errno::NODEV) => "there is no such interface",
        (O::StartDaemon(_), Errno::EXIST) => {
            "a sync daemon of this role runs already; stop it first"
        }
        (O::StartDaemon(_), Errno::NETUNREACH) => {
            "the interface is down or has no address of the group's family"
        }
        (O::StartDaemon(_), Errno::INVAL) => {
            "sync daemons cannot run while a destination is of another address family than its \
             service's; otherwise see that the group is multicast"
        }
        (O::StopDaemon(_), Errno::SRCH) => "none runs",
        (O::SetTimeouts(_), Errno::INVAL) => {
            "a timeout is too long: its clock ticks must fit 31 bits"
        }
        (_, Errno::SRCH) => "there is no such service",
        _ => return None,
    };
    Some(text.into())
}

fn missing_module(service: &Service) -> String {
    let Service { scheduler, persistence, .. } = service;
    let name = scheduler.name();
    let module = format!("ip_vs_{name}");
    let module = quoted(&module);
    let Some(engine) = persistence.and_then(|p| p.engine) else {
        return format!("scheduler {name} is not available; load it with modprobe {module}");
    };
    let of_engine = format!("ip_vs_pe_{engine}");
    let of_engine = quoted(&of_engine);
    if *scheduler == Scheduler::Unbound {
        format!("persistence engine {engine} is not available; load it with modprobe {of_engine}")
    } else {
        format!(
            "scheduler {name} or persistence engine {engine} is not available; load them with \
             modprobe -a {module} {of_engine}"
        )
    }
}
