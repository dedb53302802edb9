//! Answers: which representation was asked for, and writing it.

use std::convert::Infallible;

use bytes::Bytes;
use futures::Stream;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use serde_json::{Value, json};

use super::{ResponseBody, Server, dispatch::Call, route::Target, status::Failure};

use crate::tables::{self, Include};

/// JSON or YAML.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Syntax {
    #[default]
    Json,
    Yaml,
}

/// The object itself, a table of it, or its metadata only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Shape {
    #[default]
    Whole,
    Table,
    Metadata,
}

/// What the client takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Representation {
    pub(crate) syntax: Syntax,
    pub(crate) shape: Shape,
}

impl Representation {
    /// The first of the client's choices that this server has; its answers are never protobuf.
    pub(crate) fn negotiate(accept: Option<&str>) -> Result<Self, Failure> {
        let Some(accept) = accept.filter(|accept| !accept.trim().is_empty()) else {
            return Ok(Self::default());
        };
        accept
            .split(',')
            .find_map(Self::choice)
            .ok_or_else(Failure::not_acceptable)
    }

    fn choice(text: &str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let syntax = match parts.next()? {
            "*/*" | "application/*" | "application/json" => Syntax::Json,
            "application/yaml" => Syntax::Yaml,
            // Pages that are text say so whatever is accepted; resources are not text.
            _ => return None,
        };
        let (mut shape, mut group, mut version) = (Shape::Whole, None, None);
        for parameter in parts {
            match parameter.split_once('=')? {
                ("as", "Table") => shape = Shape::Table,
                ("as", "PartialObjectMetadata" | "PartialObjectMetadataList") => {
                    shape = Shape::Metadata;
                }
                ("g", value) => group = Some(value),
                ("v", value) => version = Some(value),
                // Aggregated discovery chooses its own form.
                _ => {}
            }
        }
        let meta = group.is_none_or(|group| group == "meta.k8s.io")
            && version.is_none_or(|version| version == "v1");
        (shape == Shape::Whole || meta).then_some(Self { syntax, shape })
    }

    fn content_type(self) -> &'static str {
        match self.syntax {
            Syntax::Json => "application/json",
            Syntax::Yaml => "application/yaml",
        }
    }
}

/// What a handler found.
pub(crate) enum Payload {
    /// One object of the target's kind.
    Object(Value),
    /// A list of them.
    List(Value),
    /// Something else, for instance a `Status`: never shown as a table.
    Other(Value),
    /// A stream, of this media type.
    Stream(&'static str, ResponseBody),
}

/// A successful answer.
pub(crate) struct Reply {
    pub(crate) code: StatusCode,
    pub(crate) payload: Payload,
    pub(crate) warnings: Vec<String>,
    /// The resource that was asked for; `None` when the payload is no object of any.
    pub(crate) target: Option<Target>,
}

impl Reply {
    pub(crate) fn object(target: &Target, object: Value) -> Self {
        Self {
            code: StatusCode::OK,
            payload: Payload::Object(object),
            warnings: Vec::new(),
            target: Some(target.clone()),
        }
    }

    pub(crate) fn list(target: &Target, list: Value) -> Self {
        Self {
            code: StatusCode::OK,
            payload: Payload::List(list),
            warnings: Vec::new(),
            target: Some(target.clone()),
        }
    }

    pub(crate) fn other(value: Value) -> Self {
        Self {
            code: StatusCode::OK,
            payload: Payload::Other(value),
            warnings: Vec::new(),
            target: None,
        }
    }

    pub(crate) fn stream(content_type: &'static str, body: ResponseBody) -> Self {
        Self {
            code: StatusCode::OK,
            payload: Payload::Stream(content_type, body),
            warnings: Vec::new(),
            target: None,
        }
    }

    pub(crate) fn created(mut self, created: bool) -> Self {
        if created {
            self.code = StatusCode::CREATED;
        }
        self
    }

