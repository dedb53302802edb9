//! `DELETE`: of one object and of collections.
//!
//! An object with finalizers, a pod with a grace period and a namespace with content are only marked; whoever holds them
//! finishes. All others go at once.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::{
    Server,
    answer::{Payload, Reply},
    crds,
    dispatch::Call,
    forms,
    lists::{list_object, selector},
    metadata, namespaces,
    options::fault,
    route::Target,
    status::Failure,
};
use crate::kinds::Resource;
use crate::store::{Change, Expect, Stored, WriteError};

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";
const JOB_WARNING: &str = "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background \
                           to remove them or set propagationPolicy=Orphan to suppress this warning";
/// Kinds whose deletion answers with the object instead of a `Status`.
const ANSWERED_WITH_OBJECT: [&str; 6] = [
    "pods",
    "services",
    "persistentvolumeclaims",
    "persistentvolumes",
    "serviceaccounts",
    "resourcequotas",
];

/// `DeleteOptions`, from the body and the query.
#[derive(Clone, Debug, Default)]
struct Options {
    policy: Option<String>,
    grace: Option<i64>,
    dry_run: bool,
    uid: Option<String>,
    version: Option<String>,
}

impl Options {
    fn read(call: &Call) -> Result<Self, Failure> {
        let body = if call.body.is_empty() {
            Value::Null
        } else if call.content_type.contains("yaml") {
            let text = std::str::from_utf8(&call.body)
                .map_err(|error| Failure::bad_request(error.to_string()))?;
            serde_saphyr::from_str(text).map_err(|error| Failure::bad_request(error.to_string()))?
        } else {
            serde_json::from_slice(&call.body)
                .map_err(|error| Failure::bad_request(error.to_string()))?
        };
        let text = |path: &str| {
            body.pointer(path)
                .and_then(Value::as_str)
                .map(str::to_owned)
        };
        let query = |key: &str| call.query.get(key).map(str::to_owned);
        let orphans = body.get("orphanDependents").and_then(Value::as_bool);
        let policy = text("/propagationPolicy")
            .or_else(|| query("propagationPolicy"))
            .or_else(|| {
                orphans.map(|orphans| if orphans { "Orphan" } else { "Background" }.to_owned())
            });
        if let Some(policy) = &policy
            && !matches!(policy.as_str(), "Orphan" | "Foreground" | "Background")
        {
            let message = format!(
                "Unsupported value: {policy:?}: supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\""
            );
            let error = fault("FieldValueNotSupported", "propagationPolicy", message);
            return Err(Failure::invalid_options("DeleteOptions", &[error]));
        }
        if let (Some(_), Some(policy)) = (orphans, text("/propagationPolicy")) {
            let message = format!(
                "Invalid value: {policy:?}: orphanDependents and deletionPropagation cannot be both set"
            );
            let error = fault("FieldValueInvalid", "propagationPolicy", message);
            return Err(Failure::invalid_options("DeleteOptions", &[error]));
        }
        let grace = body.get("gracePeriodSeconds").and_then(Value::as_i64);
        let dry_run = body.pointer("/dryRun/0").and_then(Value::as_str) == Some("All");
        Ok(Self {
            policy,
            grace: grace.or_else(|| call.query.get("gracePeriodSeconds")?.parse().ok()),
            dry_run: dry_run || call.query.dry_run(),
            uid: text("/preconditions/uid"),
            version: text("/preconditions/resourceVersion"),
        })
    }

    fn check(&self, resource: &dyn Resource, name: &str, object: &Value) -> Result<(), Failure> {
        let found = metadata::text(object, "uid").unwrap_or_default();
        if let Some(uid) = self.uid.as_deref().filter(|uid| *uid != found) {
            let cause = format!(
                "the UID in the precondition ({uid}) does not match the UID in record ({found}). The object might have \
                 been deleted and then recreated"
            );
            return Err(Failure::precondition(resource, name, &cause));
        }
        let found = metadata::text(object, "resourceVersion").unwrap_or_default();
        if let Some(version) = self.version.as_deref().filter(|version| *version != found) {
            let cause = format!(
                "the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record \
                 ({found}). The object might have been modified"
            );
            return Err(Failure::precondition(resource, name, &cause));
        }
        Ok(())
    }
}

