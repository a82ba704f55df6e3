//! Making a table as wanted: writing, repairing what others change, verifying, draining.
//!
//! [`apply`](crate::blocking::Client::apply) carries out one plan and waits for its drains. A
//! [`Syncer`] lives as long as its controller: it knows the table and makes only the changes.

mod apply;
mod drains;
mod incomplete;
mod report;
mod syncer;
mod turns;

pub use crate::reconcile::{DrainEnd, EndedDrain};
pub use drains::{DrainEntry, Drains};
pub use incomplete::Incomplete;
pub use report::{
    DrainingDestination, FailedChange, Progress, Report, Stage, SyncEvent, SyncTimes,
};
pub use syncer::{MaxAge, Syncer};
pub(crate) use turns::Turns;
