//! `syncline status`: all replications at a glance.

use std::fmt::Display;

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use syncline_api::conditions::PRESERVED;
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
            (status.retry.as_ref(), status.progress.is_some()),
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
    let tries = (status.retry.as_ref(), status.progress.is_some());
    let mut general = condition(&status.conditions, paused, tries);
    let own = status
        .rsync
        .as_ref()
        .and_then(|rsync| rsync.address.as_ref());
    // A destination runs from the moment that it can be reached, whether or not its source has come.
    let receives = status.progress.is_some() || own.is_some_and(|own| sending.contains(own));
    if own.is_some() && !receives && !paused && only_runs(&status.conditions) {
        LISTENING.clone_into(&mut general.state);
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

/// Whether `Synchronizing` says that a run is under way, and nothing more.
fn only_runs(conditions: &[Condition]) -> bool {
    let usual = syncline_api::conditions::sync_in_progress(None);
    conditions
        .iter()
        .find(|condition| condition.type_ == SYNCHRONIZING)
        .is_some_and(|condition| {
            condition.reason == usual.reason && condition.message == usual.message
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

/// State and trouble from the conditions; everything else is filled in by the caller. Of the tries: what is known of those
/// that failed, and whether another is under way.
fn condition(
    conditions: &[Condition],
    paused: bool,
    (retry, runs): (Option<&Retry>, bool),
) -> Relationship {
    let synchronizing = conditions
        .iter()
        .find(|condition| condition.type_ == SYNCHRONIZING);
    let state =
        synchronizing.map_or_else(|| "New".to_owned(), |condition| condition.reason.clone());
    let tries = retry
        .and_then(|retry| retry.failures)
        .filter(|failures| *failures > 0);
    let complaint = synchronizing
        .filter(|condition| condition.reason == ERROR)
        .map(|condition| condition.message.clone());
    let trouble = match (complaint, tries) {
        (Some(message), Some(tries)) if runs => Some(format!(
            "{message} ({}; another is under way)",
            failed(tries)
        )),
        (Some(message), Some(tries)) => Some(format!("{message} ({})", failed(tries))),
        (Some(message), None) => Some(message),
        (None, Some(tries)) => Some(format!("{} since the last success", failed(tries))),
        (None, None) => None,
    };
    let usual = syncline_api::conditions::sync_in_progress(None);
    let waits = synchronizing
        .filter(|condition| condition.reason == usual.reason && condition.message != usual.message)
        .map(|condition| condition.message.clone());
    Relationship {
        waits,
        state: if paused {
            format!("{state} (paused)")
        } else {
            state
        },
        trouble,
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
mod tests {
    use serde_json::json;

    use super::*;
    use crate::printer::{Widths, aligned};

    fn drawn(all: &[Relationship]) -> String {
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        aligned(&table(all, now), &mut Widths::default()).join("\n")
    }

    fn source() -> ReplicationSource {
        serde_json::from_value(json!({
            "apiVersion": "volsync.backube/v1alpha1", "kind": "ReplicationSource",
            "metadata": {"name": "database", "namespace": "east"},
            "spec": {"sourcePVC": "database", "trigger": {"schedule": "*/5 * * * *"}, "rsync": {"copyMethod": "Clone", "address": "10.0.0.1"}},
            "status": {
                "lastSyncTime": "2026-11-21T11:58:30Z", "lastSyncDuration": "7.774288635s", "nextSyncTime": "2026-11-21T12:05:00Z",
                "progress": {"phase": "Transferring", "bytesDone": 50, "bytesTotal": 200},
                "conditions": [{"type": "Synchronizing", "status": "True", "reason": "SyncInProgress", "message": "Synchronization in-progress", "lastTransitionTime": "2026-11-21T11:00:00Z"}],
            },
        }))
        .unwrap()
    }

    #[test]
    fn a_running_source_shows_how_far_it_is() {
        insta::assert_snapshot!(drawn(&[of_source(&source())]), @r"
        NAMESPACE   KIND     NAME       MOVER   STATE            LAST SYNC   TOOK   NEXT SYNC   PROGRESS           ADDRESS
        east        Source   database   rsync   SyncInProgress   90s ago     7.7s   in 5m       Transferring 25%   to 10.0.0.1
        ");
    }

    #[test]
    fn trouble_is_told_with_the_number_of_tries() {
        let mut source = source();
        source.status = serde_json::from_value(json!({
            "retry": {"failures": 3},
            "conditions": [{"type": "Synchronizing", "status": "False", "reason": "Error", "message": "there is no Secret keys", "lastTransitionTime": "2026-11-21T11:00:00Z"}],
        }))
        .unwrap();
        let one = of_source(&source);
        assert_eq!(
            one.trouble.as_deref(),
            Some("there is no Secret keys (3 failed tries)")
        );
        assert_eq!(one.state, "Error");
        source.status.as_mut().unwrap().progress = Some(Progress::default());
        assert_eq!(
            of_source(&source).trouble.as_deref(),
            Some("there is no Secret keys (3 failed tries; another is under way)")
        );
    }

    #[test]
    fn both_ends_of_a_path_in_a_store_show_it_and_what_is_waited_for_there() {
        let waits = "Synchronization in-progress: waiting for a first version at s3:bucket/typo";
        let source: ReplicationSource = serde_json::from_value(json!({
            "apiVersion": "volsync.backube/v1alpha1", "kind": "ReplicationSource",
            "metadata": {"name": "database", "namespace": "east"},
            "spec": {"rclone": {"rcloneConfigSection": "s3", "rcloneDestPath": "bucket/db"}},
        }))
        .unwrap();
        let destination: ReplicationDestination = serde_json::from_value(json!({
            "apiVersion": "volsync.backube/v1alpha1", "kind": "ReplicationDestination",
            "metadata": {"name": "database", "namespace": "west"},
            "spec": {"rclone": {"rcloneConfigSection": "s3", "rcloneDestPath": "bucket/typo"}},
            "status": {
                "progress": {"phase": "Waiting"},
                "conditions": [{"type": "Synchronizing", "status": "True", "reason": "SyncInProgress", "message": waits, "lastTransitionTime": "2026-11-21T11:00:00Z"}],
            },
        }))
        .unwrap();
        let destination = of_destination(&destination, &[]);
        assert_eq!(destination.waits.as_deref(), Some(waits));
        insta::assert_snapshot!(drawn(&[of_source(&source), destination]), @r"
        NAMESPACE   KIND          NAME       MOVER    STATE            LAST SYNC   TOOK   NEXT SYNC   PROGRESS   ADDRESS
        east        Source        database   rclone   New              never       -      -           -          to s3:bucket/db
        west        Destination   database   rclone   SyncInProgress   never       -      -           Waiting    from s3:bucket/typo
        ");
    }

    #[test]
    fn what_was_not_preserved_is_told() {
        let mut source = source();
        let with = |status: &str| {
            serde_json::from_value(json!({
                "conditions": [{"type": "Preserved", "status": status, "reason": "X", "message": "owners", "lastTransitionTime": "2026-11-21T11:00:00Z"}],
            }))
            .unwrap()
        };
        source.status = with("False");
        assert_eq!(of_source(&source).unpreserved.as_deref(), Some("owners"));
        source.status = with("True");
        assert_eq!(of_source(&source).unpreserved, None);
    }

    #[test]
    fn a_destination_shows_where_it_listens() {
        let destination: ReplicationDestination = serde_json::from_value(json!({
            "apiVersion": "volsync.backube/v1alpha1", "kind": "ReplicationDestination",
            "metadata": {"name": "database", "namespace": "west"}, "spec": {"rsync": {}, "paused": true},
            "status": {"rsync": {"address": "127.96.0.7", "port": 2022}},
        }))
        .unwrap();
        insta::assert_snapshot!(drawn(&[of_destination(&destination, &[])]), @r"
        NAMESPACE   KIND          NAME       MOVER   STATE          LAST SYNC   TOOK   NEXT SYNC   PROGRESS   ADDRESS
        west        Destination   database   rsync   New (paused)   never       -      -           -          127.96.0.7:2022
        ");
    }

    #[test]
    fn a_destination_without_a_running_transfer_is_listening() {
        let with = |message: &str| -> ReplicationDestination {
            serde_json::from_value(json!({
                "apiVersion": "volsync.backube/v1alpha1", "kind": "ReplicationDestination",
                "metadata": {"name": "database", "namespace": "west"}, "spec": {"rsync": {}},
                "status": {
                    "rsync": {"address": "10.0.0.1", "port": 2022},
                    "conditions": [{"type": "Synchronizing", "status": "True", "reason": "SyncInProgress", "message": message, "lastTransitionTime": "2026-11-21T11:00:00Z"}],
                },
            }))
            .unwrap()
        };
        let idle = with("Synchronization in-progress");
        assert_eq!(of_destination(&idle, &[]).state, "Listening");
        let sending = sending(&[source()]);
        assert_eq!(of_destination(&idle, &sending).state, "SyncInProgress");
        let held = with("Waiting for an address of the mover's Service");
        assert_eq!(of_destination(&held, &[]).state, "SyncInProgress");
    }

    #[test]
    fn a_schedule_that_rests_is_remarked_upon_and_one_try_is_one() {
        let mut source = source();
        assert_eq!(of_source(&source).remark, None);
        source.spec.trigger.as_mut().unwrap().manual = Some("once".to_owned());
        assert!(of_source(&source).remark.is_some());
        assert_eq!(
            (failed(1), failed(2)),
            ("1 failed try".to_owned(), "2 failed tries".to_owned())
        );
    }
}
