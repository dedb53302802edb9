//! The programs that tests take from elsewhere: named in the environment, or fetched before by `tests/tools`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context as _, Result, ensure};

/// The stock rclone: `$RCLONE`, else the one that `tests/tools/fetch-rclone` keeps.
pub fn rclone() -> Result<&'static Path> {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    found(&FOUND, "RCLONE", "fetch-rclone")
}

/// The Python that has moto: `$MOTO_PYTHON`, else the one that `tests/tools/fetch-moto` keeps.
pub(super) fn moto_python() -> Result<&'static Path> {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    found(&FOUND, "MOTO_PYTHON", "fetch-moto")
}

fn found(known: &'static OnceLock<PathBuf>, variable: &str, script: &str) -> Result<&'static Path> {
    if let Some(known) = known.get() {
        return Ok(known);
    }
    let path = match std::env::var_os(variable).filter(|told| !told.is_empty()) {
        Some(told) => PathBuf::from(told),
        None => fetched(script).with_context(|| format!("{variable} is not set"))?,
    };
    Ok(known.get_or_init(|| path))
}

fn fetched(script: &str) -> Result<PathBuf> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/tools");
    let output = Command::new(tools.join(script))
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(
        output.status.success(),
        "tests/tools/{script} ended with {}",
        output.status
    );
    Ok(String::from_utf8(output.stdout)?.trim().into())
}
