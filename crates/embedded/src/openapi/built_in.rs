//! Schemas of the built-in kinds, from `k8s-openapi`, with the merge extensions of the table of types.

use k8s_openapi::api::{authorization, batch, coordination, core, events, rbac, storage};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1 as apiextensions;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use k8s_openapi::schemars::{SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use crate::kinds::types::{self, Field, Topology, Type};

/// The struct's schema and those that it refers to, by name.
pub(super) fn components(struct_name: &str) -> Map<String, Value> {
    let settings = SchemaSettings::openapi3();
    let mut generator = SchemaGenerator::new(settings);
    add(&mut generator, struct_name);
    let mut components = Map::new();
    for (name, mut schema) in generator.take_definitions(true) {
        wrap_references(&mut schema);
        extend(&mut schema, &name);
        components.insert(name, schema);
    }
    components
}

fn add(generator: &mut SchemaGenerator, struct_name: &str) {
    let kind = struct_name.rsplit('.').next().unwrap_or_default();
    let events_group = struct_name.contains(".events.");
    match kind {
        "ConfigMap" => generator.subschema_for::<core::v1::ConfigMap>(),
        "Endpoints" => generator.subschema_for::<core::v1::Endpoints>(),
        "Event" if events_group => generator.subschema_for::<events::v1::Event>(),
        "Event" => generator.subschema_for::<core::v1::Event>(),
        "Namespace" => generator.subschema_for::<core::v1::Namespace>(),
        "Node" => generator.subschema_for::<core::v1::Node>(),
        "PersistentVolume" => generator.subschema_for::<core::v1::PersistentVolume>(),
        "PersistentVolumeClaim" => generator.subschema_for::<core::v1::PersistentVolumeClaim>(),
        "Pod" => generator.subschema_for::<core::v1::Pod>(),
        "Secret" => generator.subschema_for::<core::v1::Secret>(),
        "Service" => generator.subschema_for::<core::v1::Service>(),
        "ServiceAccount" => generator.subschema_for::<core::v1::ServiceAccount>(),
        "CustomResourceDefinition" => {
            generator.subschema_for::<apiextensions::CustomResourceDefinition>()
        }
        "SelfSubjectAccessReview" => {
            generator.subschema_for::<authorization::v1::SelfSubjectAccessReview>()
        }
        "Job" => generator.subschema_for::<batch::v1::Job>(),
        "Lease" => generator.subschema_for::<coordination::v1::Lease>(),
        "ClusterRole" => generator.subschema_for::<rbac::v1::ClusterRole>(),
        "ClusterRoleBinding" => generator.subschema_for::<rbac::v1::ClusterRoleBinding>(),
        "Role" => generator.subschema_for::<rbac::v1::Role>(),
        "RoleBinding" => generator.subschema_for::<rbac::v1::RoleBinding>(),
        "StorageClass" => generator.subschema_for::<storage::v1::StorageClass>(),
        _ => generator.subschema_for::<meta::ObjectMeta>(),
    };
    // Deletion and lists are told with every group.
    generator.subschema_for::<meta::DeleteOptions>();
}

/// A reference with a description beside it is written as `allOf`, as the API server does.
fn wrap_references(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            // A property may itself be called `$ref`; then its value is no text.
            if map.len() > 1 && map.get("$ref").is_some_and(Value::is_string) {
                let reference = map.remove("$ref");
                map.insert("allOf".to_owned(), json!([{ "$ref": reference }]));
            }
            map.values_mut().for_each(wrap_references);
        }
        Value::Array(items) => items.iter_mut().for_each(wrap_references),
        _ => {}
    }
}

fn extend(schema: &mut Value, name: &str) {
    let Some(shape) = types::find(name) else {
        return;
    };
    if let Some(kind) = group_version_kind(name)
        && let Some(map) = schema.as_object_mut()
    {
        map.insert("x-kubernetes-group-version-kind".to_owned(), json!([kind]));
    }
    if shape.atomic
        && let Some(map) = schema.as_object_mut()
    {
        map.insert("x-kubernetes-map-type".to_owned(), json!("atomic"));
    }
    if let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut) {
        let may_lack = |name: &Value| {
            let field = name.as_str().and_then(|name| shape.field(name));
            field.is_some_and(|field| field.omit_empty)
        };
        required.retain(|name| !may_lack(name));
    }
    let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else {
        return;
    };
    for (key, property) in properties {
        if let (Some(field), Some(property)) = (shape.field(key), property.as_object_mut()) {
            extend_field(property, field);
        }
    }
}

fn extend_field(property: &mut Map<String, Value>, field: &Field) {
    let mut set = |key: &str, value: Value| {
        property.insert(key.to_owned(), value);
    };
    if let Some(key) = &field.patch_key {
        set("x-kubernetes-patch-merge-key", json!(key));
    }
    if let Some(strategy) = &field.patch_strategy {
        set("x-kubernetes-patch-strategy", json!(strategy));
    }
    let is_list = matches!(field.kind, Type::List(_));
    match &field.topology {
        Topology::Atomic if is_list => set("x-kubernetes-list-type", json!("atomic")),
        Topology::Atomic => set("x-kubernetes-map-type", json!("atomic")),
        Topology::Set => set("x-kubernetes-list-type", json!("set")),
        Topology::ByKeys(keys) => {
            set("x-kubernetes-list-type", json!("map"));
            set("x-kubernetes-list-map-keys", json!(keys));
        }
        Topology::Default | Topology::Granular => {}
    }
    if let Some(default) = &field.default {
        set("default", default.clone());
    }
}

/// The kind that a struct is, when it is one.
fn group_version_kind(name: &str) -> Option<Value> {
    let kind = name.rsplit('.').next()?;
    let group = match name.strip_suffix(kind)? {
        "io.k8s.api.core.v1." => "",
        "io.k8s.api.batch.v1." => "batch",
        "io.k8s.api.rbac.v1." => "rbac.authorization.k8s.io",
        "io.k8s.api.storage.v1." => "storage.k8s.io",
        "io.k8s.api.coordination.v1." => "coordination.k8s.io",
        "io.k8s.api.events.v1." => "events.k8s.io",
        "io.k8s.api.authorization.v1." => "authorization.k8s.io",
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1." => "apiextensions.k8s.io",
        _ => return None,
    };
    let has_metadata = types::find(name)?
        .fields
        .iter()
        .any(|field| field.kind == Type::Struct(super::OBJECT_META.to_owned()));
    let is_part = matches!(
        kind,
        "PodTemplateSpec" | "JobTemplateSpec" | "PersistentVolumeClaimTemplate"
    );
    (has_metadata && !is_part).then(|| json!({ "group": group, "version": "v1", "kind": kind }))
}
