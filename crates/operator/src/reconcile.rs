//! One look at one resource: observe, validate, plan, apply, status.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use kube::Client;
use rand::Rng;
use syncline_api::names::Side;

use crate::apply::{self, Writer};
use crate::backoff::REQUEST;
use crate::business::is_ours;
use crate::clock::Clock;
use crate::crowd::Crowd;
use crate::events::Events;
use crate::failures::Failures;
use crate::follow::{Followers, Place};
use crate::images::Images;
use crate::kinds::Key;
use crate::metrics::{Measure, Metrics};
use crate::observe::{self, Resource, World};
use crate::options::Movers;
use crate::plan::{Call, Input, Moment, Plan, Settings, plan, refused};
use crate::queue::Queue;
use crate::rights::Rights;
use crate::rivals::Rivals;
use crate::slots::Slots;
use crate::status::{State, document};
use crate::subject::Subject;
use crate::validate::{chosen_mover, validate};

/// What all looks share.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The operator's settings.
    pub settings: Settings,
    /// What the operator may not do.
    pub rights: Arc<Rights>,
    /// Whose resources are looked after.
    pub movers: Movers,
    /// Where to ask for another look.
    pub queue: Queue<Key>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The events that were emitted.
    pub events: Events,
    /// The logs that are followed.
    pub followers: Followers,
    /// The places for running transfers.
    pub slots: Slots,
    /// Requests that failed in a row.
    pub failures: Failures,
    /// Who keeps failing.
    pub crowd: Crowd,
    /// Other controllers that write the same status.
    pub rivals: Rivals,
    /// The movers' images that turned out to be somebody else's.
    pub images: Images,
}

/// Why a look did not come to its end.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Observe(#[from] observe::Error),
    #[error(transparent)]
    Apply(#[from] apply::Error),
}

impl Context {
    /// Looks at a resource; returns when to look again if nothing happens before.
    pub async fn reconcile(self: Arc<Self>, key: Key) -> Option<Timestamp> {
        match Box::pin(self.look(&key)).await {
            Ok(wake) => {
                self.failures.forget(&key);
                wake
            }
            Err(error) => {
                let wait = self.wait(&key, &error);
                if matches!(error, Error::Apply(apply::Error::Outdated { .. })) {
                    tracing::debug!(resource = %key, error = chain(&error), "looked at again");
                } else {
                    tracing::warn!(resource = %key, error = chain(&error), retry_in = %wait, "reconciliation failed");
                }
                Some(self.clock.now() + wait)
            }
        }
    }

    /// How long to wait after a look that failed. What is refused takes turns with all else that fails; what just did not
    /// get through is over for all at the same time.
    fn wait(&self, key: &Key, error: &Error) -> SignedDuration {
        let failures = self.failures.count(key);
        if !matches!(error, Error::Apply(apply::Error::Refused { .. })) {
            return REQUEST.after(failures, jitter());
        }
        let wait = REQUEST.among(self.crowd.size_with(key), failures, jitter());
        self.crowd.join(key, self.clock.now() + wait);
        wait
    }

    async fn look(&self, key: &Key) -> Result<Option<Timestamp>, Error> {
        // observe
        let Some(resource) = observe::resource(&self.client, key).await? else {
            self.forget(key);
            return Ok(None);
        };
        let subject = resource.subject();
        if !is_ours(&self.movers, &subject) {
            self.forget(key);
            return Ok(None);
        }
        if let Some(until) = self.rivals.hold(&subject, self.clock.now(), jitter()) {
            return Ok(Some(until));
        }
        let seen = Box::pin(observe::world(&self.client, &subject, &self.settings)).await;
        if let Err(error) = &seen {
            self.tell_what_is_hidden(&resource, &subject, error).await?;
        }
        let mut world = seen?;
        world.progress = self.followers.progress(key, self.clock.now());
        world.reported = self.followers.reported(key);
        world.may_start = self.may_start(&subject);
        world.image_distrusted_until = self.images.hold(
            self.image(&subject),
            key,
            is_about_to_launch(&subject, &world, self.clock.now()),
            self.clock.now(),
        );
        world.failing = self.crowd.size_with(key);
        world.called = self.crowd.is_called(key);
        world.forbidden = self.rights.complaint();
        world.refusal = self.failures.refusal(key);

        // validate
        let moment = moment(&*self.clock);
        let validated = validate(&subject, moment.now, &self.settings.zone);

        // plan
        let input = Input {
            subject: &subject,
            wish: validated.as_ref(),
            world: &world,
            moment: &moment,
            settings: &self.settings,
        };
        let plan = plan(&input);

        // apply, status
        let written = self.write(&resource, &subject, &plan).await;
        self.settle(&subject, &plan);
        match written {
            Ok(()) => {
                self.tell(&subject, &plan).await;
                self.reckon(key, plan.status.as_ref());
                Ok(plan.wake)
            }
            Err(error) => {
                self.complain(&resource, &subject, &input, &error).await?;
                Err(error.into())
            }
        }
    }

