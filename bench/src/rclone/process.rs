//! Programs that are run to their end: how long they take, what processor time, what memory.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// How often memory is looked at. The kernel keeps the peak, so only what begins and ends in between is missed.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The kernel counts processor time in these.
const TICK: Duration = Duration::from_millis(10);
/// What of a log is shown when a program fails.
const SHOWN: usize = 2000;

/// What a run cost.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cost {
    pub(super) wall: Duration,
    /// Processor time of the program and of all that it started.
    pub(super) busy: Duration,
}

/// The name under which the files of a folder in memory are counted.
pub(super) const SCRATCH: &str = "/tmp";

/// The most memory that programs had, by their names, in MiB.
pub(super) type Peaks = BTreeMap<String, f64>;

/// Runs a program to its end; what it says goes to `log`, as a pod's does. Failing is an error.
pub(super) fn run(mut command: Command, log: &Path) -> Result<Cost> {
    let before = busy_of_children()?;
    let begin = Instant::now();
    let child = start(&mut command, log)?;
    end(child, &command, log)?;
    Ok(Cost {
        wall: begin.elapsed(),
        busy: busy_of_children()?.saturating_sub(before),
    })
}

/// The same, and its memory is watched, with that of the files in `scratch`, which takes some time itself.
pub(super) fn run_watched(
    mut command: Command,
    log: &Path,
    scratch: &Path,
) -> Result<(Cost, Peaks)> {
    let before = busy_of_children()?;
    let begin = Instant::now();
    let mut child = start(&mut command, log)?;
    let mut peaks = Peaks::new();
    while child.try_wait()?.is_none() {
        note_peaks(child.id(), &mut peaks);
        note(SCRATCH, size_of(scratch), &mut peaks);
        thread::sleep(LOOK_EVERY);
    }
    end(child, &command, log)?;
    let cost = Cost {
        wall: begin.elapsed(),
        busy: busy_of_children()?.saturating_sub(before),
    };
    Ok((cost, peaks))
}

fn start(command: &mut Command, log: &Path) -> Result<Child> {
    let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()
        .with_context(|| format!("cannot start {}", command.get_program().display()))
}

fn end(mut child: Child, command: &Command, log: &Path) -> Result<()> {
    let status = child.wait()?;
    if status.success() {
        return Ok(());
    }
    let text = fs::read(log).unwrap_or_default();
    let last = text.get(text.len().saturating_sub(SHOWN)..);
    bail!(
        "{} ended with {status}:\n{}",
        command.get_program().display(),
        String::from_utf8_lossy(last.unwrap_or_default())
    )
}

/// The processor time of children that have ended, and of theirs.
fn busy_of_children() -> Result<Duration> {
    // Behind the name, which may hold anything, the fields are numbered from 3: 16 and 17 are those of children.
    let text = fs::read_to_string("/proc/self/stat")?;
    let fields = text.rsplit_once(") ").map_or("", |(_, fields)| fields);
    let ticks: u32 = fields
        .split(' ')
        .skip(13)
        .take(2)
        .filter_map(|field| field.parse::<u32>().ok())
        .sum();
    Ok(TICK * ticks)
}

/// Notes the peaks of a process and of all below it. One that ends meanwhile has been looked at before.
fn note_peaks(process: u32, peaks: &mut Peaks) {
    let place = format!("/proc/{process}");
    let read = |file: &str| fs::read_to_string(format!("{place}/{file}")).unwrap_or_default();
    let status = read("status");
    let field = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .map(str::trim)
    };
    let peak = field("VmHWM:")
        .and_then(|text| text.strip_suffix(" kB"))
        .and_then(|text| text.parse::<f64>().ok());
    if let (Some(name), Some(peak)) = (field("Name:"), peak) {
        note(name, peak, peaks);
    }
    // Any thread may have started one.
    for thread in fs::read_dir(format!("{place}/task")).into_iter().flatten() {
        let Ok(thread) = thread else { continue };
        let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        for child in children.split_whitespace() {
            if let Ok(child) = child.parse() {
                note_peaks(child, peaks);
            }
        }
    }
}

/// Notes a peak in KiB.
fn note(name: &str, peak: f64, peaks: &mut Peaks) {
    let known = peaks.entry(name.to_owned()).or_default();
    *known = known.max(peak / 1024.0);
}

/// What the files of a folder take, in KiB; those that go meanwhile are not there any more.
fn size_of(folder: &Path) -> f64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(found) if found.is_dir() => size_of(&entry.path()),
            Ok(found) => f64::from(u32::try_from(found.len() >> 10).unwrap_or(u32::MAX)),
            Err(_) => 0.0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_known_by_the_program_that_had_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 0.3; exit 0"]);
        let (cost, peaks) =
            run_watched(command, &folder.path().join("log"), folder.path()).unwrap();
        assert!(cost.wall >= Duration::from_millis(300));
        assert!(
            peaks.contains_key("sh") && peaks["sleep"] > 0.0,
            "{peaks:?}"
        );
    }

    #[test]
    fn a_program_that_fails_is_an_error_with_its_last_words() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo no room; exit 3"]);
        let error = run(command, &folder.path().join("log")).unwrap_err();
        assert!(error.to_string().contains("no room"), "{error}");
    }
}
