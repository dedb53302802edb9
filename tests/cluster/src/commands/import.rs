//! Images: tar archives of docker's layout go into containerd, since no registry can be reached.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::cluster::Cluster;
use crate::config::PAUSE_IMAGE;
use crate::{place, say, shell};

const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Image {
    repo_tags: Vec<String>,
}

/// Imports archives, all at once; those whose tags are there are left out.
pub(crate) fn run(cluster: &Cluster, archives: &[PathBuf]) -> Result<()> {
    let known = known(cluster)?;
    thread::scope(|scope| {
        let imports: Vec<_> = archives
            .iter()
            .map(|archive| scope.spawn(|| one(cluster, archive, &known)))
            .collect();
        imports.into_iter().try_for_each(|import| {
            import
                .join()
                .map_err(|_| anyhow!("an import has broken off"))?
        })
    })
}

fn one(cluster: &Cluster, archive: &Path, known: &[String]) -> Result<()> {
    let tags = tags(archive)?;
    if tags.iter().all(|tag| known.contains(tag)) {
        say::note(&format!("{} is there", tags.join(", ")));
        return Ok(());
    }
    say::step(&format!("importing {}", tags.join(", ")), || {
        let file =
            File::open(archive).with_context(|| format!("cannot read {}", archive.display()))?;
        let mut command = cluster.ctr(&["images", "import", "-"])?;
        shell::output(command.stdin(Stdio::from(file))).map(drop)
    })
}

fn known(cluster: &Cluster) -> Result<Vec<String>> {
    cluster.wait_for("containerd", PATIENCE, || {
        let said = shell::output(&mut cluster.ctr(&["images", "list", "--quiet"])?)?;
        Ok(Some(said.lines().map(str::to_owned).collect()))
    })
}

fn tags(archive: &Path) -> Result<Vec<String>> {
    let path = archive.to_string_lossy();
    let said = shell::output(&mut shell::command(&[
        "tar",
        "-xOf",
        &path,
        "manifest.json",
    ]))
    .with_context(|| format!("{path} is no image archive"))?;
    let images: Vec<Image> = serde_json::from_str(&said)
        .with_context(|| format!("{path} has no readable manifest.json"))?;
    Ok(images
        .into_iter()
        .flat_map(|image| image.repo_tags)
        .collect())
}

/// Makes and imports the image of which the sandbox of each pod is.
pub(crate) fn pause(cluster: &Cluster) -> Result<()> {
    let folder = cluster.setup.place.file("pause-image");
    let archive = folder.join("image.tar");
    if !archive.exists() {
        write_pause(cluster, &folder)?;
    }
    run(cluster, &[archive])
}

/// One layer with one program in it.
fn write_pause(cluster: &Cluster, folder: &Path) -> Result<()> {
    let root = folder.join("root");
    fs::create_dir_all(&root)?;
    let program = fs::canonicalize(cluster.setup.programs.path("pause"))?;
    fs::copy(&program, root.join("pause"))
        .with_context(|| format!("cannot copy {}", program.display()))?;
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let layer = folder.join("layer.tar");
    shell::run(&["tar", "-cf", &text(&layer), "-C", &text(&root), "pause"])?;
    let digest = place::hex(&Sha256::digest(fs::read(&layer)?));
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let config = serde_json::json!({
        "architecture": architecture,
        "os": "linux",
        "config": {"Entrypoint": ["/pause"], "User": "65535:65535"},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
    });
    fs::write(folder.join("config.json"), config.to_string())?;
    let manifest = serde_json::json!([{
        "Config": "config.json", "RepoTags": [PAUSE_IMAGE], "Layers": ["layer.tar"],
    }]);
    fs::write(folder.join("manifest.json"), manifest.to_string())?;
    let draft = folder.join("image.tar.new");
    shell::run(&[
        "tar",
        "-cf",
        &text(&draft),
        "-C",
        &text(folder),
        "manifest.json",
        "config.json",
        "layer.tar",
    ])?;
    fs::rename(draft, folder.join("image.tar"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tags_of_an_archive_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let manifest =
            r#"[{"Config": "c", "RepoTags": ["a.test/b:1", "a.test/b:2"], "Layers": []}]"#;
        fs::write(folder.path().join("manifest.json"), manifest).unwrap();
        let archive = folder.path().join("image.tar");
        let text = |path: &Path| path.to_string_lossy().into_owned();
        shell::run(&[
            "tar",
            "-cf",
            &text(&archive),
            "-C",
            &text(folder.path()),
            "manifest.json",
        ])
        .unwrap();
        assert_eq!(tags(&archive).unwrap(), ["a.test/b:1", "a.test/b:2"]);
    }

    #[test]
    fn what_is_no_archive_is_named() {
        let error = tags(Path::new("/etc/hostname")).unwrap_err();
        assert!(error.to_string().contains("/etc/hostname"), "{error}");
    }
}
