//! `syncline status`: all replications at a glance.

use std::fmt::Display;

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use syncline_api::conditions::{PRESERVED, SYNC_IN_PROGRESS, without_failures};
use syncline_api::movers::TriggerSpec;
use syncline_api::status::{Progress, Retry};
use syncline_api::{GoDuration, ReplicationDestination, ReplicationSource};

use crate::args::Overview;
use crate::connection::{connect, within};
use crate::failure::Failure;
use crate::printer::Printer;
use crate::settings::Target;

/// The condition whose reason is the state that users know.
const SYNCHRONIZING: &str = "Synchronizing";
/// The reason of that condition when something is wrong.
const ERROR: &str = "Error";
/// What is shown of a destination that waits for its source, where the condition speaks of a run in progress.
const LISTENING: &str = "Listening";

/// Show all replications at a glance.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    #[command(flatten)]
    scope: Overview,
}

/// One replication, of either kind.
#[derive(Clone, Debug, Default)]
struct Relationship {
    kind: &'static str,
    namespace: String,
    name: String,
    mover: &'static str,
    state: String,
    trouble: Option<String>,
    /// What a run under way waits for.
    waits: Option<String>,
    /// What a transfer could not keep.
    unpreserved: Option<String>,
    /// What is no trouble, but may not be what was meant.
    remark: Option<&'static str>,
    last: Option<Timestamp>,
    duration: Option<String>,
    next: Option<Timestamp>,
    progress: Option<String>,
    peer: Option<String>,
}

pub(crate) async fn run(
    arguments: &Arguments,
    target: &Target,
    printer: &mut Printer,
) -> Result<(), Failure> {
    let client = connect(target).await?;
    // Without a namespace all are shown: who asks for the state of things wants to see every trouble.
    let namespace = arguments.scope.namespace.as_deref();
    let mut all = relationships(&client, namespace).await?;
    if all.is_empty() {
        printer.note(&format!(
            "There are no replications{}.",
            within(namespace, target)
        ));
        return Ok(());
    }
    all.sort_by(|one, other| {
        (&one.namespace, one.kind, &one.name).cmp(&(&other.namespace, other.kind, &other.name))
    });
    printer.columns(&table(&all, now()))?;
    for relationship in &all {
        let remark = relationship.remark.map(str::to_owned);
        let told = [
            &relationship.trouble,
            &relationship.waits,
            &relationship.unpreserved,
            &remark,
        ];
        for said in told.into_iter().flatten() {
            printer.line("")?;
            printer.line(&format!(
                "{} {}/{}: {said}",
                relationship.kind, relationship.namespace, relationship.name
            ))?;
        }
    }
    Ok(())
}

/// The present moment; the shell of this command.
fn now() -> Timestamp {
    Timestamp::now()
}

async fn relationships(
    client: &Client,
    namespace: Option<&str>,
) -> Result<Vec<Relationship>, Failure> {
    let sources: Api<ReplicationSource> = namespace.map_or_else(
        || Api::all(client.clone()),
        |name| Api::namespaced(client.clone(), name),
    );
    let destinations: Api<ReplicationDestination> = namespace.map_or_else(
        || Api::all(client.clone()),
        |name| Api::namespaced(client.clone(), name),
    );
    let sources = sources.list(&ListParams::default()).await?.items;
    // A source may be in another namespace than the one that is shown, where this user may not be allowed to look.
    let senders = match namespace {
        None => None,
        Some(_) => Api::<ReplicationSource>::all(client.clone())
            .list(&ListParams::default())
            .await
            .ok(),
    };
    let sending = sending(senders.as_ref().map_or(&sources, |all| &all.items));
    let mut all: Vec<Relationship> = sources.iter().map(of_source).collect();
    all.extend(
        destinations
            .list(&ListParams::default())
            .await?
            .iter()
            .map(|destination| of_destination(destination, &sending)),
    );
    Ok(all)
}

/// The addresses that data is being sent to, as far as this cluster's sources tell.
fn sending(sources: &[ReplicationSource]) -> Vec<String> {
    sources
        .iter()
        .filter(|source| {
            let status = source.status.as_ref();
            status.is_some_and(|status| status.progress.is_some())
        })
        .filter_map(|source| source.spec.rsync.as_ref()?.address.clone())
        .collect()
}

