//! Cron (robfig v3 semantics) and triggers: when is the next run due. Pure.
//!
//! `VolSync` reads schedules with robfig's cron library, version 3, and people have schedules that rely on what it does,
//! daylight saving time included. This crate reads the same grammar and comes to the same instants. Where the library
//! answers "never" with a time that looks long past, this crate answers with the error [`NeverFires`].
//!
//! Invariant: nothing here reads a clock. Time zones come from the system's database.

mod field;
mod next;
mod parse;
pub mod trigger;

use jiff::Timestamp;
use jiff::tz::TimeZone;

pub use parse::{Fault, ParseError};
pub use trigger::{Assessment, History, Trigger};

/// A schedule that was read from a cron expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    expression: String,
    zone: Zone,
    timing: Timing,
}

/// Where the fields of a schedule are to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Zone {
    /// In the zone that the caller hands in.
    Default,
    /// In a zone that the expression names.
    Named(TimeZone),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Timing {
    /// At the times that five fields describe.
    Fields(field::Fields),
    /// So many seconds after the given time, at least one.
    Every { seconds: i64 },
}

/// A schedule that has no time within five years, such as the 31st of February.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the schedule {expression:?} never comes due in the five years after {after}; \
     give it a day that its months have, such as \"0 3 28 2 *\""
)]
pub struct NeverFires {
    /// The schedule as it was written.
    pub expression: String,
    /// The time from which on a time was looked for.
    pub after: Timestamp,
}

impl Schedule {
    /// Reads a cron expression: five fields (minute, hour, day of month, month, day of week), or a descriptor such as
    /// `@daily` or `@every 1h30m`; `CRON_TZ=<zone> ` or `TZ=<zone> ` may precede either.
    pub fn parse(expression: &str) -> Result<Self, ParseError> {
        parse::schedule(expression)
    }

    /// The expression as it was written.
    pub fn expression(&self) -> &str {
        &self.expression
    }

    /// The first time of this schedule after a given one, a whole second. `default_tz` is where the fields are read
    /// unless the expression names a zone.
    ///
    /// In the hour that daylight saving time skips a schedule does not fire, and in the hour that it repeats it fires
    /// twice.
    pub fn next(&self, after: Timestamp, default_tz: &TimeZone) -> Result<Timestamp, NeverFires> {
        let zone = match &self.zone {
            Zone::Default => default_tz,
            Zone::Named(zone) => zone,
        };
        let found = match &self.timing {
            Timing::Fields(fields) => next::time(fields, after, zone),
            Timing::Every { seconds } => next::whole_seconds(after)
                .checked_add(*seconds)
                .and_then(|second| Timestamp::from_second(second).ok()),
        };
        found.ok_or_else(|| NeverFires {
            expression: self.expression.clone(),
            after,
        })
    }
}
