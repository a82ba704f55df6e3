//! The changes that a report of a plan has.

use ipvs_netlink::{Change, Plan};

/// How many changes a report of this plan has: a new service of `mh` with several destinations gets its
/// scheduler last, by a change of its own.
pub(crate) fn writes(plan: &Plan) -> usize {
    let is_late = |changes: &[Change]| match changes {
        [Change::AddService(service), next @ ..] => {
            let adds =
                |it: &Change| matches!(it, Change::AddDestination(key, _) if *key == service.key);
            service.scheduler.name() == "mh" && next.iter().all(adds)
        }
        _ => false,
    };
    plan.changes().len() + plan.changes().windows(3).filter(|changes| is_late(changes)).count()
}
