//! The two that are compared: what VolSync's mover calls, and ours, each with the environment that its operator gives.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::process::{Cost, Peaks, run, run_watched};

/// The section of `rclone.conf`.
pub(super) const SECTION: &str = "store";
/// What VolSync's mover does.
const STOCK: &str = include_str!("stock.sh");

/// Whose mover runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Stock,
    Ours,
}

/// Both, in the order in which they take turns.
pub(super) const BOTH: [Side; 2] = [Side::Stock, Side::Ours];

/// What both sides need.
#[derive(Clone, Debug)]
pub(super) struct Tools {
    pub(super) syncline: PathBuf,
    /// The folder of the rclone that both use.
    pub(super) rclone: PathBuf,
    /// A place for files of runs.
    pub(super) scratch: PathBuf,
}

/// A mover with its volume and its place in a store, from one run to the next.
#[derive(Debug)]
pub(super) struct Mover {
    tools: Tools,
    side: Side,
    config: PathBuf,
    /// Bucket and path.
    path: String,
    source: PathBuf,
    /// What its operator tells a source about the last run.
    memory: Vec<(&'static str, String)>,
}

impl Mover {
    pub(super) fn new(
        tools: &Tools,
        side: Side,
        (config, bucket): (&Path, &str),
        source: &Path,
    ) -> Self {
        Self {
            tools: tools.clone(),
            side,
            config: config.to_owned(),
            path: format!("{bucket}/volume"),
            source: source.to_owned(),
            memory: Vec::new(),
        }
    }

    /// A run of the source.
    pub(super) fn send(&mut self) -> Result<Cost> {
        let (command, scratch) = self.command("source", &self.source)?;
        let cost = run(command, &scratch.join("log"))?;
        self.remember(&scratch)?;
        Ok(cost)
    }

    /// A run of the source in which everything is compared, if this side has any other.
    pub(super) fn send_checked(&mut self) -> Result<Option<Cost>> {
        if self.side == Side::Stock {
            return Ok(None);
        }
        let (mut command, scratch) = self.command("source", &self.source)?;
        command.env("RUNS_SINCE_FULL_CHECK", "9");
        let cost = run(command, &scratch.join("log"))?;
        self.remember(&scratch)?;
        Ok(Some(cost))
    }

    /// A run of the source whose memory is watched.
    pub(super) fn send_watched(&mut self) -> Result<(Cost, Peaks)> {
        let (command, scratch) = self.command("source", &self.source)?;
        let result = run_watched(command, &scratch.join("log"), &scratch.join("tmp"))?;
        self.remember(&scratch)?;
        Ok(result)
    }

    /// A destination's run into an empty volume, which stays until the end: ext4 looks at each inode that was removed within
    /// the last minutes when it makes new ones, and the next run would pay for that.
    pub(super) fn fetch(&self) -> Result<(Cost, PathBuf)> {
        let volume = tempfile::tempdir_in(&self.tools.scratch)?.keep();
        let (command, scratch) = self.command("destination", &volume)?;
        Ok((run(command, &scratch.join("log"))?, volume))
    }

    /// A destination's run into the source's volume, which holds all that there is: everything is compared, nothing fetched.
    pub(super) fn compare_watched(&self) -> Result<(Cost, Peaks)> {
        let (command, scratch) = self.command("destination", &self.source)?;
        run_watched(command, &scratch.join("log"), &scratch.join("tmp"))
    }

    /// The command of a run and the folder of its files, `/tmp` of the pod.
    fn command(&self, direction: &str, volume: &Path) -> Result<(Command, PathBuf)> {
        let scratch = self.tools.scratch.join("pod");
        if scratch.exists() {
            fs::remove_dir_all(&scratch)?;
        }
        let tmp = scratch.join("tmp");
        fs::create_dir_all(&tmp)?;
        let mut command = match self.side {
            Side::Stock => {
                let mut command = Command::new("bash");
                command.args(["-c", STOCK]);
                command
            }
            Side::Ours => {
                let mut command = Command::new(&self.tools.syncline);
                command.args(["mover", "rclone", direction]);
                command
                    .env("SYNCLINE_DATA_DIR", volume)
                    .env("TERMINATION_LOG", scratch.join("report"))
                    .env("OWNER_UID", "0f7e0ce6-5a21-4d0c-8c6a-0c8f3a1f7c11")
                    .env("OWNER_NAMESPACE", "bench")
                    .env("OWNER_NAME", "volume")
                    .env("FULL_CHECK_EVERY", "10")
                    .env("RUNS_SINCE_FULL_CHECK", "0");
                if direction == "source" {
                    command.envs(self.memory.iter().map(|(name, value)| (*name, value)));
                }
                command
            }
        };
        let path = std::env::var_os("PATH").unwrap_or_default();
        let programs = [self.tools.rclone.clone()].into_iter();
        command
            .env(
                "PATH",
                std::env::join_paths(programs.chain(std::env::split_paths(&path)))?,
            )
            .env("TMPDIR", &tmp)
            .env("RCLONE_CONFIG", &self.config)
            .env("RCLONE_CONFIG_SECTION", SECTION)
            .env("RCLONE_DEST_PATH", &self.path)
            .env("DIRECTION", direction)
            .env("MOUNT_PATH", volume)
            .env("PRIVILEGED_MOVER", "1");
        Ok((command, scratch))
    }

    /// What the operator takes from our mover's report for the next run.
    fn remember(&mut self, scratch: &Path) -> Result<()> {
        if self.side == Side::Stock {
            return Ok(());
        }
        let text = fs::read(scratch.join("report")).context("the mover left no report")?;
        let report: Value = serde_json::from_slice(&text)?;
        let entries = report.get("entries").and_then(Value::as_i64);
        let generation = report.get("generation").and_then(Value::as_str);
        self.memory = [
            (
                "LAST_SYNCED_ENTRIES",
                entries.map(|number| number.to_string()),
            ),
            ("LAST_GENERATION", generation.map(str::to_owned)),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect();
        Ok(())
    }
}