/// What a deletion does to an object.
enum Step {
    /// Nothing that is not done already.
    Nothing,
    Mark(Value),
    Remove,
}

impl Server {
    /// `DELETE …/name`.
    pub(crate) async fn delete(&self, call: &Call, target: &Target) -> Result<Reply, Failure> {
        let options = Options::read(call)?;
        namespaces::refuse_kept(target)?;
        let payload = self.delete_one(target, &options).await?;
        let warnings = if is_job(target.resource.as_ref()) && options.policy.is_none() {
            vec![JOB_WARNING.to_owned()]
        } else {
            Vec::new()
        };
        let reply = match payload {
            Payload::Object(object) => Reply::object(target, object),
            Payload::Other(value) | Payload::List(value) => Reply::other(value),
            Payload::Stream(..) => return Err(Failure::internal("a deletion gave a stream")),
        };
        Ok(reply.warn(warnings))
    }

    /// `DELETE …` with selectors: each object as if deleted alone.
    pub(crate) async fn delete_collection(
        &self,
        call: &Call,
        target: &Target,
    ) -> Result<Reply, Failure> {
        let options = Options::read(call)?;
        let selector = selector(call, target)?;
        let resource = target.resource.as_ref();
        let (revision, objects) = self
            .store
            .list(&forms::storage_name(resource), target.namespace.as_deref());
        let mut items = Vec::new();
        for stored in objects {
            let mut shown = forms::shown_as(resource, &stored.object);
            if !selector.matches(&shown) {
                continue;
            }
            let mut one = target.clone();
            one.name = Some(stored.key.name.clone());
            match self.delete_one(&one, &options).await {
                Ok(_) => {}
                Err(failure) if failure.reason == Some("NotFound") => continue,
                Err(failure) => return Err(failure),
            }
            if resource.strategic() {
                metadata::as_map(&mut shown).remove("kind");
                metadata::as_map(&mut shown).remove("apiVersion");
            }
            items.push(shown);
        }
        let metadata = json!({"resourceVersion": revision.to_string()});
        Ok(Reply::list(target, list_object(target, &metadata, &items)))
    }

    async fn delete_one(&self, target: &Target, options: &Options) -> Result<Payload, Failure> {
        let resource = target.resource.as_ref();
        loop {
            let stored = self.fetch(target)?;
            options.check(resource, target.name(), &stored.object)?;
            let object = match self.step(resource, &stored, options) {
                Step::Nothing => {
                    return Ok(Payload::Object(forms::shown_as(resource, &stored.object)));
                }
                Step::Mark(object) => Some(object),
                Step::Remove => None,
            };
            if options.dry_run {
                return Ok(object.map_or_else(|| removed(resource, &stored), Payload::Object));
            }
            let marked = object.is_some();
            let change = Change {
                key: stored.key.clone(),
                expect: Expect::Revision(stored.revision),
                object,
            };
            match self.store.write(change).await {
                Ok(written) if marked => {
                    self.after_write(resource, &written).await;
                    return Ok(Payload::Object(forms::shown_as(resource, &written.object)));
                }
                Ok(written) => {
                    self.after_removal(resource, &written);
                    return Ok(removed(resource, &stored));
                }
                Err(WriteError::Changed { .. }) => {}
                Err(error) => return Err(Failure::write(resource, target.name(), &error)),
            }
        }
    }

