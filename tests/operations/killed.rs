//! An operator that dies without a word: its process gets SIGKILL, so that nobody gives its lease back.

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use serde_json::Value;
use syncline_operator::options::Election;
use syncline_testkit::Signal;
use syncline_testkit::scenario::{CAP, Stage};
use syncline_testkit::wait::{Look, wait_for};
use syncline_tests::parts::text;

use crate::system::System;

/// A lease whose holder was killed.
pub(crate) struct Orphaned {
    system: System,
    holder: String,
    renewed: Timestamp,
    seconds: i64,
}

impl Orphaned {
    /// Kills the process of the operator that leads.
    pub(crate) async fn leave(stage: &Stage) -> Result<Self> {
        let system = System::of(&stage.cluster).await?;
        let leader = system.leader_other_than(None).await?;
        let pod = system.site().get("Pod", &leader).await?;
        let uid = text(&pod, "/metadata/uid").context("a pod without uid")?;
        let is_operator = |line: &str| line.starts_with("/syncline operator");
        let processes = stage.cluster.processes(&[uid.to_owned()], is_operator)?;
        let killed = processes.signal(Signal::KILL);
        ensure!(killed == 1, "{killed} operators in the pod {leader}");
        let lease = lease(&system).await?;
        let holder = text(&lease, "/spec/holderIdentity").unwrap_or_default();
        ensure!(
            holder.starts_with(&leader),
            "the one that was killed has given its lease back: {lease}"
        );
        Ok(Self {
            holder: holder.to_owned(),
            renewed: instant(&lease, "/spec/renewTime")?,
            seconds: lease
                .pointer("/spec/leaseDurationSeconds")
                .and_then(Value::as_i64)
                .context("a lease without end")?,
            system,
        })
    }

    /// Waits until somebody else holds the lease, which must have run out before. Returns the pod of the new leader.
    pub(crate) async fn is_taken_when_it_has_run_out(&self) -> Result<String> {
        let lease = wait_for("another leader", CAP * 2, || async {
            let lease = lease(&self.system).await?;
            let holder = text(&lease, "/spec/holderIdentity");
            Ok(if holder == Some(&self.holder) {
                Look::NotYet(lease.to_string())
            } else {
                Look::Done(lease)
            })
        })
        .await?;
        let holder = text(&lease, "/spec/holderIdentity").unwrap_or_default();
        ensure!(!holder.is_empty(), "the lease was given back: {lease}");
        // Both instants were written by processes of one machine.
        let waited = instant(&lease, "/spec/acquireTime")?.duration_since(self.renewed);
        ensure!(
            waited.as_secs() >= self.seconds,
            "the lease of {} s was taken after {waited}: {lease}",
            self.seconds
        );
        let pod = holder.split('_').next().unwrap_or_default();
        Ok(pod.to_owned())
    }

    /// The pod of the one that was killed.
    pub(crate) fn pod(&self) -> &str {
        self.holder.split('_').next().unwrap_or_default()
    }
}

async fn lease(system: &System) -> Result<Value> {
    system.site().get("Lease", Election::VOLSYNC_LEASE).await
}

fn instant(lease: &Value, pointer: &str) -> Result<Timestamp> {
    let written = text(lease, pointer).with_context(|| format!("no {pointer} in {lease}"))?;
    Ok(written.parse()?)
}
