//! Validate: from what the user wrote to what the plan works with. Pure; after it nothing looks at the raw spec again.

mod error;
mod pod;
mod rsync;
#[cfg(test)]
mod tests;
mod volume;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use syncline_api::names::Mover;
use syncline_schedule::Trigger;

use crate::subject::{Spec, Subject};

pub use error::Invalid;
pub use pod::{ExtraSource, ExtraVolume, MoverPod, mover_config, mover_volumes};
pub use rsync::Rsync;
pub use volume::{DestinationVolume, Image, PointInTime, SourceVolume, Target, Volume};

/// A spec in which everything that can be checked without the cluster is right.
#[derive(Clone, Debug)]
pub struct Validated {
    /// The one mover.
    pub mover: Mover,
    /// When runs are due.
    pub trigger: Trigger,
    /// How the mover's pod is to run.
    pub pod: MoverPod,
    /// The mover's settings.
    pub rsync: Rsync,
    /// The volume, and how images of it are made.
    pub volume: Volume,
}

/// Why there is nothing to plan with.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The resource belongs to somebody else's controller; it is not even written to.
    NotOurs,
    /// The user has something to correct.
    Invalid(Invalid),
}

impl From<Invalid> for Refusal {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(invalid)
    }
}

/// The movers that this version can run.
const BUILT: [Mover; 1] = [Mover::Rsync];

/// Checks a resource's spec. Time and zone are what schedules are tried at: one that never comes due is a mistake.
pub fn validate(subject: &Subject, now: Timestamp, zone: &TimeZone) -> Result<Validated, Refusal> {
    let (chosen, external) = movers(&subject.spec);
    let mover = match chosen.as_slice() {
        [] if external => return Err(Refusal::NotOurs),
        [] => {
            return Err(Invalid::NoMover {
                built: list(&BUILT),
            }
            .into());
        }
        [one] if external => {
            return Err(Invalid::ManyMovers {
                chosen: format!("{}, external", one.field()),
            }
            .into());
        }
        [one] if !BUILT.contains(one) => {
            return Err(Invalid::MoverNotBuilt {
                mover: one.field(),
                built: list(&BUILT),
            }
            .into());
        }
        [one] => *one,
        many => return Err(Invalid::ManyMovers { chosen: list(many) }.into()),
    };
    error::check_names(subject)?;
    let trigger = Trigger::from_spec(subject.trigger()).map_err(Invalid::Schedule)?;
    if let Trigger::Schedule(schedule) = &trigger {
        schedule
            .next(now, zone)
            .map_err(|never| Invalid::NeverFires {
                expression: never.expression,
            })?;
    }
    Ok(Validated {
        mover,
        trigger,
        pod: pod::read(subject)?,
        rsync: rsync::read(&subject.spec)?,
        volume: volume::read(&subject.spec)?,
    })
}

/// The one mover that a spec chooses, whether or not this version has it.
pub fn chosen_mover(spec: &Spec) -> Option<Mover> {
    match movers(spec).0.as_slice() {
        [one] => Some(*one),
        _ => None,
    }
}

fn list(movers: &[Mover]) -> String {
    movers
        .iter()
        .map(|mover| mover.field())
        .collect::<Vec<_>>()
        .join(", ")
}

/// The movers that a spec chooses, and whether it names an external provider.
fn movers(spec: &Spec) -> (Vec<Mover>, bool) {
    let (present, external) = match spec {
        Spec::Source(spec) => (
            [
                spec.rsync.is_some(),
                spec.rsync_tls.is_some(),
                spec.rclone.is_some(),
                spec.restic.is_some(),
                spec.syncthing.is_some(),
            ],
            spec.external.is_some(),
        ),
        Spec::Destination(spec) => (
            [
                spec.rsync.is_some(),
                spec.rsync_tls.is_some(),
                spec.rclone.is_some(),
                spec.restic.is_some(),
                false,
            ],
            spec.external.is_some(),
        ),
    };
    let chosen = Mover::ALL
        .into_iter()
        .zip(present)
        .filter_map(|(mover, present)| present.then_some(mover));
    (chosen.collect(), external)
}
