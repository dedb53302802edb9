//! `PUT` and `PATCH`: changes of objects that exist.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    Server,
    answer::Reply,
    create::{Author, check_namespace},
    dispatch::Call,
    forms, managed, metadata, namespaces, patches,
    route::Target,
    status::Failure,
};
use crate::kinds::{FieldError, Resource};
use crate::store::{Change, Expect, Stored, WriteError};

/// A wanted state, made from the current one.
pub(crate) struct Wanted {
    pub(crate) object: Value,
    pub(crate) warnings: Vec<String>,
    /// Whether the object carries its managed fields already, as an apply computes them.
    pub(crate) applied: bool,
    /// Whether it was made by a patch of any kind.
    pub(crate) patched: bool,
}

/// What became of a change.
struct Outcome {
    object: Value,
    warnings: Vec<String>,
}

impl Server {
    /// `PUT`: the body is the new state.
    pub(crate) async fn replace(&self, call: &Call, target: &Target) -> Result<Reply, Failure> {
        let resource = target.resource.as_ref();
        let decoded = resource.decode(&call.content_type, &call.body, call.query.validation())?;
        check_names(&decoded.object, target)?;
        if !resource.strategic() && metadata::text(&decoded.object, "resourceVersion").is_none() {
            return Err(Failure::without_version(resource, target.name()));
        }
        let outcome = self
            .modify(target, &Author::of(call), |_| {
                let object = decoded.object.clone();
                Ok(Wanted {
                    object,
                    warnings: decoded.warnings.clone(),
                    applied: false,
                    patched: false,
                })
            })
            .await?;
        Ok(Reply::object(target, outcome.object).warn(outcome.warnings))
    }

    /// `PATCH`: the body says how the current state changes; an apply may also create.
    pub(crate) async fn patch(&self, call: &Call, target: &Target) -> Result<Reply, Failure> {
        let patch = patches::Patch::read(call, target)?;
        if let patches::Patch::Apply(apply) = &patch
            && self.store.get(&Self::key(target)).is_none()
        {
            match self.apply_new(call, target, apply).await {
                // Somebody else created it meanwhile: apply to what is there now.
                Err(failure) if failure.reason == Some("AlreadyExists") => {}
                other => return other,
            }
        }
        let now = self.now();
        let outcome = self
            .modify(target, &Author::of(call), |current| {
                patch.apply(call, target, current, now)
            })
            .await?;
        Ok(Reply::object(target, outcome.object).warn(outcome.warnings))
    }

    async fn apply_new(
        &self,
        call: &Call,
        target: &Target,
        apply: &patches::Applied,
    ) -> Result<Reply, Failure> {
        if target.subresource.is_some() {
            return Err(Failure::not_found(target.resource.as_ref(), target.name()));
        }
        if metadata::text(&apply.config, "resourceVersion").is_some() {
            return Err(Failure::modified(target.resource.as_ref(), target.name()));
        }
        if let Some(uid) = metadata::text(&apply.config, "uid") {
            let cause = format!(
                "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
            );
            return Err(Failure::conflict(
                target.resource.as_ref(),
                target.name(),
                &cause,
            ));
        }
        let mut object = self.prepare_new(apply.config.clone(), target)?;
        managed::applied_new(target.resource.as_ref(), &mut object, apply, self.now());
        let stored = self.insert(object, target, &Author::of(call)).await?;
        Ok(Reply::object(target, stored)
            .created(true)
            .warn(apply.warnings.clone()))
    }

    /// Changes the current object until nobody else changed it in between.
    async fn modify(
        &self,
        target: &Target,
        author: &Author,
        make: impl Fn(&Value) -> Result<Wanted, Failure>,
    ) -> Result<Outcome, Failure> {
        let resource = target.resource.as_ref();
        loop {
            let stored = self.fetch(target)?;
            let current = forms::shown_as(resource, &stored.object);
            let wanted = make(&current)?;
            let warnings = wanted.warnings.clone();
            let object = self.complete(target, author, wanted, &current)?;
            if same(&object, &current) {
                return Ok(Outcome {
                    object: current,
                    warnings,
                });
            }
            if author.dry_run {
                return Ok(Outcome { object, warnings });
            }
            match self.store_change(resource, &stored, object).await {
                Ok(object) => return Ok(Outcome { object, warnings }),
                Err(WriteError::Changed { .. }) => {}
                Err(error) => return Err(Failure::write(resource, target.name(), &error)),
            }
        }
    }

    /// Writes a completed change. An object that was only waiting for its finalizers goes with the last of them.
    async fn store_change(
        &self,
        resource: &dyn Resource,
        stored: &Arc<Stored>,
        object: Value,
    ) -> Result<Value, WriteError> {
        let gone = leaves_now(resource, &object);
        let change = Change {
            key: stored.key.clone(),
            expect: Expect::Revision(stored.revision),
            object: (!gone).then(|| forms::to_keep(resource, object.clone())),
        };
        let written = self.store.write(change).await?;
        if gone {
            self.after_removal(resource, &written);
            return Ok(object);
        }
        self.after_write(resource, &written).await;
        Ok(forms::shown_as(resource, &written.object))
    }

