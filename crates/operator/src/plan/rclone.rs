//! rclone: what the store needs to be there, the container of a run, and what is remembered of one.
//!
//! Both sides talk to a store and not to each other, so there are neither keys nor a Service. What the Secret holds reaches
//! the mover as files; nothing of it stands in the pod's spec.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Container, EnvVar, PersistentVolumeClaim, Volume};
use syncline_api::conditions;
use syncline_api::keys::RCLONE_CONF;
use syncline_api::movers::rclone::RcloneRemote;
use syncline_api::names::{self, Mover, Side};
use syncline_api::report::{Progress, Report};
use syncline_api::{env, labels};
use syncline_schedule::Trigger;

use super::copies::Data;
use super::cycle::to_second;
use super::draft::Draft;
use super::job::{DATA, Run, data_volume, debugging, guard, program, variable};
use super::outcome::Words;
use super::pod::{self, Parts, Rights, certificate, in_memory, mount};
use super::standing::Standing;
use super::{Fault, Input};
use crate::observe::Keys;
use crate::status::RcloneState;
use crate::subject::has_label;
use crate::validate::{Certificate, Method, Rclone, Target, Validated, Volume as Wish};

/// Where the pod finds the volume; `VolSync`'s place, as are the next ones.
const DATA_PLACE: &str = "/data";
/// Where it finds the Secret.
const CONFIG: &str = "rclone-secret";
const CONFIG_PLACE: &str = "/rclone-config";
/// Where it finds the certificate.
const CERTIFICATE: &str = "custom-ca";
const CERTIFICATE_PLACE: &str = "/customCA";
const CERTIFICATE_FILE: &str = "ca.crt";
/// Where it keeps what nobody else is to see.
const SCRATCH: &str = "tempdir";

/// What a run can count on.
pub(super) fn stand(
    input: &Input<'_>,
    rclone: &Rclone,
    account: Result<String, Fault>,
) -> Result<Standing, Fault> {
    let service_account = account?;
    check_config(input, rclone)?;
    if let Some(certificate) = &rclone.certificate {
        check_certificate(input, certificate)?;
    }
    Ok(Standing {
        service_account,
        secret: rclone.config.clone(),
        pending: false,
    })
}

fn check_config(input: &Input<'_>, rclone: &Rclone) -> Result<(), Fault> {
    let (namespace, name) = (input.namespace().to_owned(), rclone.config.clone());
    let Some(config) = &input.world.store.config else {
        return Err(Fault::ConfigMissing { namespace, name });
    };
    if !config.keys.contains(RCLONE_CONF) {
        return Err(Fault::ConfigIncomplete { namespace, name });
    }
    match missing_section(config, &rclone.section) {
        Some(known) => Err(Fault::SectionMissing {
            section: rclone.section.clone(),
            known,
            namespace,
            name,
        }),
        None => Ok(()),
    }
}

/// What there is instead of a section, if it is not there. A store may be described by the Secret's other keys too.
fn missing_section(config: &Keys, section: &str) -> Option<String> {
    let sections = config.sections.as_ref()?;
    let variable = format!("RCLONE_CONFIG_{}_TYPE", section.to_uppercase());
    if sections.contains(section) || config.keys.contains(&variable) {
        return None;
    }
    let known: Vec<&str> = sections.iter().map(String::as_str).take(8).collect();
    Some(if known.is_empty() {
        "it has none".to_owned()
    } else {
        format!("it has: {}", known.join(", "))
    })
}

fn check_certificate(input: &Input<'_>, wanted: &Certificate) -> Result<(), Fault> {
    let (kind, namespace, name) = (
        wanted.holder.kind(),
        input.namespace().to_owned(),
        wanted.name.clone(),
    );
    match &input.world.store.certificate {
        None => Err(Fault::CertificateMissing {
            kind,
            namespace,
            name,
        }),
        Some(found) if !found.keys.contains(&wanted.key) => Err(Fault::CertificateIncomplete {
            kind,
            namespace,
            name,
            key: wanted.key.clone(),
        }),
        Some(_) => Ok(()),
    }
}