fn of_source(source: &ReplicationSource) -> Relationship {
    let spec = &source.spec;
    let status = source.status.clone().unwrap_or_default();
    let movers = [
        ("rsync", spec.rsync.is_some()),
        ("rsyncTLS", spec.rsync_tls.is_some()),
        ("rclone", spec.rclone.is_some()),
        ("restic", spec.restic.is_some()),
        ("syncthing", spec.syncthing.is_some()),
        ("external", spec.external.is_some()),
    ];
    let peer = spec
        .rsync
        .as_ref()
        .and_then(|rsync| rsync.address.clone())
        .map(|address| format!("to {address}"));
    let own = status
        .rsync
        .as_ref()
        .and_then(|rsync| address(rsync.address.as_deref(), rsync.port));
    let store = spec
        .rclone
        .as_ref()
        .and_then(|rclone| rclone.remote.address());
    let store = store.map(|store| format!("to {store}"));
    Relationship {
        kind: "Source",
        namespace: source.namespace().unwrap_or_default(),
        name: source.name_any(),
        mover: chosen(&movers),
        last: at(status.last_sync_time.as_ref()),
        duration: status.last_sync_duration.map(short_duration),
        next: at(status.next_sync_time.as_ref()),
        progress: status.progress.as_ref().map(percent),
        remark: remark(spec.trigger.as_ref()),
        peer: peer.or(own).or(store),
        ..condition(
            &status.conditions,
            spec.paused == Some(true),
            &Tries {
                retry: status.retry.as_ref(),
                runs: status.progress.is_some(),
                succeeded: status.last_sync_time.is_some(),
            },
        )
    }
}

fn of_destination(destination: &ReplicationDestination, sending: &[String]) -> Relationship {
    let spec = &destination.spec;
    let status = destination.status.clone().unwrap_or_default();
    let movers = [
        ("rsync", spec.rsync.is_some()),
        ("rsyncTLS", spec.rsync_tls.is_some()),
        ("rclone", spec.rclone.is_some()),
        ("restic", spec.restic.is_some()),
        ("external", spec.external.is_some()),
    ];
    let paused = spec.paused == Some(true);
    let tries = Tries {
        retry: status.retry.as_ref(),
        runs: status.progress.is_some(),
        succeeded: status.last_sync_time.is_some(),
    };
    let mut general = condition(&status.conditions, paused, &tries);
    let own = status
        .rsync
        .as_ref()
        .and_then(|rsync| rsync.address.as_ref());
    // A destination runs from the moment that it can be reached, whether or not its source has come.
    let receives = status.progress.is_some() || own.is_some_and(|own| sending.contains(own));
    if own.is_some() && !receives && !paused && only_runs(&status.conditions) {
        LISTENING.clone_into(&mut general.state);
    }
    let waits = status.progress.as_ref().is_some_and(Progress::waits);
    if waits && general.state == SYNC_IN_PROGRESS {
        Progress::WAITING.clone_into(&mut general.state);
    }
    let store = spec
        .rclone
        .as_ref()
        .and_then(|rclone| rclone.remote.address());
    let store = store.map(|store| format!("from {store}"));
    Relationship {
        kind: "Destination",
        namespace: destination.namespace().unwrap_or_default(),
        name: destination.name_any(),
        mover: chosen(&movers),
        last: at(status.last_sync_time.as_ref()),
        duration: status.last_sync_duration.map(short_duration),
        next: at(status.next_sync_time.as_ref()),
        progress: status.progress.as_ref().map(percent),
        peer: status
            .rsync
            .as_ref()
            .and_then(|rsync| address(rsync.address.as_deref(), rsync.port))
            .or(store),
        remark: remark(spec.trigger.as_ref()),
        ..general
    }
}

/// Whether `Synchronizing` says that a run is under way, and nothing more of it.
fn only_runs(conditions: &[Condition]) -> bool {
    let usual = syncline_api::conditions::sync_in_progress(None);
    conditions
        .iter()
        .find(|condition| condition.type_ == SYNCHRONIZING)
        .is_some_and(|condition| {
            condition.reason == usual.reason
                && without_failures(&condition.message).0 == usual.message
        })
}

fn remark(trigger: Option<&TriggerSpec>) -> Option<&'static str> {
    trigger
        .is_some_and(|trigger| trigger.schedule.is_some() && trigger.manual.is_some())
        .then_some("the schedule rests while spec.trigger.manual is set")
}

/// A number of failed tries, in words.
fn failed(tries: i32) -> String {
    let noun = if tries == 1 { "try" } else { "tries" };
    format!("{tries} failed {noun}")
}

