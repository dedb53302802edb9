//! What scenarios with a store are made of: where the store is, and the sources and destinations around it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use syncline_testkit::store::{Keys, ObjectStore};
use syncline_testkit::tree::{Ignore, Kind};
use syncline_testkit::{Site, Tree, Volume};

use crate::parts::{SYNC_CAP, image_after, manually, over, synced, text, tree_of_image};

/// The Secret that sources and destinations of scenarios read their configuration from.
pub const SECRET: &str = "store";
/// The section of servers.
const SECTION: &str = "there";
/// The claim with the store's files.
pub const CLAIM: &str = "store";

/// Where data lies in a store, and what movers need to get there.
#[derive(Clone, Debug)]
pub struct Remote {
    /// `rclone.conf`.
    pub conf: String,
    /// The section in it that names the store.
    pub section: String,
    /// The path in the store.
    pub path: String,
    /// The Secret's further keys.
    pub keys: BTreeMap<String, String>,
    /// What both sides' `spec.rclone` has besides.
    pub spec: Value,
}

impl Remote {
    /// A folder of the claim `store`, which movers see beside their volume.
    pub fn folder(path: &str) -> Self {
        let volumes = json!([{"mountPath": "store", "volumeSource": {"persistentVolumeClaim": {"claimName": CLAIM}}}]);
        Self {
            conf: "[folder]\ntype = local\n".to_owned(),
            section: "folder".to_owned(),
            path: format!("/mnt/store/{path}"),
            keys: BTreeMap::new(),
            spec: json!({"moverVolumes": volumes}),
        }
    }

    /// A path of a server.
    pub fn of(store: &ObjectStore, path: &str) -> Self {
        Self::of_with(store, path, Keys::Right)
    }

    /// The same with these keys.
    pub fn of_with(store: &ObjectStore, path: &str, keys: Keys) -> Self {
        Self {
            conf: store.rclone_conf_as(SECTION, keys),
            section: SECTION.to_owned(),
            path: format!("{}/{path}", store.path()),
            keys: BTreeMap::new(),
            spec: json!({}),
        }
    }

    /// The same store with another path.
    #[must_use]
    pub fn at(&self, path: &str) -> Self {
        Self {
            path: path.to_owned(),
            ..self.clone()
        }
    }

    /// The same with another key in the Secret.
    #[must_use]
    pub fn with_key(mut self, name: &str, value: &str) -> Self {
        self.keys.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The same with this laid over both sides' `spec.rclone`.
    #[must_use]
    pub fn with_spec(mut self, spec: Value) -> Self {
        self.spec = over(self.spec, spec);
        self
    }

    /// The Secret of this name.
    pub fn secret(&self, name: &str) -> Value {
        let mut data = json!(self.keys);
        if let Some(data) = data.as_object_mut() {
            data.insert("rclone.conf".to_owned(), json!(self.conf));
        }
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data})
    }

    /// Makes the usual Secret here.
    pub async fn tell(&self, site: &Site) -> Result<()> {
        site.apply(self.secret(SECRET)).await?;
        Ok(())
    }

    /// A `ReplicationSource` of this claim; `rclone` is laid over the usual options.
    pub fn source(&self, name: &str, claim: &str, rclone: Value) -> Value {
        json!({
            "apiVersion": "volsync.backube/v1alpha1",
            "kind": "ReplicationSource",
            "metadata": {"name": name},
            "spec": {"sourcePVC": claim, "rclone": over(self.options(json!({})), rclone)},
        })
    }

    /// A `ReplicationDestination`; `rclone` is laid over the usual options.
    pub fn destination(&self, name: &str, rclone: Value) -> Value {
        let volume = json!({"capacity": "1Gi", "accessModes": ["ReadWriteOnce"]});
        json!({
            "apiVersion": "volsync.backube/v1alpha1",
            "kind": "ReplicationDestination",
            "metadata": {"name": name},
            "spec": {"rclone": over(self.options(volume), rclone)},
        })
    }

    fn options(&self, more: Value) -> Value {
        let usual = json!({
            "copyMethod": "Snapshot", "rcloneConfig": SECRET, "rcloneConfigSection": self.section, "rcloneDestPath": self.path,
        });
        over(over(usual, more), self.spec.clone())
    }
}

/// Lets movers of this namespace be root, as users of `VolSync` do who want owners kept.
pub async fn privileged(site: &Site) -> Result<()> {
    let annotations = json!({"volsync.backube/privileged-movers": "true"});
    let change = json!({"metadata": {"annotations": annotations}});
    site.merge("Namespace", &site.namespace, change).await?;
    Ok(())
}

/// Runs the source `copy` of the claim `data` once more, and returns it as it is afterwards.
pub async fn send(site: &Site, remote: &Remote, tag: &str) -> Result<Value> {
    let source = remote.source("copy", "data", json!({}));
    site.apply(manually(source, tag)).await?;
    synced(site, "copy", tag).await
}

