//! The cluster's register of volume populators, where it keeps one.
//!
//! The data source validator of Kubernetes warns about claims whose data source no registered populator knows.

use kube::Client;
use kube::api::{
    Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams,
};
use serde_json::json;
use syncline_api::GROUP;

use super::DESTINATION;
use crate::apply::FIELD_MANAGER;

/// The name of our entry; `VolSync`'s, because it is about the same kind.
const NAME: &str = "volsync-replicationdestination";

/// Enters the kind that claims are filled from. A cluster without the register needs no entry, and a register that
/// refuses it keeps no claim from being filled.
pub(crate) async fn register(client: &Client) {
    let kind = GroupVersionKind::gvk("populator.storage.k8s.io", "v1beta1", "VolumePopulator");
    let resource = ApiResource::from_gvk_with_plural(&kind, "volumepopulators");
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let source = json!({ "sourceKind": { "group": GROUP, "kind": DESTINATION } });
    let entry = DynamicObject::new(NAME, &resource).data(source.clone());
    let entered = match api.create(&PostParams::default(), &entry).await {
        Err(kube::Error::Api(status)) if status.code == 409 => correct(&api, &source).await,
        Err(error) => Err(error),
        Ok(_) => Ok(()),
    };
    match entered {
        Ok(()) => tracing::debug!(name = NAME, "registered as a volume populator"),
        Err(kube::Error::Api(status)) if status.code == 404 => {
            tracing::debug!("the cluster keeps no register of volume populators");
        }
        Err(error) => {
            let words = match &error {
                kube::Error::Api(status) => status.message.clone(),
                other => other.to_string(),
            };
            tracing::warn!(
                name = NAME,
                error = words,
                "not registered as a volume populator; claims are filled nevertheless"
            );
        }
    }
}

/// An entry that is there already is left alone if it says the same.
async fn correct(api: &Api<DynamicObject>, source: &serde_json::Value) -> Result<(), kube::Error> {
    let present = api.get(NAME).await?;
    if present.data.get("sourceKind") == source.get("sourceKind") {
        return Ok(());
    }
    let parameters = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    api.patch(NAME, &parameters, &Patch::Merge(source)).await?;
    Ok(())
}
