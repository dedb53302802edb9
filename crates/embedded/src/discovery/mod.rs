//! Discovery: which groups, versions and resources are served.

mod aggregated;
mod legacy;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, header};

use crate::kinds::Registry;
use crate::openapi;

/// An answer of discovery: whole, never streamed.
pub(crate) type Answer = Response<Bytes>;

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// Answers `/version`, `/api`, `/apis`, `/api/v1`, `/apis/<group>`, `/apis/<group>/<version>` and `/openapi/…`; `None` for
/// paths of resources. `accept` is the `Accept` header.
pub(crate) fn handle(
    path: &str,
    accept: &str,
    headers: &HeaderMap,
    registry: &Registry,
) -> Option<Answer> {
    if path.starts_with("/openapi/") {
        return openapi::handle(path, headers, registry);
    }
    let segments: Vec<&str> = path
        .split('/')
        .filter(|segment| !segment.is_empty())
        .collect();
    let wants_aggregated = accept.split(',').next().is_some_and(is_aggregated);
    match segments.as_slice() {
        ["version"] => Some(answered(headers, "application/json", legacy::version())),
        ["api"] if wants_aggregated => Some(answered(
            headers,
            AGGREGATED,
            aggregated::list(registry, true),
        )),
        ["apis"] if wants_aggregated => Some(answered(
            headers,
            AGGREGATED,
            aggregated::list(registry, false),
        )),
        ["api"] => Some(answered(
            headers,
            "application/json",
            legacy::core_versions(host(headers)),
        )),
        ["apis"] => Some(answered(
            headers,
            "application/json",
            legacy::groups(registry),
        )),
        ["apis", group] => Some(found(headers, legacy::group(registry, group))),
        ["api", version] => Some(found(headers, legacy::resources(registry, "", version))),
        ["apis", group, version] => {
            Some(found(headers, legacy::resources(registry, group, version)))
        }
        _ => None,
    }
}

fn is_aggregated(media: &str) -> bool {
    let mut parts = media.split(';').map(str::trim);
    parts.next() == Some("application/json")
        && media.contains("g=apidiscovery.k8s.io")
        && media.contains("v=v2")
        && !media.contains("v=v2beta1")
        && media.contains("as=APIGroupDiscoveryList")
}

/// The address that the client asked, as it told it.
fn host(headers: &HeaderMap) -> &str {
    headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or_default()
}

fn found(headers: &HeaderMap, text: Option<String>) -> Answer {
    text.map_or_else(
        || plain(StatusCode::NOT_FOUND, "404 page not found\n"),
        |text| answered(headers, "application/json", text),
    )
}

/// 200 with an entity tag, or 304 when the client has the text already.
pub(crate) fn answered(headers: &HeaderMap, content_type: &str, text: String) -> Answer {
    let tag = openapi::entity_tag(&text);
    let known = openapi::is_known(headers, &tag);
    let builder = Response::builder()
        .header(header::ETAG, &tag)
        .header(header::VARY, "Accept");
    let answer = if known {
        builder.status(StatusCode::NOT_MODIFIED).body(Bytes::new())
    } else {
        builder
            .status(StatusCode::OK)
            .header(header::CONTENT_TYPE, content_type)
            .body(Bytes::from(text))
    };
    answer.unwrap_or_default()
}

/// A plain text.
pub(crate) fn plain(status: StatusCode, text: &'static str) -> Answer {
    let answer = Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, "text/plain; charset=utf-8")
        .header("X-Content-Type-Options", "nosniff")
        .body(Bytes::from_static(text.as_bytes()));
    answer.unwrap_or_default()
}
