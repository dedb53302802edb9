//! The operator's work: all of it, whenever this operator is the one that is to do it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::tz::TimeZone;
use kube::Client;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::leader::Elector;
use crate::metrics::Metrics;
use crate::options::Options;
use crate::populator::Populator;
use crate::queue::Queue;
use crate::reconcile::Context;
use crate::rights::Rights;
use crate::{
    Error, crowd, events, failures, follow, images, plan, populator, rivals, runtime, slots,
    supervise,
};

/// How many resources are looked at at once.
const CONCURRENT_LOOKS: usize = 32;

/// What works, and what it shows to the outside.
pub(crate) struct Worker {
    pub(crate) client: Client,
    pub(crate) options: Options,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) ready: Arc<AtomicBool>,
    pub(crate) rights: Arc<Rights>,
}

impl Worker {
    /// Works until `stop`, in terms between which another operator holds the lease. Each term starts from nothing but
    /// what the cluster says, as a new process would.
    pub(crate) async fn run(self, stop: CancellationToken) -> Result<(), Error> {
        let Some(election) = self.options.election.clone() else {
            return self.work(self.client.clone(), stop).await;
        };
        let mut elector = Elector::new(&self.client, election, Arc::clone(&self.clock));
        // A follower has nothing to list: it is ready when it can see who leads.
        let seen = || self.ready.store(true, Ordering::Release);
        while let Some(fence) = elector.acquire(&stop, seen).await {
            let term = stop.child_token();
            let ended = tokio::select! {
                ended = self.work(fence.around(&self.client), term) => Some(ended),
                () = elector.keep(&fence) => None,
            };
            // Whatever was under way has been cut off by now, and the fence lets no write through.
            self.metrics.clear();
            if let Some(ended) = ended {
                elector.release(&fence).await;
                return ended;
            }
        }
        Ok(())
    }

    /// Watches and acts until `stop`; looks under way then are waited for.
    async fn work(&self, client: Client, stop: CancellationToken) -> Result<(), Error> {
        let (queue, populating) = (Queue::default(), client.clone());
        let context = Arc::new(Context {
            client: client.clone(),
            clock: Arc::clone(&self.clock),
            settings: self.options.plan_settings(),
            movers: self.options.movers.clone(),
            queue: queue.clone(),
            metrics: Arc::clone(&self.metrics),
            events: events::Events::default(),
            followers: follow::Followers::default(),
            slots: slots::Slots::new(self.options.max_concurrent_syncs),
            failures: failures::Failures::default(),
            crowd: crowd::Crowd::default(),
            images: images::Images::default(),
            rivals: rivals::Rivals::default(),
            rights: Arc::clone(&self.rights),
        });
        let mut parts: JoinSet<Result<(), Error>> = JoinSet::new();
        let mut watches = runtime::Watches::start(
            client,
            (
                self.options.watch_namespace.clone(),
                self.options.plan_settings().pull_secrets,
            ),
            queue.clone(),
            Arc::clone(&self.clock),
            (Arc::clone(&self.ready), self.rights.changes(), stop.clone()),
        );
        parts.spawn(async move {
            while watches.join_next().await.is_some() {}
            Ok(())
        });
        let work = queue.run(
            Arc::clone(&self.clock),
            CONCURRENT_LOOKS,
            stop.clone(),
            move |key| Arc::clone(&context).reconcile(key),
        );
        parts.spawn(async move {
            work.await;
            Ok(())
        });
        let filling = populator::Settings {
            namespace: self.options.watch_namespace.clone(),
            movers: self.options.movers.clone(),
        };
        let populator = Populator::new(populating, Arc::clone(&self.clock), filling);
        let filled = populator.run(stop.clone());
        parts.spawn(async move {
            filled.await;
            Ok(())
        });
        supervise(parts, &stop).await
    }
}

impl Options {
    /// What of it plans depend on.
    pub(crate) fn plan_settings(&self) -> plan::Settings {
        plan::Settings {
            zone: self.zone.clone().unwrap_or_else(TimeZone::system),
            images: self.images.clone(),
            proxies: self.proxies.clone(),
            rsync_port: self.rsync_port,
            mover_log: self.mover_log,
            pull_secrets: plan::PullSecrets {
                namespace: self.own_namespace.clone(),
                names: self.mover_pull_secrets.clone(),
            },
        }
    }
}
