//! The stock programs that movers call: where they are, and what is said of one that is missing.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

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

/// The oldest rclone that the rclone mover takes: its first two numbers.
const OLDEST_RCLONE: [u32; 2] = [1, 75];
/// For how long a program is waited for that is asked for its version.
const PATIENCE: Duration = Duration::from_secs(5);
/// How one comes to the pods of the embedded cluster.
const RCLONE_CURE: &str = "the rclone mover takes 1.75 or newer, installed on this host or in a folder that `syncline up --programs` names";

/// The rclone of pods that see the folder `further`, if there is one, before the host's system folders: a line for people, with
/// its version and place, or with what is missing and what helps.
pub async fn rclone_of_pods(further: Option<&Path>) -> String {
    let Some(program) = found("rclone", further.map(OsString::from)) else {
        return format!("none found; {RCLONE_CURE}");
    };
    let place = program.display();
    // Pods have nothing of this environment either.
    let asked = Command::new(&program)
        .arg("version")
        .env_clear()
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(output)) => of_version(&program, &String::from_utf8_lossy(&output.stdout)),
        Ok(Err(error)) => format!("{place} cannot be run: {error}; {RCLONE_CURE}"),
        Err(_) => format!("{place} does not answer; {RCLONE_CURE}"),
    }
}

/// What is told of a `program` that said this of its version.
fn of_version(program: &Path, said: &str) -> String {
    let place = program.display();
    let first = said.lines().next().unwrap_or_default();
    let Some(version) = first.strip_prefix("rclone v") else {
        return format!("{place} does not tell its version; {RCLONE_CURE}");
    };
    if numbers(version) < Some(OLDEST_RCLONE) {
        return format!("{version}, {place}, is too old; {RCLONE_CURE}");
    }
    format!("{version}, {place}")
}

/// The first two numbers of a version.
fn numbers(version: &str) -> Option<[u32; 2]> {
    let mut parts = version.split('.').map(|part| part.parse().ok());
    Some([parts.next()??, parts.next()??])
}

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

    #[test]
    fn the_rclone_of_pods_is_told_with_its_version_and_with_what_helps_where_it_does_not_serve() {
        let told = |said: &str| of_version(Path::new("/usr/bin/rclone"), said);
        for version in ["1.75.0", "1.75.2-DEV", "2.0.1"] {
            let said = format!("rclone v{version}\n- os/version: debian 12\n");
            assert_eq!(told(&said), format!("{version}, /usr/bin/rclone"));
        }
        let old = format!("1.60.1-DEV, /usr/bin/rclone, is too old; {RCLONE_CURE}");
        assert_eq!(told("rclone v1.60.1-DEV\n"), old);
        let silent = format!("/usr/bin/rclone does not tell its version; {RCLONE_CURE}");
        assert_eq!(told(""), silent);
    }
}
