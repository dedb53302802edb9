//! Images: loaded into containerd from docker archives, since no registry is reachable.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::command::output;
use crate::config::{CONTAINERD, PAUSE};
use crate::folders::State;
use crate::programs;
use crate::up::inside;

/// Loads docker archives into the cluster.
pub(crate) fn import(state: &State, archives: &[PathBuf]) -> Result<()> {
    let ctr = programs::program("runtime", "ctr")?.display().to_string();
    for archive in archives {
        let archive = fs::canonicalize(archive)
            .with_context(|| archive.display().to_string())?
            .display()
            .to_string();
        inside(
            state,
            &ctr,
            &[
                "--address",
                CONTAINERD,
                "--namespace",
                "k8s.io",
                "images",
                "import",
                &archive,
            ],
        )?;
    }
    Ok(())
}

/// The archive of the image that holds a pod's namespaces: one program and nothing else.
pub(crate) fn pause(state: &State) -> Result<PathBuf> {
    let folder = state.path("pause-image");
    let root = folder.join("root");
    fs::create_dir_all(&root)?;
    fs::copy(programs::program("pause", "pause")?, root.join("pause"))?;
    tar(&root, &folder.join("layer.tar"), &["pause"])?;
    let layer = hash(&folder.join("layer.tar"))?;
    let config = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": {"Entrypoint": ["/pause"], "User": "65535:65535"},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer}")]},
    });
    fs::write(folder.join("config.json"), config.to_string())?;
    let manifest = json!([{"Config": "config.json", "RepoTags": [PAUSE], "Layers": ["layer.tar"]}]);
    fs::write(folder.join("manifest.json"), manifest.to_string())?;
    let archive = folder.join("image.tar");
    tar(
        &folder,
        &archive,
        &["manifest.json", "config.json", "layer.tar"],
    )?;
    Ok(archive)
}

fn tar(folder: &Path, archive: &Path, names: &[&str]) -> Result<()> {
    let mut command = Command::new("tar");
    command
        .arg("--create")
        .arg("--file")
        .arg(archive)
        .arg("--directory")
        .arg(folder);
    command.args(["--owner=0", "--group=0"]).args(names);
    output(&mut command)?;
    Ok(())
}

fn hash(file: &Path) -> Result<String> {
    let digest = Sha256::digest(fs::read(file)?);
    let mut text = String::new();
    for byte in digest {
        write!(text, "{byte:02x}")?;
    }
    Ok(text)
}
