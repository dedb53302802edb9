//! The two sites, and the sample manifests applied to them as a person would.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use syncline_api::labels::RCLONE_POLL_LIMIT;
use syncline_testkit::scenario::CAP;
use syncline_testkit::{Cluster, Site, fixture};

use super::show;

const APP_DATA: &str = include_str!("../../../deploy/samples/app-data.yaml");
const DESTINATION: &str = include_str!("../../../deploy/samples/rsync-destination.yaml");
const SOURCE: &str = include_str!("../../../deploy/samples/rsync-source.yaml");
const START_FROM_IMAGE: &str = include_str!("../../../deploy/samples/start-from-image.yaml");
const STORE_SOURCE: &str = include_str!("../../../deploy/samples/rclone/source.yaml");
const STORE_DESTINATION: &str = include_str!("../../../deploy/samples/rclone/destination.yaml");

/// The name of source and destination in the samples.
pub(crate) const NAME: &str = "app";
/// The name of the application's claim in the samples.
const CLAIM: &str = "app-data";
/// The name of the source and the destinations that go by the store, beside those of rsync.
pub(crate) const BY_STORE: &str = "app-store";
/// The claims of the store, and its folder.
pub(crate) const STORE: &str = "store";
/// Where in the store the source's files lie.
pub(crate) const IN_STORE: &str = "app";
/// What stands in the place of the sample's server, under the same section.
const STORE_CONF: &str = "[store]\ntype = local\n";

/// Where the destination says it can be reached, and with which keys.
pub(crate) struct Address {
    /// The host.
    pub(crate) host: String,
    /// The TCP port.
    pub(crate) port: i64,
    /// The Secret for the source.
    pub(crate) keys: String,
}

/// The namespace of this name, made when it is not there.
pub(crate) async fn site(cluster: &Arc<Cluster>, namespace: &str) -> Result<Site> {
    let site = Site {
        cluster: Arc::clone(cluster),
        client: cluster.client().await?,
        namespace: namespace.to_owned(),
        cap: CAP,
    };
    site.apply(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}))
        .await?;
    Ok(site)
}

/// Makes the application's volume and returns its folder.
pub(crate) async fn app_volume(primary: &Site) -> Result<PathBuf> {
    primary.apply_yaml(APP_DATA).await?;
    primary.folder(CLAIM).await
}

/// Makes the destination, waits for its address and keys, and carries the keys to the source's site.
pub(crate) async fn destination(primary: &Site, secondary: &Site) -> Result<Address> {
    secondary.apply_yaml(DESTINATION).await?;
    let address = secondary
        .wait(
            "ReplicationDestination",
            NAME,
            "address and keys",
            |object| {
                let status = object.pointer("/status/rsync")?;
                Some(Address {
                    host: status.get("address")?.as_str()?.to_owned(),
                    port: status.get("port")?.as_i64()?,
                    keys: status.get("sshKeys")?.as_str()?.to_owned(),
                })
            },
        )
        .await?;
    secondary.hand_over_secret(&address.keys, primary).await?;
    Ok(address)
}

/// The sample source, with this address and trigger.
pub(crate) async fn source(primary: &Site, address: &Address, trigger: Value) -> Result<()> {
    let mut source = one(SOURCE)?;
    put(&mut source, "/spec/trigger", trigger)?;
    put(&mut source, "/spec/rsync/address", json!(address.host))?;
    put(&mut source, "/spec/rsync/sshKeys", json!(address.keys))?;
    add(&mut source, "/spec/rsync", "port", json!(address.port))?;
    primary.apply(source).await?;
    Ok(())
}

/// What both sides need to get to the store, from the sample: movers that may read and write it, and a Secret.
pub(crate) async fn store_access(site: &Site) -> Result<()> {
    let mut namespace = of_kind(STORE_SOURCE, "Namespace")?;
    put(&mut namespace, "/metadata/name", json!(site.namespace))?;
    site.apply(namespace).await?;
    let mut secret = of_kind(STORE_SOURCE, "Secret")?;
    put(&mut secret, "/metadata/namespace", json!(site.namespace))?;
    put(&mut secret, "/stringData/rclone.conf", json!(STORE_CONF))?;
    site.apply(secret).await?;
    Ok(())
}

