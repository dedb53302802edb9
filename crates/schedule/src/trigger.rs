//! Triggers: whether a run is due now, and when the next one will be.
//!
//! A manual trigger comes before a schedule, and a schedule before none. The first run of a schedule does not wait for
//! it. Times that passed while a run was under way, or while nobody looked, are not made up for one by one: the next
//! time is counted from the end of the last run, and if it has passed there is one run.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use syncline_api::movers::TriggerSpec;

use crate::{NeverFires, ParseError, Schedule};

/// What starts the runs of a replication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// Each new text starts one run.
    Manual(String),
    /// The times of a schedule start runs.
    Schedule(Schedule),
    /// The end of one run starts the next.
    None,
}

/// What status remembers of earlier runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct History<'a> {
    /// When the last successful run ended: `status.lastSyncTime`.
    pub last_sync_time: Option<Timestamp>,
    /// The manual trigger that it served: `status.lastManualSync`.
    pub last_manual_sync: Option<&'a str>,
}

/// What a trigger says at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assessment {
    /// Whether a run is to start now.
    pub due: bool,
    /// When a scheduled run is to start, in the past if it is overdue: `status.nextSyncTime`.
    pub next_sync_time: Option<Timestamp>,
    /// Whether a whole interval of the schedule went by without a run having ended.
    pub missed_deadline: bool,
}

impl Trigger {
    /// Reads `spec.trigger`. Empty texts are as good as absent ones.
    pub fn from_spec(spec: Option<&TriggerSpec>) -> Result<Self, ParseError> {
        let Some(spec) = spec else {
            return Ok(Self::None);
        };
        if let Some(manual) = spec.manual.as_ref().filter(|text| !text.is_empty()) {
            return Ok(Self::Manual(manual.clone()));
        }
        match spec.schedule.as_ref().filter(|text| !text.is_empty()) {
            Some(schedule) => Ok(Self::Schedule(Schedule::parse(schedule)?)),
            None => Ok(Self::None),
        }
    }

    /// Whether a run is to start now, when the next is due and whether one was missed.
    ///
    /// A schedule that never comes due is an error even before the first run: a replication that would run once and
    /// never again is not what anybody asked for.
    pub fn assess(
        &self,
        history: History<'_>,
        now: Timestamp,
        tz: &TimeZone,
    ) -> Result<Assessment, NeverFires> {
        let unscheduled = |due| Assessment {
            due,
            next_sync_time: None,
            missed_deadline: false,
        };
        match self {
            Self::None => Ok(unscheduled(true)),
            Self::Manual(manual) => Ok(unscheduled(history.last_manual_sync != Some(manual))),
            Self::Schedule(schedule) => {
                let Some(last) = history.last_sync_time else {
                    schedule.next(now, tz)?;
                    return Ok(unscheduled(true));
                };
                let next = schedule.next(last, tz)?;
                Ok(Assessment {
                    due: next <= now,
                    next_sync_time: Some(next),
                    missed_deadline: schedule
                        .next(next, tz)
                        .is_ok_and(|after_next| after_next < now),
                })
            }
        }
    }

    /// Whether a run is to start now.
    pub fn is_due(
        &self,
        history: History<'_>,
        now: Timestamp,
        tz: &TimeZone,
    ) -> Result<bool, NeverFires> {
        self.assess(history, now, tz)
            .map(|assessment| assessment.due)
    }

    /// When the run after one that ended at `last_sync_time` is to start; none unless there is a schedule.
    pub fn next_sync_time(
        &self,
        last_sync_time: Option<Timestamp>,
        tz: &TimeZone,
    ) -> Result<Option<Timestamp>, NeverFires> {
        match (self, last_sync_time) {
            (Self::Schedule(schedule), Some(last)) => schedule.next(last, tz).map(Some),
            _ => Ok(None),
        }
    }

    /// Whether a whole interval of the schedule went by since `last_sync_time` without a run having ended.
    pub fn missed_deadline(
        &self,
        last_sync_time: Option<Timestamp>,
        now: Timestamp,
        tz: &TimeZone,
    ) -> Result<bool, NeverFires> {
        let history = History {
            last_sync_time,
            last_manual_sync: None,
        };
        self.assess(history, now, tz)
            .map(|assessment| assessment.missed_deadline)
    }
}
