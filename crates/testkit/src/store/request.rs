//! What clients ask of a store, by kind.

use std::collections::BTreeMap;
use std::fmt;

use hyper::{HeaderMap, Method, Uri};

/// A kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A listing (`PROPFIND` of a folder's content).
    List,
    /// One object's properties (`PROPFIND` of depth 0).
    Head,
    /// One object's content.
    Get,
    /// A whole object at once.
    Put,
    /// A part of a multipart upload.
    Part,
    /// The start of a multipart upload.
    StartMultipart,
    /// Its completion, or that it is given up.
    EndMultipart,
    /// Removal of objects.
    Delete,
    /// Anything about a bucket itself (`MKCOL`).
    Bucket,
    /// All else.
    Other,
}

/// One request, as far as tests ask for it.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) kind: Kind,
    /// The path, percent-decoded; of a listing its prefix, too.
    pub(super) target: String,
}

impl Request {
    pub(super) fn new(method: &Method, uri: &Uri, headers: &HeaderMap) -> Self {
        let query = uri.query().unwrap_or_default();
        let path = decoded(uri.path());
        let prefix = parameter(query, "prefix").map(|prefix| decoded(&prefix.replace('+', " ")));
        Self {
            kind: kind(method, &path, query, headers),
            target: match prefix {
                Some(prefix) => format!("{}/{prefix}", path.trim_end_matches('/')),
                None => path,
            },
        }
    }
}

fn kind(method: &Method, path: &str, query: &str, headers: &HeaderMap) -> Kind {
    let of_bucket = !path.trim_matches('/').contains('/');
    let has = |name: &str| parameter(query, name).is_some();
    match method.as_str() {
        "PROPFIND" if headers.get("depth").is_some_and(|depth| depth == "0") => Kind::Head,
        "PROPFIND" => Kind::List,
        "MKCOL" => Kind::Bucket,
        "GET" if of_bucket && (has("location") || has("versioning") || has("uploads")) => {
            Kind::Bucket
        }
        "GET" if of_bucket => Kind::List,
        "GET" => Kind::Get,
        "HEAD" if of_bucket => Kind::Bucket,
        "HEAD" => Kind::Head,
        "PUT" if has("partNumber") => Kind::Part,
        "PUT" if of_bucket => Kind::Bucket,
        "PUT" => Kind::Put,
        "POST" if has("uploads") => Kind::StartMultipart,
        "POST" | "DELETE" if has("uploadId") => Kind::EndMultipart,
        "POST" if has("delete") => Kind::Delete,
        "DELETE" if of_bucket => Kind::Bucket,
        "DELETE" => Kind::Delete,
        _ => Kind::Other,
    }
}

/// A parameter of a query; one without a value has an empty one.
fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then_some(value)
    })
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let digits = tail.get(..2).filter(|_| *first == b'%');
        let byte = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = byte.and_then(|_| tail.get(2..)).unwrap_or(tail);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What a store was asked, in order.
#[derive(Clone, Debug, Default)]
pub struct Requests(pub(super) Vec<Request>);

impl Requests {
    /// How many of this kind.
    pub fn count(&self, kind: Kind) -> usize {
        self.count_at(kind, "")
    }

    /// How many of this kind whose path (of a listing: bucket and prefix) has this in it.
    pub fn count_at(&self, kind: Kind, part: &str) -> usize {
        let fits = |request: &&Request| request.kind == kind && request.target.contains(part);
        self.0.iter().filter(fits).count()
    }

    /// How many in all.
    pub fn total(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Display for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut by_kind: BTreeMap<Kind, Vec<&str>> = BTreeMap::new();
        for request in &self.0 {
            by_kind
                .entry(request.kind)
                .or_default()
                .push(&request.target);
        }
        for (kind, targets) in by_kind {
            let first: Vec<&str> = targets.iter().take(3).copied().collect();
            writeln!(f, "{kind:?}: {} ({}…)", targets.len(), first.join(", "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(method: &str, uri: &str) -> Request {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        Request::new(&method, &uri.parse().unwrap(), &HeaderMap::new())
    }

    #[test]
    fn a_request_is_known_by_its_method_its_path_and_its_query() {
        for (method, uri, kind, target) in [
            (
                "GET",
                "/b?list-type=2&prefix=a%2Fb+c",
                Kind::List,
                "/b/a/b c",
            ),
            ("GET", "/b/?delimiter=%2F", Kind::List, "/b/"),
            ("GET", "/b/o%20o", Kind::Get, "/b/o o"),
            ("HEAD", "/b", Kind::Bucket, "/b"),
            ("HEAD", "/b/o", Kind::Head, "/b/o"),
            ("PUT", "/b", Kind::Bucket, "/b"),
            ("PUT", "/b/o?x-id=PutObject", Kind::Put, "/b/o"),
            ("PUT", "/b/o?partNumber=1&uploadId=u", Kind::Part, "/b/o"),
            ("POST", "/b/o?uploads=", Kind::StartMultipart, "/b/o"),
            ("POST", "/b/o?uploads", Kind::StartMultipart, "/b/o"),
            ("POST", "/b/o?uploadId=u", Kind::EndMultipart, "/b/o"),
            ("DELETE", "/b/o?uploadId=u", Kind::EndMultipart, "/b/o"),
            ("POST", "/b?delete=", Kind::Delete, "/b"),
            ("DELETE", "/b/o", Kind::Delete, "/b/o"),
            ("PROPFIND", "/b/o", Kind::List, "/b/o"),
            ("MKCOL", "/b/o/", Kind::Bucket, "/b/o/"),
        ] {
            let request = seen(method, uri);
            assert_eq!(
                (request.kind, request.target.as_str()),
                (kind, target),
                "{method} {uri}"
            );
        }
    }
}
