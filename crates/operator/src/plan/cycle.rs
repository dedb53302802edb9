//! The cycle of runs, alike for both sides: when one starts, how it goes on, and how it ends.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;
use syncline_api::conditions::{self, NewCondition};
use syncline_api::names::{self, Mover, Side};
use syncline_api::report::MoverResult;
use syncline_api::status::Retry;
use syncline_api::{GoDuration, conditions as names_of};
use syncline_schedule::{Assessment, History, Trigger};

use super::cleanup::{After, drop_unfinished_image, relinquish_marked, sweep};
use super::copies::{Data, check, prepare};
use super::draft::{Draft, reference, same};
use super::job::{Run, build, is_our_run, parallelism};
use super::outcome::{self, Words};
use super::placement::beside_all;
use super::pod::check_extra;
use super::standing::{self, Standing};
use super::stuck::stuck;
use super::{
    Call, Change, Fault, Input, Kind, Object, Plan, anew, consistency, foreign, images, lost,
    rclone, rsync, trigger,
};
use crate::backoff::TRANSFER;
use crate::metrics::Measure;
use crate::status::State;
use crate::validate::{Invalid, Refusal, Validated};

/// What can be counted on: the spec and what stands for it, or what is wrong with the spec, or with the world.
enum Footing<'a> {
    Firm(&'a Validated, Standing),
    Faulty(&'a Validated, Fault),
    Invalid(&'a Invalid),
}

impl<'a> Footing<'a> {
    fn wish(&self) -> Option<&'a Validated> {
        match self {
            Self::Firm(wish, _) | Self::Faulty(wish, _) => Some(wish),
            Self::Invalid(_) => None,
        }
    }

    fn firm(&self) -> Option<(&'a Validated, &Standing)> {
        match self {
            Self::Firm(wish, standing) => Some((wish, standing)),
            Self::Faulty(..) | Self::Invalid(_) => None,
        }
    }

    fn complaint(&self) -> Option<String> {
        match self {
            Self::Firm(..) => None,
            Self::Faulty(_, fault) => Some(fault.to_string()),
            Self::Invalid(invalid) => Some(invalid.to_string()),
        }
    }
}

/// Plans the next step of a resource.
pub fn plan(input: &Input<'_>) -> Plan {
    if input.subject.deleting || matches!(input.wish, Err(Refusal::NotOurs)) {
        return Plan::default();
    }
    let mut draft = Draft::new(input);
    if input.subject.key.side == Side::Destination {
        relinquish_marked(&mut draft, input);
    }
    let footing = match input.wish {
        Ok(wish) => match standing::ensure(&mut draft, input, wish) {
            Ok(standing) => Footing::Firm(wish, standing),
            Err(fault) => Footing::Faulty(wish, fault),
        },
        Err(Refusal::Invalid(invalid)) => Footing::Invalid(invalid),
        Err(Refusal::NotOurs) => return Plan::default(),
    };
    if input.subject.key.side == Side::Source {
        trigger::complete(&mut draft, input);
    }
    measure(&mut draft, input, &footing);
    if input.subject.state.last_sync_start_time.is_some() {
        go_on(&mut draft, input, &footing);
    } else {
        rest(&mut draft, input, &footing);
    }
    draft.finish()
}

/// The status of a resource for which the API server refused something: as it was, with the complaint.
pub fn refused(input: &Input<'_>, message: &str) -> State {
    let mut draft = Draft::new(input);
    draft.complain(message);
    draft.state
}

/// What the trigger says; `None` where there is no readable one.
fn assess(
    input: &Input<'_>,
    footing: &Footing<'_>,
    last_sync_time: Option<Timestamp>,
) -> Option<Assessment> {
    let state = &input.subject.state;
    let history = History {
        last_sync_time,
        last_manual_sync: state.last_manual_sync.as_deref(),
    };
    footing
        .wish()?
        .trigger
        .assess(history, input.now(), &input.settings.zone)
        .ok()
}

fn measure(draft: &mut Draft<'_>, input: &Input<'_>, footing: &Footing<'_>) {
    let last = input.subject.state.last_sync_time;
    let missed = assess(input, footing, last).map(|assessment| assessment.missed_deadline);
    // Without a readable schedule nothing is known of its deadlines, and what was said last stands.
    if let Some(behind) = last.is_none().then_some(true).or(missed) {
        draft.plan.measures.push(Measure::OutOfSync(behind));
    }
}

// === a run goes on ===

fn go_on(draft: &mut Draft<'_>, input: &Input<'_>, footing: &Footing<'_>) {
    wake_at_deadline(draft, input, footing);
    let Some(job) = &input.world.job else {
        return launch(draft, input, footing);
    };
    if let Err(fault) = input.check_owned("Job", Some(&job.metadata)) {
        return draft.complain_of(&fault);
    }
    if job.metadata.deletion_timestamp.is_some() {
        must_wait(draft, input);
        return;
    }
    if let Some(fault) = foreign::fault(input, job) {
        let image = foreign::image_of(job).unwrap_or_default();
        draft.plan.calls.push(Call::Distrust { image });
        return fail(draft, input, &outcome::words(input, "Failed"), &fault);
    }
    match outcome::standing(job) {
        outcome::Standing::UnderWay => match outcome::early_words(input, job) {
            Some(words) => succeeded(draft, input, footing, (job, words)),
            None => under_way(draft, input, footing, job),
        },
        outcome::Standing::Succeeded => {
            let words = outcome::words(input, "Succeeded");
            succeeded(draft, input, footing, (job, words));
        }
        outcome::Standing::Failed => {
            let words = outcome::words(input, "Failed");
            let fault = words.fault(input);
            fail(draft, input, &words, &fault);
        }
    }
}

/// The gauge has to rise when a deadline passes, even if nothing else happens.
fn wake_at_deadline(draft: &mut Draft<'_>, input: &Input<'_>, footing: &Footing<'_>) {
    let Some(Trigger::Schedule(schedule)) = footing.wish().map(|wish| &wish.trigger) else {
        return;
    };
    let Some(last) = input.subject.state.last_sync_time else {
        return;
    };
    let zone = &input.settings.zone;
    if let Ok(deadline) = schedule
        .next(last, zone)
        .and_then(|next| schedule.next(next, zone))
    {
        // Strictly later: a run that ends at that very moment is in time.
        let passed = deadline + SignedDuration::from_secs(1);
        if input.now() < passed {
            draft.wake(passed);
        }
    }
}

fn under_way(draft: &mut Draft<'_>, input: &Input<'_>, footing: &Footing<'_>, job: &Job) {
    let wanted = parallelism(input);
    if job
        .spec
        .as_ref()
        .and_then(|spec| spec.parallelism)
        .unwrap_or(1)
        != wanted
    {
        draft.plan.changes.push(Change {
            target: same(Kind::Job, &job.metadata),
            patch: json!({ "spec": { "parallelism": wanted } }),
        });
    }
    if let Some(pod) = outcome::running(input) {
        let container = outcome::container_of(pod).unwrap_or_else(|| input.mover().as_str());
        draft.plan.calls.push(Call::Follow {
            pod: pod.metadata.name.clone().unwrap_or_default(),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            container: container.to_owned(),
        });
    }
    if let Some(progress) = &input.world.progress {
        draft.state.progress = Some(progress.clone());
    }
    if input.subject.key.side == Side::Destination
        && let Some((pod, _)) = outcome::reported_success(input)
    {
        images::begin(draft, input, &Run::of(job, footing.wish()), pod);
    }
    let (stuck, look_again) = stuck(input, job);
    if let Some(at) = look_again {
        draft.wake(at);
    }
    if anew::makes_way(input, footing.firm(), job, stuck.is_some()) {
        // Nothing is in flight, and what was corrected may be what kept it.
        sweep(draft, input, After::Failure);
        rclone::begin_anew(draft, input);
        draft.forget_cause();
        return draft.say(conditions::sync_in_progress(input.subject.generation));
    }
    rclone::tell_waiting(draft, input, footing.wish(), job);
    if let Some(fault) = &stuck
        && !draft.is_told(&fault.beginning())
    {
        let related = Some(reference("batch/v1", "Job", &job.metadata));
        draft.warn(fault.word(), "CreateMover", fault.to_string(), related);
    }
    let in_progress = conditions::sync_in_progress(input.subject.generation);
    match (stuck.or_else(|| failing(draft, input)), footing.complaint()) {
        (Some(fault), _) => draft.complain(&fault.to_string()),
        // What is wrong with the spec now is no business of a run that started before.
        (None, Some(complaint)) => draft.say_despite(in_progress, &complaint),
        (None, None) => draft.say(in_progress),
    }
}

/// What made a source's first tries within the Job fail, until one of them gets data across: three tries may take long,
/// and whoever mistyped an address should not wait for them. From then on it stands behind what goes on. A destination that
/// listens again, or waits again for a new version, has nothing to show before its source comes back, so there an earlier
/// failure says nothing.
fn failing(draft: &mut Draft<'_>, input: &Input<'_>) -> Option<Fault> {
    let progress = input.world.progress.as_ref();
    let moves = progress.is_some_and(|progress| {
        progress.rests() || progress.bytes_done.is_some_and(|bytes| bytes > 0)
    });
    let waits = input.subject.key.side == Side::Destination
        && match input.wish {
            Ok(wish) => wish.mover() == Mover::Rsync || rclone::waits_for_versions(wish),
            Err(_) => true,
        };
    if waits {
        return None;
    }
    let words = outcome::failed_words(input)?;
    let fault = words.fault(input);
    if moves {
        draft.follows(&fault);
        return None;
    }
    draft.state.latest_mover_status = Some(words.status(MoverResult::Failed));
    Some(fault)
}

fn succeeded(
    draft: &mut Draft<'_>,
    input: &Input<'_>,
    footing: &Footing<'_>,
    (job, words): (&Job, Words),
) {
    // The exit code says so, but the report is the mover's word.
    if words
        .report
        .as_ref()
        .is_some_and(|report| report.result == MoverResult::Failed)
    {
        let fault = words.fault(input);
        return fail(draft, input, &words, &fault);
    }
    // Of VolSync's movers the Job is all that is known; ours have nothing done without a report.
    if words.report.is_none() && is_our_run(job) {
        let fault = words.fault(input);
        return fail(draft, input, &words, &fault);
    }
    let run = Run::of(job, footing.wish());
    if input.subject.key.side == Side::Source {
        record(draft, input, &run, &words);
        let copies = [
            input.world.own_claim.as_ref().map(|claim| &claim.metadata),
            input
                .world
                .snapshot
                .as_ref()
                .map(|snapshot| &snapshot.metadata),
        ];
        consistency::judge(
            draft,
            input,
            copies
                .into_iter()
                .flatten()
                .filter(|copy| input.subject.owns(copy)),
        );
        return finish(draft, input, footing, &words);
    }
    match images::publish(draft, input, &run, words.pod.as_deref()) {
        Ok(Some(image)) => {
            draft.state.latest_image = Some(image);
            record(draft, input, &run, &words);
            finish(draft, input, footing, &words);
        }
        Ok(None) => draft.say(conditions::sync_in_progress(input.subject.generation)),
        Err(fault @ Fault::VolumeVanished { .. }) => fail(draft, input, &words, &fault),
        Err(fault) => draft.complain_of(&fault),
    }
}

/// Notes what only the mover knows of its success.
fn record(draft: &mut Draft<'_>, input: &Input<'_>, run: &Run, words: &Words) {
    let report = words.report.as_ref();
    match input.mover() {
        Mover::Rclone => rclone::record(draft, input, run, report),
        _ if input.subject.key.side == Side::Source => rsync::record(draft, run, report),
        _ => {}
    }
}

/// Records a success.
fn finish(draft: &mut Draft<'_>, input: &Input<'_>, footing: &Footing<'_>, words: &Words) {
    let now = to_second(input.now());
    let old = &input.subject.state;
    let missed = assess(input, footing, old.last_sync_time)
        .is_some_and(|assessment| assessment.missed_deadline);
    if missed {
        draft.plan.measures.push(Measure::MissedInterval);
    }
    if let Some(start) = old.last_sync_start_time {
        let took = rclone::took(input, words, start);
        draft.state.last_sync_duration = Some(GoDuration::from(took.unsigned_abs()));
        draft
            .plan
            .measures
            .push(Measure::Synchronized(took.as_secs_f64()));
    }
    draft.plan.measures.push(Measure::OutOfSync(false));
    let manual = input
        .subject
        .trigger()
        .and_then(|trigger| trigger.manual.clone());
    draft.state.last_manual_sync = manual.filter(|text| !text.is_empty());
    draft.state.last_sync_start_time = None;
    draft.state.last_sync_time = Some(now);
    draft.state.next_sync_time = footing
        .wish()
        .and_then(|wish| {
            wish.trigger
                .next_sync_time(Some(now), &input.settings.zone)
                .ok()
        })
        .flatten();
    draft.state.latest_mover_status = Some(words.status(MoverResult::Successful));
    lost::say(draft, input, words);
    draft.state.progress = None;
    draft.state.retry = None;
    draft.say(conditions::cleaning_up(input.subject.generation));
    draft.wake(input.now());
}

/// Records a failure, and when the next try is due.
fn fail(draft: &mut Draft<'_>, input: &Input<'_>, words: &Words, fault: &Fault) {
    let failures = input.subject.state.failures().saturating_add(1);
    let wait = TRANSFER.among(input.world.failing, failures, input.moment.jitter);
    let next = to_second(input.now() + wait + SignedDuration::from_millis(999));
    draft.state.retry = Some(Retry {
        failures: i32::try_from(failures).ok(),
        cause: Some(conditions::bounded(fault.to_string())),
        next_attempt: Some(Time(next)),
    });
    draft.state.latest_mover_status = Some(words.status(MoverResult::Failed));
    draft.state.progress = None;
    rclone::record_failure(draft, input);
    draft.complain(&fault.to_string());
    let related = input
        .world
        .job
        .as_ref()
        .map(|job| reference("batch/v1", "Job", &job.metadata));
    draft.warn("TransferFailed", "DeleteMover", fault.to_string(), related);
    sweep(draft, input, After::Failure);
    draft.wake(next);
}

/// Returns whether the next try is still to wait. A changed spec, or configuration of a store, is tried at once, and so is
/// one that is called because another resource has come through.
fn must_wait(draft: &mut Draft<'_>, input: &Input<'_>) -> bool {
    let state = &input.subject.state;
    let Some(next) = state
        .retry
        .as_ref()
        .and_then(|retry| retry.next_attempt.as_ref())
    else {
        return false;
    };
    if input.now() >= next.0 || input.world.called || is_corrected(input) {
        return false;
    }
    draft.wake(next.0);
    if let Some((_, cause)) = state.failed_before() {
        // Whatever else was wrong meanwhile is not any more.
        draft.complain(cause);
    }
    true
}

/// Whether the spec, or the configuration of a store, is another one than that which the status speaks of.
fn is_corrected(input: &Input<'_>) -> bool {
    let state = &input.subject.state;
    let told = state
        .condition(names_of::SYNCHRONIZING)
        .and_then(|condition| condition.observed_generation);
    told != input.subject.generation || rclone::is_reconfigured(input)
}

fn launch(draft: &mut Draft<'_>, input: &Input<'_>, footing: &Footing<'_>) {
    if is_corrected(input) {
        draft.forget_cause();
    }
    let (wish, standing) = match footing {
        Footing::Firm(wish, standing) => (*wish, standing),
        Footing::Faulty(_, fault) => return draft.complain_of(fault),
        Footing::Invalid(invalid) => return draft.complain_of_spec(invalid),
    };
    if must_wait(draft, input) || !dismissed_others(draft, input) {
        return;
    }
    if let Some(until) = input.world.image_distrusted_until {
        draft.wake(until);
        return draft.complain_of(&distrusted(input));
    }
    if !input.world.may_start {
        return hold(draft, input, wish);
    }
    if let Some(retry) = draft.state.retry.as_mut() {
        retry.next_attempt = None;
    }
    if input.subject.key.side == Side::Destination {
        drop_unfinished_image(draft, input);
    }
    let data = match prepare_all(draft, input, wish) {
        Ok(data) => data,
        Err(fault) => {
            look_again(draft, input, &fault);
            return draft.complain_of(&fault);
        }
    };
    draft.say(conditions::sync_in_progress(input.subject.generation));
    if let Some(data) = data.filter(|_| !standing.pending) {
        let job = build(input, wish, &data, standing);
        let related = reference("batch/v1", "Job", &job.metadata);
        draft.note(
            "TransferStarted",
            "CreateMover",
            "The mover starts to transfer data".to_owned(),
            Some(related),
        );
        draft.plan.apply.push(Object::Job(Box::new(job)));
    }
}

/// Whether no Job of another mover is left, which the spec chose before; each is ended first, for it would write to the same
/// volume, or wait for ever.
fn dismissed_others(draft: &mut Draft<'_>, input: &Input<'_>) -> bool {
    let named = names::job(input.mover(), input.subject.key.side, input.name());
    let others = input.world.labelled.jobs.iter();
    let others: Vec<&Job> = others
        .filter(|job| input.subject.owns(&job.metadata))
        .filter(|job| job.metadata.name.as_deref() != Some(&named))
        .collect();
    for job in &others {
        draft.delete(Kind::Job, &job.metadata);
    }
    if !others.is_empty() {
        draft.say(conditions::sync_in_progress(input.subject.generation));
    }
    others.is_empty()
}

/// What is said where another resource has found out about the image.
fn distrusted(input: &Input<'_>) -> Fault {
    Fault::foreign_image(
        input.mover(),
        input.image().to_owned(),
        "another resource's run with it has shown that".to_owned(),
    )
}

/// Sees to everything that the mover's pod mounts; `None` while it is not ready yet.
fn prepare_all(
    draft: &mut Draft<'_>,
    input: &Input<'_>,
    wish: &Validated,
) -> Result<Option<Data>, Fault> {
    check_extra(input, &wish.pod)?;
    let Some(mut data) = prepare(draft, input, &wish.volume)? else {
        return Ok(None);
    };
    data.placement = beside_all(input, data.placement, &wish.pod)?;
    Ok(Some(data))
}

/// Nodes are not watched, so what is wrong with one is looked at again: as long from now as the run has waited already,
/// within the bounds of all waiting.
fn look_again(draft: &mut Draft<'_>, input: &Input<'_>, fault: &Fault) {
    if let (Fault::NodeWithoutHostname { .. }, Some(start)) =
        (fault, input.subject.state.last_sync_start_time)
    {
        let waited = input.now().duration_since(start);
        draft.wake(input.now() + waited.max(TRANSFER.base).min(TRANSFER.cap));
    }
}

// === between runs ===

fn rest(draft: &mut Draft<'_>, input: &Input<'_>, footing: &Footing<'_>) {
    let swept = sweep(draft, input, After::Success);
    let assessment = assess(input, footing, input.subject.state.last_sync_time);
    draft.state.next_sync_time = assessment.and_then(|assessment| assessment.next_sync_time);
    draft.state.progress = None;
    if swept {
        draft.say(conditions::cleaning_up(input.subject.generation));
        return draft.wake(input.now());
    }
    let (wish, pending) = match footing {
        Footing::Firm(wish, standing) => (*wish, standing.pending),
        // What was due stays due, and a change of what is wrong has it looked at again.
        Footing::Faulty(_, fault) => return draft.complain_of(fault),
        Footing::Invalid(invalid) => return draft.complain_of_spec(invalid),
    };
    if let Err(fault) = check(input, &wish.volume).and_then(|()| check_extra(input, &wish.pod)) {
        return draft.complain_of(&fault);
    }
    if assessment.is_some_and(|assessment| assessment.due) {
        if pending {
            let mut held = waiting(input, wish);
            "Waiting for an address of the mover's Service".clone_into(&mut held.message);
            draft.say(held);
        } else {
            start(draft, input, wish);
        }
        return;
    }
    draft.say(waiting(input, wish));
    if let Some(next) = draft.state.next_sync_time {
        draft.wake(next);
    }
}

fn start(draft: &mut Draft<'_>, input: &Input<'_>, wish: &Validated) {
    if !input.world.may_start {
        return hold(draft, input, wish);
    }
    draft.state.last_sync_start_time = Some(to_second(input.now()));
    draft.say(conditions::sync_in_progress(input.subject.generation));
    draft.wake(input.now());
}

/// Says that as many transfers run as may; the end of one wakes the next.
fn hold(draft: &mut Draft<'_>, input: &Input<'_>, wish: &Validated) {
    let mut held = waiting(input, wish);
    "Waiting for other transfers to end: as many run as the operator allows at once"
        .clone_into(&mut held.message);
    draft.say(held);
}

fn waiting(input: &Input<'_>, wish: &Validated) -> NewCondition {
    match &wish.trigger {
        Trigger::Manual(_) => conditions::waiting_for_manual(input.subject.generation),
        Trigger::Schedule(_) | Trigger::None => {
            conditions::waiting_for_schedule(input.subject.generation)
        }
    }
}

/// Kubernetes writes times to the second.
pub(super) fn to_second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}