    /// Turns a wanted state into one that may be stored: server fields, status, defaults, ownership, validation.
    fn complete(
        &self,
        target: &Target,
        author: &Author,
        wanted: Wanted,
        current: &Value,
    ) -> Result<Value, Failure> {
        let resource = target.resource.as_ref();
        let status = target.subresource.as_deref() == Some("status");
        let mut object = wanted.object;
        check_names(&object, target)?;
        check_uid(&object, current, target, wanted.patched)?;
        let version = metadata::text(&object, "resourceVersion");
        if let Some(Err(error)) = version.map(str::parse::<u64>) {
            let (text, cause) = (version.unwrap_or_default(), error);
            tracing::debug!("{text:?} is no version: {cause}");
            return Err(Failure::unexplained(format!(
                "strconv.ParseUint: parsing {text:?}: invalid syntax"
            )));
        }
        if version
            .is_some_and(|version| metadata::text(current, "resourceVersion") != Some(version))
        {
            return Err(Failure::modified(resource, target.name()));
        }
        let sent_managers = object.pointer("/metadata/managedFields").cloned();
        metadata::keep_server_fields(&mut object, current);
        if resource.has_status() {
            metadata::isolate_status(&mut object, current, status);
        }
        resource.default(&mut object, Some(current));
        if !wanted.applied {
            let writer = managed::Writer {
                manager: &author.manager,
                status,
                now: self.now(),
            };
            managed::updated(
                resource,
                &mut object,
                current,
                sent_managers.as_ref(),
                &writer,
            );
        }
        resource.prepare(&mut object, Some(current), &self.world());
        if resource.counts_generations()
            && !status
            && metadata::desires_differ(resource, &object, current)
        {
            metadata::set(
                &mut object,
                "generation",
                json!(metadata::generation(current) + 1),
            );
        }
        let mut errors = new_finalizers(&object, current);
        errors.extend(
            resource
                .validate_update(&object, current, status)
                .into_iter()
                .filter(|error| !errors.contains(error))
                .collect::<Vec<_>>(),
        );
        if errors.is_empty() {
            Ok(object)
        } else {
            Err(Failure::invalid(resource, target.name(), &errors))
        }
    }
}

/// Whether two states are the same to every reader: times of managers that wrote nothing new do not count.
fn same(object: &Value, current: &Value) -> bool {
    let bare = |object: &Value| {
        let mut object = object.clone();
        if let Some(entries) = object
            .pointer_mut("/metadata/managedFields")
            .and_then(Value::as_array_mut)
        {
            for entry in entries {
                metadata::as_map(entry).remove("time");
            }
        }
        object
    };
    bare(object) == bare(current)
}

/// Whether nothing holds a terminating object any longer. Pods with a grace period left wait for their node.
fn leaves_now(resource: &dyn Resource, object: &Value) -> bool {
    let grace = object
        .pointer("/metadata/deletionGracePeriodSeconds")
        .and_then(Value::as_i64)
        .unwrap_or(0);
    metadata::is_terminating(object)
        && grace == 0
        && metadata::finalizers(object).is_empty()
        && !(namespaces::is_namespace(resource) && namespaces::waits_for_content(object))
}

/// The body must name the object of the path, and its namespace.
fn check_names(object: &Value, target: &Target) -> Result<(), Failure> {
    check_name(object, target)?;
    check_namespace(object, target)
}

/// The body must name the object of the path.
pub(crate) fn check_name(object: &Value, target: &Target) -> Result<(), Failure> {
    let wanted = target.name();
    match metadata::text(object, "name") {
        Some(name) if name == wanted => Ok(()),
        Some(name) => Err(Failure::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({wanted})"
        ))),
        None => Err(Failure::bad_request(format!(
            "the name of the object ({wanted} based on URL) was undeterminable: name must be provided"
        ))),
    }
}

/// A uid in the body is a precondition of a replace, and a field that cannot change in a patch.
fn check_uid(
    object: &Value,
    current: &Value,
    target: &Target,
    patched: bool,
) -> Result<(), Failure> {
    let found = metadata::text(current, "uid").unwrap_or_default();
    match metadata::text(object, "uid") {
        Some(uid) if uid != found && patched => {
            let error = FieldError {
                reason: "FieldValueInvalid",
                field: "metadata.uid".to_owned(),
                message: format!("Invalid value: {uid:?}: field is immutable"),
            };
            // The real server finds this fault twice.
            Err(Failure::invalid(
                target.resource.as_ref(),
                target.name(),
                &[error.clone(), error],
            ))
        }
        Some(uid) if uid != found => {
            let place = if target.resource.namespaced() {
                format!("{}/{}", target.namespace(), target.name())
            } else {
                target.name().to_owned()
            };
            let cause = format!(
                "StorageError: invalid object, Code: 4, Key: /registry/{}/{place}, ResourceVersion: 0, \
                 AdditionalErrorMsg: Precondition failed: UID in precondition: {uid}, UID in object meta: {found}",
                target.resource.plural(),
            );
            Err(Failure::conflict(
                target.resource.as_ref(),
                target.name(),
                &cause,
            ))
        }
        _ => Ok(()),
    }
}

/// A terminating object takes no new finalizers. The real server finds this fault twice, and lists it twice.
fn new_finalizers(object: &Value, current: &Value) -> Vec<FieldError> {
    if !metadata::is_terminating(current) {
        return Vec::new();
    }
    let before = metadata::finalizers(current);
    let new: Vec<String> = metadata::finalizers(object)
        .into_iter()
        .filter(|finalizer| !before.contains(finalizer))
        .map(|finalizer| format!("{finalizer:?}"))
        .collect();
    if new.is_empty() {
        return Vec::new();
    }
    let error = FieldError {
        reason: "FieldValueForbidden",
        field: "metadata.finalizers".to_owned(),
        message: format!(
            "Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
            new.join(", ")
        ),
    };
    vec![error.clone(), error]
}
