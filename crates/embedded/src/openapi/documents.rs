//! The index and the documents, made on demand.

use std::fmt::Write as _;

use http::{HeaderMap, Method, StatusCode, header};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha512};

use super::v2;
use crate::discovery::{Answer, answered, plain};
use crate::kinds::{Registry, Resource};

/// The documents of one registry, by path (`api/v1`, `apis/batch/v1`).
#[derive(Debug, Default)]
pub(crate) struct Documents {
    documents: Vec<(String, String)>,
    index: String,
}

impl Documents {
    /// The documents of everything served.
    pub(crate) fn of(registry: &Registry) -> Self {
        let mut paths: Vec<(String, String)> = Vec::new();
        for resource in registry.all() {
            let group = (resource.group().to_owned(), resource.version().to_owned());
            if !paths.contains(&group) {
                paths.push(group);
            }
        }
        let documents: Vec<(String, String)> = paths
            .iter()
            .map(|(group, version)| (base(group, version), document(registry, group, version)))
            .collect();
        let index = index(&documents);
        Self { documents, index }
    }
}

fn index(documents: &[(String, String)]) -> String {
    let mut paths = Map::new();
    for (path, text) in documents {
        let url = format!("/openapi/v3/{path}?hash={}", hash(text));
        paths.insert(path.clone(), json!({ "serverRelativeURL": url }));
    }
    json!({ "paths": paths }).to_string()
}

pub(super) fn base(group: &str, version: &str) -> String {
    if group.is_empty() {
        format!("api/{version}")
    } else {
        format!("apis/{group}/{version}")
    }
}

fn hash(text: &str) -> String {
    let digest = Sha512::digest(text.as_bytes());
    digest.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02X}");
        text
    })
}

/// Answers `/openapi/…`; `None` for other paths.
pub(crate) fn handle(path: &str, headers: &HeaderMap, registry: &Registry) -> Option<Answer> {
    let rest = path.strip_prefix("/openapi/")?;
    if rest == "v2" {
        return Some(v2::answer(headers, registry));
    }
    let document = rest.strip_prefix("v3")?.trim_matches('/');
    let documents = registry.documents();
    if document.is_empty() {
        return Some(answered(
            headers,
            "text/plain; charset=utf-8",
            documents.index.clone(),
        ));
    }
    match documents
        .documents
        .iter()
        .find(|(path, _)| path == document)
    {
        Some((_, text)) => Some(answered(headers, "application/json", text.clone())),
        None => Some(plain(StatusCode::NOT_FOUND, "404 page not found\n")),
    }
}

fn document(registry: &Registry, group: &str, version: &str) -> String {
    let mut schemas = Map::new();
    let mut paths = Map::new();
    for resource in registry
        .all()
        .iter()
        .filter(|resource| resource.group() == group && resource.version() == version)
    {
        let (name, components) = resource.openapi();
        schemas.extend(components);
        schemas.insert(format!("{name}List"), list_schema(resource.as_ref(), &name));
        add_paths(resource.as_ref(), &name, &mut paths);
    }
    let document = json!({
        "openapi": "3.0.0",
        "info": { "title": "Kubernetes", "version": "unversioned" },
        "paths": paths,
        "components": { "schemas": schemas },
    });
    document.to_string()
}

pub(super) fn kind_of(resource: &dyn Resource, kind: &str) -> Value {
    json!({ "group": resource.group(), "version": resource.version(), "kind": kind })
}

fn list_schema(resource: &dyn Resource, name: &str) -> Value {
    let reference = json!({ "$ref": format!("#/components/schemas/{name}") });
    json!({
        "type": "object",
        "description": format!("{} is a list of {}", resource.list_kind(), resource.kind()),
        "required": ["items"],
        "properties": {
            "apiVersion": { "type": "string" },
            "kind": { "type": "string" },
            "metadata": { "type": "object" },
            "items": { "type": "array", "items": reference },
        },
        "x-kubernetes-group-version-kind": [kind_of(resource, &resource.list_kind())],
    })
}

/// The operations that kubectl looks for: whether a kind takes `fieldValidation` and `dryRun`, and which schema it has.
fn add_paths(resource: &dyn Resource, name: &str, paths: &mut Map<String, Value>) {
    let base = format!("/{}", base(resource.group(), resource.version()));
    let scope = if resource.namespaced() {
        "/namespaces/{namespace}"
    } else {
        ""
    };
    let all = format!("{base}{scope}/{}", resource.plural());
    let one = format!("{all}/{{name}}");
    let kind = kind_of(resource, resource.kind());
    let content = json!({ "application/json": { "schema": { "$ref": format!("#/components/schemas/{name}") } } });
    let parameters: Vec<Value> = ["dryRun", "fieldManager", "fieldValidation"]
        .iter()
        .map(|name| json!({ "name": name, "in": "query", "schema": { "type": "string", "uniqueItems": true } }))
        .collect();
    let operation = |action: &str| {
        json!({
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": kind,
            "parameters": parameters,
            "responses": { "200": { "description": "OK", "content": content } },
        })
    };
    let mut writes = Map::new();
    let mut single = Map::new();
    for verb in resource.verbs() {
        match *verb {
            "create" => writes.insert(Method::POST.as_str().to_lowercase(), operation("post")),
            "list" => writes.insert("get".to_owned(), operation("list")),
            "get" => single.insert("get".to_owned(), operation("get")),
            "patch" => single.insert("patch".to_owned(), operation("patch")),
            "update" => single.insert("put".to_owned(), operation("put")),
            "delete" => single.insert("delete".to_owned(), operation("delete")),
            _ => None,
        };
    }
    paths.insert(all, Value::Object(writes));
    if !single.is_empty() {
        paths.insert(one, Value::Object(single));
    }
}

/// The entity tag of a text.
pub(crate) fn entity_tag(text: &str) -> String {
    format!("\"{}\"", hash(text))
}

/// Whether the client has this text already.
pub(crate) fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.contains(tag))
}
