//! `OpenAPI` documents of the kinds served: v3, per group and version, and the index with their hashes; of v2 what
//! clients still look up there.

mod built_in;
mod documents;
mod v2;

use serde_json::{Map, Value, json};

pub(crate) use self::documents::{Documents, entity_tag, handle, is_known};

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// The schema of a built-in kind and all that it refers to.
pub(crate) fn built_in(struct_name: &str) -> (String, Map<String, Value>) {
    (struct_name.to_owned(), built_in::components(struct_name))
}

/// The schema of a custom kind.
pub(crate) fn custom(
    group: &str,
    version: &str,
    kind: &str,
    schema: &Value,
) -> (String, Map<String, Value>) {
    let reversed = group.rsplit('.').collect::<Vec<_>>().join(".");
    let name = format!("{reversed}.{version}.{kind}");
    let mut own = schema.clone();
    if let Some(map) = own.as_object_mut() {
        let properties = map.entry("properties").or_insert_with(|| json!({}));
        if let Some(properties) = properties.as_object_mut() {
            for (key, told) in [("apiVersion", API_VERSION), ("kind", KIND)] {
                properties.insert(
                    key.to_owned(),
                    json!({ "type": "string", "description": told }),
                );
            }
            let reference = json!({ "$ref": format!("#/components/schemas/{OBJECT_META}") });
            let metadata = json!({ "description": METADATA, "allOf": [reference], "default": {} });
            properties.insert("metadata".to_owned(), metadata);
        }
        map.insert(
            "x-kubernetes-group-version-kind".to_owned(),
            json!([{ "group": group, "version": version, "kind": kind }]),
        );
    }
    let mut components = built_in::components(OBJECT_META);
    components.insert(name.clone(), own);
    (name, components)
}

const API_VERSION: &str = "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized schemas to the latest internal value, and may reject unrecognized values. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
const KIND: &str = "Kind is a string value representing the REST resource this object represents. Servers may infer this from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";
const METADATA: &str = "Standard object's metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";
