//! The next time of a schedule, with the calendar arithmetic that robfig v3 gets from Go.
//!
//! The search goes from the largest unit to the smallest. A unit that does not match is moved on until it does; when
//! that carries into the next larger unit, the search begins again from the top. What makes the result the same as
//! robfig's around daylight saving time is not the search but Go's rule for wall-clock times that do not exist or exist
//! twice, which [`Moment::at`] follows.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};

use crate::field::{Fields, STAR};

/// How many calendar years after that of the beginning are looked at.
const HORIZON_YEARS: i16 = 5;

/// The next time after `after`, or none within the horizon.
pub(crate) fn time(fields: &Fields, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    let sets = [
        fields.minute,
        fields.hour,
        fields.day_of_month | fields.day_of_week,
        fields.month,
    ];
    if sets.contains(&0) {
        return None;
    }
    let start = Moment::new(whole_seconds(after).checked_add(1)?, zone)?;
    let mut search = Search {
        fields,
        zone,
        last_year: start.local.year().saturating_add(HORIZON_YEARS),
        moved: false,
    };
    let mut moment = start;
    while moment.local.year() <= search.last_year {
        moment = match search.pass(moment)? {
            Step::Matches(found) => return Timestamp::from_second(found.second).ok(),
            Step::Carried(carried) => carried,
        };
    }
    None
}

/// The second that a time lies in.
pub(crate) fn whole_seconds(time: Timestamp) -> i64 {
    // `as_second` cuts towards zero, and times before 1970 would come out a second late.
    time.as_second() - i64::from(time.subsec_nanosecond() < 0)
}

/// An instant with what a wall clock shows at it.
#[derive(Clone, Copy)]
struct Moment {
    second: i64,
    local: DateTime,
}

impl Moment {
    fn new(second: i64, zone: &TimeZone) -> Option<Self> {
        let time = Timestamp::from_second(second).ok()?;
        Some(Self {
            second,
            local: zone.to_datetime(time),
        })
    }

    fn plus(self, seconds: i64, zone: &TimeZone) -> Option<Self> {
        Self::new(self.second.checked_add(seconds)?, zone)
    }

    /// The instant at which a wall clock shows a date and time, by Go's rule: the offset is looked up as if the wall
    /// clock showed UTC, and once more with that offset. A time that a zone skips thus comes out before or after the
    /// gap, and of a time that it repeats one is taken.
    fn at(local: DateTime, zone: &TimeZone) -> Option<Self> {
        let as_utc = TimeZone::UTC.to_timestamp(local).ok()?;
        let guess = zone.to_offset(as_utc).seconds();
        if guess == 0 {
            return Self::new(as_utc.as_second(), zone);
        }
        let nearer =
            Timestamp::from_second(as_utc.as_second().checked_sub(i64::from(guess))?).ok()?;
        let offset = zone.to_offset(nearer).seconds();
        Self::new(as_utc.as_second().checked_sub(i64::from(offset))?, zone)
    }
}

enum Step {
    /// Every field matches.
    Matches(Moment),
    /// A unit was carried into the next larger one.
    Carried(Moment),
}

struct Search<'a> {
    fields: &'a Fields,
    zone: &'a TimeZone,
    last_year: i16,
    /// Whether the moment is already at the beginning of a unit, so that smaller units need no resetting.
    moved: bool,
}

impl Search<'_> {
    /// One way from the months down to the minutes.
    fn pass(&mut self, mut moment: Moment) -> Option<Step> {
        while !has(self.fields.month, moment.local.month()) {
            moment = self.next_month(moment)?;
            if moment.local.month() == 1 {
                return Some(Step::Carried(moment));
            }
        }
        while !self.day_matches(moment.local.date()) {
            moment = self.next_day(moment)?;
            if moment.local.day() == 1 {
                return Some(Step::Carried(moment));
            }
        }
        while !has(self.fields.hour, moment.local.hour()) {
            if !self.first_move() {
                let local = moment.local;
                moment = Moment::at(local.date().at(local.hour(), 0, 0, 0), self.zone)?;
            }
            moment = moment.plus(3600, self.zone)?;
            if moment.local.hour() == 0 {
                return Some(Step::Carried(moment));
            }
        }
        while !has(self.fields.minute, moment.local.minute()) {
            if !self.first_move() {
                moment = moment.plus(-moment.second.rem_euclid(60), self.zone)?;
            }
            moment = moment.plus(60, self.zone)?;
            if moment.local.minute() == 0 {
                return Some(Step::Carried(moment));
            }
        }
        self.whole_minute(moment)
    }

    /// The seconds' field of a schedule of five fields is 0.
    fn whole_minute(&mut self, mut moment: Moment) -> Option<Step> {
        while moment.local.second() != 0 {
            self.moved = true;
            moment = moment.plus(1, self.zone)?;
            if moment.local.second() == 0 {
                return Some(Step::Carried(moment));
            }
        }
        Some(Step::Matches(moment))
    }

    fn next_month(&mut self, mut moment: Moment) -> Option<Moment> {
        if !self.first_move() {
            moment = Moment::at(
                moment.local.date().first_of_month().at(0, 0, 0, 0),
                self.zone,
            )?;
        }
        let date = moment.local.date();
        // Go counts the day from the beginning of the next month, into the one after it if need be.
        let day = i64::from(date.day()) - 1;
        let next = date
            .first_of_month()
            .checked_add(1.month())
            .ok()?
            .checked_add(day.days())
            .ok()?;
        self.later(
            moment,
            Moment::at(next.to_datetime(moment.local.time()), self.zone)?,
        )
    }

    fn next_day(&mut self, mut moment: Moment) -> Option<Moment> {
        if !self.first_move() {
            moment = Moment::at(moment.local.date().at(0, 0, 0, 0), self.zone)?;
        }
        let date = moment.local.date().checked_add(1.day()).ok()?;
        let next = Moment::at(date.to_datetime(moment.local.time()), self.zone)?;
        // Where a zone skips midnight, the day begins at another hour; robfig moves to the nearest midnight by hours.
        let next = match i64::from(next.local.hour()) {
            0 => next,
            hour @ 13.. => next.plus((24 - hour) * 3600, self.zone)?,
            hour => next.plus(-hour * 3600, self.zone)?,
        };
        self.later(moment, next)
    }

    /// `next` if it is later than `moment`. It is not where a zone skips a whole day, as Samoa did in 2011: robfig
    /// searches for ever there, and here the search goes on a day later.
    fn later(&self, moment: Moment, next: Moment) -> Option<Moment> {
        if next.local.date() > moment.local.date() {
            Some(next)
        } else {
            moment.plus(24 * 3600, self.zone)
        }
    }

    /// Whether the moment was moved before; from now on it was.
    fn first_move(&mut self) -> bool {
        std::mem::replace(&mut self.moved, true)
    }

    /// With a star in either day field both have to match, which leaves the other field to decide; without one, either
    /// of them is enough.
    fn day_matches(&self, date: Date) -> bool {
        let Fields {
            day_of_month,
            day_of_week,
            ..
        } = *self.fields;
        let in_month = has(day_of_month, date.day());
        let in_week = has(day_of_week, date.weekday().to_sunday_zero_offset());
        if (day_of_month | day_of_week) & STAR != 0 {
            in_month && in_week
        } else {
            in_month || in_week
        }
    }
}

fn has(set: u64, value: i8) -> bool {
    u32::try_from(value).is_ok_and(|value| set >> value & 1 == 1)
}
