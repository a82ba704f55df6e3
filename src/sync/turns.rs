//! Taking turns: rule sync holds the session for one step at a time.

use std::ops::{Deref, DerefMut};

#[cfg(any(feature = "tokio", feature = "smol"))]
use async_lock::{Mutex, MutexGuard};

use crate::session::Session;

/// The way by which a step gets the session. Between two steps, and while a destination drains,
/// others can use the session.
pub(crate) enum Turns<'a> {
    /// Only we use the session.
    Sole(&'a mut Session),
    /// The clones of a client share the session.
    #[cfg(any(feature = "tokio", feature = "smol"))]
    Shared(&'a Mutex<Session>),
}

/// The session for one step; dropping this frees it.
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