    /// Whatever is made comes before the status that counts on it, whatever is deleted after the status that lets it go.
    async fn write(
        &self,
        resource: &Resource,
        subject: &Subject,
        plan: &Plan,
    ) -> Result<(), apply::Error> {
        let writer = Writer::new(&self.client, &subject.key.namespace);
        writer.write(&plan.changes, &plan.apply).await?;
        if let Some(state) = &plan.status {
            self.write_status(resource, subject, state).await?;
        }
        writer.delete(&plan.delete).await
    }

    async fn write_status(
        &self,
        resource: &Resource,
        subject: &Subject,
        state: &State,
    ) -> Result<(), apply::Error> {
        let Some(change) = resource.status_change(state) else {
            return Ok(());
        };
        tracing::debug!(resource = %subject.key, ?change, "status");
        let writer = Writer::new(&self.client, &subject.key.namespace);
        let mut version = subject.resource_version.clone();
        if let Some(memory) = &change.memory {
            version = writer
                .remember(&subject.key, memory, version.as_deref())
                .await?;
        }
        let Some(status) = &change.status else {
            return Ok(());
        };
        let document = document(status, version.as_deref());
        let written = writer.write_status(&subject.key, &document).await?;
        self.rivals.spoke(&subject.key, self.clock.now());
        if let Some(memory) = written.memory_after(state) {
            let version = written.metadata().resource_version.as_deref();
            writer.remember(&subject.key, &memory, version).await?;
        }
        Ok(())
    }

    /// Says in the status what the API server refuses. The same words again cost no write.
    async fn complain(
        &self,
        resource: &Resource,
        subject: &Subject,
        input: &Input<'_>,
        error: &apply::Error,
    ) -> Result<(), apply::Error> {
        match error {
            apply::Error::Refused { .. } => {
                self.failures.refused(&subject.key, error.to_string());
                self.write_status(resource, subject, &refused(input, &error.to_string()))
                    .await
            }
            apply::Error::Outdated { .. } | apply::Error::Unavailable { .. } => Ok(()),
        }
    }

    /// Says in the status that the operator may not read what a plan would rest on.
    async fn tell_what_is_hidden(
        &self,
        resource: &Resource,
        subject: &Subject,
        error: &observe::Error,
    ) -> Result<(), apply::Error> {
        if !error.is_forbidden() {
            return Ok(());
        }
        let world = World {
            forbidden: self.rights.complaint(),
            ..World::default()
        };
        let moment = moment(&*self.clock);
        let validated = validate(subject, moment.now, &self.settings.zone);
        let input = Input {
            subject,
            wish: validated.as_ref(),
            world: &world,
            moment: &moment,
            settings: &self.settings,
        };
        let words = format!("Forbidden: {}", chain(error));
        self.write_status(resource, subject, &refused(&input, &words))
            .await
    }

    /// Events, metrics and calls: what follows from the plan outside of the resource's own objects.
    async fn tell(&self, subject: &Subject, plan: &Plan) {
        let now = self.clock.now();
        // Without exactly one mover there is no value for the label `method`, and nothing to measure.
        if let Some(mover) = chosen_mover(&subject.spec) {
            self.metrics.settle_on(&subject.key, mover.as_str());
            for measure in &plan.measures {
                self.metrics
                    .record(&subject.key, mover.as_str(), *measure, now);
            }
        }
        self.events
            .emit(&self.client, subject, &plan.events, now)
            .await;
        self.call(subject, plan);
    }

    fn call(&self, subject: &Subject, plan: &Plan) {
        let follows = |call: &Call| matches!(call, Call::Follow { .. });
        if !plan.calls.iter().any(follows) {
            self.followers.forget(&subject.key);
        }
        for call in &plan.calls {
            match call {
                Call::Follow {
                    pod,
                    uid,
                    container,
                } => self.followers.follow(
                    &self.client,
                    &subject.key,
                    Place {
                        pod,
                        uid,
                        container,
                    },
                    (&self.queue, &self.clock),
                ),
                Call::Distrust { image } => {
                    self.images.distrust(image, self.clock.now(), jitter());
                }
            }
        }
        let worked = |measure: &Measure| matches!(measure, Measure::Synchronized(_));
        if plan.measures.iter().any(worked) {
            self.images.trust(self.image(subject));
        }
    }

