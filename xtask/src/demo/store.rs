//! The part through a store: one source, a folder as the store, two destinations.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use syncline_testkit::corpus::files_below;
use syncline_testkit::log::bytes_transferred;
use syncline_testkit::tree::Ignore;
use syncline_testkit::{Cluster, Site, Tree};

use super::replication::{RUN_CAP, Replication};
use super::show::{self, Row};
use super::sites;

/// The store, and who sends to it and fetches from it.
pub(crate) struct Store {
    replication: Replication,
    folder: PathBuf,
}

impl Store {
    /// Makes a third site, gives all three the store, and lets two wait for a first version.
    pub(crate) async fn set_up(
        cluster: &Arc<Cluster>,
        primary: &Site,
        secondary: &Site,
    ) -> Result<Self> {
        let tertiary = sites::site(cluster, "tertiary").await?.within(RUN_CAP);
        let folder = cluster.scratch().join(sites::STORE);
        fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let path = folder.to_str().context("the store's path is no text")?;
        let destinations = vec![secondary.clone(), tertiary];
        for site in [primary].into_iter().chain(&destinations) {
            sites::store_access(site).await?;
            let namespace = site.namespace.as_str();
            sites::syncline(
                cluster,
                &["volume", "add", sites::STORE, path, "-n", namespace],
            )?;
        }
        for site in &destinations {
            sites::store_destination(site).await?;
        }
        show::say(
            "that folder is the store; the rest is deploy/samples/rclone: a source in primary, destinations in secondary\n\
             and in tertiary, which look for a new version every second here",
        );
        let replication = Replication {
            name: sites::BY_STORE,
            source: primary.clone(),
            destinations,
            sent: bytes_transferred,
        };
        Ok(Self {
            replication,
            folder,
        })
    }

    /// A run with something to send; `hold` is let go once the point-in-time copy is there.
    pub(crate) async fn run<H>(&self, tag: &str, what: &str, hold: H) -> Result<Row> {
        let trigger = sites::store_source(&self.replication.source, tag);
        let row = self.replication.run(what, hold, trigger).await?;
        let objects = |folder: String| -> Result<String> {
            let files = files_below(&self.folder.join(folder))?;
            Ok(show::grouped(files.len()))
        };
        show::say(&format!(
            "the store has {} objects in {path}, and {} with Syncline's notes in {path}-syncline",
            objects(sites::IN_STORE.to_owned())?,
            objects(format!("{}-syncline", sites::IN_STORE))?,
            path = sites::IN_STORE,
        ));
        Ok(row)
    }

    /// A run with nothing to send: neither the store nor the destinations' images may change.
    pub(crate) async fn run_without_change(&self, tag: &str, what: &str) -> Result<Row> {
        let replication = &self.replication;
        let store = self.objects().await?;
        let images = replication.images().await?;
        sites::store_source(&replication.source, tag).await?;
        let start = Instant::now();
        let copy = replication.catch_point_in_time().await?;
        let done = format!("done the manual sync {tag}");
        replication
            .source
            .wait("ReplicationSource", replication.name, &done, |object| {
                let last = object.pointer("/status/lastManualSync")?.as_str()?;
                (last == tag).then_some(())
            })
            .await?;
        let time = start.elapsed();
        store
            .must_equal(&self.objects().await?, Ignore::default())
            .context("a run without a change has changed the store")?;
        ensure!(
            images == replication.images().await?,
            "a run without a change has made an image"
        );
        show::say("nothing was written to the store, and the destinations keep their images");
        let images: Vec<String> = images.into_iter().flatten().collect();
        replication.check(what, time, copy, &images).await
    }

    /// Everything in the store.
    async fn objects(&self) -> Result<Tree> {
        let folder = self.folder.clone();
        tokio::task::spawn_blocking(move || Tree::scan(&folder)).await?
    }
}
