//! From a cron expression to a schedule.

use jiff::tz::TimeZone;
use syncline_api::GoDuration;

use crate::field::{Bounds, DAY_OF_MONTH, DAY_OF_WEEK, Fields, HOUR, MINUTE, MONTH};
use crate::{Schedule, Timing, Zone};

/// Why an expression is not a schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the schedule {expression:?} cannot be read: {fault}")]
pub struct ParseError {
    /// The expression as it was written.
    pub expression: String,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with an expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// There is nothing.
    #[error("it is empty; write five fields, as in \"0 3 * * *\"")]
    Empty,
    /// A time zone is followed by nothing.
    #[error(
        "only a time zone is given; write a schedule after it, as in \"CRON_TZ=Europe/Paris 0 3 * * *\""
    )]
    OnlyZone,
    /// A time zone is not in this system's database.
    #[error(
        "the time zone {zone:?} is not known here; write a name such as Europe/Paris, and see that tzdata is installed"
    )]
    UnknownZone {
        /// The zone as it was written.
        zone: String,
    },
    /// A word with `@` is not one of the descriptors. The words name those that the schema of the two kinds admits.
    #[error(
        "{word:?} is not known; write @hourly, @daily, @weekly, @monthly, @yearly or @annually, or five fields as in \"0 3 * * *\""
    )]
    UnknownDescriptor {
        /// The word as it was written.
        word: String,
    },
    /// What follows `@every` is not a duration.
    #[error("{source}")]
    Duration {
        /// What is wrong with the duration.
        source: syncline_api::duration::ParseDurationError,
    },
    /// The number of fields is not five.
    #[error("it has {found} fields; write five: minute, hour, day of month, month and day of week")]
    FieldCount {
        /// How many it has.
        found: usize,
    },
    /// A field holds what it may not.
    #[error("the {field} field {text:?} is wrong: {reason}")]
    Field {
        /// What the field is called.
        field: &'static str,
        /// The field as it was written.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
}

pub(crate) fn schedule(expression: &str) -> Result<Schedule, ParseError> {
    let refuse = |fault| ParseError {
        expression: expression.to_owned(),
        fault,
    };
    if expression.is_empty() {
        return Err(refuse(Fault::Empty));
    }
    let (zone, rest) = take_zone(expression).map_err(refuse)?;
    let timing = if rest.starts_with('@') {
        descriptor(rest)
    } else {
        fields(rest)
    };
    Ok(Schedule {
        expression: expression.to_owned(),
        zone,
        timing: timing.map_err(refuse)?,
    })
}

/// Reads the zone at the beginning, if there is one, and returns what follows it.
fn take_zone(expression: &str) -> Result<(Zone, &str), Fault> {
    let zone = expression
        .strip_prefix("CRON_TZ=")
        .or_else(|| expression.strip_prefix("TZ="));
    let Some(zone_and_rest) = zone else {
        return Ok((Zone::Default, expression));
    };
    let (name, rest) = zone_and_rest.split_once(' ').ok_or(Fault::OnlyZone)?;
    let zone = match name {
        "" | "UTC" => Zone::Named(TimeZone::UTC),
        "Local" => Zone::Default,
        name => Zone::Named(TimeZone::get(name).map_err(|_| Fault::UnknownZone {
            zone: name.to_owned(),
        })?),
    };
    Ok((zone, rest.trim()))
}

fn descriptor(text: &str) -> Result<Timing, Fault> {
    let every_day = Fields {
        minute: MINUTE.first(),
        hour: HOUR.first(),
        day_of_month: DAY_OF_MONTH.all(),
        month: MONTH.all(),
        day_of_week: DAY_OF_WEEK.all(),
    };
    let first_of_month = Fields {
        day_of_month: DAY_OF_MONTH.first(),
        ..every_day
    };
    let fields = match text {
        "@yearly" | "@annually" => Fields {
            month: MONTH.first(),
            ..first_of_month
        },
        "@monthly" => first_of_month,
        "@weekly" => Fields {
            day_of_week: DAY_OF_WEEK.first(),
            ..every_day
        },
        "@daily" | "@midnight" => every_day,
        "@hourly" => Fields {
            hour: HOUR.all(),
            ..every_day
        },
        _ => return every(text),
    };
    Ok(Timing::Fields(fields))
}

fn every(text: &str) -> Result<Timing, Fault> {
    let Some(duration) = text.strip_prefix("@every ") else {
        return Err(Fault::UnknownDescriptor {
            word: text.to_owned(),
        });
    };
    let duration: GoDuration = duration
        .parse()
        .map_err(|source| Fault::Duration { source })?;
    Ok(Timing::Every {
        seconds: (duration.nanoseconds() / 1_000_000_000).max(1),
    })
}

fn fields(text: &str) -> Result<Timing, Fault> {
    let texts: Vec<&str> = text.split_whitespace().collect();
    let [minute, hour, day_of_month, month, day_of_week] = texts.as_slice() else {
        return Err(Fault::FieldCount { found: texts.len() });
    };
    Ok(Timing::Fields(Fields {
        minute: field(&MINUTE, minute)?,
        hour: field(&HOUR, hour)?,
        day_of_month: field(&DAY_OF_MONTH, day_of_month)?,
        month: field(&MONTH, month)?,
        day_of_week: field(&DAY_OF_WEEK, day_of_week)?,
    }))
}

fn field(bounds: &Bounds, text: &str) -> Result<u64, Fault> {
    bounds.read(text).map_err(|reason| Fault::Field {
        field: bounds.name,
        text: text.to_owned(),
        reason,
    })
}
