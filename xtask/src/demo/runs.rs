//! The runs: triggered, watched, checked.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use syncline_testkit::log::bytes_sent;
use syncline_testkit::tree::Ignore;
use syncline_testkit::wait::{Look, wait_for};
use syncline_testkit::{Cluster, Site, Tree};

use super::input;
use super::show::{self, Row};
use super::sites::{self, Address, NAME};
use super::writer::{self, Writer};

/// The temporary claim with the point-in-time copy that a run sends.
const POINT_IN_TIME: &str = "volsync-app-src";
/// Keeps the point-in-time copy until the demo has read it.
const FINALIZER: &str = "demo.syncline.dev/compare";
/// How long one run may take.
const RUN_CAP: Duration = Duration::from_secs(120);

/// The stage set: two sites, a filled volume, a writer.
pub(crate) struct Demo {
    cluster: Arc<Cluster>,
    primary: Site,
    secondary: Site,
    volume: PathBuf,
    address: Address,
    writer: Option<Writer>,
    atomic: bool,
}

impl Demo {
    /// Makes both sites and fills the application's volume.
    pub(crate) async fn set_up(cluster: Arc<Cluster>, atomic: bool) -> Result<Self> {
        let primary = sites::site(&cluster, "primary").await?.within(RUN_CAP);
        let secondary = sites::site(&cluster, "secondary").await?.within(RUN_CAP);

        show::step("Real input: files of this machine, and a SQLite database in use");
        let volume = sites::app_volume(&primary).await?;
        let (files, from) = input::fill(&volume)?;
        show::say(&format!("{} files from {from}", show::grouped(files)));
        let writer = Writer::start(&volume)?;
        show::say("app.db gets a row in a transaction of its own every few milliseconds");

        show::step("The destination, from deploy/samples/rsync-destination.yaml");
        let address = sites::destination(&primary, &secondary).await?;
        show::say(&format!(
            "it listens on {}:{}; its Secret {} was copied to the source's namespace",
            address.host, address.port, address.keys
        ));
        Ok(Self {
            cluster,
            primary,
            secondary,
            volume,
            address,
            writer: Some(writer),
            atomic,
        })
    }

    /// Three runs and a start from the copy.
    pub(crate) async fn play(&self) -> Result<Vec<Row>> {
        show::step("First run: everything, from deploy/samples/rsync-source.yaml");
        let first = self.manual("first", "first run").await?;

        show::step("Second run: one file in a hundred was changed");
        let changed = input::change_one_percent(&self.volume)?;
        let second = self.manual("second", "1 % changed").await?;
        self.only_the_change_went(changed, &first, &second)?;

        show::step("Third run: the schedule fires");
        let third = self.scheduled().await?;

        show::step("Starting from the copy");
        let restored = self.start_from_the_copy().await?;
        Ok(vec![first, second, third, restored])
    }

    async fn manual(&self, tag: &str, what: &str) -> Result<Row> {
        let hold = self.hold_unless_atomic();
        let before = self.last_image().await?;
        sites::source(&self.primary, &self.address, json!({"manual": tag})).await?;
        let start = Instant::now();
        self.catch_point_in_time().await?;
        drop(hold);
        self.watch_and_check(what, start, before).await
    }

    async fn scheduled(&self) -> Result<Row> {
        let before = self.last_image().await?;
        sites::source(
            &self.primary,
            &self.address,
            json!({"schedule": "* * * * *"}),
        )
        .await?;
        let next = self
            .primary
            .wait("ReplicationSource", NAME, "a next run", |object| {
                let next = object.pointer("/status/nextSyncTime")?.as_str()?;
                next.parse::<jiff::Timestamp>().ok()
            })
            .await?;
        show::say(&format!("the next run is due at {next}; meanwhile:"));
        self.show_resources()?;
        let hold = self.hold_before(next).await;
        self.catch_point_in_time().await?;
        let start = Instant::now();
        drop(hold);
        show::say("it fired");
        // One scheduled run is enough: a manual tag that has been served already means "no further run".
        sites::source(&self.primary, &self.address, json!({"manual": "done"})).await?;
        let row = self
            .watch_and_check("by the schedule", start, before)
            .await?;
        show::say("and afterwards:");
        self.show_resources()?;
        Ok(row)
    }