/// What it brings to its pod. Labels are the user's alone, as with `VolSync`.
pub(super) fn parts(
    input: &Input<'_>,
    of: (&Validated, &Rclone),
    data: &Data,
    standing: &Standing,
) -> Parts {
    Parts {
        container: container(input, of, data),
        volumes: volumes(input, of, data, standing),
        service_account: standing.service_account.clone(),
        placement: data.placement.clone(),
        ..Parts::default()
    }
}

fn container(input: &Input<'_>, of: (&Validated, &Rclone), data: &Data) -> Container {
    let mut mounts = vec![
        mount(DATA, DATA_PLACE, data.read_only),
        mount(CONFIG, CONFIG_PLACE, false),
        mount(SCRATCH, "/tmp", false),
    ];
    let (_, rclone) = of;
    mounts.extend(
        rclone
            .certificate
            .iter()
            .map(|_| mount(CERTIFICATE, CERTIFICATE_PLACE, false)),
    );
    Container {
        env: Some(environment(input, of, data)),
        volume_mounts: Some(mounts),
        ..program(input)
    }
}

fn environment(
    input: &Input<'_>,
    (wish, rclone): (&Validated, &Rclone),
    data: &Data,
) -> Vec<EnvVar> {
    let key = &input.subject.key;
    let direction = match key.side {
        Side::Source => "source",
        Side::Destination => "destination",
    };
    let mut all = vec![
        variable(env::RCLONE_CONFIG, format!("{CONFIG_PLACE}/{RCLONE_CONF}")),
        variable(env::RCLONE_DEST_PATH, rclone.path.as_str()),
        variable(env::DIRECTION, direction),
        variable(env::MOUNT_PATH, DATA_PLACE),
        variable(env::RCLONE_CONFIG_SECTION, rclone.section.as_str()),
    ];
    if rclone.certificate.is_some() {
        let place = format!("{CERTIFICATE_PLACE}/{CERTIFICATE_FILE}");
        all.push(variable(env::CUSTOM_CA, place));
    }
    let privileged = pod::rights(input, wish) != Rights::None;
    all.push(variable(
        env::PRIVILEGED_MOVER,
        if privileged { "1" } else { "0" },
    ));
    let proxies = input.settings.proxies.iter();
    all.extend(proxies.map(|(name, value)| variable(name, value.as_str())));
    all.extend([
        variable(env::OWNER_UID, input.subject.uid.as_str()),
        variable(env::OWNER_NAMESPACE, key.namespace.as_str()),
        variable(env::OWNER_NAME, key.name.as_str()),
    ]);
    let state_path = rclone.state_path.as_deref();
    all.extend(state_path.map(|path| variable(env::STATE_PATH, path)));
    match key.side {
        Side::Source => all.extend(memory_of_source(input, (wish, rclone), data)),
        Side::Destination => all.extend(memory_of_destination(input, (wish, rclone), data)),
    }
    all.extend(debugging(input));
    all
}

/// What a source is told of its last run.
fn memory_of_source(
    input: &Input<'_>,
    (wish, rclone): (&Validated, &Rclone),
    data: &Data,
) -> Vec<EnvVar> {
    let old = input.subject.state.rclone.clone().unwrap_or_default();
    let now = volume(input, (&data.claim, place(input, wish)), is_kept(wish));
    // Of another volume than last time, or for another place, nothing is known, whatever the files look like.
    let other = old.volume.is_some_and(|known| known != now);
    let (every, runs) = if other {
        (1, 1)
    } else {
        let runs = old.runs_since_full_check.unwrap_or_default();
        (rclone.full_check_every, runs.unsigned_abs())
    };
    // What it sent here before it may send again, although it is not let see whose the path is.
    let was_blind = !other && old.blind == Some(true);
    let mut all: Vec<EnvVar> = guard(input).collect();
    let generation = old.generation.filter(|_| !other);
    all.extend(generation.map(|generation| variable(env::LAST_GENERATION, generation)));
    all.push(variable(env::FULL_CHECK_EVERY, every.to_string()));
    all.push(variable(env::RUNS_SINCE_FULL_CHECK, runs.to_string()));
    let cluster = input.world.cluster.as_deref();
    all.extend(cluster.map(|uid| variable(env::OWNER_CLUSTER, uid)));
    let take_over = take_over(input, wish);
    all.extend(take_over.map(|uid| variable(env::TAKE_OVER, uid)));
    all.extend((rclone.sole_writer || was_blind).then(|| variable(env::SOLE_WRITER, "1")));
    all
}

