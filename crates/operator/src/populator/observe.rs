//! What is read for one claim.

use futures::try_join;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::Client;
use syncline_api::ReplicationDestination;

use super::{ClaimKey, Settings, destination_of, volume_of};
use crate::kinds::VolumeSnapshot;
use crate::observe::{Error, Reader};

/// Everything that a plan for a claim may depend on.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct World {
    /// The claim; `None` when it is no more.
    pub(super) claim: Option<PersistentVolumeClaim>,
    /// What has the temporary claim's name.
    pub(super) temporary: Option<PersistentVolumeClaim>,
    /// The temporary claim's volume.
    pub(super) volume: Option<PersistentVolume>,
    /// The claim's storage class.
    pub(super) class: Option<StorageClass>,
    /// The destination that the claim names.
    pub(super) destination: Option<ReplicationDestination>,
    /// The destination's latest image, if it is a snapshot.
    pub(super) image: Option<VolumeSnapshot>,
    /// The snapshots that are marked as in use for this claim.
    pub(super) marked: Vec<VolumeSnapshot>,
}

/// Reads it. An operator of one namespace may not read what belongs to none, and fills no claim.
pub(super) async fn world(
    client: &Client,
    key: &ClaimKey,
    settings: &Settings,
) -> Result<World, Error> {
    let reader = Reader::new(client, &key.namespace);
    let (temporary, mark) = (key.temporary(), key.mark());
    let (claim, temporary, marked) = try_join!(
        claim(&reader, key),
        reader.get::<PersistentVolumeClaim>(&temporary),
        reader.list::<VolumeSnapshot>(&mark),
    )?;
    let mut world = World {
        claim,
        temporary,
        marked: marked.unwrap_or_default(),
        ..World::default()
    };
    if let Some(claim) = &world.claim
        && settings.namespace.is_none()
        && volume_of(claim).is_none()
    {
        let class = claim
            .spec
            .as_ref()
            .and_then(|spec| spec.storage_class_name.clone())
            .filter(|name| !name.is_empty());
        if let Some(class) = class {
            world.class = reader.get_global(&class).await?;
        }
        if let Some(destination) = destination_of(claim) {
            world.destination = reader.get(destination).await?;
        }
        if let Some(image) = world.destination.as_ref().and_then(snapshot_of) {
            world.image = reader.get(&image).await?;
        }
        if let Some(volume) = world.temporary.as_ref().and_then(volume_of) {
            world.volume = reader.get_global(volume).await?;
        }
    }
    Ok(world)
}

/// The claim, unless its name has passed on to another. A mark holds only the start of a long name, so what is not found
/// by name is looked for by its uid before it is taken for gone.
async fn claim(
    reader: &Reader<'_>,
    key: &ClaimKey,
) -> Result<Option<PersistentVolumeClaim>, Error> {
    let is_it = |claim: &PersistentVolumeClaim| claim.metadata.uid.as_ref() == Some(&key.uid);
    let found: Option<PersistentVolumeClaim> = reader.get(&key.name).await?;
    if let Some(claim) = found.filter(is_it) {
        return Ok(Some(claim));
    }
    let all: Vec<PersistentVolumeClaim> = reader.list("").await?.unwrap_or_default();
    Ok(all.into_iter().find(is_it))
}

fn snapshot_of(destination: &ReplicationDestination) -> Option<String> {
    let image = destination.status.as_ref()?.latest_image.as_ref()?;
    (image.kind == "VolumeSnapshot" && !image.name.is_empty()).then(|| image.name.clone())
}
