//! What the last run left for this one: its manifest.

use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::PathBuf;

use jiff::Timestamp;

use super::Source;
use crate::rclone::generation::{self, Left, MARKER, Marker, Stored};
use crate::rclone::manifest::{self, LARGEST_STORED, Manifest, Seal};
use crate::rclone::outcome::Setback;
use crate::report::{Fault, reason};
use crate::tree::Scan;

/// The folder of what is fetched before anything is known.
const AHEAD: &str = "ahead";
/// What it may take before anybody has said how large it is, in bytes, with so many entries as this source sent last: it lies
/// in memory, and stored an entry takes some thirty.
const AHEAD_MOST: (u64, u64) = (1 << 20, 256);

/// What was fetched in one go before anything was known: in most runs that is all that is needed.
#[derive(Default)]
pub(super) struct Ahead {
    marker: Option<Marker>,
    /// The name of the manifest that came with it.
    manifest: Option<String>,
}

impl Source<'_> {
    /// The manifest of the last version that was complete; none where it is gone or damaged, which costs a full run.
    pub(super) async fn recall(
        &self,
        marker: Option<&Marker>,
    ) -> Result<Option<Manifest>, Setback> {
        let Some(stored) = marker.and_then(Marker::last_manifest).cloned() else {
            return Ok(None);
        };
        let Some(spot) = self.rclone.remote().state_file(&stored.name) else {
            return Ok(None);
        };
        if let Some(manifest) = self.recall_ahead(&stored).await {
            return Ok(Some(manifest));
        }
        let file = self.folder.file("last-manifest");
        if stored.seal.size > LARGEST_STORED {
            let most = LARGEST_STORED >> 30;
            self.console.say(&format!(
                "{spot} is larger than {most} GiB, so Syncline did not write it; it is passed over"
            ));
            return Ok(None);
        }
        if !self.rclone.fetch(&spot, &file, stored.seal.size).await? {
            self.console.say(&format!("{spot} is not there any more"));
            return Ok(None);
        }
        match read(file, stored.seal).await {
            Ok(manifest) => Ok(Some(manifest)),
            Err(why) => {
                self.console
                    .say(&format!("{spot} cannot be used and is passed over: {why}"));
                Ok(None)
            }
        }
    }

    /// Fetches the marker together with the manifest of the version that this source's last run ended with: almost always the
    /// marker names that one. What goes wrong here is seen by whoever asks for one of them in its turn.
    pub(super) async fn fetch_ahead(&self) {
        self.ahead.take();
        let label = self.settings.last_generation.as_deref();
        let name = label.and_then(generation::manifest_of);
        let (Some(name), Some(state)) = (name, self.rclone.remote().state()) else {
            return;
        };
        let folder = self.folder.file(AHEAD);
        // A try before this one may have left it.
        let _ = std::fs::remove_dir_all(&folder);
        if std::fs::create_dir(&folder).is_err() {
            return;
        }
        let (least, each) = AHEAD_MOST;
        let entries = self.settings.last_entries;
        let most = entries.saturating_mul(each).saturating_add(least);
        let names = [MARKER, name.as_str()];
        let limit = most.min(LARGEST_STORED);
        let fetched = self.rclone.fetch_some(&state, &names, &folder, limit).await;
        if fetched.is_ok() {
            let marker = std::fs::read(folder.join(MARKER)).ok();
            self.ahead.replace(Ahead {
                marker: marker.and_then(|bytes| Marker::parse(&bytes).ok()),
                manifest: folder.join(&name).is_file().then_some(name),
            });
        } else {
            // Half of something large, in memory.
            let _ = std::fs::remove_dir_all(&folder);
        }
    }

    /// The marker that was fetched ahead; once only, since it is that of a moment.
    pub(super) fn marker_ahead(&self) -> Option<Marker> {
        self.ahead.borrow_mut().marker.take()
    }

    /// The manifest that was fetched ahead, if it is what the marker names.
    async fn recall_ahead(&self, stored: &Stored) -> Option<Manifest> {
        let name = self.ahead.take().manifest?;
        let file = self.folder.file(AHEAD).join(&name);
        if name == stored.name {
            return read(file, stored.seal.clone()).await.ok();
        }
        // The folder is memory.
        let _ = std::fs::remove_file(file);
        None
    }

    /// Leaves the manifest and says that the announced version is complete. What earlier versions left goes.
    pub(super) async fn complete(
        &self,
        next: Marker,
        tree: Scan,
        left: Left,
    ) -> Result<Marker, Setback> {
        let remote = self.rclone.remote();
        let name = generation::manifest_name(next.generation);
        let (Some(spot), Some(place)) = (remote.state_file(&name), remote.state_file(MARKER))
        else {
            return Err(no_room("no folder can lie beside the path"));
        };
        let file = self.folder.file(&name);
        let described = Manifest {
            generation: next.generation,
            source: self.me.clone(),
            entries: tree.entries,
        };
        let seal = tokio::task::spawn_blocking({
            let file = file.clone();
            move || {
                let to = File::create(&file).map_err(|error| error.to_string())?;
                manifest::write(&described, BufWriter::new(to)).map_err(|error| error.to_string())
            }
        });
        let seal = seal
            .await
            .map_err(|error| error.to_string())
            .and_then(|seal| seal);
        let seal = seal.map_err(|why| no_room(&why))?;
        self.rclone.put(&file, &spot).await?;
        // A file of the private folder, which goes anyway.
        let _ = std::fs::remove_file(&file);
        let marker = next.completed(Stored { name, seal }, left, Timestamp::now());
        self.write_marker(&place, &marker).await?;
        self.sweep_formers().await;
        self.sweep(&marker).await;
        Ok(marker)
    }

    /// Says again what `before` said, after nothing had to be changed.
    pub(super) async fn put_back(&self, before: &Marker) -> Result<(), Setback> {
        let Some(place) = self.rclone.remote().state_file(MARKER) else {
            return Ok(());
        };
        self.write_marker(&place, before).await?;
        self.sweep_formers().await;
        self.sweep(before).await;
        Ok(())
    }
}

/// Reads a manifest that was fetched, and removes its file: the folder is memory.
async fn read(file: PathBuf, seal: Seal) -> Result<Manifest, String> {
    let read = tokio::task::spawn_blocking(move || {
        let read = File::open(&file)
            .map_err(|error| error.to_string())
            .and_then(|opened| {
                manifest::read(BufReader::new(opened), &seal).map_err(|error| error.to_string())
            });
        let _ = std::fs::remove_file(&file);
        read
    });
    read.await.map_err(|error| error.to_string())?
}

fn no_room(why: &str) -> Setback {
    let message =
        format!("the manifest could not be written: {why}; give the mover's pod more memory");
    Fault::new(reason::POD_INCOMPLETE, message).into()
}
