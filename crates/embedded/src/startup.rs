//! Objects that every cluster has from its start.

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{
    Api, ApiResource, DynamicObject, GroupVersionKind, ObjectMeta, Patch, PatchParams, PostParams,
};

use crate::kinds::shipped_definitions;

/// Namespaces that every cluster has.
const NAMESPACES: [&str; 2] = ["default", "kube-system"];
/// Who owns what is made here.
const MANAGER: &str = "kube-apiserver";

/// Why an object could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make the {kind} {name}: {source}; the log says what the API server found")]
pub(crate) struct StartupError {
    kind: &'static str,
    name: String,
    source: Box<kube::Error>,
}

/// Makes what is not there, and brings older forms up to date.
pub(crate) async fn make_objects(client: &kube::Client) -> Result<(), StartupError> {
    for name in NAMESPACES {
        make_namespace(client, name).await?;
    }
    let kind = GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    let definitions: Api<DynamicObject> =
        Api::all_with(client.clone(), &ApiResource::from_gvk(&kind));
    for definition in shipped_definitions() {
        let name = definition
            .pointer("/metadata/name")
            .and_then(|name| name.as_str())
            .unwrap_or_default();
        definitions
            .patch(
                name,
                &PatchParams::apply(MANAGER).force(),
                &Patch::Apply(&definition),
            )
            .await
            .map_err(|source| StartupError {
                kind: "definition",
                name: name.to_owned(),
                source: Box::new(source),
            })?;
    }
    Ok(())
}

async fn make_namespace(client: &kube::Client, name: &str) -> Result<(), StartupError> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace = Namespace {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    };
    match namespaces.create(&PostParams::default(), &namespace).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(source) => Err(StartupError {
            kind: "namespace",
            name: name.to_owned(),
            source: Box::new(source),
        }),
    }
}
