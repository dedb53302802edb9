//! Exponential backoff with jitter, and turns among many that fail. Pure: the caller brings the random number.

use jiff::SignedDuration;

/// How long to wait between attempts that fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The wait after the first failure.
    pub base: SignedDuration,
    /// No wait is longer than this.
    pub cap: SignedDuration,
    /// Who keeps failing takes turns with all others that fail: one attempt of any of them in this time.
    pub turn: SignedDuration,
}

/// This many failures in a row are a resource's own affair; after them it takes turns.
const OWN_AFFAIR: u32 = 3;

/// Failed transfers: a mover has already tried five times within a run, so the first wait is ten seconds. An attempt costs
/// up to a dozen writes, so the turn keeps any number of failing resources below fifty writes a minute; up to forty of them
/// do not notice.
pub const TRANSFER: Backoff = Backoff {
    base: SignedDuration::from_secs(10),
    cap: SignedDuration::from_mins(10),
    turn: SignedDuration::from_secs(15),
};

/// Requests that the API server refused or could not take. An attempt is one request or two.
pub const REQUEST: Backoff = Backoff {
    base: SignedDuration::from_millis(500),
    cap: SignedDuration::from_mins(10),
    turn: SignedDuration::from_millis(2500),
};

/// Watches that broke. The cap is how late the operator notices that a cluster has learned of snapshots.
pub const WATCH: Backoff = Backoff {
    base: SignedDuration::from_secs(1),
    cap: SignedDuration::from_mins(1),
    turn: SignedDuration::ZERO,
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

    /// The wait after `failures` failures in a row where `crowd` resources keep failing, this one among them: as
    /// [`after`](Self::after), unless a round of turns takes longer than the longest wait. Then it is one round, of which
    /// `jitter` takes off or adds up to half, so that all of them are spread evenly.
    pub fn among(self, crowd: usize, failures: u32, jitter: f64) -> SignedDuration {
        let wait = self.after(failures, jitter);
        let crowd = i32::try_from(crowd).unwrap_or(i32::MAX);
        let round = self.turn.checked_mul(crowd).unwrap_or(SignedDuration::MAX);
        if failures <= OWN_AFFAIR || round <= self.cap {
            return wait;
        }
        let half = taken_off(round, 1.0);
        let part = taken_off(round, jitter);
        half.saturating_add(part).saturating_add(part)
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
    fn a_few_that_fail_do_not_wait_for_each_other() {
        for failures in [1, 3, 4, 7, 20] {
            for crowd in [0, 1, 40] {
                assert_eq!(
                    TRANSFER.among(crowd, failures, 0.0),
                    TRANSFER.after(failures, 0.0),
                    "{failures} failures, {crowd} resources"
                );
            }
        }
        assert_eq!(TRANSFER.among(1_000, OWN_AFFAIR, 0.0).as_secs(), 40);
    }

    #[test]
    fn many_that_fail_take_turns_evenly() {
        for backoff in [TRANSFER, REQUEST] {
            let round = backoff.turn * 1_000;
            let waits: Vec<SignedDuration> = (0..1_000)
                .map(|part| backoff.among(1_000, 9, f64::from(part) / 1_000.0))
                .collect();
            assert!(
                waits
                    .iter()
                    .all(|wait| *wait >= round / 2 && *wait <= round * 3 / 2)
            );
            for start in [2, 3, 4, 5] {
                let (from, to) = (round * start / 4, round * (start + 1) / 4);
                let due = waits.iter().filter(|wait| from <= **wait && **wait < to);
                assert!(due.count().abs_diff(250) <= 1);
            }
        }
    }

    #[test]
    fn jitter_takes_off_at_most_half() {
        assert_eq!(TRANSFER.after(1, 1.0).as_secs(), 5);
        assert_eq!(TRANSFER.after(2, 0.5).as_secs(), 15);
        assert_eq!(TRANSFER.after(1, f64::NAN).as_secs(), 10);
    }
}
