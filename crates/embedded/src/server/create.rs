//! `POST`: new objects.

use serde_json::{Value, json};

use super::{
    Server, answer::Reply, dispatch::Call, forms, managed, metadata, route::Target, status::Failure,
};
use crate::kinds::FieldError;
use crate::store::{Change, Expect, WriteError};

/// How often a generated name that is taken is made anew.
const NAME_ATTEMPTS: usize = 8;

/// Who writes, and whether it counts.
#[derive(Clone, Debug)]
pub(crate) struct Author {
    pub(crate) manager: String,
    pub(crate) dry_run: bool,
}

impl Author {
    pub(crate) fn of(call: &Call) -> Self {
        Self {
            manager: call.manager.clone(),
            dry_run: call.query.dry_run(),
        }
    }
}

impl Server {
    /// Reads the body, completes the object and stores it.
    pub(crate) async fn create(&self, call: &Call, target: &Target) -> Result<Reply, Failure> {
        let resource = target.resource.as_ref();
        let decoded = resource.decode(&call.content_type, &call.body, call.query.validation())?;
        let object = decoded.object;
        check_namespace(&object, target)?;
        if metadata::text(&object, "resourceVersion").is_some() {
            let message = "resourceVersion should not be set on objects to be created";
            return Err(Failure::unexplained(message));
        }
        let author = Author::of(call);
        let mut object = self.prepare_new(object, target)?;
        managed::created(resource, &mut object, &author.manager, self.now());
        let stored = self.insert(object, target, &author).await?;
        Ok(Reply::object(target, stored)
            .created(true)
            .warn(decoded.warnings))
    }

    /// Completes a new object: server fields, name, defaults.
    pub(crate) fn prepare_new(&self, mut object: Value, target: &Target) -> Result<Value, Failure> {
        let resource = target.resource.as_ref();
        self.refuse_new(target)?;
        if resource.has_status() {
            metadata::as_map(&mut object).remove("status");
        }
        let fields = metadata::metadata(&mut object);
        for field in [
            "resourceVersion",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "selfLink",
        ] {
            fields.remove(field);
        }
        fields.insert("uid".to_owned(), json!(uuid::Uuid::new_v4().to_string()));
        fields.insert(
            "creationTimestamp".to_owned(),
            json!(metadata::time(self.now())),
        );
        if let Some(namespace) = target
            .namespace
            .as_deref()
            .filter(|_| resource.namespaced())
        {
            fields.insert("namespace".to_owned(), json!(namespace));
        } else {
            fields.remove("namespace");
        }
        if resource.counts_generations() {
            fields.insert("generation".to_owned(), json!(1));
        }
        if metadata::text(&object, "name").is_none()
            && let Some(prefix) = metadata::text(&object, "generateName")
        {
            let name = format!("{prefix}{}", metadata::random_suffix());
            metadata::set(&mut object, "name", Value::from(name));
        }
        resource.default(&mut object, None);
        Ok(object)
    }

    /// Validates and stores a completed object. Generated names that are taken are made anew.
    pub(crate) async fn insert(
        &self,
        mut object: Value,
        target: &Target,
        author: &Author,
    ) -> Result<Value, Failure> {
        let resource = target.resource.as_ref();
        let mut attempts = NAME_ATTEMPTS;
        loop {
            let name = metadata::text(&object, "name")
                .unwrap_or_default()
                .to_owned();
            if name.is_empty() {
                return Err(Failure::invalid(resource, "", &[missing_name()]));
            }
            self.admit_to_namespace(target, &name)?;
            let mut complete = object.clone();
            resource.prepare(&mut complete, None, &self.world());
            let errors = resource.validate_create(&complete);
            if !errors.is_empty() {
                return Err(Failure::invalid(resource, &name, &errors));
            }
            let key = forms::key(resource, target.namespace(), &name);
            let result = if author.dry_run {
                match self.store.get(&key) {
                    Some(_) => Err(WriteError::Exists { key }),
                    None => return Ok(complete),
                }
            } else {
                let object = Some(forms::to_keep(resource, complete));
                self.store
                    .write(Change {
                        key,
                        expect: Expect::Absent,
                        object,
                    })
                    .await
            };
            match (result, metadata::text(&object, "generateName")) {
                (Ok(stored), _) => {
                    self.after_write(resource, &stored).await;
                    return Ok(forms::shown_as(resource, &stored.object));
                }
                (Err(WriteError::Exists { .. }), Some(prefix))
                    if attempts > 0 && name.starts_with(prefix) =>
                {
                    attempts -= 1;
                    let name = format!("{prefix}{}", metadata::random_suffix());
                    metadata::set(&mut object, "name", Value::from(name));
                }
                (Err(WriteError::Exists { key }), _) => {
                    let there = self.store.get(&key);
                    let leaving =
                        there.is_some_and(|there| metadata::is_terminating(&there.object));
                    return Err(if leaving {
                        Failure::exists_still(resource, &name)
                    } else {
                        Failure::exists(resource, &name)
                    });
                }
                (Err(error), _) => return Err(Failure::write(resource, &name, &error)),
            }
        }
    }
}

fn missing_name() -> FieldError {
    FieldError {
        reason: "FieldValueRequired",
        field: "metadata.name".to_owned(),
        message: "Required value: name or generateName is required".to_owned(),
    }
}

/// A body's namespace must be that of the path, when it names one.
pub(crate) fn check_namespace(object: &Value, target: &Target) -> Result<(), Failure> {
    let named = metadata::text(object, "namespace");
    if target.resource.namespaced() && named.is_some_and(|named| named != target.namespace()) {
        let message =
            "the namespace of the provided object does not match the namespace sent on the request";
        return Err(Failure::bad_request(message));
    }
    Ok(())
}