    pub(crate) fn warn(mut self, warnings: Vec<String>) -> Self {
        self.warnings.extend(warnings);
        self
    }
}

/// A body of one piece.
pub(crate) fn whole(bytes: impl Into<Bytes>) -> ResponseBody {
    Full::new(bytes.into()).boxed_unsync()
}

/// A body that comes piece by piece.
pub(crate) fn streamed(pieces: impl Stream<Item = Bytes> + Send + 'static) -> ResponseBody {
    use futures::StreamExt as _;
    StreamBody::new(pieces.map(|piece| Ok::<_, Infallible>(Frame::data(piece)))).boxed_unsync()
}

/// Plain text.
pub(crate) fn text(code: StatusCode, text: String) -> Response<ResponseBody> {
    build(code, "text/plain; charset=utf-8", whole(text))
}

/// One value in the syntax asked for.
pub(crate) fn json(
    code: StatusCode,
    value: &Value,
    representation: Representation,
) -> Response<ResponseBody> {
    build(
        code,
        representation.content_type(),
        whole(write(value, representation)),
    )
}

/// A failed request's answer.
pub(crate) fn failure(failure: &Failure, representation: Representation) -> Response<ResponseBody> {
    if failure.plain {
        return text(failure.code, failure.message.clone());
    }
    json(failure.code, &failure.body(), representation)
}

/// A successful request's answer.
pub(crate) fn render(server: &Server, call: &Call, reply: Reply) -> Response<ResponseBody> {
    let Reply {
        code,
        payload,
        warnings,
        target,
    } = reply;
    let mut response = match (payload, target) {
        (Payload::Stream(content_type, body), _) => build(code, content_type, body),
        (Payload::Object(object), Some(target)) => json(
            code,
            &shaped(server, call, &target, object),
            call.representation,
        ),
        (Payload::List(list), Some(target)) => json(
            code,
            &shaped_list(server, call, &target, list),
            call.representation,
        ),
        (Payload::Object(value) | Payload::List(value) | Payload::Other(value), _) => {
            json(code, &value, call.representation)
        }
    };
    for warning in warnings {
        let text = format!(
            "299 - \"{}\"",
            warning.replace('\\', "\\\\").replace('"', "\\\"")
        );
        // Header values cannot carry line breaks; a warning that has some is better than none.
        let text: String = text
            .chars()
            .map(|letter| if letter.is_control() { ' ' } else { letter })
            .collect();
        if let Ok(value) = HeaderValue::from_bytes(text.as_bytes()) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
    response
}

/// How each event of a watch is shown.
pub(crate) struct EventShape {
    representation: Representation,
    include: Include,
    /// Whether the columns were told already; they are told once.
    headed: bool,
}

impl EventShape {
    pub(crate) fn of(call: &Call) -> Self {
        Self {
            representation: call.representation,
            include: include(call),
            headed: false,
        }
    }

    pub(crate) fn event(&mut self, server: &Server, target: &Target, object: Value) -> Value {
        match self.representation.shape {
            Shape::Whole => object,
            Shape::Metadata => metadata_only(&object),
            Shape::Table => {
                let headed = !self.headed;
                self.headed = true;
                one_row(server, target, &object, (self.include, headed))
            }
        }
    }
}

impl EventShape {
    /// A bookmark has no rows.
    pub(crate) fn bookmark(&self, object: Value) -> Value {
        if self.representation.shape == Shape::Metadata {
            metadata_only(&object)
        } else {
            object
        }
    }
}

/// `includeObject`.
fn include(call: &Call) -> Include {
    call.query
        .get("includeObject")
        .and_then(Include::parse)
        .unwrap_or(Include::Metadata)
}

/// A table of one object.
fn one_row(server: &Server, target: &Target, object: &Value, form: (Include, bool)) -> Value {
    let version = object
        .pointer("/metadata/resourceVersion")
        .cloned()
        .unwrap_or_default();
    let metadata = json!({"resourceVersion": version});
    tables::table(
        target.resource.as_ref(),
        std::slice::from_ref(object),
        &metadata,
        form,
        server.now(),
    )
}

/// One object in the shape asked for.
fn shaped(server: &Server, call: &Call, target: &Target, object: Value) -> Value {
    match call.representation.shape {
        Shape::Whole => object,
        Shape::Table => one_row(server, target, &object, (include(call), true)),
        Shape::Metadata => metadata_only(&object),
    }
}

fn shaped_list(server: &Server, call: &Call, target: &Target, mut list: Value) -> Value {
    if call.representation.shape == Shape::Whole {
        return list;
    }
    let metadata = list
        .get_mut("metadata")
        .map(Value::take)
        .unwrap_or_default();
    let items = list
        .get("items")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    if call.representation.shape == Shape::Table {
        return tables::table(
            target.resource.as_ref(),
            items,
            &metadata,
            (include(call), true),
            server.now(),
        );
    }
    json!({
        "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata, "items": items.iter().map(metadata_only).collect::<Vec<_>>(),
    })
}

fn metadata_only(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object.get("metadata")})
}

fn build(
    code: StatusCode,
    content_type: &'static str,
    body: ResponseBody,
) -> Response<ResponseBody> {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("no-cache, private"),
    );
    response
}

fn write(value: &Value, representation: Representation) -> Bytes {
    match representation.syntax {
        Syntax::Json => {
            let mut text = value.to_string();
            text.push('\n');
            text.into()
        }
        Syntax::Yaml => crate::wire::to_yaml(value).into(),
    }
}