/// The uid of the source whose path a run may take over. That counts for one run that succeeds: where the annotation stays,
/// as in a repository, two sources would else take the path from each other for ever.
pub(super) fn take_over<'a>(input: &Input<'_>, wish: &'a Validated) -> Option<&'a str> {
    let Method::Rclone(rclone) = &wish.method else {
        return None;
    };
    let state = input.subject.state.rclone.as_ref();
    let used = state.and_then(|state| state.took_over.as_deref());
    let told = rclone.take_over.as_deref();
    told.filter(|uid| input.subject.key.side == Side::Source && used != Some(*uid))
}

/// What a destination is told: what the volume has, and whether to wait for more.
fn memory_of_destination(
    input: &Input<'_>,
    (wish, rclone): (&Validated, &Rclone),
    data: &Data,
) -> Vec<EnvVar> {
    let old = input.subject.state.rclone.clone().unwrap_or_default();
    let now = volume(input, (&data.claim, place(input, wish)), is_kept(wish));
    let generation = old
        .generation
        .filter(|_| old.volume.is_some_and(|known| known == now));
    let mut all: Vec<EnvVar> = generation
        .into_iter()
        .map(|generation| variable(env::LAST_GENERATION, generation))
        .collect();
    if !is_kept(wish) {
        all.push(variable(env::PASSING_VOLUME, "1"));
    }
    if waits_for_versions(wish) {
        all.push(variable(env::POLL, "1"));
        all.push(variable(env::POLL_LIMIT, rclone.poll_limit.to_string()));
    }
    all
}

/// Whether a destination runs whenever there is a new version, because nothing else tells it when to.
pub(super) fn waits_for_versions(wish: &Validated) -> bool {
    matches!(wish.volume, Wish::Destination(_)) && matches!(wish.trigger, Trigger::None)
}

/// Whether the running mover does nothing but wait for a new version.
pub(super) fn is_waiting(input: &Input<'_>) -> bool {
    let progress = input.world.progress.as_ref();
    input.mover() == Mover::Rclone
        && input.subject.key.side == Side::Destination
        && progress.is_some_and(Progress::waits)
}

/// Whether a destination's mover has fetched all, and looks whether the store keeps still.
fn rests(input: &Input<'_>) -> bool {
    let progress = input.world.progress.as_ref();
    input.mover() == Mover::Rclone && progress.is_some_and(Progress::rests)
}

/// Lets a run begin now whose mover did nothing but wait before it made way for another.
pub(super) fn begin_anew(draft: &mut Draft<'_>, input: &Input<'_>) {
    if is_waiting(input) {
        draft.state.last_sync_start_time = Some(to_second(input.now()));
    }
}

