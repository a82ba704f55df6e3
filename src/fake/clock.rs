//! Arithmetic with times of the kernel's clock.

use std::time::{Duration, Instant};

/// The time of the kernel's clock after this duration. If the clock cannot represent it, a time
/// some decades from now; at the end of the clock, now.
pub(super) fn later(now: Instant, time: Duration) -> Instant {
    const DECADES: Duration = Duration::from_secs(1 << 30);
    now.checked_add(time).or_else(|| now.checked_add(DECADES)).unwrap_or(now)
}

/// The duration rounded down to whole periods; unchanged if the period is 0.
pub(super) fn whole_periods(time: Duration, period: Duration) -> Duration {
    let beyond = time.as_nanos().checked_rem(period.as_nanos()).unwrap_or(0);
    time.saturating_sub(Duration::from_nanos(u64::try_from(beyond).unwrap_or(0)))
}
