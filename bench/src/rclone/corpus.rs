//! The files that are measured with: made from a seed, the same in every run.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use rustix::fs::{Advice, fadvise, syncfs};
use syncline_testkit::corpus::{noise, set_mtime};

/// How sizes are spread, as in volumes of applications: so many of a hundred files have fewer bytes than this, and at
/// least as many as the line before says.
const SIZES: [(usize, usize); 6] = [
    (5, 64),
    (40, 2 << 10),
    (70, 8 << 10),
    (90, 32 << 10),
    (99, 128 << 10),
    (100, 1 << 20),
];
/// Files in a folder, on average.
const IN_A_FOLDER: usize = 20;
/// When the youngest file was written, and over how many seconds before that the others were.
const WRITTEN: (i64, u64) = (1_790_000_000, 2 * 365 * 24 * 3600);
/// How many files are named to one call of fincore.
const AT_ONCE: usize = 1000;

/// A tree of files.
#[derive(Debug)]
pub(super) struct Corpus {
    pub(super) root: PathBuf,
    files: Vec<PathBuf>,
    sizes: Vec<usize>,
    /// How often files were changed.
    changes: usize,
}

impl Corpus {
    fn empty(root: PathBuf) -> Self {
        Self {
            root,
            files: Vec::new(),
            sizes: Vec::new(),
            changes: 0,
        }
    }

    /// Makes `count` small files in folders of up to three levels.
    pub(super) fn small(root: PathBuf, count: usize) -> Result<Self> {
        let mut corpus = Self::empty(root);
        for index in 0..count {
            let folder = corpus.root.join(folder_of(mixed(index / IN_A_FOLDER)));
            fs::create_dir_all(&folder)?;
            corpus.add(
                folder.join(format!("{:08x}.dat", mixed(index))),
                size_of(index),
            )?;
        }
        corpus.settle()?;
        Ok(corpus)
    }

    /// Makes `count` files of so many bytes.
    pub(super) fn big(root: PathBuf, count: usize, size: usize) -> Result<Self> {
        fs::create_dir_all(&root)?;
        let mut corpus = Self::empty(root);
        for index in 0..count {
            corpus.add(corpus.root.join(format!("big-{index}.img")), size)?;
        }
        corpus.settle()?;
        Ok(corpus)
    }

    fn add(&mut self, path: PathBuf, size: usize) -> Result<()> {
        let index = self.files.len();
        fs::write(&path, noise(size, index as u64))
            .with_context(|| format!("cannot write {}", path.display()))?;
        let age = i64::try_from(mixed(index) as u64 * 7919 % WRITTEN.1)?;
        set_mtime(&path, WRITTEN.0 - age, 123_456_789)?;
        self.files.push(path);
        self.sizes.push(size);
        Ok(())
    }

    /// Writes `count` of the files anew, others each time.
    pub(super) fn change(&mut self, count: usize) -> Result<()> {
        self.changes += 1;
        let step = (self.files.len() / count.max(1)).max(1);
        let chosen = self.files.iter().zip(&self.sizes);
        for (path, size) in chosen.skip(self.changes % step).step_by(step).take(count) {
            fs::write(path, noise(*size, self.changes as u64 * 1_000_003))?;
        }
        self.settle()
    }

    /// Brings all to disk, so that no run pays for what another one wrote.
    pub(super) fn settle(&self) -> Result<()> {
        Ok(syncfs(File::open(&self.root)?)?)
    }

    /// Reads everything, so that all runs find it in memory.
    pub(super) fn recall(&self) -> Result<()> {
        for path in &self.files {
            std::io::copy(&mut File::open(path)?, &mut std::io::sink())?;
        }
        self.settle()
    }

    /// Takes the files' data out of memory, as it is on a volume that was just made from a snapshot; what is known of
    /// folders and files stays.
    pub(super) fn forget(&self) -> Result<()> {
        self.settle()?;
        for path in &self.files {
            fadvise(File::open(path)?, 0, None, Advice::DontNeed)?;
        }
        Ok(())
    }

