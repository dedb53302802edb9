//! A server's process that ends with the test, however that ends.

use std::ffi::OsString;
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};

/// Runs `$@` until standard input ends, which it does when this process dies; then removes what the server has.
const GUARD: &str = r#"
"$@" </dev/null & child=$!
trap '' INT TERM HUP
read -r _
kill -TERM "$child" 2>/dev/null
wait "$child"
rm -rf "$FOLDER"
"#;

/// A running server.
#[derive(Debug)]
pub(super) struct Guarded(Child);

impl Guarded {
    /// Starts a program whose files are all in `folder`; what it says goes to `log` in there.
    pub(super) fn start(
        line: &[OsString],
        folder: &Path,
        environment: &[(&str, &str)],
    ) -> Result<Self> {
        let log = File::create(folder.join("log"))?;
        let child = Command::new("sh")
            .args(["-c", GUARD, "guard"])
            .args(line)
            .env("FOLDER", folder)
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start sh")?;
        Ok(Self(child))
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // The end of its input tells the guard; it takes the server with it.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
