//! Aggregated discovery (`apidiscovery.k8s.io/v2`): everything in two requests.

use serde_json::{Map, Value, json};

use super::legacy;
use crate::kinds::{Registry, Resource};

/// The core group, or all others.
pub(super) fn list(registry: &Registry, core: bool) -> String {
    let items: Vec<Value> = if core {
        vec![json!({ "metadata": {}, "versions": [version(registry, "", "v1")] })]
    } else {
        legacy::group_versions(registry)
            .iter()
            .map(|(group, versions)| {
                let versions: Vec<Value> = versions
                    .iter()
                    .map(|name| version(registry, group, name))
                    .collect();
                json!({ "metadata": { "name": group }, "versions": versions })
            })
            .collect()
    };
    json!({ "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items }).to_string()
}

fn version(registry: &Registry, group: &str, name: &str) -> Value {
    let mut resources: Vec<Value> = registry
        .all()
        .iter()
        .filter(|resource| resource.group() == group && resource.version() == name)
        .map(|resource| entry(resource.as_ref()))
        .collect();
    resources.sort_by_key(|entry| {
        entry
            .get("resource")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    });
    json!({ "version": name, "resources": resources, "freshness": "Current" })
}

fn entry(resource: &dyn Resource) -> Value {
    // Kinds of the resource's own group and version are told with both left empty.
    let kind = |kind: &str| json!({ "group": "", "version": "", "kind": kind });
    let mut entry = Map::new();
    entry.insert("resource".to_owned(), json!(resource.plural()));
    entry.insert("responseKind".to_owned(), kind(resource.kind()));
    entry.insert(
        "scope".to_owned(),
        json!(if resource.namespaced() {
            "Namespaced"
        } else {
            "Cluster"
        }),
    );
    entry.insert("singularResource".to_owned(), json!(resource.singular()));
    entry.insert("verbs".to_owned(), json!(resource.verbs()));
    for (key, values) in [
        ("shortNames", resource.short_names()),
        ("categories", resource.categories()),
    ] {
        if !values.is_empty() {
            entry.insert(key.to_owned(), json!(values));
        }
    }
    let subresources: Vec<Value> = legacy::subresources(resource)
        .into_iter()
        .map(|(name, of, verbs)| json!({ "subresource": name, "responseKind": kind(&of), "verbs": verbs }))
        .collect();
    if !subresources.is_empty() {
        entry.insert("subresources".to_owned(), Value::Array(subresources));
    }
    Value::Object(entry)
}
