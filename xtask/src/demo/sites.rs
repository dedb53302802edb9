//! The two sites, and the sample manifests applied to them as a person would.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use syncline_testkit::scenario::CAP;
use syncline_testkit::{Cluster, Site, fixture};

const APP_DATA: &str = include_str!("../../../deploy/samples/app-data.yaml");
const DESTINATION: &str = include_str!("../../../deploy/samples/rsync-destination.yaml");
const SOURCE: &str = include_str!("../../../deploy/samples/rsync-source.yaml");
const START_FROM_IMAGE: &str = include_str!("../../../deploy/samples/start-from-image.yaml");

/// The name of source and destination in the samples.
pub(crate) const NAME: &str = "app";
/// The name of the application's claim in the samples.
const CLAIM: &str = "app-data";

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
    source
        .pointer_mut("/spec/rsync")
        .and_then(Value::as_object_mut)
        .context("a source without spec.rsync")?
        .insert("port".to_owned(), json!(address.port));
    primary.apply(source).await?;
    Ok(())
}

/// A volume with the content of an image; returns its folder.
pub(crate) async fn volume_from_image(
    secondary: &Site,
    name: &str,
    image: &str,
) -> Result<PathBuf> {
    let mut claim = one(START_FROM_IMAGE)?;
    put(&mut claim, "/metadata/name", json!(name))?;
    put(&mut claim, "/spec/dataSource/name", json!(image))?;
    secondary.apply(claim).await?;
    secondary.folder(name).await
}

fn one(text: &str) -> Result<Value> {
    let mut documents = fixture::documents(text)?;
    if documents.len() != 1 {
        bail!("a sample holds {} documents", documents.len());
    }
    documents.pop().context("a sample without a document")
}

/// Replaces a value that the sample has.
fn put(sample: &mut Value, path: &str, value: Value) -> Result<()> {
    let place = sample
        .pointer_mut(path)
        .with_context(|| format!("the sample has no {path}"))?;
    *place = value;
    Ok(())
}
