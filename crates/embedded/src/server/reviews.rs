//! Who may do what: the administrator everything, anybody else nothing.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{
    Server,
    answer::Reply,
    dispatch::Call,
    managed, metadata,
    route::{self, Parts},
    status::{Failure, qualified},
};

const ADMIN: &str = "kubernetes-admin";

/// The 403 of a request without a credential, in the words of a real server.
pub(crate) fn refuse_anonymous(call: &Call) -> Failure {
    let Some(parts) = route::split(&call.path) else {
        let verb = call.method.as_str().to_lowercase();
        let path = &call.path;
        let message = format!("forbidden: User \"system:anonymous\" cannot {verb} path {path:?}");
        return Failure::anonymous(message, None);
    };
    let verb = match (&call.method, parts.name.is_some()) {
        (&Method::GET, _) if call.query.flag("watch") => "watch",
        (&Method::GET, true) => "get",
        (&Method::GET, false) => "list",
        (&Method::POST, _) => "create",
        (&Method::PUT, _) => "update",
        (&Method::PATCH, _) => "patch",
        (&Method::DELETE, true) => "delete",
        (&Method::DELETE, false) => "deletecollection",
        _ => "use",
    };
    let resource = match &parts.subresource {
        Some(subresource) => format!("{}/{subresource}", parts.plural),
        None => parts.plural.clone(),
    };
    let place = match &parts.namespace {
        Some(namespace) => format!("in the namespace \"{namespace}\""),
        None => "at the cluster scope".to_owned(),
    };
    let object = qualified(&parts.plural, &parts.group);
    let object = parts
        .name
        .as_ref()
        .map_or_else(|| object.clone(), |name| format!("{object} \"{name}\""));
    let message = format!(
        "{object} is forbidden: User \"system:anonymous\" cannot {verb} resource \"{resource}\" in API group \"{}\" \
         {place}",
        parts.group,
    );
    Failure::anonymous(message, Some(&parts.plural))
}

/// The self reviews; `None` for all else.
pub(crate) fn answer(
    server: &Server,
    call: &Call,
    parts: &Parts,
) -> Option<Result<Reply, Failure>> {
    let status = match (parts.group.as_str(), parts.plural.as_str()) {
        ("authorization.k8s.io", "selfsubjectaccessreviews") => json!({"allowed": true}),
        ("authentication.k8s.io", "selfsubjectreviews") => {
            json!({"userInfo": {"username": ADMIN, "groups": ["system:masters", "system:authenticated"]}})
        }
        ("authorization.k8s.io", "selfsubjectrulesreviews") => json!({
            "incomplete": false,
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
        }),
        _ => return None,
    };
    if call.method != Method::POST {
        return Some(Err(Failure::method_not_allowed()));
    }
    Some(review(server, call, parts, status))
}

fn review(server: &Server, call: &Call, parts: &Parts, status: Value) -> Result<Reply, Failure> {
    let resource = server
        .find(&parts.group, &parts.version, &parts.plural)
        .ok_or_else(Failure::no_resource)?;
    let decoded = resource.decode(&call.content_type, &call.body, call.query.validation())?;
    let mut object = decoded.object;
    managed::created(resource.as_ref(), &mut object, &call.manager, server.now());
    metadata::as_map(&mut object).insert("status".to_owned(), status);
    let mut reply = Reply::other(object).warn(decoded.warnings);
    reply.code = StatusCode::CREATED;
    Ok(reply)
}
