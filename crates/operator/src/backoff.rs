//! Exponential backoff with jitter. Pure: the caller brings the random number.

use jiff::SignedDuration;

/// How long to wait between attempts that fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The wait after the first failure.
    pub base: SignedDuration,
    /// No wait is longer than this.
    pub cap: SignedDuration,
}

/// Failed transfers: a mover has already tried five times within a run, so the first wait is ten seconds.
pub const TRANSFER: Backoff = Backoff {
    base: SignedDuration::from_secs(10),
    cap: SignedDuration::from_mins(10),
};

/// Requests that the API server refused or could not take.
pub const REQUEST: Backoff = Backoff {
    base: SignedDuration::from_millis(500),
    cap: SignedDuration::from_mins(10),
};

/// Watches that broke. The cap is how late the operator notices that a cluster has learned of snapshots.
pub const WATCH: Backoff = Backoff {
    base: SignedDuration::from_secs(1),
    cap: SignedDuration::from_mins(1),
};

impl Backoff {
    /// The wait after `failures` failures in a row. It doubles with each, up to the cap; `jitter` in `0.0..1.0` then takes
    /// off up to half of it, so that resources that failed together do not come back together.
    pub fn after(self, failures: u32, jitter: f64) -> SignedDuration {
        let doublings = failures.saturating_sub(1).min(24);
        let full = self
            .base
            .checked_mul(1_i32 << doublings)
            .unwrap_or(self.cap)
            .min(self.cap);
        full.checked_sub(taken_off(full, jitter))
            .unwrap_or(self.cap)
    }
}

/// The part of a wait that jitter takes off.
fn taken_off(wait: SignedDuration, jitter: f64) -> SignedDuration {
    let share = if jitter.is_finite() {
        jitter.clamp(0.0, 1.0) / 2.0
    } else {
        0.0
    };
    wait.mul_f64(share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_doubles_the_wait_up_to_the_cap() {
        let waits: Vec<i64> = (1..=8).map(|n| TRANSFER.after(n, 0.0).as_secs()).collect();
        assert_eq!(waits, [10, 20, 40, 80, 160, 320, 600, 600]);
        assert_eq!(TRANSFER.after(u32::MAX, 0.0).as_secs(), 600);
    }

    #[test]
    fn jitter_takes_off_at_most_half() {
        assert_eq!(TRANSFER.after(1, 1.0).as_secs(), 5);
        assert_eq!(TRANSFER.after(2, 0.5).as_secs(), 15);
        assert_eq!(TRANSFER.after(1, f64::NAN).as_secs(), 10);
    }
}
