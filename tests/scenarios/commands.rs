//! The same work done with `syncline`'s own commands, as somebody without kubectl does it.

use std::io::{BufRead as _, BufReader};
use std::process::{Output, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use syncline_testkit::cluster::Embedded;
use syncline_testkit::scenario::{CAP, Stage};
use syncline_testkit::{Cluster, Place, Tree, Who, corpus, scenario};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::needs;
use crate::parts::{fill_plain, image_after, must_be_alike, receiver, synced, text, tree_of_image};

/// Runs a command; its output as text, and its exit code.
fn run(cluster: &Cluster, arguments: &[&str]) -> Result<(String, String, i32)> {
    let Output {
        status,
        stdout,
        stderr,
    } = cluster.syncline(arguments.iter().copied()).output()?;
    Ok((
        String::from_utf8(stdout)?,
        String::from_utf8(stderr)?,
        status.code().context("killed")?,
    ))
}

/// Runs a command that must succeed, and returns its data.
fn ok(cluster: &Cluster, arguments: &[&str]) -> Result<String> {
    let (data, notes, code) = run(cluster, arguments)?;
    assert_eq!(code, 0, "syncline {arguments:?}: {notes}");
    Ok(data)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_adopted_replicated_and_left_alone() -> Result<()> {
    scenario(
        needs::HOST_FOLDER.shared(Who::Caller).await?,
        "adopted",
        adopted,
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ordinary_user_adopts_a_folder_too() -> Result<()> {
    scenario(
        needs::ORDINARY_USER.shared(Who::Ordinary).await?,
        "adopted",
        adopted,
    )
    .await
}

async fn adopted(stage: Stage) -> Result<()> {
    let cluster = &stage.cluster;
    let (east, west) = (stage.site("east").await?, stage.site("west").await?);
    let mine = tempfile::Builder::new()
        .prefix("mine-")
        .tempdir_in(cluster.scratch())?;
    let folder = mine.path();
    corpus::plain(folder, 30, 1)?;
    let (uid, gid) = cluster.owner();
    corpus::give_to(folder, uid, gid)?;
    let tree = Tree::scan(folder)?;
    let path = folder.to_str().context("a folder of a temporary name")?;
    let said = ok(
        cluster,
        &["volume", "add", "photos", path, "-n", &east.namespace],
    )?;
    assert_eq!(
        said,
        format!(
            "persistentvolumeclaim/photos in namespace {} is {path}\n",
            east.namespace
        )
    );
    let again = ok(
        cluster,
        &["volume", "add", "photos", path, "-n", &east.namespace],
    )?;
    assert!(again.ends_with("already\n"), "{again}");
    let list = ok(cluster, &["volume", "list", "-n", &east.namespace])?;
    let row: Vec<&str> = list
        .lines()
        .nth(1)
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    assert_eq!(row, [&east.namespace, "photos", "Bound", "adopted", path]);

    let peer = receiver(&east, &west, "copy", json!({})).await?;
    let manifest = crate::parts::manually(
        crate::parts::source("copy", "photos", &peer, json!({})),
        "once",
    );
    let file = cluster.scratch().join(format!("{}.json", east.namespace));
    std::fs::write(&file, manifest.to_string())?;
    let file = file.to_str().context("a path")?;
    let applied = ok(cluster, &["apply", "-f", file, "-n", &east.namespace])?;
    assert_eq!(applied, "replicationsource.volsync.backube/copy created\n");
    synced(&east, "copy", "once").await?;
    let image = image_after(&west, "copy", None).await?;
    must_be_alike(&tree, &tree_of_image(&west, &image).await?)?;

    ok(cluster, &["delete", "-f", file, "-n", &east.namespace])?;
    let gone = ok(
        cluster,
        &["volume", "remove", "photos", "-n", &east.namespace],
    )?;
    assert!(gone.contains("stays as it is"), "{gone}");
    east.wait_gone("PersistentVolumeClaim", "photos").await?;
    // A claim that waits for its volume has none that could be forgotten.
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "waits"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}},
        "dataSource": {"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "absent"},
    }});
    east.apply(claim).await?;
    let remove = ["volume", "remove", "waits", "-n", &east.namespace];
    let refused = cluster.syncline(remove).output()?;
    let words = String::from_utf8_lossy(&refused.stderr);
    assert!(words.contains("is no adopted folder"), "{words}");
    must_be_alike(&tree, &Tree::scan(folder)?).context("the adopted folder was touched")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_show_a_replication_from_all_sides() -> Result<()> {
    scenario(
        Cluster::shared(Who::Caller).await?,
        "shown",
        |stage| async move {
            let cluster = &stage.cluster;
            let (east, west) = (stage.site("east").await?, stage.site("west").await?);
            fill_plain(&east.volume("data").await?, 20, 1).await?;
            let peer = receiver(&east, &west, "copy", json!({})).await?;
            let manifest = crate::parts::source("copy", "data", &peer, json!({}));
            east.apply(crate::parts::manually(manifest, "once")).await?;
            synced(&east, "copy", "once").await?;
            get_shows_it_in_every_form(cluster, &east.namespace)?;
            let status = ok(cluster, &["status", "-n", &east.namespace])?;
            let row = status.lines().nth(1).unwrap_or_default();
            assert!(
                row.contains("rsync") && row.contains(&peer.address),
                "{status}"
            );
            let logs = ok(
                cluster,
                &["logs", "ReplicationSource/copy", "-n", &east.namespace],
            )?;
            assert!(logs.contains("Rsync completed in"), "{logs}");
            Ok(())
        },
    )
    .await
}

fn get_shows_it_in_every_form(cluster: &Cluster, namespace: &str) -> Result<()> {
    let get = |arguments: &[&str]| ok(cluster, &[&["get", "-n", namespace], arguments].concat());
    let table = get(&["replicationsource"])?;
    let heading = table
        .lines()
        .next()
        .unwrap_or_default()
        .split("  ")
        .map(str::trim);
    let heading: Vec<&str> = heading.filter(|cell| !cell.is_empty()).collect();
    assert_eq!(
        heading,
        ["NAME", "SOURCE", "LAST SYNC", "DURATION", "NEXT SYNC"],
        "{table}"
    );
    assert!(
        table
            .lines()
            .nth(1)
            .is_some_and(|row| row.starts_with("copy   data")),
        "{table}"
    );
    let object: Value = serde_json::from_str(&get(&["replicationsource/copy", "-o", "json"])?)?;
    assert_eq!(text(&object, "/status/lastManualSync"), Some("once"));
    let name = get(&["source", "-o", "name"])?;
    assert_eq!(name, "replicationsource.volsync.backube/copy\n");
    let yaml = get(&["source", "copy", "-o", "yaml"])?;
    assert!(
        yaml.contains("kind: ReplicationSource") && !yaml.contains("managedFields"),
        "{yaml}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_shows_each_change_as_a_row() -> Result<()> {
    scenario(Cluster::shared(Who::Caller).await?, "watched", watched).await
}

async fn watched(stage: Stage) -> Result<()> {
    let east = stage.site("east").await?;
    east.volume("data").await?;
    let command = ["get", "pvc", "-w", "-n", &east.namespace];
    let mut command = stage.cluster.syncline(command);
    let mut watch = command.stdout(Stdio::piped()).spawn()?;
    let (send, mut lines) = tokio::sync::mpsc::unbounded_channel();
    let output = BufReader::new(watch.stdout.take().context("no output")?);
    // Ends with the command, which is killed below.
    let reading = std::thread::spawn(move || {
        for line in output.lines().map_while(Result::ok) {
            drop(send.send(line));
        }
    });
    let heading = next_with(&mut lines, "").await;
    let listed = next_with(&mut lines, "Bound").await;
    east.delete("PersistentVolumeClaim", "data").await?;
    let changed = next_with(&mut lines, "Terminating").await;
    watch.kill()?;
    watch.wait()?;
    reading.join().ok().context("the reader broke off")?;
    assert!(heading?.starts_with("NAME   STATUS"));
    assert!(listed?.starts_with("data   Bound"));
    assert!(changed?.starts_with("data   Terminating"));
    Ok(())
}

/// The next line that has this word.
async fn next_with(lines: &mut UnboundedReceiver<String>, word: &str) -> Result<String> {
    let next = async {
        while let Some(line) = lines.recv().await {
            if line.contains(word) {
                return Some(line);
            }
        }
        None
    };
    let line = tokio::time::timeout(CAP, next).await;
    line.ok()
        .flatten()
        .with_context(|| format!("no line with {word:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_have_words_and_exit_codes() -> Result<()> {
    let cluster = Cluster::shared(Who::Caller).await?;
    let (_, notes, code) = run(&cluster, &["get", "pod", "nobody"])?;
    assert_eq!(
        (code, notes.as_str()),
        (3, "error: pods \"nobody\" not found\n")
    );
    let (_, notes, code) = run(&cluster, &["get", "unicorns"])?;
    assert!(code == 3 && notes.contains("hint: "), "{code} {notes}");
    let nowhere = cluster.scratch().join("nowhere");
    let nowhere = nowhere.to_str().context("a path")?;
    let (_, notes, code) = run(&cluster, &["--data", nowhere, "status"])?;
    assert!(code == 4 && notes.contains("syncline up"), "{code} {notes}");
    let (_, _, code) = run(&cluster, &["fly"])?;
    assert_eq!(code, 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_cluster_on_the_same_folder_is_refused_with_the_first_ones_process() -> Result<()>
{
    let place = needs::DATA_FOLDER.shared(Who::Caller).await?;
    let Some(cluster) = place.here("second") else {
        return Ok(());
    };
    let data = cluster.embedded()?.data();
    let (_, notes, code) = run(
        &cluster,
        &["up", "--data", data.to_str().context("a path")?],
    )?;
    assert_eq!(code, 5, "{notes}");
    assert!(
        notes.contains(&cluster.embedded()?.pid()?.as_raw_nonzero().to_string()),
        "{notes}"
    );
    assert!(notes.contains("hint: "), "{notes}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn output_that_nobody_reads_is_no_failure() -> Result<()> {
    let cluster = Cluster::shared(Who::Caller).await?;
    let mut child = cluster
        .syncline(["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    drop(child.stdout.take());
    let output = child.wait_with_output()?;
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_serves_health_and_the_metrics_that_dashboards_know() -> Result<()> {
    scenario(
        Cluster::shared(Who::Caller).await?,
        "metrics",
        |stage| async move {
            let (east, west) = (stage.site("east").await?, stage.site("west").await?);
            fill_plain(&east.volume("data").await?, 5, 1).await?;
            let peer = receiver(&east, &west, "copy", json!({})).await?;
            let manifest = crate::parts::source("copy", "data", &peer, json!({}));
            east.apply(crate::parts::manually(manifest, "once")).await?;
            synced(&east, "copy", "once").await?;
            for page in ["/healthz", "/readyz"] {
                let answer = stage.cluster.operator_page(page)?;
                assert!(
                    answer
                        .lines()
                        .next()
                        .is_some_and(|line| line.contains(" 200 ")),
                    "{page}: {answer}"
                );
            }
            let metrics = stage.cluster.operator_page("/metrics")?;
            let mine: Vec<&str> = metrics
                .lines()
                .filter(|line| line.contains(&east.namespace))
                .collect();
            for name in [
                "volsync_missed_intervals_total",
                "volsync_volume_out_of_sync",
                "volsync_sync_duration_seconds_count",
            ] {
                let line = mine
                    .iter()
                    .find(|line| line.starts_with(name))
                    .with_context(|| format!("no {name} in {mine:?}"))?;
                for label in ["obj_name=\"copy\"", "role=\"source\"", "method=\"rsync\""] {
                    assert!(line.contains(label), "{line}");
                }
            }
            Ok(())
        },
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn manifests_named_at_the_start_are_applied_at_the_start() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("site.yaml");
    std::fs::write(
        &file,
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: site}\n---\napiVersion: volsync.backube/v1alpha1\nkind: ReplicationDestination\nmetadata: {name: copy, namespace: site}\nspec:\n  rsync: {copyMethod: Snapshot, capacity: 1Gi, accessModes: [ReadWriteOnce]}\n",
    )?;
    let place = if needs::START.is_met() {
        let cluster = Embedded::start_applying(Who::Caller, vec![file]).await?;
        Arc::new(Cluster::Embedded(cluster)).into()
    } else {
        Place::Elsewhere(needs::START)
    };
    scenario(place, "applied", |stage| async move {
        let here = stage.site("here").await?;
        let site = syncline_testkit::Site {
            namespace: "site".to_owned(),
            ..here
        };
        crate::parts::listening(&site, "copy").await?;
        Ok(())
    })
    .await
}
