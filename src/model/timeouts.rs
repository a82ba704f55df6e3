//! How long idle connections are kept.

use std::time::Duration;

use super::Invalid;

/// How long the kernel keeps idle connections, in whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Timeouts {
    /// TCP connections; 900 s unless set.
    pub tcp: Duration,
    /// TCP connections after a FIN; 120 s unless set.
    pub tcp_fin: Duration,
    /// UDP exchanges; 300 s unless set.
    pub udp: Duration,
}

impl Timeouts {
    /// The timeout of TCP connections.
    #[must_use]
    pub fn tcp(self, tcp: Duration) -> Self {
        Self { tcp, ..self }
    }

    /// The timeout of TCP connections after a FIN.
    #[must_use]
    pub fn tcp_fin(self, tcp_fin: Duration) -> Self {
        Self { tcp_fin, ..self }
    }

    /// The timeout of UDP exchanges.
    #[must_use]
    pub fn udp(self, udp: Duration) -> Self {
        Self { udp, ..self }
    }

    pub(crate) fn from_seconds(tcp: u32, tcp_fin: u32, udp: u32) -> Self {
        Self {
            tcp: Duration::from_secs(tcp.into()),
            tcp_fin: Duration::from_secs(tcp_fin.into()),
            udp: Duration::from_secs(udp.into()),
        }
    }
}

/// The defaults of the kernel: 900 s, 120 s and 300 s.
impl Default for Timeouts {
    fn default() -> Self {
        Self::from_seconds(900, 120, 300)
    }
}

/// Timeouts to set; those that are `None` stay as they are.
///
/// ```
/// use std::time::Duration;
/// use ipvs_netlink::TimeoutsUpdate;
///
/// let shorter = TimeoutsUpdate::default().udp(Duration::from_secs(30));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub struct TimeoutsUpdate {
    /// TCP connections.
    pub tcp: Option<Duration>,
    /// TCP connections after a FIN.
    pub tcp_fin: Option<Duration>,
    /// UDP exchanges.
    pub udp: Option<Duration>,
}

impl TimeoutsUpdate {
    /// A timeout that every kernel refuses: `i32::MAX` ticks at the fewest ticks a second, 100.
    const REFUSED: u64 = i32::MAX as u64 / 100;

    /// Sets the timeout of TCP connections.
    #[must_use]
    pub fn tcp(self, timeout: Duration) -> Self {
        Self { tcp: Some(timeout), ..self }
    }

    /// Sets the timeout of TCP connections after a FIN.
    #[must_use]
    pub fn tcp_fin(self, timeout: Duration) -> Self {
        Self { tcp_fin: Some(timeout), ..self }
    }

    /// Sets the timeout of UDP exchanges.
    #[must_use]
    pub fn udp(self, timeout: Duration) -> Self {
        Self { udp: Some(timeout), ..self }
    }

    /// Refuses timeouts that no kernel would take, with the reason.
    ///
    /// # Errors
    /// When a timeout is zero (which the kernel would silently ignore), not a whole number of
    /// seconds, or above 21,474,836 s.
    pub fn check(&self) -> Result<(), Invalid> {
        for timeout in [self.tcp, self.tcp_fin, self.udp].into_iter().flatten() {
            if timeout.is_zero() {
                return Err(Invalid::new(
                    "a timeout of 0 s would be ignored by the kernel; leave it out to keep the \
                     present one",
                ));
            }
            if timeout.subsec_nanos() != 0 {
                return Err(Invalid::new(format!(
                    "a timeout is in whole seconds, not {timeout:?}"
                )));
            }
            if timeout.as_secs() > Self::REFUSED {
                return Err(Invalid::new(format!(
                    "a timeout is at most {} s, not {} s",
                    Self::REFUSED,
                    timeout.as_secs()
                )));
            }
        }
        Ok(())
    }
}

impl From<Timeouts> for TimeoutsUpdate {
    fn from(timeouts: Timeouts) -> Self {
        Self { tcp: Some(timeouts.tcp), tcp_fin: Some(timeouts.tcp_fin), udp: Some(timeouts.udp) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_the_kernel_would_ignore_or_refuse() {
        let set = |timeout| TimeoutsUpdate::default().udp(timeout).check();
        assert!(set(Duration::from_secs(1)).is_ok());
        assert!(set(Duration::ZERO).is_err());
        assert!(set(Duration::from_millis(1500)).is_err());
        assert!(set(Duration::from_secs(21_474_837)).is_err());
    }
}