/// Says that a mover lets the store rest, and where one waits of whose place in the store no version ever came into its volume: nothing else tells a path that
/// is mistyped from one that a source has yet to fill.
pub(super) fn tell_waiting(
    draft: &mut Draft<'_>,
    input: &Input<'_>,
    wish: Option<&Validated>,
    job: &Job,
) {
    if rests(input) {
        let doing = conditions::sync_in_progress(None).message;
        let store = address(input);
        draft.wait_for(format!(
            "{doing}: all of {store} is fetched, and nothing there says that its source is done; looking whether it stays as it is"
        ));
    }
    let Some(wish) = wish.filter(|_| is_waiting(input)) else {
        return;
    };
    let run = Run::of(job, Some(wish));
    let here = volume(input, (&run.claim, run.place), is_kept(wish));
    let known = input.subject.state.rclone.as_ref();
    let known = known.filter(|known| known.generation.is_some());
    if known.and_then(|known| known.volume.as_ref()) != Some(&here) {
        draft.wait_for(format!(
            "{}: waiting for a first version at {}; if its source has run, correct spec.rclone.rcloneDestPath",
            conditions::sync_in_progress(None).message,
            address(input)
        ));
    }
}

/// The path in the store, as people write it.
fn address(input: &Input<'_>) -> String {
    let remote = input.subject.spec.remote();
    let address = remote.and_then(RcloneRemote::address);
    address.unwrap_or_else(|| "the path in the store".to_owned())
}

/// Whether the volume outlives the run.
fn is_kept(wish: &Validated) -> bool {
    match &wish.volume {
        Wish::Destination(destination) => {
            !matches!(destination.target, Target::Made { cleanup: true, .. })
        }
        Wish::Source(_) => true,
    }
}

/// What tells a place in a store from others, so that nobody takes the version of one for that of another which was copied
/// from it. The same words may come to lead to another store; new credentials for the same one do not. What a destination
/// fetched without rights is not what it would have with them.
pub(super) fn place(input: &Input<'_>, wish: &Validated) -> Option<String> {
    let Method::Rclone(rclone) = &wish.method else {
        return None;
    };
    let state = rclone.state_path.as_deref().unwrap_or_default();
    let config = input.world.store.config.as_ref();
    let leads = config.map_or("", |keys| keys.leads.as_str());
    let is_source = input.subject.key.side == Side::Source;
    let rights = if is_source || pod::rights(input, wish) == Rights::None {
        ""
    } else {
        "\nprivileged"
    };
    let parts = [&rclone.config, &rclone.section, &rclone.path, state, leads];
    Some(names::checksum(&format!("{}{rights}", parts.join("\n"))))
}

/// What tells the volume that a version was sent from, or received into, and the place in the store, from others. A volume
/// that goes with each run is told by its name alone: what it held is in the image.
fn volume(input: &Input<'_>, (claim, place): (&str, Option<String>), kept: bool) -> String {
    let world = input.world;
    let (name, claim) = match input.subject.key.side {
        // What is read may be a copy; what it is a copy of counts.
        Side::Source => {
            let claim = world.given_claim.as_ref();
            (
                claim.and_then(|claim| claim.metadata.name.as_deref()),
                claim,
            )
        }
        Side::Destination => (Some(claim), world.claim(claim)),
    };
    let uid = claim.filter(|_| kept).and_then(uid_of);
    names::checksum(&format!(
        "{}/{}/{}",
        name.unwrap_or_default(),
        uid.unwrap_or_default(),
        place.unwrap_or_default()
    ))
}

fn uid_of(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.metadata.uid.as_deref()
}

fn volumes(
    input: &Input<'_>,
    (wish, rclone): (&Validated, &Rclone),
    data: &Data,
    standing: &Standing,
) -> Vec<Volume> {
    let mode = pod::secret_mode(input, wish);
    let mut all = vec![
        data_volume(data),
        pod::secret(CONFIG, &standing.secret, mode),
        in_memory(SCRATCH),
    ];
    let given = rclone.certificate.as_ref();
    all.extend(given.map(|given| certificate(CERTIFICATE, given, CERTIFICATE_FILE)));
    all
}

