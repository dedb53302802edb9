//! A replication under the demo's eyes: each run's point-in-time copy is kept until it was read, and every image is compared
//! with it.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use syncline_testkit::tree::Ignore;
use syncline_testkit::wait::{Look, wait_for};
use syncline_testkit::{Site, Tree};
use tokio::task::JoinHandle;

use super::show::{self, Row};
use super::sites;

/// Keeps the point-in-time copy until the demo has read it.
const FINALIZER: &str = "demo.syncline.dev/compare";
/// How long one run may take.
pub(crate) const RUN_CAP: Duration = Duration::from_secs(120);

/// A tree that is being read.
pub(crate) type Reading = JoinHandle<Result<Tree>>;

/// A source, and the destinations that get what it sends; all have one name.
pub(crate) struct Replication {
    /// The name.
    pub(crate) name: &'static str,
    /// Where the source is.
    pub(crate) source: Site,
    /// Where the destinations are.
    pub(crate) destinations: Vec<Site>,
    /// Finds in the log of the source's mover how many bytes it sent.
    pub(crate) sent: fn(&str) -> Option<u64>,
}

impl Replication {
    /// A run from its trigger to the comparison; `hold` is let go once the point-in-time copy is there.
    pub(crate) async fn run<H>(
        &self,
        what: &str,
        hold: H,
        trigger: impl Future<Output = Result<()>>,
    ) -> Result<Row> {
        let before = self.images().await?;
        trigger.await?;
        let start = Instant::now();
        let copy = self.catch_point_in_time().await?;
        drop(hold);
        self.watch_and_check(what, start, copy, &before).await
    }

    /// Waits for the point-in-time copy of a run, keeps it from being removed, and begins to read it.
    pub(crate) async fn catch_point_in_time(&self) -> Result<Reading> {
        let claims = self.source.api("PersistentVolumeClaim")?;
        let claim = self.point_in_time();
        let patch = Patch::Merge(
            json!({"metadata": {"finalizers": [FINALIZER, "kubernetes.io/pvc-protection"]}}),
        );
        wait_for("the point-in-time copy", RUN_CAP, || async {
            match claims.patch(&claim, &PatchParams::default(), &patch).await {
                Ok(_) => Ok(Look::Done(())),
                Err(error) => Ok(Look::NotYet(error.to_string())),
            }
        })
        .await?;
        let folder = self.source.folder(&claim).await?;
        Ok(tokio::task::spawn_blocking(move || Tree::scan(&folder)))
    }

    /// Watches a run until the destinations have new images, and compares these.
    pub(crate) async fn watch_and_check(
        &self,
        what: &str,
        start: Instant,
        copy: Reading,
        before: &[Option<String>],
    ) -> Result<Row> {
        let images = self.watch(before).await?;
        self.check(what, start.elapsed(), copy, &images).await
    }

    /// Compares the destinations' images with the point-in-time copy, which may go afterwards.
    pub(crate) async fn check(
        &self,
        what: &str,
        time: Duration,
        copy: Reading,
        images: &[String],
    ) -> Result<Row> {
        let sent = self.tell_sent().await?;
        let expected = copy.await??;
        self.release_point_in_time().await?;
        let mut verified = true;
        for (site, image) in self.destinations.iter().zip(images) {
            let check = format!("check-{image}");
            let folder = sites::volume_from_image(site, &check, image).await?;
            let copy = tokio::task::spawn_blocking(move || Tree::scan(&folder)).await??;
            site.delete("PersistentVolumeClaim", &check).await?;
            verified &= is_equal(&expected, &copy, &site.namespace);
        }
        Ok(Row {
            what: what.to_owned(),
            seconds: time.as_secs_f64(),
            files: expected.len(),
            bytes: expected.bytes(),
            sent: Some(sent),
            verified,
        })
    }

