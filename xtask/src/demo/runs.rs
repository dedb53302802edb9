//! The runs: triggered, watched, checked.

use std::path::PathBuf;
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use syncline_testkit::log::bytes_sent;
use syncline_testkit::{Cluster, Site, Tree};

use super::input;
use super::replication::{RUN_CAP, Replication};
use super::show::{self, Row};
use super::sites::{self, Address, NAME};
use super::store::Store;
use super::writer::{self, Writer};

/// The stage set: two sites, a filled volume, a writer.
pub(crate) struct Demo {
    cluster: Arc<Cluster>,
    primary: Site,
    secondary: Site,
    volume: PathBuf,
    address: Address,
    replication: Replication,
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
        let replication = Replication {
            name: NAME,
            source: primary.clone(),
            destinations: vec![secondary.clone()],
            sent: bytes_sent,
        };
        Ok(Self {
            cluster,
            primary,
            secondary,
            volume,
            address,
            replication,
            writer: Some(writer),
            atomic,
        })
    }

    /// Three runs over ssh and a start from the copy.
    pub(crate) async fn play(&self) -> Result<Vec<Row>> {
        show::step("First run: everything, from deploy/samples/rsync-source.yaml");
        let first = self.manual("first", "first run").await?;

        show::step("Second run: one file in a hundred was changed");
        let changed = input::change_one_percent(&self.volume)?;
        let second = self.manual("second", "1 % changed").await?;
        self.only_the_change_went(changed, [&first, &second], "over the wire", 10)?;

        show::step("Third run: the schedule fires");
        let third = self.scheduled().await?;

        show::step("Starting from the copy");
        let restored = self.start_from_the_copy().await?;
        Ok(vec![first, second, third, restored])
    }

    /// Three runs through a store, the last of them without a change.
    pub(crate) async fn play_through_a_store(&self) -> Result<Vec<Row>> {
        let store = Store::set_up(&self.cluster, &self.primary, &self.secondary).await?;

        show::step("First run through the store: everything");
        let hold = self.hold_unless_atomic();
        let first = store.run("first", "store: first run", hold).await?;

        show::step("Second run through the store: one file in a hundred was changed");
        let changed = input::change_one_percent(&self.volume)?;
        // Nothing may change between the copy of this run and that of the next.
        let hold = self.hold();
        let second = store.run("second", "store: 1 % changed", ()).await?;
        // Whole files go to a store, and the database is one.
        self.only_the_change_went(changed, [&first, &second], "to the store", 50)?;

        show::step("Third run through the store: nothing was changed");
        show::say("the database's writer rests since the second run");
        let third = store
            .run_without_change("third", "store: unchanged")
            .await?;
        drop(hold);
        self.show_resources()?;
        Ok(vec![first, second, third])
    }

    async fn manual(&self, tag: &str, what: &str) -> Result<Row> {
        let hold = self.hold_unless_atomic();
        let trigger = sites::source(&self.primary, &self.address, json!({"manual": tag}));
        self.replication.run(what, hold, trigger).await
    }

    async fn scheduled(&self) -> Result<Row> {
        let before = self.replication.images().await?;
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
        let copy = self.replication.catch_point_in_time().await?;
        let start = Instant::now();
        drop(hold);
        show::say("it fired");
        // One scheduled run is enough: a manual tag that has been served already means "no further run".
        sites::source(&self.primary, &self.address, json!({"manual": "done"})).await?;
        let row = self
            .replication
            .watch_and_check("by the schedule", start, copy, &before)
            .await?;
        show::say("and afterwards:");
        self.show_resources()?;
        Ok(row)
    }

    /// Holds the database's writer for as long as the guard lives.
    fn hold(&self) -> Option<MutexGuard<'_, ()>> {
        self.writer.as_ref().map(Writer::hold)
    }

    fn hold_unless_atomic(&self) -> Option<MutexGuard<'_, ()>> {
        if self.atomic { None } else { self.hold() }
    }

    async fn hold_before(&self, next: jiff::Timestamp) -> Option<MutexGuard<'_, ()>> {
        let margin = Duration::from_secs(2);
        let left = next.duration_since(jiff::Timestamp::now());
        let left = Duration::try_from(left).unwrap_or_default();
        tokio::time::sleep(left.saturating_sub(margin)).await;
        self.hold_unless_atomic()
    }

    /// Says what had changed and what went for it: at most so many hundredths of what went in the first run.
    fn only_the_change_went(
        &self,
        changed: usize,
        runs: [&Row; 2],
        way: &str,
        percent: u64,
    ) -> Result<()> {
        let [Some(whole), Some(part)] = runs.map(|row| row.sent) else {
            bail!("a run without a transfer");
        };
        let rows = self.writer.as_ref().map_or(0, Writer::written);
        show::say(&format!(
            "{} files and the database ({rows} rows) had changed: {} went {way}, of {} the first time",
            show::grouped(changed),
            show::human(part),
            show::human(whole)
        ));
        ensure!(
            part < whole / 100 * percent,
            "the second run sent more than {percent} % of what the first sent"
        );
        Ok(())
    }

    async fn start_from_the_copy(&self) -> Result<Row> {
        let images = self.replication.images().await?;
        let image = images.into_iter().flatten().next();
        let image = image.context("there is no image")?;
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
            sites::syncline(&self.cluster, &["get", kind, "-A"])?;
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
