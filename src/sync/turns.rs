//! The taking of turns: whose the session is, step by step, while a table is made as wanted.

use std::ops::{Deref, DerefMut};

#[cfg(any(feature = "tokio", feature = "smol"))]
use async_lock::{Mutex, MutexGuard};

use crate::session::Session;

/// How the session is come by for a step. Between two steps, and while a destination drains, it is
/// free for others.
pub(crate) enum Turns<'a> {
    /// Nobody else has it.
    Sole(&'a mut Session),
    /// It is shared with a client's clones.
    #[cfg(any(feature = "tokio", feature = "smol"))]
    Shared(&'a Mutex<Session>),
}

/// The session, until this is dropped.
pub(super) enum Turn<'a> {
    Sole(&'a mut Session),
    #[cfg(any(feature = "tokio", feature = "smol"))]
    Shared(MutexGuard<'a, Session>),
}

impl Turns<'_> {
    /// Waits for the session.
    pub(super) async fn take(&mut self) -> Turn<'_> {
        match self {
            Self::Sole(session) => Turn::Sole(session),
            #[cfg(any(feature = "tokio", feature = "smol"))]
            Self::Shared(session) => Turn::Shared(session.lock().await),
        }
    }
}

impl Deref for Turn<'_> {
    type Target = Session;

    fn deref(&self) -> &Session {
        match self {
            Self::Sole(session) => session,
            #[cfg(any(feature = "tokio", feature = "smol"))]
            Self::Shared(session) => session,
        }
    }
}

impl DerefMut for Turn<'_> {
    fn deref_mut(&mut self) -> &mut Session {
        match self {
            Self::Sole(session) => session,
            #[cfg(any(feature = "tokio", feature = "smol"))]
            Self::Shared(session) => session,
        }
    }
}