    /// The latest image of each destination that has one.
    pub(crate) async fn images(&self) -> Result<Vec<Option<String>>> {
        let mut images = Vec::new();
        for site in &self.destinations {
            let destination = site.get("ReplicationDestination", self.name).await?;
            let image = destination.pointer("/status/latestImage/name");
            images.push(image.and_then(Value::as_str).map(str::to_owned));
        }
        Ok(images)
    }

    /// The temporary claim with the point-in-time copy that a run sends.
    fn point_in_time(&self) -> String {
        format!("volsync-{}-src", self.name)
    }

    async fn release_point_in_time(&self) -> Result<()> {
        let name = self.point_in_time();
        let claim = self.source.get("PersistentVolumeClaim", &name).await?;
        let others: Vec<&Value> = claim
            .pointer("/metadata/finalizers")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter(|finalizer| *finalizer != FINALIZER)
            .collect();
        let change = json!({"metadata": {"finalizers": others}});
        self.source
            .merge("PersistentVolumeClaim", &name, change)
            .await
            .context("cannot let go of the point-in-time copy")?;
        self.source.wait_gone("PersistentVolumeClaim", &name).await
    }

    /// Shows progress until every destination has published a new image, and returns their names.
    async fn watch(&self, before: &[Option<String>]) -> Result<Vec<String>> {
        let mut shown = String::new();
        let deadline = Instant::now() + RUN_CAP;
        loop {
            let source = self.source.get("ReplicationSource", self.name).await?;
            if let Some(line) = progress_line(&source).filter(|line| *line != shown) {
                show::say(&line);
                shown = line;
            }
            let running = source
                .pointer("/status/lastSyncStartTime")
                .is_some_and(|time| !time.is_null());
            let images = self.images().await?.into_iter().zip(before);
            let new = images.filter(|(image, before)| image != *before);
            let new: Vec<String> = new.filter_map(|(image, _)| image).collect();
            if new.len() == self.destinations.len() && !running {
                for (image, site) in new.iter().zip(&self.destinations) {
                    show::say(&format!("image {image} in {}", site.namespace));
                }
                return Ok(new);
            }
            if Instant::now() > deadline {
                bail!(
                    "{} of {} new images within {RUN_CAP:?}; the source says {}",
                    new.len(),
                    self.destinations.len(),
                    source.get("status").unwrap_or(&Value::Null)
                );
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Shows what the mover reported of the last run, and returns how many bytes it sent.
    async fn tell_sent(&self) -> Result<u64> {
        let source = self.source.get("ReplicationSource", self.name).await?;
        let logs = source
            .pointer("/status/latestMoverStatus/logs")
            .and_then(Value::as_str)
            .context("the source has no mover log")?;
        show::say(&logs.replace('\t', " "));
        (self.sent)(logs).with_context(|| format!("no line that tells bytes in\n{logs}"))
    }
}

/// Compares an image with what was sent, and says how that went.
fn is_equal(expected: &Tree, copy: &Tree, namespace: &str) -> bool {
    match expected.must_equal(copy, Ignore::default()) {
        Ok(()) => {
            show::say(&format!(
                "the image in {namespace} equals the point-in-time copy: {expected}"
            ));
            true
        }
        Err(differences) => {
            show::say(&format!(
                "the image in {namespace} DIFFERS: {differences:#}"
            ));
            false
        }
    }
}

fn progress_line(source: &Value) -> Option<String> {
    let progress = source.pointer("/status/progress")?;
    let number = |field: &str| progress.get(field).and_then(Value::as_u64);
    let phase = progress.get("phase").and_then(Value::as_str)?;
    let Some((done, total)) = number("bytesDone")
        .zip(number("bytesTotal"))
        .filter(|(_, total)| *total > 0)
    else {
        return Some(phase.to_owned());
    };
    let percent = done.min(total).saturating_mul(100) / total;
    Some(format!(
        "{phase}: {percent} % ({} of {})",
        show::human(done),
        show::human(total)
    ))
}