/// The sample source that sends to the store, with this manual trigger.
pub(crate) async fn store_source(site: &Site, tag: &str) -> Result<()> {
    let mut source = of_kind(STORE_SOURCE, "ReplicationSource")?;
    by_store(&mut source, site)?;
    put(&mut source, "/spec/trigger", json!({"manual": tag}))?;
    site.apply(source).await?;
    Ok(())
}

/// The sample destination that fetches from the store; nobody who watches wants to wait for minutes.
pub(crate) async fn store_destination(site: &Site) -> Result<()> {
    let mut destination = of_kind(STORE_DESTINATION, "ReplicationDestination")?;
    by_store(&mut destination, site)?;
    let annotations = json!({RCLONE_POLL_LIMIT: "1s"});
    add(&mut destination, "/metadata", "annotations", annotations)?;
    site.apply(destination).await?;
    Ok(())
}

/// Makes a sample one of this site's, with a folder in the place of a bucket.
fn by_store(sample: &mut Value, site: &Site) -> Result<()> {
    put(sample, "/metadata/name", json!(BY_STORE))?;
    put(sample, "/metadata/namespace", json!(site.namespace))?;
    let path = format!("/mnt/{STORE}/{IN_STORE}");
    put(sample, "/spec/rclone/rcloneDestPath", json!(path))?;
    let claim = json!({"persistentVolumeClaim": {"claimName": STORE}});
    let volumes = json!([{"mountPath": STORE, "volumeSource": claim}]);
    add(sample, "/spec/rclone", "moverVolumes", volumes)
}

/// Runs `syncline` as a person would, and shows it with what it printed.
pub(crate) fn syncline(cluster: &Cluster, words: &[&str]) -> Result<()> {
    let line = format!("syncline {}", words.join(" "));
    let output = cluster.syncline(words.iter().copied()).output()?;
    ensure!(
        output.status.success(),
        "{line} failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    show::command(&line, &String::from_utf8_lossy(&output.stdout));
    Ok(())
}

/// A volume with the content of an image; returns its folder.
pub(crate) async fn volume_from_image(site: &Site, name: &str, image: &str) -> Result<PathBuf> {
    let mut claim = one(START_FROM_IMAGE)?;
    put(&mut claim, "/metadata/name", json!(name))?;
    put(&mut claim, "/metadata/namespace", json!(site.namespace))?;
    put(&mut claim, "/spec/dataSource/name", json!(image))?;
    site.apply(claim).await?;
    site.folder(name).await
}

fn one(text: &str) -> Result<Value> {
    let mut documents = fixture::documents(text)?;
    if documents.len() != 1 {
        bail!("a sample holds {} documents", documents.len());
    }
    documents.pop().context("a sample without a document")
}

fn of_kind(text: &str, kind: &str) -> Result<Value> {
    fixture::documents(text)?
        .into_iter()
        .find(|object| object.get("kind").and_then(Value::as_str) == Some(kind))
        .with_context(|| format!("the sample has no {kind}"))
}

/// Replaces a value that the sample has.
fn put(sample: &mut Value, path: &str, value: Value) -> Result<()> {
    let place = sample
        .pointer_mut(path)
        .with_context(|| format!("the sample has no {path}"))?;
    *place = value;
    Ok(())
}

/// Adds a field to an object that the sample has.
fn add(sample: &mut Value, path: &str, field: &str, value: Value) -> Result<()> {
    sample
        .pointer_mut(path)
        .and_then(Value::as_object_mut)
        .with_context(|| format!("the sample has no {path}"))?
        .insert(field.to_owned(), value);
    Ok(())
}
