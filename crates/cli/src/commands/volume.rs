//! `syncline volume`: folders of this machine as volumes of the embedded cluster.
//!
//! A folder is adopted by a persistent volume with the reclaim policy Retain and a claim bound to it. Neither the
//! cluster nor this command ever deletes the folder.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use k8s_openapi::api::core::v1::{Namespace, PersistentVolume, PersistentVolumeClaim};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::runtime::wait::await_condition;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use crate::args::{Overview, Scope};
use crate::connection::connect;
use crate::failure::{Failure, Kind};
use crate::kinds;
use crate::printer::Printer;
use crate::settings::Target;

/// Marks volumes whose folder belongs to a person (see the embedded cluster's volume controller).
const ADOPTED: &str = "embedded.syncline.dev/adopted";
/// The embedded cluster's class: copies of the volume are made in it.
const CLASS: &str = "syncline";
/// How long the cluster may take to bind a claim to the volume made for it.
const BIND_CAP: Duration = Duration::from_secs(30);
/// Who applies these objects.
const FIELD_MANAGER: &str = "syncline-cli";

/// Use folders of this machine as volumes of the embedded cluster.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

/// What to do with a volume.
#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a volume (a bound claim) of a folder that exists; the folder stays yours
    Add {
        /// Name of the claim
        name: String,
        /// The folder
        path: PathBuf,
        #[command(flatten)]
        scope: Scope,
    },
    /// List volumes and their folders, of all namespaces unless -n names one
    List {
        #[command(flatten)]
        scope: Overview,
    },
    /// Forget an adopted folder, and leave it as it is
    Remove {
        /// Name of the claim
        name: String,
        #[command(flatten)]
        scope: Scope,
    },
}

pub(crate) async fn run(
    arguments: &Arguments,
    target: &Target,
    printer: &mut Printer,
) -> Result<(), Failure> {
    let client = connect(target).await?;
    let namespace_of = |scope: &Scope| {
        scope
            .namespace
            .clone()
            .unwrap_or_else(|| client.default_namespace().to_owned())
    };
    match &arguments.verb {
        Verb::Add { name, path, scope } => {
            check_name(name)?;
            let folder = folder(path, target.data_folder().as_deref())?;
            add(&client, &namespace_of(scope), name, &folder, printer).await
        }
        Verb::List { scope } => list(&client, scope.namespace.as_deref(), printer).await,
        Verb::Remove { name, scope } => remove(&client, &namespace_of(scope), name, printer).await,
    }
}

async fn add(
    client: &Client,
    namespace: &str,
    name: &str,
    folder: &Path,
    printer: &mut Printer,
) -> Result<(), Failure> {
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    if let Some(claim) = claims.get_opt(name).await? {
        return already(client, &claim, folder, printer).await;
    }
    let volume = volume_name(namespace, name);
    let size = capacity(folder)?;
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    make_namespace(client, namespace, printer).await?;
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    volumes
        .patch(
            &volume,
            &parameters,
            &Patch::Apply(&volume_manifest(&volume, (namespace, name), folder, &size)),
        )
        .await?;
    claims
        .patch(
            name,
            &parameters,
            &Patch::Apply(&claim_manifest(&volume, (namespace, name), &size)),
        )
        .await?;
    let bound = |claim: Option<&PersistentVolumeClaim>| {
        claim.and_then(|claim| claim.status.as_ref()?.phase.as_deref()) == Some("Bound")
    };
    let waiting = tokio::time::timeout(BIND_CAP, await_condition(claims, name, bound));
    let waited = waiting.await.map_err(|_| {
        Failure::new(format!(
            "the volume {name} is not bound after {} seconds",
            BIND_CAP.as_secs()
        ))
        .hint(format!(
            "`syncline get events -n {namespace}` tells what the cluster says of it"
        ))
    })?;
    waited.map_err(|error| Failure::from(anyhow::Error::from(error)))?;
    printer.line(&format!(
        "persistentvolumeclaim/{name} in namespace {namespace} is {}",
        folder.display()
    ))?;
    Ok(())
}

/// Makes the namespace where it is missing: who adds a first volume has none yet.
async fn make_namespace(client: &Client, name: &str, printer: &mut Printer) -> Result<(), Failure> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    if namespaces.get_opt(name).await?.is_some() {
        return Ok(());
    }
    let manifest = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    namespaces
        .patch(
            name,
            &PatchParams::apply(FIELD_MANAGER),
            &Patch::Apply(&manifest),
        )
        .await?;
    printer.note(&format!("namespace {name} was missing and is made"));
    Ok(())
}

/// Refuses what the cluster would refuse as a part of the volume's name.
fn check_name(name: &str) -> Result<(), Failure> {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let part = |part: &str| {
        let inner = part.bytes().all(|byte| alphanumeric(byte) || byte == b'-');
        inner && !part.is_empty() && !part.starts_with('-') && !part.ends_with('-')
    };
    if name.split('.').all(part) {
        return Ok(());
    }
    Err(Failure::new(format!("{name:?} is no name for a volume"))
        .of_kind(Kind::Usage)
        .hint("a name has the letters a to z, digits, '-' and '.', and begins and ends with a letter or a digit"))
}

