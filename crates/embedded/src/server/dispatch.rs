//! From a request to its handler.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header, request};
use http_body_util::{BodyExt as _, Limited};

use super::{
    ResponseBody, Server,
    answer::{self, Reply, Representation},
    options,
    query::Query,
    reviews,
    route::{self, Target},
    status::Failure,
};

/// The largest body taken, as on a real server.
const LARGEST_BODY: usize = 3 * 1024 * 1024;

/// Marks requests of somebody without a credential.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Anonymous;

/// A request with its body read and its query decoded.
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: Query,
    pub(crate) content_type: String,
    pub(crate) body: Bytes,
    /// `fieldManager`, or who asks by the User-Agent.
    pub(crate) manager: String,
    pub(crate) representation: Representation,
}

/// Answers one request, whatever it is.
pub(crate) async fn answer<B>(
    server: &Arc<Server>,
    request: Request<B>,
    manager: &str,
) -> Response<ResponseBody>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (head, body) = request.into_parts();
    if let Some(page) = open_page(&head) {
        return page;
    }
    let anonymous = head.extensions.get::<Anonymous>().is_some();
    let accept = text_header(&head, &header::ACCEPT);
    if !(anonymous && head.uri.path() != "/version")
        && let Some(page) = described(server, &head, accept.as_deref().unwrap_or_default())
    {
        return page;
    }
    let representation = match Representation::negotiate(accept.as_deref()) {
        Ok(representation) => representation,
        Err(failure) => return answer::failure(&failure, Representation::default()),
    };
    let body = match Limited::new(body, LARGEST_BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => return answer::failure(&Failure::too_large(LARGEST_BODY), representation),
    };
    let call = read_call(&head, body, (representation, manager));
    if anonymous {
        return answer::failure(&reviews::refuse_anonymous(&call), call.representation);
    }
    match resource(server, &call).await {
        Ok(reply) => answer::render(server, &call, reply),
        Err(failure) => answer::failure(&failure, call.representation),
    }
}

fn text_header(head: &request::Parts, name: &header::HeaderName) -> Option<String> {
    Some(head.headers.get(name)?.to_str().ok()?.to_owned())
}

fn read_call(
    head: &request::Parts,
    body: Bytes,
    (representation, unnamed): (Representation, &str),
) -> Call {
    let query = Query::parse(head.uri.query());
    let agent = text_header(head, &header::USER_AGENT);
    let agent = agent
        .as_deref()
        .and_then(|agent| agent.split('/').next())
        .filter(|agent| !agent.is_empty());
    let manager = query
        .get("fieldManager")
        .or(agent)
        .unwrap_or(unnamed)
        .to_owned();
    Call {
        method: head.method.clone(),
        path: head.uri.path().to_owned(),
        query,
        content_type: text_header(head, &header::CONTENT_TYPE).unwrap_or_default(),
        body,
        manager,
        representation,
    }
}

/// Pages that anybody may see: health.
fn open_page(head: &request::Parts) -> Option<Response<ResponseBody>> {
    let name = head.uri.path().trim_matches('/');
    if !matches!(name, "healthz" | "livez" | "readyz") {
        return None;
    }
    // The store answers every request from memory that is ready before the first; there is nothing more to look at.
    let verbose = Query::parse(head.uri.query()).flag("verbose");
    let text = if verbose {
        format!("[+]ping ok\n[+]store ok\n{name} check passed\n")
    } else {
        "ok".to_owned()
    };
    Some(answer::text(StatusCode::OK, text))
}

/// Pages that describe the server: version, discovery, schemas.
fn described(
    server: &Server,
    head: &request::Parts,
    accept: &str,
) -> Option<Response<ResponseBody>> {
    if head.method != Method::GET {
        return None;
    }
    let page = server.with_registry(|registry| {
        crate::discovery::handle(head.uri.path(), accept, &head.headers, registry)
    })?;
    Some(page.map(answer::whole))
}

async fn resource(server: &Arc<Server>, call: &Call) -> Result<Reply, Failure> {
    let Some(parts) = route::split(&call.path) else {
        return Err(Failure::no_page());
    };
    if let Some(review) = reviews::answer(server, call, &parts) {
        return review;
    }
    let target = server.with_registry(|registry| route::find(parts, registry))?;
    options::check(call)?;
    match (target.name.is_some(), target.subresource.is_some()) {
        (false, _) => collection(server, call, target).await,
        (true, false) => object(server, call, target).await,
        (true, true) => subresource(server, call, target).await,
    }
}

async fn collection(server: &Arc<Server>, call: &Call, target: Target) -> Result<Reply, Failure> {
    // Over all namespaces, objects can only be looked at.
    let writable = target.namespace.is_some() || !target.resource.namespaced();
    match call.method {
        Method::GET if call.query.flag("watch") => server.watch_list(call, &target),
        Method::GET => server.list(call, &target),
        Method::POST if writable => server.create(call, &target).await,
        Method::DELETE if writable => server.delete_collection(call, &target).await,
        // A custom kind's paths in all namespaces have nothing but lists.
        _ if !writable && !target.resource.strategic() => Err(Failure::no_page()),
        _ => Err(Failure::method_not_allowed()),
    }
}

async fn object(server: &Arc<Server>, call: &Call, target: Target) -> Result<Reply, Failure> {
    match call.method {
        Method::GET => server.get(&target),
        Method::PUT => server.replace(call, &target).await,
        Method::PATCH => server.patch(call, &target).await,
        Method::DELETE => server.delete(call, &target).await,
        _ => Err(Failure::method_not_allowed()),
    }
}

async fn subresource(server: &Arc<Server>, call: &Call, target: Target) -> Result<Reply, Failure> {
    let resource = &target.resource;
    match (
        target.subresource.as_deref().unwrap_or_default(),
        &call.method,
    ) {
        ("status", method) if resource.has_status() => match *method {
            Method::GET => server.get(&target),
            Method::PUT => server.replace(call, &target).await,
            Method::PATCH => server.patch(call, &target).await,
            _ => Err(Failure::method_not_allowed()),
        },
        ("finalize", &Method::PUT)
            if resource.group().is_empty() && resource.plural() == "namespaces" =>
        {
            server.finalize_namespace(call, &target).await
        }
        ("log", &Method::GET) if resource.group().is_empty() && resource.plural() == "pods" => {
            server.pod_log(call, &target).await
        }
        _ if resource.strategic() => Err(Failure::no_resource()),
        _ => Err(Failure::not_found(resource.as_ref(), target.name())),
    }
}
