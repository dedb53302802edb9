//! The life of namespaces: they must exist and not be terminating to take objects, and go when they are empty.

use serde_json::{Value, json};

use super::{Server, answer::Reply, dispatch::Call, metadata, route::Target, status::Failure};
use crate::kinds::Resource;
use crate::store::{Change, Expect, Key};

/// Namespaces that a cluster cannot be without.
const KEPT: [&str; 3] = ["default", "kube-system", "kube-public"];

pub(crate) fn is_namespace(resource: &dyn Resource) -> bool {
    resource.group().is_empty() && resource.plural() == "namespaces"
}

/// Refuses to delete the namespaces that a cluster needs.
pub(crate) fn refuse_kept(target: &Target) -> Result<(), Failure> {
    if is_namespace(target.resource.as_ref()) && KEPT.contains(&target.name()) {
        let cause = "this namespace may not be deleted";
        return Err(Failure::forbidden(
            target.resource.as_ref(),
            target.name(),
            cause,
            Vec::new(),
        ));
    }
    Ok(())
}

/// Whether a namespace still waits for its content to go.
pub(crate) fn waits_for_content(object: &Value) -> bool {
    let finalizers = object.pointer("/spec/finalizers").and_then(Value::as_array);
    finalizers.is_some_and(|finalizers| !finalizers.is_empty())
}

impl Server {
    /// Sees that a new object's namespace is there and takes objects.
    pub(crate) fn admit_to_namespace(&self, target: &Target, name: &str) -> Result<(), Failure> {
        let Some(namespace) = target
            .namespace
            .as_deref()
            .filter(|_| target.resource.namespaced())
        else {
            return Ok(());
        };
        let Some(stored) = self.store.get(&Key::new("", "namespaces", "", namespace)) else {
            return Err(Failure::no_namespace(namespace));
        };
        if metadata::is_terminating(&stored.object) {
            let cause = format!(
                "unable to create new content in namespace {namespace} because it is being terminated"
            );
            let detail = json!({
                "reason": "NamespaceTerminating",
                "message": format!("namespace {namespace} is being terminated"),
                "field": "metadata.namespace",
            });
            return Err(Failure::forbidden(
                target.resource.as_ref(),
                name,
                &cause,
                vec![detail],
            ));
        }
        Ok(())
    }

    /// `PUT …/finalize`: sets `spec.finalizers`; a terminating namespace without any is gone.
    pub(crate) async fn finalize_namespace(
        &self,
        call: &Call,
        target: &Target,
    ) -> Result<Reply, Failure> {
        let resource = target.resource.as_ref();
        let decoded = resource.decode(&call.content_type, &call.body, call.query.validation())?;
        let finalizers = decoded
            .object
            .pointer("/spec/finalizers")
            .cloned()
            .unwrap_or_else(|| json!([]));
        loop {
            let Some(stored) = self.store.get(&Self::key(target)) else {
                return Err(Failure::not_found(resource, target.name()));
            };
            let mut object = stored.object.clone();
            if let Some(version) = metadata::text(&decoded.object, "resourceVersion")
                && version != stored.revision.to_string()
            {
                return Err(Failure::modified(resource, target.name()));
            }
            let spec = metadata::as_map(&mut object)
                .entry("spec")
                .or_insert_with(|| json!({}));
            metadata::as_map(spec).insert("finalizers".to_owned(), finalizers.clone());
            let gone = metadata::is_terminating(&object)
                && !waits_for_content(&object)
                && metadata::finalizers(&object).is_empty();
            let change = Change {
                key: Self::key(target),
                expect: Expect::Revision(stored.revision),
                object: (!gone).then(|| object.clone()),
            };
            match self.store.write(change).await {
                Ok(written) => return Ok(Reply::object(target, written.object.clone())),
                Err(crate::store::WriteError::Changed { .. }) => {}
                Err(error) => return Err(Failure::write(resource, target.name(), &error)),
            }
        }
    }
}
