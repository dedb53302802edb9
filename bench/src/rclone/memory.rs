//! What memory a store with very many objects costs: each of them is listed, and each file of the volume is known.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::process::{Cost, Peaks, SCRATCH};
use super::side::{Mover, Side, Tools};
use super::store::Store;
use crate::figures::{entry, table};

/// Files in each folder.
const IN_A_FOLDER: usize = 1000;
/// Names that one file may have, with some to spare; ext4 takes 65,000.
const NAMES: usize = 60_000;
/// What the server notes of an object without content.
const EMPTY: (&str, &[u8]) = ("user.etag", b"\"d41d8cd98f00b204e9800998ecf8427e\"");
const BUCKET: &str = "many-objects";

/// Shows the memory of runs on `count` files without content that the store has already, under the same names.
pub(super) fn show(tools: &Tools, store: &Store, folder: &Path, count: usize) -> Result<()> {
    let volume = folder.join("many");
    store.make_bucket(BUCKET)?;
    fill_volume(&volume, count)?;
    fill_store(&store.folder_of(BUCKET).join("volume"), count)?;
    let mut rows = Vec::new();
    let mover = |side| Mover::new(tools, side, (&store.config, BUCKET), &volume);
    let mut ours = mover(Side::Ours);
    rows.push(("ours, first run: all is compared", ours.send_watched()?));
    rows.push(("ours, nothing changed", ours.send_watched()?));
    rows.push((
        "ours, a destination whose volume holds all of it",
        ours.compare_watched()?,
    ));
    fs::write(volume.join(name_of(0)), "changed")?;
    rows.push(("ours, one file changed", ours.send_watched()?));
    fs::write(volume.join(name_of(0)), "")?;
    rows.push((
        "VolSync's calls, one file changed",
        mover(Side::Stock).send_watched()?,
    ));
    table(
        &format!("{count} files without content, as many objects: most memory of"),
        &["the mover", "its rclone", "files in its /tmp", "time"],
    )?;
    for (what, (cost, peaks)) in rows {
        line(what, cost, &peaks)?;
    }
    store.drop_bucket(BUCKET)?;
    Ok(fs::remove_dir_all(&volume)?)
}

fn line(what: &str, cost: Cost, peaks: &Peaks) -> Result<()> {
    let others = peaks
        .iter()
        .filter(|(name, _)| !["rclone", SCRATCH].contains(&name.as_str()));
    let most = others.map(|(_, peak)| *peak).fold(0.0, f64::max);
    let of = |name: &str| peaks.get(name).copied().unwrap_or_default();
    let mut figures: Vec<String> = [most, of("rclone"), of(SCRATCH)]
        .map(|peak| format!("{peak:.0} MiB"))
        .into();
    figures.push(format!("{:.0} s", cost.wall.as_secs_f64()));
    entry(what, &figures)
}

fn name_of(index: usize) -> PathBuf {
    format!("folder-{:05}/file-{index:08}", index / IN_A_FOLDER).into()
}

fn fill_volume(volume: &Path, count: usize) -> Result<()> {
    for index in 0..count {
        let path = volume.join(name_of(index));
        make_folder(&path, index)?;
        File::create(path)?;
    }
    Ok(())
}

/// Puts objects where the server looks for them: sending so many would take longer than all else here. Many of them are
/// one file.
fn fill_store(folder: &Path, count: usize) -> Result<()> {
    let mut first = PathBuf::new();
    for index in 0..count {
        let path = folder.join(name_of(index));
        make_folder(&path, index)?;
        if index % NAMES == 0 {
            File::create(&path)?;
            xattr::set(&path, EMPTY.0, EMPTY.1)?;
            first = path;
        } else {
            fs::hard_link(&first, path)?;
        }
    }
    Ok(())
}

fn make_folder(path: &Path, index: usize) -> Result<()> {
    if index.is_multiple_of(IN_A_FOLDER)
        && let Some(folder) = path.parent()
    {
        fs::create_dir_all(folder)?;
    }
    Ok(())
}