fn chosen(movers: &[(&'static str, bool)]) -> &'static str {
    let mut names = movers.iter().filter(|(_, set)| *set).map(|(name, _)| *name);
    match (names.next(), names.next()) {
        (Some(name), None) => name,
        (Some(_), Some(_)) => "several",
        (None, _) => "none",
    }
}

fn at(time: Option<&Time>) -> Option<Timestamp> {
    time.map(|time| time.0)
}

fn address(address: Option<&str>, port: Option<i32>) -> Option<String> {
    address
        .map(|address| port.map_or_else(|| address.to_owned(), |port| format!("{address}:{port}")))
}

/// What is known of a replication's tries.
struct Tries<'a> {
    /// Those that failed.
    retry: Option<&'a Retry>,
    /// Another one is under way.
    runs: bool,
    /// One has succeeded, whenever that was.
    succeeded: bool,
}

/// What is wrong: what the condition complains of, or else what is known of the tries that failed.
fn trouble(synchronizing: Option<&Condition>, tries: &Tries<'_>) -> Option<String> {
    let failures = tries.retry.and_then(|retry| retry.failures);
    let failures = failures.filter(|failures| *failures > 0).map(failed);
    if let Some(condition) = synchronizing.filter(|condition| condition.reason == ERROR) {
        let message = &condition.message;
        return Some(match failures {
            Some(failed) if tries.runs => format!("{message} ({failed}; another is under way)"),
            Some(failed) => format!("{message} ({failed})"),
            None => message.clone(),
        });
    }
    let told = synchronizing.and_then(|condition| without_failures(&condition.message).1);
    let cause = told.or_else(|| tries.retry?.cause.as_deref());
    let counted = failures.map(|failed| {
        if tries.succeeded {
            format!("{failed} since the last success")
        } else {
            format!("{failed}, no success yet")
        }
    });
    match (counted, cause) {
        (Some(counted), Some(cause)) => Some(format!("{counted}: {cause}")),
        // Where the definitions have no field for the count, and for a run's first pods.
        (None, Some(cause)) => Some(format!("the try before failed: {cause}")),
        (counted, None) => counted,
    }
}

/// State and trouble from the conditions; everything else is filled in by the caller.
fn condition(conditions: &[Condition], paused: bool, tries: &Tries<'_>) -> Relationship {
    let synchronizing = conditions
        .iter()
        .find(|condition| condition.type_ == SYNCHRONIZING);
    let state =
        synchronizing.map_or_else(|| "New".to_owned(), |condition| condition.reason.clone());
    let usual = syncline_api::conditions::sync_in_progress(None);
    let waits = synchronizing
        .filter(|condition| condition.reason == usual.reason)
        .map(|condition| without_failures(&condition.message).0)
        .filter(|doing| *doing != usual.message)
        .map(str::to_owned);
    Relationship {
        waits,
        state: if paused {
            format!("{state} (paused)")
        } else {
            state
        },
        trouble: trouble(synchronizing, tries),
        unpreserved: conditions
            .iter()
            .find(|condition| condition.type_ == PRESERVED && condition.status == "False")
            .map(|condition| condition.message.clone()),
        ..Relationship::default()
    }
}

/// A phase and how far it has come, such as `Transferring 25%`.
pub(super) fn percent(progress: &Progress) -> String {
    let phase = progress.phase.as_deref().unwrap_or("Working");
    match (progress.bytes_done, progress.bytes_total) {
        (Some(done), Some(total)) if total > 0 => {
            format!("{phase} {}%", done.clamp(0, total) * 100 / total)
        }
        _ => phase.to_owned(),
    }
}

fn short_duration(duration: GoDuration) -> String {
    let text = duration.to_string();
    // 28.818695981s: one digit after the point is enough to read.
    match text.split_once('.') {
        Some((whole, rest)) => {
            let unit: String = rest.chars().skip_while(char::is_ascii_digit).collect();
            format!("{whole}.{}{unit}", rest.chars().next().unwrap_or('0'))
        }
        None => text,
    }
}

fn table(all: &[Relationship], now: Timestamp) -> Vec<Vec<String>> {
    let heading = [
        "NAMESPACE",
        "KIND",
        "NAME",
        "MOVER",
        "STATE",
        "LAST SYNC",
        "TOOK",
        "NEXT SYNC",
        "PROGRESS",
        "ADDRESS",
    ];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(all.iter().map(|one| {
        vec![
            one.namespace.clone(),
            one.kind.to_owned(),
            one.name.clone(),
            one.mover.to_owned(),
            one.state.clone(),
            one.last.map_or_else(
                || "never".to_owned(),
                |last| format!("{} ago", span(now.duration_since(last))),
            ),
            or_dash(one.duration.as_ref()),
            one.next.map_or_else(
                || "-".to_owned(),
                |next| in_future(next.duration_since(now)),
            ),
            or_dash(one.progress.as_ref()),
            or_dash(one.peer.as_ref()),
        ]
    }));
    rows
}

fn or_dash(text: Option<&impl Display>) -> String {
    text.map_or_else(|| "-".to_owned(), ToString::to_string)
}

fn in_future(duration: SignedDuration) -> String {
    if duration.is_positive() {
        format!("in {}", span(duration))
    } else {
        "now".to_owned()
    }
}

/// A time span as a person says it, in its largest unit that fits.
fn span(duration: SignedDuration) -> String {
    let seconds = duration.as_secs().max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests;
