//! Validate: from what the user wrote to what the plan works with. Pure; after it nothing looks at the raw spec again.

mod error;
mod pod;
mod rclone;
mod rsync;
#[cfg(test)]
mod tests;
mod volume;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use syncline_api::names::Mover;
use syncline_schedule::Trigger;

use crate::options::BUILT;
use crate::subject::{Spec, Subject};

pub use error::Invalid;
pub use pod::{ExtraSource, ExtraVolume, MoverPod, mover_config, mover_volumes};
pub use rclone::{Certificate, Holder, Rclone};
pub use rsync::Rsync;
pub use volume::{DestinationVolume, Image, PointInTime, SourceVolume, Target, Volume};

/// A spec in which everything that can be checked without the cluster is right.
#[derive(Clone, Debug)]
pub struct Validated {
    /// When runs are due.
    pub trigger: Trigger,
    /// How the mover's pod is to run.
    pub pod: MoverPod,
    /// The one mover, and its settings.
    pub method: Method,
    /// The volume, and how images of it are made.
    pub volume: Volume,
}

/// A mover with its settings.
#[derive(Clone, Debug, PartialEq)]
pub enum Method {
    /// rsync over ssh.
    Rsync(Rsync),
    /// rclone.
    Rclone(Rclone),
}

impl Validated {
    /// The one mover.
    pub fn mover(&self) -> Mover {
        match &self.method {
            Method::Rsync(_) => Mover::Rsync,
            Method::Rclone(_) => Mover::Rclone,
        }
    }
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

/// Checks a resource's spec. Time and zone are what schedules are tried at: one that never comes due is a mistake.
pub fn validate(subject: &Subject, now: Timestamp, zone: &TimeZone) -> Result<Validated, Refusal> {
    let (chosen, external) = (subject.spec.movers(), is_external(&subject.spec));
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
    error::check_names(subject, mover)?;
    let trigger = Trigger::from_spec(subject.trigger()).map_err(Invalid::Schedule)?;
    if let Trigger::Schedule(schedule) = &trigger {
        schedule
            .next(now, zone)
            .map_err(|never| Invalid::NeverFires {
                expression: never.expression,
            })?;
    }
    let method = match mover {
        Mover::Rclone => Method::Rclone(rclone::read(subject)?),
        _ => Method::Rsync(rsync::read(&subject.spec)?),
    };
    Ok(Validated {
        trigger,
        pod: pod::read(subject)?,
        method,
        volume: volume::read(&subject.spec, mover)?,
    })
}

/// The one mover that a spec chooses, whether or not this version has it.
pub fn chosen_mover(spec: &Spec) -> Option<Mover> {
    match spec.movers().as_slice() {
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

/// Whether a spec names an external provider.
fn is_external(spec: &Spec) -> bool {
    match spec {
        Spec::Source(spec) => spec.external.is_some(),
        Spec::Destination(spec) => spec.external.is_some(),
    }
}
