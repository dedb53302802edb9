//! The older `OpenAPI` document, version 2: as much of it as clients still look up.
//!
//! kubectl asks it, in protobuf, whether the server validates the fields of a `List` (which has no document of version
//! 3), and sends no `List` to a server that does not know. So it tells of each kind's patch which parameters it takes;
//! schemas are told in version 3 only.

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, header};
use prost::encoding::{WireType, encode_key, encode_varint};
use serde_json::{Map, Value, json};

use super::documents::{base, kind_of};
use crate::discovery::{Answer, answered};
use crate::kinds::{Registry, Resource};

/// What Go's clients ask for. It is no well-formed media type, so it is answered under [`PROTOBUF`].
const ASKED_FOR: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
const KIND_OF_PATCH: &str = "x-kubernetes-group-version-kind";
const PARAMETERS: [&str; 3] = ["dryRun", "fieldManager", "fieldValidation"];

/// Answers `/openapi/v2`.
pub(super) fn answer(headers: &HeaderMap, registry: &Registry) -> Answer {
    let patched: Vec<(String, Value)> = registry
        .all()
        .iter()
        .filter(|resource| resource.verbs().contains(&"patch"))
        .map(|resource| {
            let resource = resource.as_ref();
            (path(resource), kind_of(resource, resource.kind()))
        })
        .collect();
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .unwrap_or_default();
    if ![ASKED_FOR, PROTOBUF]
        .iter()
        .any(|known| accept.contains(known))
    {
        return answered(headers, "application/json", as_json(&patched));
    }
    let answer = Response::builder()
        .status(StatusCode::OK)
        .header(header::CONTENT_TYPE, PROTOBUF)
        .header(header::VARY, "Accept")
        .body(Bytes::from(as_protobuf(&patched)));
    answer.unwrap_or_default()
}

fn path(resource: &dyn Resource) -> String {
    let scope = if resource.namespaced() {
        "/namespaces/{namespace}"
    } else {
        ""
    };
    let base = base(resource.group(), resource.version());
    format!("/{base}{scope}/{}/{{name}}", resource.plural())
}

fn as_json(patched: &[(String, Value)]) -> String {
    let parameters: Vec<Value> = PARAMETERS
        .iter()
        .map(|name| json!({ "name": name, "in": "query", "type": "string", "uniqueItems": true }))
        .collect();
    let paths: Map<String, Value> = patched
        .iter()
        .map(|(path, kind)| {
            let responses = json!({ "200": { "description": "OK" } });
            let patch =
                json!({ "parameters": parameters, "responses": responses, KIND_OF_PATCH: kind });
            (path.clone(), json!({ "patch": patch }))
        })
        .collect();
    let info = json!({ "title": "Kubernetes", "version": "unversioned" });
    json!({ "swagger": "2.0", "info": info, "paths": paths, "definitions": {} }).to_string()
}

/// The message `openapi.v2.Document` of gnostic's `OpenAPIv2.proto`, whose field numbers these are.
fn as_protobuf(patched: &[(String, Value)]) -> Vec<u8> {
    let parameters = PARAMETERS.map(|name| {
        let sub_schema = [field(2, b"query"), field(4, name.as_bytes())].concat();
        let query = field(3, &sub_schema);
        let non_body = field(2, &query);
        field(8, &field(1, &non_body))
    });
    let parameters = parameters.concat();
    let paths: Vec<u8> = patched
        .iter()
        .flat_map(|(path, kind)| {
            // JSON is YAML.
            let any = field(2, kind.to_string().as_bytes());
            let extension = [field(1, KIND_OF_PATCH.as_bytes()), field(2, &any)].concat();
            let operation = [parameters.clone(), field(13, &extension)].concat();
            let item = field(8, &operation);
            field(2, &[field(1, path.as_bytes()), field(2, &item)].concat())
        })
        .collect();
    let info = [field(1, b"Kubernetes"), field(2, b"unversioned")].concat();
    [field(1, b"2.0"), field(2, &info), field(8, &paths)].concat()
}

fn field(number: u32, bytes: &[u8]) -> Vec<u8> {
    let mut written = Vec::with_capacity(bytes.len() + 8);
    encode_key(number, WireType::LengthDelimited, &mut written);
    encode_varint(bytes.len() as u64, &mut written);
    written.extend_from_slice(bytes);
    written
}
