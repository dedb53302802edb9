//! Which resource and object a path means.

use std::sync::Arc;

use super::status::Failure;
use crate::kinds::{Registry, Resource};

/// A path below a group's version.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) resource: Arc<dyn Resource>,
    /// `None` for cluster scope and for all namespaces.
    pub(crate) namespace: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) subresource: Option<String>,
}

impl Target {
    /// The name, where a path must have one.
    pub(crate) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    /// The namespace as keys have it: empty for cluster scope.
    pub(crate) fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or_default()
    }
}

/// A path's parts, before anything is looked up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) plural: String,
    pub(crate) namespace: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) subresource: Option<String>,
}

/// Takes a resource path apart; `None` when it is none.
pub(crate) fn split(path: &str) -> Option<Parts> {
    let mut segments = path
        .split('/')
        .filter(|segment| !segment.is_empty())
        .map(super::query::decode);
    let (group, version) = match segments.next()?.as_str() {
        "api" => (String::new(), segments.next()?),
        "apis" => (segments.next()?, segments.next()?),
        _ => return None,
    };
    let rest: Vec<String> = segments.collect();
    let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
    let own = |text: &str| Some(text.to_owned());
    let (plural, namespace, name, subresource) = match rest.as_slice() {
        ["namespaces", name, sub @ ("status" | "finalize")] => {
            ("namespaces", None, own(name), own(sub))
        }
        ["namespaces"] => ("namespaces", None, None, None),
        ["namespaces", name] => ("namespaces", None, own(name), None),
        ["namespaces", namespace, plural] => (*plural, own(namespace), None, None),
        ["namespaces", namespace, plural, name] => (*plural, own(namespace), own(name), None),
        ["namespaces", namespace, plural, name, sub @ ..] => {
            (*plural, own(namespace), own(name), Some(sub.join("/")))
        }
        [plural] => (*plural, None, None, None),
        [plural, name] => (*plural, None, own(name), None),
        [plural, name, sub @ ..] => (*plural, None, own(name), Some(sub.join("/"))),
        [] => return None,
    };
    Some(Parts {
        group,
        version,
        plural: plural.to_owned(),
        namespace,
        name,
        subresource,
    })
}

/// Finds the resource of a path.
pub(crate) fn find(parts: Parts, registry: &Registry) -> Result<Target, Failure> {
    let Some(resource) = registry.find(&parts.group, &parts.version, &parts.plural) else {
        let known = |resource: &Arc<dyn Resource>| {
            resource.group() == parts.group && resource.version() == parts.version
        };
        let served = registry.all().iter().any(known);
        return Err(if served {
            Failure::no_resource()
        } else {
            Failure::no_page()
        });
    };
    let scoped = parts.namespace.is_some();
    // A namespaced object needs its namespace; a cluster-scoped one has none.
    if scoped != resource.namespaced() && (scoped || parts.name.is_some()) {
        return Err(if resource.strategic() {
            Failure::no_resource()
        } else {
            Failure::no_page()
        });
    }
    Ok(Target {
        resource,
        namespace: parts.namespace,
        name: parts.name,
        subresource: parts.subresource,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(
        path: &str,
    ) -> (
        String,
        String,
        Option<String>,
        Option<String>,
        Option<String>,
    ) {
        let parts = split(path).unwrap();
        (
            parts.group,
            parts.plural,
            parts.namespace,
            parts.name,
            parts.subresource,
        )
    }

    #[test]
    fn paths_name_group_namespace_object_and_subresource() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            parts("/api/v1/namespaces"),
            (String::new(), "namespaces".into(), None, None, None)
        );
        assert_eq!(
            parts("/api/v1/namespaces/a/finalize"),
            (
                String::new(),
                "namespaces".into(),
                None,
                some("a"),
                some("finalize")
            )
        );
        assert_eq!(
            parts("/api/v1/namespaces/a/pods/b/log"),
            (
                String::new(),
                "pods".into(),
                some("a"),
                some("b"),
                some("log")
            )
        );
        assert_eq!(
            parts("/apis/batch/v1/jobs"),
            ("batch".into(), "jobs".into(), None, None, None)
        );
        assert_eq!(split("/version"), None);
    }
}