    /// The image of the movers that a resource would have.
    fn image(&self, subject: &Subject) -> &str {
        self.settings.images.of(subject.spec.acting_mover())
    }

    fn may_start(&self, subject: &Subject) -> bool {
        // A destination waits for its source for as long as that takes, so it holds nobody up.
        subject.key.side == Side::Destination
            || self
                .slots
                .take(&subject.key, transfers(&subject.state, self.clock.now()))
    }

    fn settle(&self, subject: &Subject, plan: &Plan) {
        let now = self.clock.now();
        let runs =
            !plan.waits_for_user && transfers(plan.status.as_ref().unwrap_or(&subject.state), now);
        for waiting in self.slots.settle(&subject.key, runs) {
            self.queue.add(waiting, now);
        }
    }

    /// Counts a resource among those that keep failing, or not any more: then what kept it may have kept others, who are
    /// told to try.
    fn reckon(&self, key: &Key, state: Option<&State>) {
        let now = self.clock.now();
        let retry = state.and_then(|state| state.retry.as_ref());
        match retry.filter(|retry| retry.failures.is_some_and(|failures| failures > 0)) {
            Some(retry) => {
                let next = retry.next_attempt.as_ref();
                self.crowd.join(key, next.map_or(now, |next| next.0));
            }
            None => {
                for other in self.crowd.leave(key) {
                    self.queue.add(other, now);
                }
            }
        }
    }

    fn forget(&self, key: &Key) {
        self.crowd.forget(key);
        self.metrics.forget(key);
        self.followers.forget(key);
        self.failures.forget(key);
        self.events.forget(key);
        self.rivals.forget(key);
        for waiting in self.slots.settle(key, false) {
            self.queue.add(waiting, self.clock.now());
        }
    }
}

/// Whether a Job is the next thing that a resource needs.
fn is_about_to_launch(subject: &Subject, world: &World, now: Timestamp) -> bool {
    transfers(&subject.state, now) && world.job.is_none()
}

/// Whether a run is under way and does not just wait for its next try.
fn transfers(state: &State, now: Timestamp) -> bool {
    let waits = state
        .retry
        .as_ref()
        .and_then(|retry| retry.next_attempt.as_ref())
        .is_some_and(|next| now < next.0);
    state.last_sync_start_time.is_some() && !waits
}

/// The moment, with what chance gives.
fn moment(clock: &dyn Clock) -> Moment {
    let mut seeds = ([0; 32], [0; 32]);
    rand::rng().fill_bytes(&mut seeds.0);
    rand::rng().fill_bytes(&mut seeds.1);
    Moment {
        now: clock.now(),
        jitter: jitter(),
        seeds,
    }
}

/// A random number in `0.0..1.0`.
pub(crate) fn jitter() -> f64 {
    f64::from(rand::rng().next_u32()) / (f64::from(u32::MAX) + 1.0)
}

/// An error with its causes. Of an answer of the API server only its own words count: kube shows all fields along with
/// them, twice.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let answer = answer_of(error);
        let words = answer.map_or_else(|| error.to_string(), str::to_owned);
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = error.source().filter(|_| answer.is_none());
    }
    text
}

/// What the API server said, if that is the error.
fn answer_of<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a str> {
    let error = error
        .downcast_ref::<kube::Error>()
        .or_else(|| error.downcast_ref::<Box<kube::Error>>().map(AsRef::as_ref));
    match error {
        Some(kube::Error::Api(status)) => {
            Some(status.message.as_str()).filter(|text| !text.is_empty())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[test]
    fn an_answer_of_the_server_is_logged_in_its_own_words() {
        let status = Status {
            code: 503,
            message: "etcd is away".to_owned(),
            ..Status::default()
        };
        let error = Error::Apply(apply::Error::Unavailable {
            object: "Job site-a/db".to_owned(),
            action: "applied".to_owned(),
            source: Box::new(kube::Error::Api(Box::new(status))),
        });
        assert_eq!(
            chain(&error),
            "Job site-a/db could not be applied: etcd is away"
        );
    }
}
