//! How long a store without a marker has to keep still before what it shows counts as a version. Pure.
//!
//! VolSync's source writes `permissions.facl` before it is done, and nothing after it: that is the only sign of an end that
//! a stock source gives. Where there is none, its first upload may still go on, and VolSync's own destination fails. Who
//! waits looks for that sign meanwhile.

use std::collections::HashSet;
use std::time::Duration;

use jiff::Timestamp;

use crate::rclone::facl::Facl;
use crate::rclone::names;
use crate::rclone::store::Listed;

/// Units of waiting after which a store that does not look as if it were being written to is believed.
const SHORT: u32 = 10;
/// The same where it does.
const LONG: u32 = 60;
/// The same where nothing shows that any run has come to its end: an object on its way shows in no listing, and a large one
/// may be the only one for long.
const LONGEST: u32 = 600;

/// What a listing shows, and what is known of it.
pub(super) struct Sight<'a> {
    pub(super) files: &'a [Listed],
    /// The line of `permissions.facl`.
    pub(super) line: Option<&'a Listed>,
    /// What it says.
    pub(super) permissions: Option<&'a Facl>,
    /// Times are those of writing, by the store's clock.
    pub(super) is_dated: bool,
}

/// For how long a listing has to stay the same.
pub(super) fn rest(sight: &Sight<'_>, unit: Duration, now: Timestamp) -> Duration {
    let Some(line) = sight.line else {
        return left(unit * LONGEST, sight, (unit, now));
    };
    if !sight.is_dated {
        let is_named = sight
            .permissions
            .is_some_and(|permissions| names_all(permissions, sight.files));
        return unit * if is_named { SHORT } else { LONG };
    }
    let newest = sight.files.iter().filter_map(written).max();
    if written(line).is_some_and(|at| newest.is_none_or(|newest| at >= newest)) {
        return Duration::ZERO;
    }
    left(unit * LONG, sight, (unit, now))
}

/// What is left of `whole` after the time since the store was last written to, where it tells that. Its clock is another
/// one than ours, so some always is.
fn left(whole: Duration, sight: &Sight<'_>, (unit, now): (Duration, Timestamp)) -> Duration {
    let newest = sight.files.iter().filter_map(written).max();
    let age = newest
        .filter(|_| sight.is_dated)
        .and_then(|newest| Duration::try_from(now.duration_since(newest)).ok());
    whole
        .saturating_sub(age.unwrap_or_default())
        .max(unit * SHORT)
}

/// When a store wrote a file.
fn written(listed: &Listed) -> Option<Timestamp> {
    listed.evidence.split(' ').next()?.parse().ok()
}

fn names_all(permissions: &Facl, files: &[Listed]) -> bool {
    let named: HashSet<Vec<u8>> = permissions.paths().map(names::listed).collect();
    files.iter().all(|file| named.contains(&file.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: Duration = Duration::from_secs(1);
    const NOW: &str = "2026-11-21T12:01:00Z";

    fn listed(name: &str, second: &str) -> Listed {
        Listed {
            name: name.into(),
            size: Some(1),
            evidence: format!("2026-11-21T12:00:{second}Z md5:00"),
            ..Listed::default()
        }
    }

    fn seconds(files: &[Listed], line: Option<&Listed>, facl: Option<&str>, is_dated: bool) -> u64 {
        let facl = facl.map(|text| crate::rclone::facl::parse(text.as_bytes()).unwrap());
        let sight = Sight {
            files,
            line,
            permissions: facl.as_ref(),
            is_dated,
        };
        rest(&sight, UNIT, NOW.parse().unwrap()).as_secs()
    }

    #[test]
    fn a_store_that_tells_when_it_was_written_is_believed_when_the_permissions_came_last_or_it_has_rested()
     {
        let files = [listed("a", "10"), listed("b", "40")];
        let (first, before, after) = (listed("p", "09"), listed("p", "39"), listed("p", "40.1"));
        assert_eq!(seconds(&files, Some(&after), None, true), 0);
        assert_eq!(seconds(&files, Some(&before), None, true), 40);
        assert_eq!(seconds(&files[..1], Some(&first), None, true), 10);
        assert_eq!(seconds(&[], Some(&first), None, true), 0);
    }

    #[test]
    fn one_that_does_not_tell_is_believed_sooner_when_the_permissions_name_all_that_is_there() {
        let files = [listed("a", "10"), listed("n\u{240a}b", "40")];
        let some = "# file: data/a\nuser::rw-\n\n";
        let all = format!("{some}# file: data/n\\012b\nuser::rw-\n\n");
        let line = listed("p", "50");
        let seconds = |facl| seconds(&files, Some(&line), facl, false);
        assert_eq!(seconds(Some(&all)), 10);
        assert_eq!(seconds(Some(some)), 60);
        assert_eq!(seconds(None), 60);
    }

    #[test]
    fn one_without_permissions_is_believed_after_ten_minutes_whatever_went_before() {
        let files = [listed("a", "10"), listed("b", "40")];
        assert_eq!(seconds(&files, None, None, true), 580);
        // Times of files say nothing of when they came.
        assert_eq!(seconds(&files, None, None, false), 600);
    }

    #[test]
    fn a_clock_that_is_minutes_ahead_of_the_stores_spares_no_rest() {
        let files = [listed("a", "40")];
        let at = |line: Option<&Listed>, minutes| {
            let now: Timestamp = NOW.parse().unwrap();
            let sight = Sight {
                files: &files,
                line,
                permissions: None,
                is_dated: true,
            };
            rest(&sight, UNIT, now + jiff::SignedDuration::from_mins(minutes)).as_secs()
        };
        let before = listed("p", "39");
        assert_eq!(at(Some(&before), 2), 10);
        assert_eq!(at(None, 20), 10);
        assert_eq!(at(Some(&before), -2), 60);
    }
}
