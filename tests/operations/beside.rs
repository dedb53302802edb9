//! Beside VolSync, as it is installed: its lease, its resources, its image.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use syncline_testkit::cluster::SYSTEM;
use syncline_testkit::scenario::{CAP, Stage};
use syncline_testkit::wait::{Look, wait_for};
use syncline_testkit::{Site, Who, corpus, scenario};
use syncline_tests::parts::{condition, destination, listening, text};
use syncline_tests::volsync::{finishes_and_counts, left_by_volsync};

use crate::system::System;
use crate::{needs, turn};

/// The lease that VolSync and Syncline agree by.
const LEASE: &str = "b95b3104.backube";
/// A holder as VolSync writes it: the pod's name and a uuid.
const RIVAL: &str = "volsync-5f6d_0b0c8c2e-0000-4000-8000-000000000000";
/// An image that is there and is not Syncline's: the one of every pod's sandbox.
const STRANGER: &str = "syncline.test/pause:1";

/// Lets VolSync hold the lease; without a holder it gives it back, as its library does when it ends in good order.
async fn volsync_holds(own: &Site, holder: Option<&str>) -> Result<()> {
    let now = jiff::Timestamp::now();
    let now = now.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
    let seconds = if holder.is_some() { 137 } else { 1 };
    let spec = json!({"holderIdentity": holder.unwrap_or_default(), "leaseDurationSeconds": seconds,
        "acquireTime": now, "renewTime": now});
    own.merge("Lease", LEASE, json!({"spec": spec})).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn while_volsync_holds_the_lease_every_replica_waits_ready_and_touches_nothing() -> Result<()>
{
    let _turn = turn().await;
    let place = needs::DEPLOYMENT.shared(Who::Caller).await?;
    scenario(place, "rival", |stage| async move {
        let west = stage.site("west").await?;
        let system = System::of(&stage.cluster).await?;
        let own = system.site();
        system.scale(0).await?;
        volsync_holds(own, Some(RIVAL)).await?;
        let waited = waits(&stage, &system, &west).await;
        // Whatever came of it, the next test finds an operator that works.
        volsync_holds(own, None).await?;
        if waited.is_ok() {
            listening(&west, "copy").await?;
        }
        system.scale(1).await?;
        waited
    })
    .await
}

async fn waits(stage: &Stage, system: &System, west: &Site) -> Result<()> {
    west.apply(destination("copy", json!({}))).await?;
    let before = west.get("ReplicationDestination", "copy").await?;
    system.scale(2).await?;
    let real = stage.cluster.real()?;
    wait_for("both replicas to say whom they wait for", CAP, || async {
        let log = real.operator_log().await;
        Ok(if log.matches(RIVAL).count() >= 2 {
            Look::Done(())
        } else {
            Look::NotYet(log)
        })
    })
    .await?;
    ensure!(
        west.get("ReplicationDestination", "copy").await? == before,
        "the resource was touched"
    );
    for kind in ["Job", "Service"] {
        let made = west.list(kind).await?;
        ensure!(made.is_empty(), "{made:?}");
    }
    let log = real.operator_log().await;
    ensure!(!log.contains("leading"), "{log}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn with_movers_named_in_the_chart_every_other_resource_stays_as_it_is() -> Result<()> {
    let _turn = turn().await;
    let place = needs::DEPLOYMENT.shared(Who::Caller).await?;
    scenario(place, "named", |stage| async move {
        let site = stage.site("mixed").await?;
        let system = System::of(&stage.cluster).await?;
        system.set("movers={rsync}").await?;
        let kept = others_stay(&site).await;
        system.set("movers=null").await?;
        kept
    })
    .await
}

/// Gives an operator of rsync's resources time to touch those of others, and sees that it does not.
async fn others_stay(site: &Site) -> Result<()> {
    let restic = json!({
        "apiVersion": "volsync.backube/v1alpha1", "kind": "ReplicationSource", "metadata": {"name": "backup"},
        "spec": {"sourcePVC": "data", "trigger": {"schedule": "0 * * * *"}, "restic": {"repository": "r", "copyMethod": "Direct"}},
    });
    let rclone = json!({
        "apiVersion": "volsync.backube/v1alpha1", "kind": "ReplicationDestination", "metadata": {"name": "fresh"},
        "spec": {"rclone": {"copyMethod": "Direct"}},
    });
    let mut before = Vec::new();
    for object in [restic, rclone] {
        site.apply(object.clone()).await?;
        let (kind, name) = (text(&object, "/kind"), text(&object, "/metadata/name"));
        let key = (
            kind.unwrap_or_default().to_owned(),
            name.unwrap_or_default().to_owned(),
        );
        before.push((site.get(&key.0, &key.1).await?, key));
    }
    // Made last, and answered: the operator has seen the others by then.
    site.apply(destination("copy", json!({}))).await?;
    listening(site, "copy").await?;
    for (object, (kind, name)) in before {
        ensure!(
            site.get(&kind, &name).await? == object,
            "{kind}/{name} was touched"
        );
    }
    for event in site.list("Event").await? {
        let about =
            text(&event, "/involvedObject/name").or_else(|| text(&event, "/regarding/name"));
        ensure!(!matches!(about, Some("backup" | "fresh")), "{event}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_not_synclines_is_refused_by_name_and_a_corrected_one_is_used()
-> Result<()> {
    let _turn = turn().await;
    let place = needs::DEPLOYMENT.shared(Who::Caller).await?;
    scenario(place, "image", |stage| async move {
        let site = stage.site("west").await?;
        let system = System::of(&stage.cluster).await?;
        system.set(&format!("rsync.image={STRANGER}")).await?;
        let told = refused(&site).await;
        system.set("rsync.image=").await?;
        let told = told?;
        ensure!(
            told.contains(STRANGER) && told.contains("--rsync-container-image"),
            "{told}"
        );
        site.wait(
            "Job",
            "volsync-rsync-dst-copy",
            "a mover that runs",
            |job| (job.pointer("/status/ready") == Some(&Value::from(1))).then_some(()),
        )
        .await
    })
    .await
}

async fn refused(site: &Site) -> Result<String> {
    site.apply(destination("copy", json!({}))).await?;
    site.wait(
        "ReplicationDestination",
        "copy",
        "the image refused",
        |object| {
            text(condition(object, "Synchronizing")?, "/message")
                .filter(|message| message.starts_with("MoverImageNotSyncline"))
                .map(str::to_owned)
        },
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_volsync_left_in_flight_ends_untouched_and_is_counted_once() -> Result<()> {
    let _turn = turn().await;
    let place = needs::DEPLOYMENT.shared(Who::Caller).await?;
    scenario(place, "inflight", |stage| async move {
        let site = stage.site("east").await?;
        let system = System::of(&stage.cluster).await?;
        let data = site.volume("data").await?;
        data.edit(|folder| corpus::plain(folder, 5, 1)).await?;
        system.scale(0).await?;
        let image = stage.cluster.real()?.image()?;
        let left = left_by_volsync(&site, &image).await;
        system.scale(1).await?;
        let job = left?;
        site.wait("ReplicationSource", "db", "been looked at", |object| {
            let found = condition(object, "Synchronizing")?;
            found.get("observedGeneration").map(|_| ())
        })
        .await?;
        let kept = site.get("Job", "volsync-rsync-src-db").await?;
        for part in ["/metadata/uid", "/metadata/labels", "/spec"] {
            ensure!(
                kept.pointer(part) == job.pointer(part),
                "{part} was touched"
            );
        }
        finishes_and_counts(&site, &data).await?;
        site.wait_gone("Job", "volsync-rsync-src-db").await
    })
    .await
}

/// A program of Kubernetes that takes part in an election by the library that VolSync uses.
struct Rival(Child);

impl Rival {
    fn start(stage: &Stage) -> Result<Self> {
        let program = std::env::var_os("SYNCLINE_E2E_CLUSTER").context("no cluster of ours")?;
        let tools = Command::new(program).arg("tools").output()?;
        ensure!(tools.status.success(), "the cluster names no tools");
        let tools = String::from_utf8(tools.stdout)?;
        let config = stage.cluster.scratch().join("rival.json");
        let settings = json!({
            "apiVersion": "kubescheduler.config.k8s.io/v1", "kind": "KubeSchedulerConfiguration",
            "clientConnection": {"kubeconfig": stage.cluster.kubeconfig()},
            "leaderElection": {"leaderElect": true, "resourceLock": "leases", "resourceName": LEASE,
                "resourceNamespace": SYSTEM, "leaseDuration": "15s", "renewDeadline": "10s", "retryPeriod": "1s"},
            // No pod asks for this scheduler: to lead is all that it does.
            "profiles": [{"schedulerName": "rival"}],
        });
        std::fs::write(&config, settings.to_string())?;
        let child = Command::new(Path::new(tools.trim()).join("kube-scheduler"))
            .arg("--config")
            .arg(&config)
            .args(["--secure-port", "0"])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start kube-scheduler")?;
        Ok(Self(child))
    }

    /// Ends it in good order, as its library demands.
    fn stop(mut self) -> Result<()> {
        let pid = self.0.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status()?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Rival {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn syncline_and_the_library_that_volsync_elects_by_take_turns() -> Result<()> {
    let _turn = turn().await;
    let place = needs::DEPLOYMENT.shared(Who::Caller).await?;
    scenario(place, "turns", |stage| async move {
        let system = System::of(&stage.cluster).await?;
        let own = system.site();
        let leader = system.leader_other_than(None).await?;
        let rival = Rival::start(&stage)?;
        system.scale(0).await?;
        let held = own.wait("Lease", LEASE, "the rival as its holder", |lease| {
            let holder = text(lease, "/spec/holderIdentity")?;
            (!holder.is_empty() && !holder.starts_with(&leader)).then(|| holder.to_owned())
        });
        let held = held.await;
        system.scale(1).await?;
        let held = held?;
        let lease = own.get("Lease", LEASE).await?;
        ensure!(
            text(&lease, "/spec/holderIdentity") == Some(held.as_str()),
            "{lease}"
        );
        rival.stop()?;
        system.leader_other_than(None).await?;
        Ok(())
    })
    .await
}
