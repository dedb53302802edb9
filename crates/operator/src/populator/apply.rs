//! What is written for one claim.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};

use super::ClaimKey;
use super::plan::Write;
use crate::apply::{Action, Error, FIELD_MANAGER, Writer};

/// Writes in the order given; the first failure ends it.
pub(super) async fn write(client: &Client, key: &ClaimKey, writes: &[Write]) -> Result<(), Error> {
    let writer = Writer::new(client, &key.namespace);
    for write in writes {
        match write {
            Write::Change(change) => writer.write(std::slice::from_ref(change), &[]).await?,
            Write::Create(claim) => create(client, key, claim).await?,
            Write::Move { volume, patch } => {
                let api: Api<PersistentVolume> = Api::all(client.clone());
                let parameters = PatchParams {
                    field_manager: Some(FIELD_MANAGER.to_owned()),
                    ..PatchParams::default()
                };
                api.patch(volume, &parameters, &Patch::Merge(patch))
                    .await
                    .map_err(|error| {
                        Error::new(Action::Change, format!("PersistentVolume {volume}"), error)
                    })?;
            }
            Write::Delete(target) => writer.delete(std::slice::from_ref(target)).await?,
        }
    }
    Ok(())
}

/// Makes the temporary claim. One that is there already is somebody else's or of an earlier look: the next look tells.
async fn create(
    client: &Client,
    key: &ClaimKey,
    claim: &PersistentVolumeClaim,
) -> Result<(), Error> {
    let api: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &key.namespace);
    let parameters = PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    let object = format!(
        "PersistentVolumeClaim {}/{}",
        key.namespace,
        key.temporary()
    );
    match api.create(&parameters, claim).await {
        Ok(_) => Ok(()),
        Err(error) => Err(Error::new(Action::Apply, object, error)),
    }
}