/// Notes what the report of a successful run says of versions and of the volume.
pub(super) fn record(draft: &mut Draft<'_>, input: &Input<'_>, run: &Run, report: Option<&Report>) {
    let old = draft.state.rclone.take().unwrap_or_default();
    let present = input.world.claim(&run.claim);
    let goes = present
        .is_some_and(|claim| has_label(&claim.metadata, labels::CLEANUP, &input.subject.uid));
    let kept = input.subject.key.side == Side::Source || !goes;
    let mut new = RcloneState {
        generation: report.and_then(|report| report.generation.clone()),
        volume: Some(volume(input, (&run.claim, run.place.clone()), kept)),
        tried_with: None,
        ..old
    };
    if input.subject.key.side == Side::Source {
        let entries = report.and_then(|report| report.entries);
        new.last_synced_entries = entries.or(new.last_synced_entries);
        if entries == Some(0) && run.allowed_empty_source.is_some() {
            new.allowed_empty_source
                .clone_from(&run.allowed_empty_source);
        }
        if let Some(uid) = &run.take_over {
            new.took_over = Some(uid.clone());
            let text = format!(
                "{} is this source's now, and no more that of the one with the uid {uid}; the annotation {} has done its work and \
                 may be removed",
                address(input),
                labels::RCLONE_TAKE_OVER
            );
            draft.note("TookOver", "Record", text, None);
        }
        new.blind = report.and_then(|report| report.blind.then_some(true));
        let full = report.is_some_and(|report| report.full_check);
        let runs = new.runs_since_full_check.unwrap_or_default();
        new.runs_since_full_check = Some(if full { 0 } else { runs.saturating_add(1) });
    }
    draft.state.rclone = Some(new);
}

/// Notes with which configuration a run failed: that of its beginning.
pub(super) fn record_failure(draft: &mut Draft<'_>, input: &Input<'_>) {
    if input.mover() == Mover::Rclone {
        let job = input.world.job.as_ref();
        let began_with = job.and_then(|job| Run::of(job, None).configured);
        let state = draft.state.rclone.get_or_insert_default();
        state.tried_with = Some(began_with.unwrap_or_else(|| versions(input)));
    }
}

/// Whether the configuration has changed since a run failed with it, so that the next need not wait.
pub(super) fn is_reconfigured(input: &Input<'_>) -> bool {
    let state = input.subject.state.rclone.as_ref();
    let tried = state.and_then(|state| state.tried_with.as_ref());
    input.mover() == Mover::Rclone && tried.is_some_and(|tried| *tried != versions(input))
}

/// What tells the configuration that a run begins with from others.
pub(super) fn configuration(input: &Input<'_>) -> Option<String> {
    (input.mover() == Mover::Rclone).then(|| versions(input))
}

/// Whether the configuration is another one than `began_with`; not where that is not known.
pub(super) fn is_other(input: &Input<'_>, began_with: Option<&String>) -> bool {
    let now = configuration(input);
    began_with.is_some() && now.is_some() && began_with != now.as_ref()
}

/// How long a run took that began at `start`. A destination that waits for a new version began long before there was one,
/// and so did pods of it that made way for others.
pub(super) fn took(input: &Input<'_>, words: &Words, start: Timestamp) -> SignedDuration {
    let report = words.report.as_ref();
    let Some(waited) = report.and_then(|report| report.waited) else {
        return input.now().duration_since(start).max(SignedDuration::ZERO);
    };
    let mut pods = input.world.pods.iter();
    let pod = pods.find(|pod| pod.metadata.uid == words.pod);
    let began = pod
        .and_then(|pod| pod.status.as_ref()?.start_time.as_ref())
        .map_or(start, |began| began.0.max(start));
    let took = input.now().duration_since(began) - SignedDuration::from_millis(waited);
    took.max(SignedDuration::ZERO)
}

fn versions(input: &Input<'_>) -> String {
    let store = &input.world.store;
    let version = |keys: &Option<Keys>| {
        let version = keys.as_ref().map(|keys| keys.version.clone());
        version.unwrap_or_default()
    };
    format!("{}/{}", version(&store.config), version(&store.certificate))
}
