//! The rclone mover beside what VolSync's calls: the same rclone, files and server, in turns on the same machine.

mod corpus;
mod counts;
mod distance;
mod memory;
mod process;
mod side;
mod store;
mod times;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use self::corpus::Corpus;
use self::side::Tools;
use self::store::Store;
use crate::figures::say;

/// How many of the small files change between two runs.
const CHANGED_SHARE: usize = 100;

/// A folder whose files are in memory, and how much room there has to be for a store.
const MEMORY: &str = "/dev/shm";
const ROOM: u64 = 8 << 30;

/// What to measure, and on how much.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Rclone {
    /// The program that is measured
    #[arg(long, value_name = "FILE")]
    syncline: PathBuf,
    /// The S3 server
    #[arg(long, value_name = "FILE", env = "VERSITYGW")]
    server: PathBuf,
    /// Where files of the run may lie; about ten times as much room as the big files have
    #[arg(
        long,
        value_name = "FOLDER",
        env = "TMPDIR",
        default_value = "/var/tmp"
    )]
    folder: PathBuf,
    /// Where the server's files may lie. Default: in memory where there is room, so that it takes as little of this machine
    /// as a store elsewhere
    #[arg(long, value_name = "FOLDER")]
    store: Option<PathBuf>,
    /// How often all is repeated
    #[arg(long, value_name = "NUMBER", default_value_t = 3)]
    repeat: usize,
    /// How many small files; one of a hundred of them changes
    #[arg(long, value_name = "NUMBER", default_value_t = 10_000)]
    files: usize,
    /// How long a question and its answer take on the way to a store that is measured beside the near one; 0 for none
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 10)]
    distance: u64,
    /// How many big files; 0 for none
    #[arg(long, value_name = "NUMBER", default_value_t = 4)]
    big_files: usize,
    /// How large each of them is
    #[arg(long, value_name = "MIB", default_value_t = 512)]
    big_size: usize,
    /// How many objects the store has whose listing's memory is shown; 0 for none
    #[arg(long, value_name = "NUMBER", default_value_t = 1_000_000)]
    objects: usize,
}

/// Measures and prints everything.
pub(crate) async fn run(what: &Rclone) -> Result<()> {
    let folder = tempfile::Builder::new()
        .prefix("syncline-bench-")
        .tempdir_in(&what.folder)?;
    let rclone = syncline_testkit::store::rclone()?;
    let tools = Tools {
        syncline: fs::canonicalize(&what.syncline)
            .with_context(|| format!("{} is not there", what.syncline.display()))?,
        rclone: rclone
            .parent()
            .context("rclone is in no folder")?
            .to_owned(),
        scratch: folder.path().join("scratch"),
    };
    fs::create_dir(&tools.scratch)?;
    say(&format!(
        "{}; versitygw {} with connections kept, on the same machine, objects in {}; {}",
        first_line(Command::new(rclone).arg("version"))?,
        server_version(),
        place_of_store(what).display(),
        machine()?
    ))?;
    let place = tempfile::Builder::new()
        .prefix("syncline-bench-")
        .tempdir_in(place_of_store(what))?;
    let store = Store::start(&what.server, place.path())?;
    if what.files > 0 {
        let mut corpus = Corpus::small(folder.path().join("small"), what.files)?;
        let changed = (what.files / CHANGED_SHARE).max(1);
        let often = (changed, what.repeat);
        times::small(&tools, &store, &mut corpus, often, Duration::ZERO)?;
        if what.distance > 0 {
            let distance = Duration::from_millis(what.distance);
            times::small(&tools, &store, &mut corpus, often, distance)?;
        }
        counts::show(&tools, &mut corpus, changed).await?;
        fs::remove_dir_all(&corpus.root)?;
    }
    if what.big_files > 0 {
        let big = folder.path().join("big");
        let corpus = Corpus::big(big, what.big_files, what.big_size << 20)?;
        times::big(&tools, &store, &corpus, what.repeat)?;
        fs::remove_dir_all(&corpus.root)?;
    }
    if what.objects > 0 {
        memory::show(&tools, &store, folder.path(), what.objects)?;
    }
    Ok(())
}

fn place_of_store(what: &Rclone) -> PathBuf {
    let memory = Path::new(MEMORY);
    let has_room = rustix::fs::statvfs(memory)
        .is_ok_and(|found| found.f_bavail.saturating_mul(found.f_frsize) >= ROOM);
    let default = if has_room { memory } else { &what.folder };
    what.store.clone().unwrap_or_else(|| default.to_owned())
}

/// The first line that a program prints.
fn first_line(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    let name = command.get_program().to_owned();
    ensure!(output.status.success(), "{} fails", name.display());
    let text = String::from_utf8(output.stdout)?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// The version of the S3 server, as its module pins it.
fn server_version() -> &'static str {
    let lines = include_str!("../../../tests/cluster/s3/go.mod").lines();
    let version = lines
        .filter_map(|line| line.trim().strip_prefix("github.com/versity/versitygw "))
        .find_map(|rest| rest.split(' ').next());
    version.unwrap_or_default()
}

/// What it all runs on.
fn machine() -> Result<String> {
    let read = |file: &str, field: &str| -> String {
        let text = fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(field));
        let value = line.and_then(|line| line.split_once(':'));
        value.map_or_else(String::new, |(_, value)| value.trim().to_owned())
    };
    let memory: u64 = read("/proc/meminfo", "MemTotal")
        .split(' ')
        .next()
        .and_then(|number| number.parse().ok())
        .unwrap_or_default();
    Ok(format!(
        "{} processors ({}), {} GiB",
        std::thread::available_parallelism()?,
        read("/proc/cpuinfo", "model name"),
        memory >> 20
    ))
}
