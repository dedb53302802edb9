//! Small steps on objects of any kind that several controllers take.

use kube::api::{Api, Patch, PatchParams};
use kube::{Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// How often a change is tried again after somebody else was faster.
const TRIES: u32 = 8;

/// "It is not there" as `None`.
pub(crate) fn optional<T>(result: kube::Result<T>) -> kube::Result<Option<T>> {
    match result {
        Ok(object) => Ok(Some(object)),
        Err(error) if code(&error) == Some(404) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The API's status code of an error.
pub(crate) fn code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

/// "It is there already" as success.
pub(crate) fn created<T>(result: kube::Result<T>) -> kube::Result<()> {
    match result {
        Ok(_) => Ok(()),
        Err(error) if code(&error) == Some(409) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Merges `change` into the object.
pub(crate) async fn merge<T>(api: &Api<T>, name: &str, change: &Value) -> kube::Result<T>
where
    T: Clone + DeserializeOwned + std::fmt::Debug,
{
    api.patch(name, &PatchParams::default(), &Patch::Merge(change))
        .await
}

/// Merges `change` into the object's status; `change` has `status` at its top.
pub(crate) async fn merge_status<T>(api: &Api<T>, name: &str, change: &Value) -> kube::Result<T>
where
    T: Clone + DeserializeOwned + std::fmt::Debug,
{
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(change))
        .await
}

/// Rewrites the finalizers of an object that still is the one with this uid.
async fn edit_finalizers<T>(
    api: &Api<T>,
    object: &T,
    edit: impl Fn(&[String]) -> Vec<String>,
) -> kube::Result<()>
where
    T: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    let name = object.name_any();
    let mut present = object.clone();
    for _ in 0..TRIES {
        let wanted = edit(present.finalizers());
        if wanted.as_slice() == present.finalizers() {
            return Ok(());
        }
        let change = json!({ "metadata": {
            "resourceVersion": present.resource_version(), "uid": present.uid(), "finalizers": wanted,
        }});
        match merge(api, &name, &change).await {
            Ok(_) => return Ok(()),
            Err(error) if code(&error) == Some(409) => {}
            Err(error) if code(&error) == Some(404) => return Ok(()),
            Err(error) => return Err(error),
        }
        match optional(api.get(&name).await)? {
            Some(newer) if newer.uid() == object.uid() => present = newer,
            _ => return Ok(()),
        }
    }
    Ok(())
}

/// Adds finalizers that are not there yet.
pub(crate) async fn add_finalizers<T>(api: &Api<T>, object: &T, added: &[&str]) -> kube::Result<()>
where
    T: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    edit_finalizers(api, object, |present| {
        let mut wanted = present.to_vec();
        wanted.extend(
            added
                .iter()
                .filter(|one| !present.iter().any(|other| other == *one))
                .map(ToString::to_string),
        );
        wanted
    })
    .await
}

/// Removes finalizers that are there.
pub(crate) async fn remove_finalizers<T>(
    api: &Api<T>,
    object: &T,
    removed: &[&str],
) -> kube::Result<()>
where
    T: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    edit_finalizers(api, object, |present| {
        present
            .iter()
            .filter(|one| !removed.contains(&one.as_str()))
            .cloned()
            .collect()
    })
    .await
}

/// Whether the object is being deleted.
pub(crate) fn is_going<T: Resource>(object: &T) -> bool {
    object.meta().deletion_timestamp.is_some()
}