/// The folder's true path: a name that is a link today may lead elsewhere tomorrow. The cluster's own data folder must
/// neither lie in it (its copies would hold themselves) nor hold it.
fn folder(path: &Path, data: Option<&Path>) -> Result<PathBuf, Failure> {
    let folder = path.canonicalize().map_err(|error| {
        if error.kind() == std::io::ErrorKind::NotFound {
            let path = path.display();
            return Failure::new(format!("there is no folder {path}"))
                .hint(format!("`mkdir -p {path}` makes it"));
        }
        Failure::from(
            anyhow::Error::from(error)
                .context(format!("the folder {} cannot be reached", path.display())),
        )
    })?;
    if !folder.is_dir() {
        return Err(Failure::new(format!("{} is no folder", folder.display())));
    }
    readable(&folder)?;
    let data = data.and_then(|data| data.canonicalize().ok());
    match data {
        Some(data) if data.starts_with(&folder) => Err(Failure::new(format!(
            "{} holds the cluster's own data folder {}, so a copy of it would have to hold itself",
            folder.display(),
            data.display()
        ))
        .hint(
            "add a folder that does not hold it, or start the cluster with --data DIR elsewhere",
        )),
        Some(data) if folder.starts_with(&data) => Err(Failure::new(format!(
            "{} lies in the cluster's own data folder {}",
            folder.display(),
            data.display()
        ))
        .hint("add a folder of your own; claims of the cluster have their folders already")),
        _ => Ok(folder),
    }
}

/// Movers run as the one who runs the cluster: a folder that cannot even be listed here fails at its first copy.
fn readable(folder: &Path) -> Result<(), Failure> {
    use rustix::fs::Access;
    match rustix::fs::access(folder, Access::READ_OK | Access::EXEC_OK) {
        Err(rustix::io::Errno::ACCESS) => Err(unreadable(folder)),
        other => Ok(other.map_err(std::io::Error::from)?),
    }
}

fn unreadable(folder: &Path) -> Failure {
    Failure::new(format!(
        "{} is not readable by uid {}",
        folder.display(),
        rustix::process::getuid().as_raw()
    ))
    .hint("choose another folder, or run `syncline up` and this command as its owner")
}

async fn already(
    client: &Client,
    claim: &PersistentVolumeClaim,
    folder: &Path,
    printer: &mut Printer,
) -> Result<(), Failure> {
    let volume = claim
        .spec
        .as_ref()
        .and_then(|spec| spec.volume_name.clone())
        .unwrap_or_default();
    let held = Api::<PersistentVolume>::all(client.clone())
        .get_opt(&volume)
        .await?
        .and_then(|volume| path_of(&volume));
    let (name, namespace) = (claim.name_any(), claim.namespace().unwrap_or_default());
    if held.as_deref() == folder.to_str() {
        printer.line(&format!(
            "persistentvolumeclaim/{name} in namespace {namespace} is {} already",
            folder.display()
        ))?;
        return Ok(());
    }
    Err(Failure::new(format!(
        "namespace {namespace} has a volume {name} already, on {}",
        held.as_deref().unwrap_or("no folder yet")
    ))
    .hint("choose another name"))
}

/// Names of volumes are of the whole cluster, those of claims of a namespace. A namespace's name holds no dot, so that no two
/// claims share a volume.
fn volume_name(namespace: &str, name: &str) -> String {
    format!("adopted.{namespace}.{name}")
}

/// The size of the file system that holds the folder, in whole mebibytes as people write it: an adopted folder has no limit
/// of its own.
fn capacity(folder: &Path) -> Result<String, Failure> {
    let space = rustix::fs::statvfs(folder).map_err(std::io::Error::from)?;
    Ok(format!(
        "{}Mi",
        (space.f_blocks * space.f_frsize).div_ceil(1 << 20)
    ))
}

fn volume_manifest(
    volume: &str,
    (namespace, name): (&str, &str),
    folder: &Path,
    size: &str,
) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": volume, "annotations": {ADOPTED: "true"}},
        "spec": {
            "capacity": {"storage": size},
            "accessModes": ["ReadWriteOnce", "ReadWriteMany"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": CLASS,
            "hostPath": {"path": folder, "type": "Directory"},
            "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": namespace, "name": name},
        },
    })
}

fn claim_manifest(volume: &str, (namespace, name): (&str, &str), size: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": CLASS,
            "volumeName": volume,
            "resources": {"requests": {"storage": size}},
        },
    })
}

fn path_of(volume: &PersistentVolume) -> Option<String> {
    volume
        .spec
        .as_ref()?
        .host_path
        .as_ref()
        .map(|source| source.path.clone())
}

