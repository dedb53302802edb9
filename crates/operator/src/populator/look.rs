//! One look at one claim: observe, plan, apply, events.

use std::sync::Arc;

use jiff::Timestamp;
use kube::Client;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::plan::{Input, plan};
use super::watch::Watches;
use super::{ClaimKey, apply, observe};
use crate::backoff::REQUEST;
use crate::clock::Clock;
use crate::events::Events;
use crate::failures::Failures;
use crate::options::Movers;
use crate::queue::Queue;
use crate::reconcile::{chain, jitter};

/// How many claims are looked at at once.
const CONCURRENT_LOOKS: usize = 8;

/// The settings that the filling of claims depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    /// The only namespace that the operator may act in, if there is one.
    pub(crate) namespace: Option<String>,
    /// Whose destinations' images are used.
    pub(crate) movers: Movers,
}

/// Why a look did not come to its end.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Observe(#[from] crate::observe::Error),
    #[error(transparent)]
    Apply(#[from] crate::apply::Error),
}

/// Fills claims.
pub(crate) struct Populator {
    client: Client,
    clock: Arc<dyn Clock>,
    settings: Settings,
    events: Events<ClaimKey>,
    failures: Failures<ClaimKey>,
}

impl Populator {
    /// A populator with these settings.
    pub(crate) fn new(client: Client, clock: Arc<dyn Clock>, settings: Settings) -> Arc<Self> {
        Arc::new(Self {
            client,
            clock,
            settings,
            events: Events::default(),
            failures: Failures::default(),
        })
    }

    /// Watches and acts until `stop`; looks under way then are waited for.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken) {
        match &self.settings.namespace {
            Some(namespace) => tracing::warn!(
                namespace,
                "watching one namespace only, the operator may not touch PersistentVolumes and StorageClasses: claims are \
                 not filled from ReplicationDestinations"
            ),
            None => super::register(&self.client).await,
        }
        let queue = Queue::default();
        let mut watches: JoinSet<()> = Watches::start(
            self.client.clone(),
            self.settings.namespace.clone(),
            queue.clone(),
            Arc::clone(&self.clock),
            &stop,
        );
        let clock = Arc::clone(&self.clock);
        let work = queue.run(clock, CONCURRENT_LOOKS, stop, move |key| {
            Arc::clone(&self).reconcile(key)
        });
        work.await;
        while watches.join_next().await.is_some() {}
    }

    /// Looks at a claim; returns when to look again if nothing happens before.
    async fn reconcile(self: Arc<Self>, key: ClaimKey) -> Option<Timestamp> {
        match Box::pin(self.look(&key)).await {
            Ok(wake) => {
                self.failures.forget(&key);
                wake
            }
            Err(error) => {
                let wait = REQUEST.after(self.failures.count(&key), jitter());
                if matches!(error, Error::Apply(crate::apply::Error::Outdated { .. })) {
                    tracing::debug!(claim = %key, error = chain(&error), "looked at again");
                } else {
                    tracing::warn!(claim = %key, error = chain(&error), retry_in = %wait, "claim not filled");
                }
                Some(self.clock.now() + wait)
            }
        }
    }

    async fn look(&self, key: &ClaimKey) -> Result<Option<Timestamp>, Error> {
        let world = Box::pin(observe::world(&self.client, key, &self.settings)).await?;
        let plan = plan(&Input {
            key,
            world: &world,
            settings: &self.settings,
            now: self.clock.now(),
        });
        let written = apply::write(&self.client, key, &plan.writes).await;
        let notes = match &written {
            Ok(()) => plan.events,
            Err(error) => plan.complaint(error).into_iter().collect(),
        };
        self.events
            .emit(&self.client, key, &notes, self.clock.now())
            .await;
        written?;
        if world.claim.is_none() {
            self.events.forget(key);
        }
        Ok(plan.wake)
    }
}