    /// Decides on an object as it stands.
    fn step(&self, resource: &dyn Resource, stored: &Arc<Stored>, options: &Options) -> Step {
        let mut object = stored.object.clone();
        let finalizers = wanted_finalizers(resource, &object, options);
        metadata::set_finalizers(&mut object, &finalizers);
        let namespace = namespaces::is_namespace(resource);
        let grace = grace_period(resource, &object, options);
        let held = !finalizers.is_empty() || (namespace && namespaces::waits_for_content(&object));
        if !held && grace == 0 {
            return Step::Remove;
        }
        if metadata::is_terminating(&object) {
            let left = object
                .pointer("/metadata/deletionGracePeriodSeconds")
                .and_then(Value::as_i64)
                .unwrap_or(0);
            if grace >= left && object == stored.object {
                return Step::Nothing;
            }
            if grace < left {
                metadata::set(&mut object, "deletionGracePeriodSeconds", json!(grace));
                metadata::set(
                    &mut object,
                    "deletionTimestamp",
                    json!(self.after_grace(grace)),
                );
            }
            return Step::Mark(object);
        }
        metadata::set(
            &mut object,
            "deletionTimestamp",
            json!(self.after_grace(grace)),
        );
        if namespace {
            let status = metadata::as_map(&mut object)
                .entry("status")
                .or_insert_with(|| json!({}));
            metadata::as_map(status).insert("phase".to_owned(), json!("Terminating"));
        } else if crds::is_definition(resource) {
            crds::mark_terminating(&mut object, self.now());
        } else {
            metadata::set(&mut object, "deletionGracePeriodSeconds", json!(grace));
            let generation = metadata::generation(&object);
            if generation > 0 {
                metadata::set(&mut object, "generation", json!(generation + 1));
            }
        }
        Step::Mark(object)
    }

    fn after_grace(&self, seconds: i64) -> String {
        let seconds = u64::try_from(seconds).unwrap_or(0);
        metadata::time(self.now() + Duration::from_secs(seconds))
    }
}

fn is_job(resource: &dyn Resource) -> bool {
    resource.group() == "batch" && resource.plural() == "jobs"
}

/// The finalizers that the propagation policy asks for, beside the object's own.
fn wanted_finalizers(resource: &dyn Resource, object: &Value, options: &Options) -> Vec<String> {
    let mut finalizers = metadata::finalizers(object);
    let had = |name: &str| {
        metadata::finalizers(object)
            .iter()
            .any(|finalizer| finalizer == name)
    };
    let wanted = match options.policy.as_deref() {
        Some("Orphan") => Some(ORPHAN),
        Some("Foreground") => Some(FOREGROUND),
        Some(_) => None,
        // An earlier deletion's choice stands; Jobs orphan by default.
        None if had(ORPHAN) => Some(ORPHAN),
        None if had(FOREGROUND) => Some(FOREGROUND),
        None => is_job(resource).then_some(ORPHAN),
    };
    finalizers.retain(|finalizer| finalizer != ORPHAN && finalizer != FOREGROUND);
    finalizers.extend(wanted.map(str::to_owned));
    if crds::is_definition(resource) && !metadata::is_terminating(object) {
        crds::add_finalizer(&mut finalizers);
    }
    finalizers
}

/// How long a pod may take to end: only pods that a node runs have any.
fn grace_period(resource: &dyn Resource, object: &Value, options: &Options) -> i64 {
    if !(resource.group().is_empty() && resource.plural() == "pods") {
        return 0;
    }
    let text = |path: &str| {
        object
            .pointer(path)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    if text("/spec/nodeName").is_empty() || matches!(text("/status/phase"), "Succeeded" | "Failed")
    {
        return 0;
    }
    let own = || {
        object
            .pointer("/spec/terminationGracePeriodSeconds")
            .and_then(Value::as_i64)
    };
    let wanted = options.grace.or_else(own).unwrap_or(30).max(0);
    let left = object
        .pointer("/metadata/deletionGracePeriodSeconds")
        .and_then(Value::as_i64);
    left.map_or(wanted, |left| left.min(wanted))
}

fn removed(resource: &dyn Resource, stored: &Stored) -> Payload {
    if resource.group().is_empty() && ANSWERED_WITH_OBJECT.contains(&resource.plural()) {
        return Payload::Object(forms::shown_as(resource, &stored.object));
    }
    let mut details = json!({
        "name": stored.key.name, "kind": resource.plural(), "uid": metadata::text(&stored.object, "uid"),
    });
    if !resource.group().is_empty() {
        metadata::as_map(&mut details).insert("group".to_owned(), json!(resource.group()));
    }
    Payload::Other(json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details,
    }))
}