fn is_adopted(volume: &PersistentVolume) -> bool {
    volume
        .annotations()
        .get(ADOPTED)
        .is_some_and(|value| value == "true")
}

async fn list(
    client: &Client,
    namespace: Option<&str>,
    printer: &mut Printer,
) -> Result<(), Failure> {
    let claims: Api<PersistentVolumeClaim> = namespace.map_or_else(
        || Api::all(client.clone()),
        |name| Api::namespaced(client.clone(), name),
    );
    let claims = claims.list(&ListParams::default()).await?;
    if claims.items.is_empty() {
        let place = namespace.map_or_else(String::new, |name| format!(" in namespace {name}"));
        printer.note(&format!(
            "There are no volumes{place}. `syncline volume add NAME PATH` makes one of a folder."
        ));
        return Ok(());
    }
    let volumes = Api::<PersistentVolume>::all(client.clone())
        .list(&ListParams::default())
        .await?;
    let mut rows = vec![
        ["NAMESPACE", "NAME", "STATE", "KIND", "FOLDER"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for claim in &claims {
        let bound = claim
            .spec
            .as_ref()
            .and_then(|spec| spec.volume_name.as_deref());
        let volume = volumes
            .iter()
            .find(|volume| Some(volume.name_any().as_str()) == bound);
        let kind = volume.map_or(
            "-",
            |volume| if is_adopted(volume) { "adopted" } else { "own" },
        );
        rows.push(vec![
            claim.namespace().unwrap_or_default(),
            claim.name_any(),
            claim
                .status
                .as_ref()
                .and_then(|status| status.phase.clone())
                .unwrap_or_else(|| "Pending".to_owned()),
            kind.to_owned(),
            volume.and_then(path_of).unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    Ok(printer.columns(&rows)?)
}

async fn remove(
    client: &Client,
    namespace: &str,
    name: &str,
    printer: &mut Printer,
) -> Result<(), Failure> {
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    let claim = match claims.get(name).await.map_err(Failure::from) {
        Err(failure) => return Err(kinds::or_named_elsewhere(client, "pvc", name, failure).await),
        Ok(claim) => claim,
    };
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    let volume = match claim.spec.and_then(|spec| spec.volume_name) {
        Some(volume) => volumes.get_opt(&volume).await?,
        // It waits for its volume, or for its first pod.
        None => None,
    };
    let volume = volume.filter(is_adopted).ok_or_else(|| {
        Failure::new(format!(
            "the volume {name} in namespace {namespace} is no adopted folder"
        ))
        .of_kind(Kind::Failed)
        .hint(format!(
            "`syncline volume list` shows which are; what the cluster made itself holds its data, and `syncline delete pvc {name} -n {namespace}` would delete both"
        ))
    })?;
    claims.delete(name, &DeleteParams::default()).await?;
    volumes
        .delete(&volume.name_any(), &DeleteParams::default())
        .await?;
    printer.line(&format!(
        "volume {name} in namespace {namespace} is forgotten; {} stays as it is",
        path_of(&volume).unwrap_or_default()
    ))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_cannot_be_read_is_told_with_who_cannot() {
        let uid = format!("uid {}", rustix::process::getuid().as_raw());
        let failure = unreadable(Path::new("/srv/x"));
        assert!(failure.causes().concat().ends_with(&uid), "{failure:?}");
        let mine = tempfile::tempdir().unwrap();
        assert!(readable(mine.path()).is_ok());
    }

    #[test]
    fn a_name_that_the_cluster_would_refuse_is_told_with_the_rule() {
        for name in ["photos", "photos-2.old", "0"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in ["Photos", "my_photos", "-x", "x-", "a..b", "", "a b"] {
            assert_eq!(check_name(name).unwrap_err().kind.exit_code(), 2, "{name}");
        }
    }

    #[test]
    fn a_folder_that_is_not_there_can_be_made() {
        let home = tempfile::tempdir().unwrap();
        let failure = folder(&home.path().join("photos"), None).unwrap_err();
        let hint = failure.hint_text().unwrap_or_default();
        assert!(hint.starts_with("`mkdir -p "), "{failure:?}");
    }

    #[test]
    fn a_folder_that_holds_the_clusters_own_is_refused_and_one_beside_it_is_not() {
        let home = tempfile::tempdir().unwrap();
        let data = home.path().join("share/syncline");
        let (inside, beside) = (data.join("volumes"), home.path().join("share/photos"));
        for made in [&inside, &beside] {
            std::fs::create_dir_all(made).unwrap();
        }
        for refused in [home.path(), &data, &inside] {
            let failure = folder(refused, Some(&data)).unwrap_err();
            assert!(
                format!("{failure:?}").contains("own data folder"),
                "{failure:?}"
            );
        }
        assert_eq!(
            folder(&beside, Some(&data)).unwrap(),
            beside.canonicalize().unwrap()
        );
        assert!(folder(home.path(), None).is_ok());
    }
}
