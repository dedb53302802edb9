//! What a scenario needs that not every cluster has.

use std::io::Write as _;
use std::sync::Arc;

use anyhow::Result;

use crate::cluster::{Cluster, Kind, Real, Who};

/// Something that not every cluster has, with the reason why the scenario needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    thing: Thing,
    reason: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Thing {
    Embedded,
    Real,
    OwnReal,
    Processes,
    Store,
    Root,
}

impl Need {
    /// The scenario is about the embedded cluster itself.
    pub const fn embedded(reason: &'static str) -> Self {
        Self {
            thing: Thing::Embedded,
            reason,
        }
    }

    /// The scenario is about something that only a real cluster has.
    pub const fn real(reason: &'static str) -> Self {
        Self {
            thing: Thing::Real,
            reason,
        }
    }

    /// The scenario disturbs the parts of a real cluster, so it must be the one of this checkout.
    pub const fn own_real(reason: &'static str) -> Self {
        Self {
            thing: Thing::OwnReal,
            reason,
        }
    }

    /// The scenario must see the processes of pods: any cluster will do whose pods run on this machine.
    pub const fn processes(reason: &'static str) -> Self {
        Self {
            thing: Thing::Processes,
            reason,
        }
    }

    /// The scenario needs a store of the tests' own ([`crate::store`]), which pods of any cluster on this machine reach.
    pub const fn store(reason: &'static str) -> Self {
        Self {
            thing: Thing::Store,
            reason,
        }
    }

    /// The scenario needs root: on an embedded cluster that the tests start, whoever runs the tests must be it.
    pub const fn root(reason: &'static str) -> Self {
        Self {
            thing: Thing::Root,
            reason,
        }
    }

    /// Why it is needed.
    pub const fn reason(self) -> &'static str {
        self.reason
    }

    /// Whether the cluster that this run is about has it.
    pub fn is_met(self) -> bool {
        let embedded = Kind::of_this_run() == Kind::Embedded;
        match self.thing {
            Thing::Embedded => embedded,
            Thing::Real => !embedded,
            Thing::OwnReal => Real::is_ours(),
            Thing::Processes | Thing::Store => embedded || Real::is_ours(),
            Thing::Root => rustix::process::geteuid().is_root(),
        }
    }

    /// The cluster that scenarios share, if it has what is needed.
    pub async fn shared(self, who: Who) -> Result<Place> {
        if !self.is_met() {
            return Ok(Place::Elsewhere(self));
        }
        Ok(Place::Here(Cluster::shared(who).await?))
    }

    /// A cluster of the scenario's own (embedded, or the real one there is), if it has what is needed.
    pub async fn own(self, who: Who) -> Result<Place> {
        if !self.is_met() {
            return Ok(Place::Elsewhere(self));
        }
        match Kind::of_this_run() {
            Kind::Embedded => Ok(Place::Here(Arc::new(Cluster::start(who).await?))),
            Kind::Real => Ok(Place::Here(Cluster::shared(who).await?)),
        }
    }
}

/// Where a scenario plays.
#[derive(Clone, Debug)]
pub enum Place {
    /// On this cluster.
    Here(Arc<Cluster>),
    /// Not in this run, whose cluster lacks something.
    Elsewhere(Need),
}

impl Place {
    /// The cluster; without one, says so in the output of the run, past the test harness's capturing.
    pub fn here(self, name: &str) -> Option<Arc<Cluster>> {
        match self {
            Self::Here(cluster) => Some(cluster),
            Self::Elsewhere(need) => {
                // Nobody to tell when standard error is closed.
                let _ = writeln!(
                    std::io::stderr(),
                    "{name}: not for this cluster: {}",
                    need.reason
                );
                None
            }
        }
    }
}

impl From<Arc<Cluster>> for Place {
    fn from(cluster: Arc<Cluster>) -> Self {
        Self::Here(cluster)
    }
}