/// Runs the destination `copy` once more, and returns it as it is afterwards.
pub async fn receive(site: &Site, remote: &Remote, tag: &str) -> Result<Value> {
    let destination = remote.destination("copy", json!({}));
    site.apply(manually(destination, tag)).await?;
    received(site, "copy", tag).await
}

/// Waits until a destination has done what this manual trigger asks for.
pub async fn received(site: &Site, name: &str, tag: &str) -> Result<Value> {
    let what = format!("done the manual sync {tag}");
    site.within(SYNC_CAP)
        .wait("ReplicationDestination", name, &what, |object| {
            (text(object, "/status/lastManualSync") == Some(tag)).then(|| object.clone())
        })
        .await
}

/// Runs the destination `copy` and reads the image that it makes.
pub async fn fetched(site: &Site, remote: &Remote, tag: &str) -> Result<Tree> {
    let object = receive(site, remote, tag).await?;
    let image = text(&object, "/status/latestImage/name").context("no image")?;
    tree_of_image(site, image).await
}

/// Waits for an image after `previous`, and reads it. Gives its name, too.
pub async fn next_image(site: &Site, previous: Option<&str>) -> Result<(String, Tree)> {
    let image = image_after(site, "copy", previous).await?;
    let tree = tree_of_image(site, &image).await?;
    Ok((image, tree))
}

/// The version that a resource last sent or received.
pub fn generation(object: &Value) -> Option<&str> {
    text(object, "/status/rclone/generation")
}

/// Waits until the mover of a destination does nothing but wait.
pub async fn waits(site: &Site, name: &str) -> Result<()> {
    site.within(SYNC_CAP)
        .wait(
            "ReplicationDestination",
            name,
            "a mover that waits",
            |object| (text(object, "/status/progress/phase") == Some("Waiting")).then_some(()),
        )
        .await
}

/// The copy must equal the source in all that a stock peer carries: everything but the times of folders. What it does not
/// carry at all (links, attributes, holes) is not to be in the volume.
#[expect(
    clippy::unnecessary_debug_formatting,
    reason = "the lines have paths in this form"
)]
pub fn must_be_alike_but_for_folders_times(source: &Tree, copy: &Tree) -> Result<()> {
    let folders = source.entries().iter();
    let folders = folders.filter(|(_, entry)| entry.kind == Kind::Directory);
    let passed_over: Vec<String> = folders
        .map(|(path, _)| match path.as_os_str() {
            root if root.is_empty() => ".: modification time".to_owned(),
            path => format!("{path:?}: modification time"),
        })
        .collect();
    let mut lines = source.differences(copy, Ignore::default());
    lines.retain(|line| !passed_over.iter().any(|start| line.starts_with(start)));
    ensure!(lines.is_empty(), "{}", lines.join("\n  "));
    Ok(())
}

/// Files below a folder of the store, by the path in it.
pub async fn files_in(store: &Volume, folder: &str) -> Result<Vec<PathBuf>> {
    store
        .look(|root| {
            let root = root.join(folder);
            let mut files = Vec::new();
            for file in syncline_testkit::corpus::files_below(&root)? {
                files.push(file.strip_prefix(&root)?.to_owned());
            }
            files.sort();
            Ok(files)
        })
        .await
}

/// Objects in a bucket, by their names, none of which may have a line break.
pub fn objects_in(store: &ObjectStore, bucket: &str) -> Result<Vec<PathBuf>> {
    let place = format!("{}:{bucket}", syncline_testkit::store::SECTION);
    let listing = store.rclone(&["lsf", "-R", "--files-only", &place])?;
    let mut objects: Vec<PathBuf> = listing.lines().map(PathBuf::from).collect();
    objects.sort();
    Ok(objects)
}

/// What a program that must succeed prints.
pub fn run<S: AsRef<OsStr>>(
    program: impl AsRef<OsStr>,
    words: impl IntoIterator<Item = S>,
) -> Result<String> {
    let mut command = Command::new(program);
    let output = command.args(words).output();
    let output = output.with_context(|| format!("cannot start {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What stock rclone prints, without a configuration: for folders of this machine.
pub fn stock_rclone<S: AsRef<OsStr>>(words: impl IntoIterator<Item = S>) -> Result<String> {
    let quiet = ["--config", "/dev/null"].map(OsStr::new);
    let words: Vec<S> = words.into_iter().collect();
    let all = quiet.into_iter().chain(words.iter().map(AsRef::as_ref));
    run(syncline_testkit::store::rclone()?, all)
}

/// A password as `rclone.conf` has it.
pub fn obscured(password: &str) -> Result<String> {
    Ok(stock_rclone(["obscure", password])?.trim().to_owned())
}
