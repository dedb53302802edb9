//! What a candidate knows of the lease, and what it does about it. Pure.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};

use crate::options::Election;

/// One that would like to hold the lease, or does.
#[derive(Debug)]
pub(super) struct Candidate {
    namespace: String,
    name: String,
    identity: String,
    lease: Duration,
    seen: Option<Seen>,
}

/// The lease as it was seen last, and since when it looks like that.
#[derive(Clone, Debug)]
struct Seen {
    lease: Lease,
    since: Duration,
}

/// What to do after a look.
#[derive(Debug)]
pub(super) enum Move {
    /// Nothing: this one holds it.
    Follow(String),
    /// Make the lease, unless somebody was quicker.
    Create(Lease),
    /// Take or renew it, if it is still what was seen.
    Update(Lease),
}

impl Candidate {
    pub(super) fn new(election: &Election) -> Self {
        Self {
            namespace: election.namespace.clone(),
            name: election.name.clone(),
            identity: election.identity.clone(),
            lease: election.timing.lease,
            seen: None,
        }
    }

    /// Looks at the lease as it was just read, at `uptime` of this process. `now` is written down for people.
    pub(super) fn look(&mut self, lease: Option<Lease>, uptime: Duration, now: Timestamp) -> Move {
        let Some(lease) = lease else {
            return self.without_lease(uptime, now);
        };
        let changed = self
            .seen
            .as_ref()
            .is_none_or(|seen| seen.lease.spec != lease.spec);
        let since = match &self.seen {
            Some(seen) if !changed => seen.since,
            _ => uptime,
        };
        self.seen = Some(Seen {
            lease: lease.clone(),
            since,
        });
        match holder(&lease) {
            Some(holder) if holder != self.identity && self.is_valid(uptime) => {
                Move::Follow(holder.to_owned())
            }
            holder => {
                let spec = self.held(lease.spec.as_ref(), holder == Some(&self.identity), now);
                Move::Update(Lease {
                    spec: Some(spec),
                    ..lease
                })
            }
        }
    }

    /// A lease that was there and is gone was deleted by a stranger: its holder may not know yet.
    fn without_lease(&mut self, uptime: Duration, now: Timestamp) -> Move {
        let holder = self.seen.as_ref().and_then(|seen| holder(&seen.lease));
        if let Some(holder) = holder.filter(|holder| *holder != self.identity)
            && self.is_valid(uptime)
        {
            return Move::Follow(holder.to_owned());
        }
        Move::Create(Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                namespace: Some(self.namespace.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(self.held(None, false, now)),
        })
    }

    /// The lease is held as of `uptime`, when the request was sent.
    pub(super) fn took(&mut self, lease: Lease, uptime: Duration) {
        self.seen = Some(Seen {
            lease,
            since: uptime,
        });
    }

    /// The lease given back, if this one holds it.
    pub(super) fn resigned(&self, now: Timestamp) -> Option<Lease> {
        let lease = &self.seen.as_ref()?.lease;
        if holder(lease) != Some(&self.identity) {
            return None;
        }
        let mut lease = lease.clone();
        let spec = lease.spec.get_or_insert_default();
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        spec.acquire_time = Some(MicroTime(now));
        spec.renew_time = Some(MicroTime(now));
        Some(lease)
    }

    /// Whether the holder may still count on it, for all that is known here.
    fn is_valid(&self, uptime: Duration) -> bool {
        let Some(seen) = &self.seen else {
            return false;
        };
        let promised = seen
            .lease
            .spec
            .as_ref()
            .and_then(|spec| spec.lease_duration_seconds)
            .and_then(|seconds| u64::try_from(seconds).ok())
            .map_or(self.lease, Duration::from_secs);
        uptime < seen.since + promised
    }

    fn held(&self, old: Option<&LeaseSpec>, renewed: bool, now: Timestamp) -> LeaseSpec {
        let transitions = old.and_then(|old| old.lease_transitions).unwrap_or(0);
        let (acquired, transitions) = if renewed {
            (old.and_then(|old| old.acquire_time.clone()), transitions)
        } else {
            let before = i32::from(old.is_some());
            (Some(MicroTime(now)), transitions.saturating_add(before))
        };
        // Whole seconds are all that a lease can say; less would let others take it too early.
        let seconds = self.lease.as_secs() + u64::from(self.lease.subsec_nanos() > 0);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(seconds).ok(),
            acquire_time: acquired,
            renew_time: Some(MicroTime(now)),
            lease_transitions: Some(transitions),
            ..old.cloned().unwrap_or_default()
        }
    }
}

fn holder(lease: &Lease) -> Option<&str> {
    lease
        .spec
        .as_ref()?
        .holder_identity
        .as_deref()
        .filter(|holder| !holder.is_empty())
}
