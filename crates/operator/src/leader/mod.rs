//! Leader election on a Lease, by the rules of client-go, so that `VolSync` and other versions can take part in it.
//!
//! A candidate notes by its own steady clock when it last saw the lease change, and takes it when that is longer ago than
//! the holder promised to renew it. The times in the lease are for people: no clock is ever compared with another.
//!
//! Invariant: the holder stops writing (see [`Fence`]) well before anybody else may take the lease, even when it cannot
//! reach the API server, and even when its machine stood still meanwhile.

mod candidate;
mod fence;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Client;
use kube::api::{Api, PostParams};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::options::Election;
use crate::reconcile::chain;
use candidate::{Candidate, Move};

pub use fence::Fence;

/// How many times within a retry period a candidate looks whether the lease was given back. Looking costs no write.
const LOOKS_PER_RETRY: u32 = 8;

/// Takes part in the election of one lease.
pub struct Elector {
    leases: Api<Lease>,
    candidate: Candidate,
    election: Election,
    clock: Arc<dyn Clock>,
}

/// What an attempt came to.
enum Standing {
    /// The lease is held; the request that took or renewed it was sent at this moment.
    Held(fence::Moment),
    /// Somebody else holds it.
    Followed(String),
}

/// Why an attempt came to nothing. It is repeated by itself.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(
        "Lease {namespace}/{name}, by which operators agree on the one that works, cannot be read or written; \
         see that the API server answers, and that the operator's role allows get, create and update of leases there"
    )]
    Refused {
        namespace: String,
        name: String,
        #[source]
        source: Box<kube::Error>,
    },
    #[error("Lease {namespace}/{name}: no answer within {patience:?}")]
    Silence {
        namespace: String,
        name: String,
        patience: Duration,
    },
}

impl Elector {
    /// A candidate that has not looked at the lease yet.
    pub fn new(client: &Client, election: Election, clock: Arc<dyn Clock>) -> Self {
        Self {
            leases: Api::namespaced(client.clone(), &election.namespace),
            candidate: Candidate::new(&election),
            election,
            clock,
        }
    }

    /// Waits until the lease is held; `None` when `stop` came first. `seen` is called at each look that the API server
    /// answered.
    pub async fn acquire(&mut self, stop: &CancellationToken, seen: impl Fn()) -> Option<Fence> {
        let retry = self.election.timing.retry;
        let mut told = String::new();
        while !stop.is_cancelled() {
            match self.attempt(retry).await {
                Ok(Standing::Held(since)) => {
                    seen();
                    tracing::info!(
                        lease = self.lease(),
                        identity = self.election.identity,
                        "leading"
                    );
                    return Some(Fence::new(
                        Arc::clone(&self.clock),
                        self.election.timing.renew,
                        since,
                    ));
                }
                Ok(Standing::Followed(holder)) => {
                    seen();
                    if holder != told {
                        tracing::info!(
                            lease = self.lease(),
                            holder,
                            "waiting: another operator works"
                        );
                        told = holder;
                    }
                }
                Err(error) => tracing::warn!(
                    error = chain(&error),
                    "the lease could not be looked at; it is tried again"
                ),
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.clock.rest(retry / LOOKS_PER_RETRY) => {}
            }
        }
        None
    }

    /// Renews the lease for as long as that succeeds in time. Returns when it is lost; the fence is closed then.
    pub async fn keep(&mut self, fence: &Fence) {
        let retry = self.election.timing.retry;
        loop {
            let wait = retry.min(fence.left()).max(retry / LOOKS_PER_RETRY);
            self.clock.rest(wait).await;
            if fence.has_run_out() {
                break;
            }
            match self.attempt(retry).await {
                Ok(Standing::Held(since)) => fence.extend(since),
                Ok(Standing::Followed(holder)) => {
                    tracing::warn!(
                        lease = self.lease(),
                        holder,
                        "another operator has taken the lease"
                    );
                    break;
                }
                Err(error) => tracing::warn!(
                    error = chain(&error),
                    lost_in = ?fence.left(),
                    "the lease could not be renewed; it is tried again"
                ),
            }
        }
        fence.close();
        tracing::warn!(lease = self.lease(), "not leading any more");
    }

    /// Gives the lease back, so that the next one need not wait. That it cannot is no failure: the lease runs out.
    pub async fn release(&mut self, fence: &Fence) {
        let open = fence.is_open();
        fence.close();
        let Some(lease) = self.candidate.resigned(self.clock.now()).filter(|_| open) else {
            return;
        };
        let parameters = PostParams::default();
        let given_back = self.within(
            self.election.timing.retry,
            self.leases
                .replace(&self.election.name, &parameters, &lease),
        );
        match given_back.await {
            Ok(_) => tracing::info!(lease = self.lease(), "lease given back"),
            Err(error) => {
                tracing::warn!(
                    error = chain(&error),
                    "the lease was not given back; it runs out by itself"
                );
            }
        }
    }

    async fn attempt(&mut self, patience: Duration) -> Result<Standing, Error> {
        let name = self.election.name.clone();
        let lease = self.within(patience, self.leases.get_opt(&name)).await?;
        let sent = fence::Moment::of(&*self.clock);
        let parameters = PostParams::default();
        let written = match self.candidate.look(lease, sent.uptime, sent.wall) {
            Move::Follow(holder) => return Ok(Standing::Followed(holder)),
            Move::Create(lease) => {
                self.within(patience, self.leases.create(&parameters, &lease))
                    .await
            }
            Move::Update(lease) => {
                self.within(patience, self.leases.replace(&name, &parameters, &lease))
                    .await
            }
        };
        match written {
            Ok(lease) => {
                self.candidate.took(lease, sent.uptime);
                Ok(Standing::Held(sent))
            }
            Err(error) if outrun(&error) => Ok(Standing::Followed("somebody quicker".to_owned())),
            Err(error) => Err(error),
        }
    }

    async fn within<T>(
        &self,
        patience: Duration,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, Error> {
        let (namespace, name) = (self.election.namespace.clone(), self.election.name.clone());
        tokio::select! {
            answer = request => answer.map_err(|error| Error::Refused { namespace, name, source: Box::new(error) }),
            () = self.clock.rest(patience) => Err(Error::Silence { namespace, name, patience }),
        }
    }

    fn lease(&self) -> String {
        format!("{}/{}", self.election.namespace, self.election.name)
    }
}

/// Whether somebody else has written the lease since it was read.
fn outrun(error: &Error) -> bool {
    match error {
        Error::Refused { source, .. } => {
            matches!(&**source, kube::Error::Api(status) if status.code == 409)
        }
        Error::Silence { .. } => false,
    }
}

/// A name for this process that no other one has: that of its host, and chance.
pub fn identity(host: &str) -> String {
    use rand::Rng as _;
    let (high, low) = (rand::rng().next_u64(), rand::rng().next_u64());
    format!("{host}_{high:016x}{low:016x}")
}
