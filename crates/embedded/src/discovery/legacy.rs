//! Discovery as it was before it was aggregated; every client still understands it.

use serde_json::{Map, Value, json};

use crate::kinds::{Registry, Resource};

/// `/version`. The numbers are those of the API that the behaviour table was recorded from.
pub(super) fn version() -> String {
    json!({
        "major": "1",
        "minor": "36",
        "emulationMajor": "1",
        "emulationMinor": "36",
        "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "35",
        "gitVersion": concat!("v1.36.3+syncline", env!("CARGO_PKG_VERSION")),
        "gitCommit": "",
        "gitTreeState": "",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("linux/{}", architecture()),
    })
    .to_string()
}

/// The machine's architecture in Go's words.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// `/api`.
pub(super) fn core_versions(host: &str) -> String {
    let address = json!({ "clientCIDR": "0.0.0.0/0", "serverAddress": host });
    json!({ "kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [address] })
        .to_string()
}

/// Groups but the core one, each with its versions, in the order in which they were registered.
pub(super) fn group_versions(registry: &Registry) -> Vec<(String, Vec<String>)> {
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for resource in registry
        .all()
        .iter()
        .filter(|resource| !resource.group().is_empty())
    {
        let version = resource.version().to_owned();
        match groups
            .iter_mut()
            .find(|(group, _)| group == resource.group())
        {
            Some((_, versions)) if versions.contains(&version) => {}
            Some((_, versions)) => versions.push(version),
            None => groups.push((resource.group().to_owned(), vec![version])),
        }
    }
    groups
}

fn group_value(group: &str, versions: &[String]) -> Value {
    let all: Vec<Value> = versions
        .iter()
        .map(|version| json!({ "groupVersion": format!("{group}/{version}"), "version": version }))
        .collect();
    json!({ "name": group, "preferredVersion": all.first(), "versions": all })
}

/// `/apis`.
pub(super) fn groups(registry: &Registry) -> String {
    let groups: Vec<Value> = group_versions(registry)
        .iter()
        .map(|(group, versions)| group_value(group, versions))
        .collect();
    json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups }).to_string()
}

/// `/apis/<group>`.
pub(super) fn group(registry: &Registry, name: &str) -> Option<String> {
    let (group, versions) = group_versions(registry)
        .into_iter()
        .find(|(group, _)| group == name)?;
    let mut value = group_value(&group, &versions);
    if let Some(map) = value.as_object_mut() {
        map.insert("kind".to_owned(), json!("APIGroup"));
        map.insert("apiVersion".to_owned(), json!("v1"));
    }
    Some(value.to_string())
}

/// `/api/v1` and `/apis/<group>/<version>`.
pub(super) fn resources(registry: &Registry, group: &str, version: &str) -> Option<String> {
    let served: Vec<_> = registry
        .all()
        .iter()
        .filter(|resource| resource.group() == group && resource.version() == version)
        .collect();
    if served.is_empty() {
        return None;
    }
    let mut entries: Vec<Value> = Vec::new();
    for resource in served {
        entries.push(entry(resource.as_ref()));
        for (name, kind, verbs) in subresources(resource.as_ref()) {
            entries.push(json!({
                "name": format!("{}/{name}", resource.plural()),
                "singularName": "",
                "namespaced": resource.namespaced(),
                "kind": kind,
                "verbs": verbs,
            }));
        }
    }
    entries.sort_by_key(|entry| {
        entry
            .get("name")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    });
    let group_version = if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    };
    let list = json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": entries });
    Some(list.to_string())
}

fn entry(resource: &dyn Resource) -> Value {
    let mut entry = Map::new();
    entry.insert("name".to_owned(), json!(resource.plural()));
    entry.insert("singularName".to_owned(), json!(resource.singular()));
    entry.insert("namespaced".to_owned(), json!(resource.namespaced()));
    entry.insert("kind".to_owned(), json!(resource.kind()));
    entry.insert("verbs".to_owned(), json!(resource.verbs()));
    for (key, values) in [
        ("shortNames", resource.short_names()),
        ("categories", resource.categories()),
    ] {
        if !values.is_empty() {
            entry.insert(key.to_owned(), json!(values));
        }
    }
    if resource.verbs().contains(&"list") {
        entry.insert(
            "storageVersionHash".to_owned(),
            json!(storage_hash(resource)),
        );
    }
    Value::Object(entry)
}

/// The first eight bytes of SHA-256 of `group/version/kind` in base64, as the API server computes it.
fn storage_hash(resource: &dyn Resource) -> String {
    use base64::Engine as _;
    use sha2::Digest as _;
    let group = resource.group();
    let text = format!("{group}/{}/{}", resource.version(), resource.kind());
    let digest = sha2::Sha256::digest(text.as_bytes());
    base64::engine::general_purpose::STANDARD.encode(digest.get(..8).unwrap_or_default())
}

/// The subresources served: name, kind and verbs.
pub(super) fn subresources(
    resource: &dyn Resource,
) -> Vec<(&'static str, String, &'static [&'static str])> {
    let kind = resource.kind().to_owned();
    let mut found: Vec<(&'static str, String, &'static [&'static str])> = Vec::new();
    if resource.group().is_empty() && resource.plural() == "namespaces" {
        found.push(("finalize", kind.clone(), &["update"]));
    }
    if resource.group().is_empty() && resource.plural() == "pods" {
        found.push(("log", kind.clone(), &["get"]));
    }
    if resource.has_status() {
        found.push(("status", kind, &["get", "patch", "update"]));
    }
    found
}
