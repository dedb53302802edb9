//! The stock programs that movers call: where they are, and what is said of one that is missing.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::report::{Fault, reason};

/// Where programs of the system are, whatever `PATH` says.
const KNOWN: [&str; 6] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
];
/// What helps in both kinds of places where movers run.
const CURE: &str = "use Syncline's own image; on the embedded cluster, install it on the host, or give its folder to `syncline up --programs`";

/// The program `name` on `PATH`, or in the folders where system programs live.
pub(crate) fn find(name: &str) -> Result<PathBuf, Fault> {
    found(name, std::env::var_os("PATH"))
        .ok_or_else(|| incomplete(format!("`{name}` is missing where the mover runs; {CURE}")))
}

/// A program that is there and cannot be started.
pub(crate) fn cannot_run(program: &Path, error: &std::io::Error) -> Fault {
    incomplete(format!(
        "{} cannot be run: {error}; {CURE}",
        program.display()
    ))
}

fn incomplete(message: String) -> Fault {
    Fault::new(reason::POD_INCOMPLETE, message)
}

fn found(name: &str, path: Option<OsString>) -> Option<PathBuf> {
    let path = path.unwrap_or_default();
    std::env::split_paths(&path)
        .filter(|folder| folder.is_absolute())
        .chain(KNOWN.iter().map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_on_the_path_first_and_in_the_systems_folders_without_one() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("sh"), "").unwrap();
        let path = Some(folder.path().into());
        assert_eq!(found("sh", path), Some(folder.path().join("sh")));
        let of_system = found("sh", None).unwrap();
        assert!(KNOWN.iter().any(|known| of_system.starts_with(known)));
        let relative = Some(OsString::from("."));
        assert_eq!(found("Cargo.toml", relative), None);
    }

    #[test]
    fn a_program_that_is_missing_is_named_with_a_cure_for_either_kind_of_cluster() {
        let fault = find("no such program").unwrap_err();
        assert_eq!(fault.reason, reason::POD_INCOMPLETE);
        assert_eq!(
            fault.message,
            "`no such program` is missing where the mover runs; use Syncline's own image; on the embedded cluster, install it \
             on the host, or give its folder to `syncline up --programs`"
        );
    }
}