    fn hold_unless_atomic(&self) -> Option<std::sync::MutexGuard<'_, ()>> {
        self.writer
            .as_ref()
            .filter(|_| !self.atomic)
            .map(Writer::hold)
    }

    async fn hold_before(&self, next: jiff::Timestamp) -> Option<std::sync::MutexGuard<'_, ()>> {
        let margin = Duration::from_secs(2);
        let left = next.duration_since(jiff::Timestamp::now());
        let left = Duration::try_from(left).unwrap_or_default();
        tokio::time::sleep(left.saturating_sub(margin)).await;
        self.hold_unless_atomic()
    }

    /// Waits for the point-in-time copy of a run and keeps it from being removed.
    async fn catch_point_in_time(&self) -> Result<()> {
        let claims = self.primary.api("PersistentVolumeClaim")?;
        let patch = Patch::Merge(
            json!({"metadata": {"finalizers": [FINALIZER, "kubernetes.io/pvc-protection"]}}),
        );
        wait_for("the point-in-time copy", RUN_CAP, || async {
            match claims
                .patch(POINT_IN_TIME, &PatchParams::default(), &patch)
                .await
            {
                Ok(_) => Ok(Look::Done(())),
                Err(error) => Ok(Look::NotYet(error.to_string())),
            }
        })
        .await?;
        self.primary.folder(POINT_IN_TIME).await?;
        Ok(())
    }

    async fn watch_and_check(
        &self,
        what: &str,
        start: Instant,
        before: Option<String>,
    ) -> Result<Row> {
        let folder = self.primary.folder(POINT_IN_TIME).await?;
        let reading = tokio::task::spawn_blocking(move || Tree::scan(&folder));
        let image = self.watch(before).await?;
        let seconds = start.elapsed().as_secs_f64();
        let sent = self.sent().await?;
        let expected = reading.await??;
        self.release_point_in_time().await?;

        let check = format!("check-{image}");
        let folder = sites::volume_from_image(&self.secondary, &check, &image).await?;
        let copy = tokio::task::spawn_blocking(move || Tree::scan(&folder)).await??;
        self.secondary
            .delete("PersistentVolumeClaim", &check)
            .await?;
        let verified = compare(&expected, &copy);
        Ok(Row {
            what: what.to_owned(),
            seconds,
            files: expected.len(),
            bytes: expected.bytes(),
            sent: Some(sent),
            verified,
        })
    }

    async fn release_point_in_time(&self) -> Result<()> {
        let claim = self
            .primary
            .get("PersistentVolumeClaim", POINT_IN_TIME)
            .await?;
        let others: Vec<&Value> = claim
            .pointer("/metadata/finalizers")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter(|finalizer| *finalizer != FINALIZER)
            .collect();
        let patch = Patch::Merge(json!({"metadata": {"finalizers": others}}));
        self.primary
            .api("PersistentVolumeClaim")?
            .patch(POINT_IN_TIME, &PatchParams::default(), &patch)
            .await
            .context("cannot let go of the point-in-time copy")?;
        self.primary
            .wait_gone("PersistentVolumeClaim", POINT_IN_TIME)
            .await
    }

    /// Shows progress until the destination has published a new image, and returns its name.
    async fn watch(&self, before: Option<String>) -> Result<String> {
        let mut shown = String::new();
        let deadline = Instant::now() + RUN_CAP;
        loop {
            let source = self.primary.get("ReplicationSource", NAME).await?;
            if let Some(line) = progress_line(&source).filter(|line| *line != shown) {
                show::say(&line);
                shown = line;
            }
            let image = self.last_image().await?;
            let running = source
                .pointer("/status/lastSyncStartTime")
                .is_some_and(|time| !time.is_null());
            if let Some(image) = image.filter(|image| Some(image) != before.as_ref() && !running) {
                show::say(&format!("image {image}"));
                return Ok(image);
            }
            if Instant::now() > deadline {
                bail!(
                    "no new image within {RUN_CAP:?}; the source says {}",
                    source.get("status").unwrap_or(&Value::Null)
                );
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn last_image(&self) -> Result<Option<String>> {
        let destination = self.secondary.get("ReplicationDestination", NAME).await?;
        Ok(destination
            .pointer("/status/latestImage/name")
            .and_then(Value::as_str)
            .map(str::to_owned))
    }

    /// What the mover reported as sent in the last run, in bytes.
    async fn sent(&self) -> Result<u64> {
        let source = self.primary.get("ReplicationSource", NAME).await?;
        let logs = source
            .pointer("/status/latestMoverStatus/logs")
            .and_then(Value::as_str)
            .context("the source has no mover log")?;
        show::say(logs);
        bytes_sent(logs).with_context(|| format!("no `sent … bytes` in\n{logs}"))
    }

    fn only_the_change_went(&self, changed: usize, first: &Row, second: &Row) -> Result<()> {
        let (Some(whole), Some(part)) = (first.sent, second.sent) else {
            bail!("a run without a transfer");
        };
        let rows = self.writer.as_ref().map_or(0, Writer::written);
        show::say(&format!(
            "{} files and the database ({rows} rows) had changed: {} went over the wire, of {} the first time",
            show::grouped(changed),
            show::human(part),
            show::human(whole)
        ));
        ensure!(
            part < whole / 10,
            "the second run sent more than a tenth of the first"
        );
        Ok(())
    }

    async fn start_from_the_copy(&self) -> Result<Row> {
        let image = self.last_image().await?.context("there is no image")?;
        let start = Instant::now();
        let folder = sites::volume_from_image(&self.secondary, "app-data-restored", &image).await?;
        let seconds = start.elapsed().as_secs_f64();
        show::say(&format!(
            "app-data-restored is a new volume with the content of {image}"
        ));
        let tree = {
            let folder = folder.clone();
            tokio::task::spawn_blocking(move || Tree::scan(&folder)).await??
        };
        let database = writer::database(&folder);
        let verdict = writer::query(&database, "PRAGMA integrity_check;")?;
        let rows = writer::query(
            &database,
            "SELECT count(*) FROM entry WHERE length(text) = checksum;",
        )?;
        let all = writer::query(&database, "SELECT count(*) FROM entry;")?;
        show::say(&format!(
            "PRAGMA integrity_check: {verdict}; {rows} of {all} rows are whole"
        ));
        writer::query(
            &database,
            "INSERT INTO entry VALUES (NULL, 'written after failover', 22);",
        )?;
        show::say("and it takes new rows: the application runs at the second site");
        Ok(Row {
            what: "start from the copy".to_owned(),
            seconds,
            files: tree.len(),
            bytes: tree.bytes(),
            sent: None,
            verified: verdict == "ok" && rows == all,
        })
    }

    fn show_resources(&self) -> Result<()> {
        for kind in ["replicationsources", "replicationdestinations"] {
            let output = self.cluster.syncline(["get", kind, "-A"]).output()?;
            ensure!(
                output.status.success(),
                "syncline get {kind} failed: {}",
                String::from_utf8_lossy(&output.stderr)
            );
            show::command(
                &format!("syncline get {kind} -A"),
                &String::from_utf8_lossy(&output.stdout),
            );
        }
        Ok(())
    }

    /// Stops the writer; an error if its database had failed it.
    pub(crate) fn finish(mut self) -> Result<()> {
        match self.writer.take() {
            Some(writer) => writer.finish().map(drop),
            None => Ok(()),
        }
    }
}

fn compare(expected: &Tree, copy: &Tree) -> bool {
    match expected.must_equal(copy, Ignore::default()) {
        Ok(()) => {
            show::say(&format!(
                "the image equals the point-in-time copy: {expected}"
            ));
            true
        }
        Err(differences) => {
            show::say(&format!("the image DIFFERS: {differences:#}"));
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
