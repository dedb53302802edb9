//! How often and how soon a mover tries again. Pure.

use std::time::Duration;

/// Tries of one run, as VolSync's.
const MOST: u32 = 5;

/// When another try can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    /// It would end the same way.
    Never,
    /// At once.
    AtOnce,
    /// After a wait.
    Later,
}

/// The tries of one run.
#[derive(Debug)]
pub(crate) struct Tries {
    made: u32,
    unit: Duration,
}

impl Tries {
    /// No try yet; waits will be multiples of `unit`.
    pub(crate) fn new(unit: Duration) -> Self {
        Self { made: 0, unit }
    }

    /// Tries that failed so far.
    pub(crate) fn made(&self) -> u32 {
        self.made
    }

    /// Notes a failed try. Gives the wait before the next one (2, 4, 8, 16 units), or `None` when there is none.
    pub(crate) fn wait_after(&mut self, again: Again) -> Option<Duration> {
        self.made += 1;
        if self.made >= MOST {
            return None;
        }
        match again {
            Again::Never => None,
            Again::AtOnce => Some(Duration::ZERO),
            Again::Later => Some(self.unit * 2_u32.pow(self.made)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_until_the_tries_are_used_up() {
        let mut tries = Tries::new(Duration::from_secs(1));
        let waits: Vec<_> = std::iter::from_fn(|| tries.wait_after(Again::Later))
            .map(|wait| wait.as_secs())
            .collect();
        assert_eq!(waits, [2, 4, 8, 16]);
        assert_eq!(tries.made(), 5);
    }

    #[test]
    fn what_cannot_get_better_is_not_tried_again() {
        let mut tries = Tries::new(Duration::from_secs(1));
        assert_eq!(tries.wait_after(Again::AtOnce), Some(Duration::ZERO));
        assert_eq!(tries.wait_after(Again::Never), None);
        assert_eq!(tries.made(), 2);
    }
}