    /// How many bytes of the files are in memory; `None` where fincore (util-linux) is missing.
    pub(super) fn in_memory(&self) -> Result<Option<u64>> {
        let mut bytes = 0;
        for files in self.files.chunks(AT_ONCE) {
            let output = Command::new("fincore")
                .args(["--bytes", "--noheadings", "--raw", "--output", "RES"])
                .args(files)
                .output();
            let Ok(output) = output else {
                return Ok(None);
            };
            let text = String::from_utf8(output.stdout)?;
            bytes += text
                .lines()
                .filter_map(|line| line.trim().parse::<u64>().ok())
                .sum::<u64>();
        }
        Ok(Some(bytes))
    }

    /// It in words.
    pub(super) fn describe(&self) -> String {
        let bytes: usize = self.sizes.iter().sum();
        let mut sorted = self.sizes.clone();
        sorted.sort_unstable();
        let median = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
        let of_files = match (sorted.first(), sorted.last()) {
            (Some(least), Some(most)) if least == most => format!("of {} MiB each", most >> 20),
            _ => format!("half of them smaller than {} KiB", median.div_ceil(1024)),
        };
        let folders: std::collections::BTreeSet<&Path> =
            self.files.iter().filter_map(|path| path.parent()).collect();
        format!(
            "{} files with {} MiB in {} folder(s), {of_files}",
            self.files.len(),
            bytes >> 20,
            folders.len()
        )
    }
}

/// Spreads numbers.
fn mixed(index: usize) -> usize {
    let mut word = (index as u64).wrapping_add(0x9E37_79B9_7F4A_7C15);
    word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    usize::try_from((word ^ (word >> 31)) & 0xFFFF_FFFF).unwrap_or_default()
}

fn folder_of(number: usize) -> PathBuf {
    let (first, second, third) = (number % 8, number / 8 % 16, number / 128 % 64);
    let mut folder = PathBuf::from(format!("part-{first}"));
    if !number.is_multiple_of(5) {
        folder.push(format!("group-{second:02}"));
    }
    if !number.is_multiple_of(3) {
        folder.push(format!("item-{third:02}"));
    }
    folder
}

fn size_of(index: usize) -> usize {
    let (place, spread) = (mixed(index) % 100, mixed(index + 1_000_003));
    let mut least = 0;
    for (share, most) in SIZES {
        if place < share {
            return least + spread % (most - least);
        }
        least = most;
    }
    least
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_files_are_made_every_time_and_some_of_them_change() {
        let folder = tempfile::tempdir().unwrap();
        let sums: Vec<Vec<(PathBuf, Vec<u8>)>> = ["a", "b"]
            .map(|name| {
                let corpus = Corpus::small(folder.path().join(name), 200).unwrap();
                let read = |path: &PathBuf| {
                    let name = path.strip_prefix(&corpus.root).unwrap().to_owned();
                    (name, fs::read(path).unwrap())
                };
                corpus.files.iter().map(read).collect()
            })
            .into();
        assert_eq!(sums[0].len(), 200);
        assert_eq!(sums[0], sums[1]);
        let mut corpus = Corpus::small(folder.path().join("c"), 200).unwrap();
        corpus.change(10).unwrap();
        let changed = corpus
            .files
            .iter()
            .zip(&sums[0])
            .filter(|(path, (_, before))| fs::read(path).unwrap() != *before);
        assert!((8..=10).contains(&changed.count()));
    }

    #[test]
    fn sizes_are_spread_as_told() {
        let sizes: Vec<usize> = (0..10_000).map(size_of).collect();
        let below = |limit| sizes.iter().filter(|size| **size < limit).count();
        assert!((3_800..4_200).contains(&below(2 << 10)));
        assert!((8_800..9_200).contains(&below(32 << 10)));
        assert!(sizes.iter().all(|size| *size < 1 << 20));
    }
}
