//! Going back: what runs of ours are made of, and what they leave, is what VolSync looks for, as its documentation and
//! its objects tell. VolSync itself is not run.

use std::collections::BTreeMap;
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use syncline_operator::options::Options;
use syncline_testkit::{Site, corpus, scenario};
use syncline_tests::parts::{
    Peer, SYNC_CAP, condition, destination, is, listening, manually, over, source, text,
};
use syncline_tests::volsync::{objects_of_a_run, source_of_a_run};

use crate::operators::{Operator, STRANGER, cluster, options};

/// Once a year, at the beginning of January.
const YEARLY: &str = "0 0 1 1 *";
/// In what way a Job of ours is not VolSync's: its program is ours, and its pods' names are the Job controller's.
const OWN_WAYS: [&str; 3] = [
    "Job/spec/template/metadata/name",
    "Job/spec/template/spec/containers/rsync/command",
    "Job/spec/template/spec/containers/rsync/image",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_made_of_all_that_one_of_volsyncs_is() -> Result<()> {
    scenario(cluster().await?, "alike", |stage| async move {
        let site = stage.site("east").await?;
        site.volume("data").await?;
        let resource = source_of_a_run(&site, held()).await?;
        let operator = Operator::start(&stage.cluster, options()).await?;
        made(&site, "Job", "volsync-rsync-src-db").await?;
        let mut lacking = Vec::new();
        for mut theirs in objects_of_a_run(&resource, STRANGER)? {
            let kind = text(&theirs, "/kind").context("no kind")?.to_owned();
            if kind == "Job" {
                theirs = over(theirs, json!({"spec": {"parallelism": 0}}));
            }
            let name = text(&theirs, "/metadata/name").context("no name")?;
            let ours = site.get(&kind, name).await?;
            lacks(&ours, &theirs, &kind, &mut lacking);
        }
        assert_eq!(lacking, OWN_WAYS);
        operator.stop().await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn after_runs_at_both_ends_volsync_finds_what_it_carries_on_from() -> Result<()> {
    scenario(cluster().await?, "back", |stage| async move {
        let (east, west) = (stage.site("east").await?, stage.site("west").await?);
        let operator = Operator::start(&stage.cluster, options()).await?;
        let data = east.volume("data").await?;
        data.edit(|folder| corpus::plain(folder, 10, 1)).await?;
        west.apply(manually(destination("copy", json!({})), "first"))
            .await?;
        let peer = listening(&west, "copy").await?;
        west.hand_over_secret(&peer.keys, &east).await?;
        let receives = west.get("ReplicationDestination", "copy").await?;
        let job = made(&west, "Job", "volsync-rsync-dst-copy").await?;
        is_found(&job, &receives, Stays::UntilItsRunEnds)?;

        let manifest = source("copy", "data", &peer, json!({}));
        let manifest = over(manifest, json!({"spec": {"trigger": {"schedule": YEARLY}}}));
        let sends = east.apply(over(manifest.clone(), held())).await?;
        for (kind, name) in OF_A_RUN {
            is_found(
                &made(&east, kind, name).await?,
                &sends,
                Stays::UntilItsRunEnds,
            )?;
        }
        east.apply(manifest).await?;
        let sent = rests(&east, "ReplicationSource", "WaitingForSchedule").await?;
        let received = rests(&west, "ReplicationDestination", "WaitingForManual").await?;
        // What is there now is what VolSync finds.
        operator.stop().await?;
        source_has_its_times(&sent)?;
        destination_has_its_image(&west, &received, &peer).await?;
        has_identity(&east, &sent, "volsync-src-copy").await?;
        has_identity(&west, &received, "volsync-dst-copy").await?;
        has_keys(&west, &received, ("dst", "copy")).await?;
        let service = west.get("Service", "volsync-rsync-dst-copy").await?;
        is_volsyncs_service(&service, &received, "dst-copy")?;
        nothing_of_a_run_is_left(&[&east, &west]).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_source_that_makes_keys_and_a_service_volsync_finds_both() -> Result<()> {
    scenario(cluster().await?, "offers", |stage| async move {
        let east = stage.site("east").await?;
        east.volume("data").await?;
        let operator = Operator::start(&stage.cluster, options()).await?;
        east.apply(json!({
            "apiVersion": "volsync.backube/v1alpha1", "kind": "ReplicationSource", "metadata": {"name": "copy"},
            "spec": {"sourcePVC": "data", "rsync": {"copyMethod": "Direct"}},
        }))
        .await?;
        let told = |object: &Value| {
            let found = object.pointer("/status/rsync")?;
            (found.get("address").is_some() && found.get("sshKeys").is_some()).then(|| object.clone())
        };
        let sends = east.wait("ReplicationSource", "copy", "an address and keys", told).await?;
        operator.stop().await?;
        assert_eq!(text(&sends, "/status/rsync/sshKeys"), Some("volsync-rsync-src-dest-copy"));
        has_keys(&east, &sends, ("src", "copy")).await?;
        let service = east.get("Service", "volsync-rsync-src-copy").await?;
        is_volsyncs_service(&service, &sends, "src-copy")?;
        assert_eq!(text(&sends, "/status/rsync/address"), text(&service, "/spec/clusterIP"));
        Ok(())
    })
    .await
}

/// What a source's run is made of, by VolSync's names.
const OF_A_RUN: [(&str, &str); 3] = [
    ("VolumeSnapshot", "volsync-copy-src"),
    ("PersistentVolumeClaim", "volsync-copy-src"),
    ("Job", "volsync-rsync-src-copy"),
];

/// A run that is made, and does not move.
fn held() -> Value {
    json!({"spec": {"paused": true}})
}

async fn made(site: &Site, kind: &str, name: &str) -> Result<Value> {
    site.wait(kind, name, "been made", |object| Some(object.clone()))
        .await
}

async fn rests(site: &Site, kind: &str, reason: &str) -> Result<Value> {
    let patient = site.within(SYNC_CAP);
    let at_rest = |object: &Value| {
        (is(object, "Synchronizing", "False", reason)
            && object.pointer("/status/lastSyncTime").is_some())
        .then(|| object.clone())
    };
    patient.wait(kind, "copy", "come to rest", at_rest).await
}

/// Notes where `ours` has not what `theirs` has. Entries of lists are found by their names.
fn lacks(ours: &Value, theirs: &Value, at: &str, all: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(theirs)) => {
            for (field, value) in theirs {
                let own = ours.get(field).unwrap_or(&Value::Null);
                lacks(own, value, &format!("{at}/{field}"), all);
            }
        }
        (Value::Array(ours), Value::Array(theirs)) => {
            let (named, plain): (Vec<_>, Vec<_>) = theirs
                .iter()
                .partition(|value| text(value, "/name").is_some());
            for value in named {
                let name = text(value, "/name");
                let own = ours.iter().find(|own| text(own, "/name") == name);
                let at = format!("{at}/{}", name.unwrap_or_default());
                lacks(own.unwrap_or(&Value::Null), value, &at, all);
            }
            if plain.iter().any(|value| !ours.contains(value)) {
                all.push(at.to_owned());
            }
        }
        // An empty list that is not there is an empty list.
        (Value::Null, Value::Array(theirs)) if theirs.is_empty() => {}
        _ if ours == theirs => {}
        _ => all.push(at.to_owned()),
    }
}

/// How long an object is to be there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stays {
    UntilItsRunEnds,
    FromRunToRun,
}

/// Whether VolSync finds an object for its own: by its label, by the resource that is its controller, and, if it is to go
/// with the run, by the label that its cleaning up selects.
fn is_found(object: &Value, resource: &Value, stays: Stays) -> Result<()> {
    let of = |field: &str| text(resource, field);
    let owner = json!([{"apiVersion": "volsync.backube/v1alpha1", "kind": of("/kind"), "name": of("/metadata/name"),
        "uid": of("/metadata/uid"), "controller": true, "blockOwnerDeletion": true}]);
    let label = |name: &str| text(object, &format!("/metadata/labels/{name}"));
    let goes = (stays == Stays::UntilItsRunEnds).then(|| of("/metadata/uid"));
    let found = label("app.kubernetes.io~1created-by") == Some("volsync")
        && label("volsync.backube~1cleanup") == goes.flatten()
        && object.pointer("/metadata/ownerReferences") == Some(&owner);
    ensure!(found, "VolSync does not find {object}");
    Ok(())
}

/// By these VolSync knows that a scheduled source rests, and until when.
fn source_has_its_times(sent: &Value) -> Result<()> {
    ended_well(sent)?;
    let time = |field: &str| -> Result<Timestamp> {
        let found = text(sent, &format!("/status/{field}"));
        Ok(found.with_context(|| format!("no {field}"))?.parse()?)
    };
    let next = time("nextSyncTime")?;
    ensure!(next > time("lastSyncTime")?, "{sent}");
    let next = next.to_zoned(TimeZone::system()).datetime();
    let new_year = (next.month(), next.day(), next.hour(), next.minute()) == (1, 1, 0, 0);
    ensure!(new_year, "the next run of {YEARLY:?} is due at {next}");
    ensure!(sent.pointer("/status/lastManualSync").is_none(), "{sent}");
    Ok(())
}

/// The state between two runs: an end, no beginning, and a duration that Go reads.
fn ended_well(object: &Value) -> Result<()> {
    let status = object.get("status").context("no status")?;
    ensure!(status.get("lastSyncStartTime").is_none(), "{status}");
    ensure!(
        text(status, "/latestMoverStatus/result") == Some("Successful"),
        "{status}"
    );
    let duration = text(status, "/lastSyncDuration").context("no duration")?;
    let is_go = duration.starts_with(|first: char| first.is_ascii_digit())
        && duration.ends_with('s')
        && duration
            .chars()
            .all(|letter| "0123456789.hmsµn".contains(letter));
    ensure!(is_go, "Go does not read {duration:?}");
    ensure!(condition(object, "Synchronizing").is_some(), "{status}");
    Ok(())
}

/// By these VolSync knows that a destination has answered its trigger, and finds its volume and its image.
async fn destination_has_its_image(west: &Site, received: &Value, peer: &Peer) -> Result<()> {
    ended_well(received)?;
    let status = |field: &str| text(received, &format!("/status/{field}"));
    ensure!(status("lastManualSync") == Some("first"), "{received}");
    ensure!(status("nextSyncTime").is_none(), "{received}");
    ensure!(
        status("rsync/sshKeys") == Some("volsync-rsync-dst-src-copy")
            && status("rsync/address") == Some(&peer.address),
        "{received}"
    );
    let name = status("latestImage/name").context("no image")?;
    let latest =
        json!({"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": name});
    ensure!(
        received.pointer("/status/latestImage") == Some(&latest),
        "{received}"
    );
    let time = name.strip_prefix("volsync-copy-dst-");
    let is_time = time
        .is_some_and(|time| time.len() == 14 && time.chars().all(|letter| letter.is_ascii_digit()));
    ensure!(is_time, "an image of VolSync's has another name: {name}");
    let image = west.get("VolumeSnapshot", name).await?;
    is_found(&image, received, Stays::FromRunToRun)?;
    let volume = west
        .get("PersistentVolumeClaim", "volsync-copy-dst")
        .await?;
    is_found(&volume, received, Stays::FromRunToRun)?;
    let remembered = text(&volume, "/metadata/annotations/volsync.backube~1snapname");
    ensure!(
        remembered.is_none(),
        "VolSync would take {remembered:?} for its next image"
    );
    Ok(())
}

async fn has_identity(site: &Site, resource: &Value, name: &str) -> Result<()> {
    for kind in ["ServiceAccount", "Role", "RoleBinding"] {
        is_found(&site.get(kind, name).await?, resource, Stays::FromRunToRun)?;
    }
    Ok(())
}

/// The Secrets that VolSync makes at one side, with the keys that it checks for; OpenSSH reads each pair.
async fn has_keys(site: &Site, resource: &Value, (side, name): (&str, &str)) -> Result<()> {
    let parts: [(&str, &[&str]); 3] = [
        (
            "main",
            &["destination", "destination.pub", "source", "source.pub"],
        ),
        ("src", &["destination.pub", "source", "source.pub"]),
        ("dest", &["destination", "destination.pub", "source.pub"]),
    ];
    let mut main = BTreeMap::new();
    for (part, keys) in parts {
        let secret = format!("volsync-rsync-{side}-{part}-{name}");
        let secret = site.get("Secret", &secret).await?;
        is_found(&secret, resource, Stays::FromRunToRun)?;
        let data: BTreeMap<String, String> = serde_json::from_value(
            secret
                .get("data")
                .cloned()
                .context("a Secret without data")?,
        )?;
        ensure!(data.keys().eq(keys), "{part} has {:?}", data.keys());
        if part == "main" {
            main = data;
        } else {
            ensure!(
                data.iter().all(|(key, value)| main.get(key) == Some(value)),
                "{part} is of other keys than main"
            );
        }
    }
    for end in ["source", "destination"] {
        let (private, public) = (decoded(&main, end)?, decoded(&main, &format!("{end}.pub"))?);
        let read = public_of(&private)?;
        let words = |line: &str| {
            line.split_whitespace()
                .take(2)
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        ensure!(words(&read) == words(&public), "{read} is not {public}");
    }
    Ok(())
}

fn decoded(data: &BTreeMap<String, String>, key: &str) -> Result<String> {
    let value = data.get(key).with_context(|| format!("no {key}"))?;
    Ok(String::from_utf8(STANDARD.decode(value)?)?)
}

/// The public half of a private key, as OpenSSH's own program tells it.
fn public_of(private: &str) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("key");
    let mut options = std::fs::OpenOptions::new();
    let mut open = options.create(true).write(true).mode(0o600).open(&file)?;
    std::io::Write::write_all(&mut open, private.as_bytes())?;
    let read = Command::new("ssh-keygen")
        .args(["-y", "-P", "", "-f"])
        .arg(&file)
        .output()?;
    let words = String::from_utf8_lossy(&read.stderr);
    ensure!(read.status.success(), "OpenSSH does not read it: {words}");
    Ok(String::from_utf8(read.stdout)?)
}

/// A Service as VolSync makes it for one end: its port, where that leads, and whom it selects.
fn is_volsyncs_service(service: &Value, resource: &Value, end: &str) -> Result<()> {
    is_found(service, resource, Stays::FromRunToRun)?;
    // On an embedded cluster an ordinary user could not listen on VolSync's port, which is that of every other cluster.
    ensure!(Options::default().rsync_port == 22);
    let theirs = json!({
        "metadata": {"annotations": {"service.beta.kubernetes.io/aws-load-balancer-type": "nlb"}},
        "spec": {
            "type": "ClusterIP",
            "ports": [{"name": "ssh", "protocol": "TCP", "port": options().rsync_port, "targetPort": 8022}],
            "selector": {
                "app.kubernetes.io/name": end,
                "app.kubernetes.io/component": "rsync-mover",
                "app.kubernetes.io/part-of": "volsync",
            },
        },
    });
    let mut lacking = Vec::new();
    lacks(service, &theirs, "Service", &mut lacking);
    ensure!(lacking.is_empty(), "{lacking:?} of {service}");
    let one = |list: &str| {
        service
            .pointer(list)
            .and_then(Value::as_array)
            .map(Vec::len)
    };
    ensure!(one("/spec/ports") == Some(1), "{service}");
    Ok(())
}

async fn nothing_of_a_run_is_left(sites: &[&Site]) -> Result<()> {
    for site in sites {
        for kind in ["Job", "PersistentVolumeClaim", "VolumeSnapshot"] {
            for object in site.list(kind).await? {
                let label = text(&object, "/metadata/labels/volsync.backube~1cleanup");
                let goes = object.pointer("/metadata/deletionTimestamp").is_some();
                ensure!(goes || label.is_none(), "VolSync would clean up {object}");
            }
        }
    }
    Ok(())
}
