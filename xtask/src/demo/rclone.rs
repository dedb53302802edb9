//! The stock rclone that the movers are given, if it can be had.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The oldest that the movers work with.
const OLDEST: (u32, u32) = (1, 75);
/// What gets the part shown that needs it.
pub(crate) const CURE: &str = "name one of 1.75 or newer: make demo RCLONE=/path/to/rclone";

/// A program that the movers can work with.
pub(crate) struct Rclone {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// What it calls itself, as in `rclone v1.75.2`.
    pub(crate) version: String,
}

impl Rclone {
    /// Looks at the program; an error says why the movers cannot have it.
    pub(crate) fn look_at(program: Option<&Path>) -> Result<Self> {
        let program = program.context("there is no rclone here")?;
        let path = program
            .canonicalize()
            .with_context(|| format!("cannot find {}", program.display()))?;
        let output = Command::new(&path)
            .arg("version")
            .output()
            .with_context(|| format!("cannot run {}", path.display()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let version = text.lines().next().unwrap_or_default().trim().to_owned();
        ensure!(
            number(&version).is_some_and(|number| number >= OLDEST),
            "{} says that it is {version:?}",
            path.display()
        );
        Ok(Self { path, version })
    }
}

/// The first two parts of the version in `rclone v1.75.2-DEV`.
fn number(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.strip_prefix("rclone v")?.split(['.', '-']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_told_apart_by_their_numbers() {
        for (text, expected) in [
            ("rclone v1.75.2-DEV", Some((1, 75))),
            ("rclone v1.100", Some((1, 100))),
            ("rclone v2.0-beta", Some((2, 0))),
            ("rclone v1", None),
            ("restic 0.18.0", None),
            ("", None),
        ] {
            assert_eq!(number(text), expected, "{text}");
        }
        for (text, is_enough) in [
            ("rclone v1.100", true),
            ("rclone v2.0", true),
            ("rclone v1.60.1", false),
        ] {
            let is_one = number(text).is_some_and(|number| number >= OLDEST);
            assert_eq!(is_one, is_enough, "{text}");
        }
    }

    #[test]
    fn a_program_that_cannot_be_had_is_told_of_with_the_reason() {
        for (program, said) in [
            (None, "there is no rclone here"),
            (
                Some(Path::new("/nowhere/rclone")),
                "cannot find /nowhere/rclone: No such file or directory (os error 2)",
            ),
            (
                Some(Path::new("/etc/passwd")),
                "cannot run /etc/passwd: Permission denied (os error 13)",
            ),
        ] {
            let error = Rclone::look_at(program).err().expect("an error");
            assert_eq!(format!("{error:#}"), said);
        }
    }
}
