//! All resources served now.

use std::sync::{Arc, OnceLock};

use serde_json::Value;

use super::built_in;
use super::custom::{self, Custom};
use super::{FieldError, Resource};
use crate::openapi::Documents;

/// All resources served now: the built-in ones and those of custom resource definitions.
#[derive(Clone, Default)]
pub(crate) struct Registry {
    resources: Vec<Arc<dyn Resource>>,
    /// The definitions' resources, by the definition's name (`plural.group`).
    custom: Vec<(String, Arc<dyn Resource>)>,
    /// Made when they are first asked for, and anew when what is served changes.
    documents: Arc<OnceLock<Documents>>,
}

impl Registry {
    /// The built-in kinds.
    pub(crate) fn built_in() -> Self {
        let resources = built_in::all()
            .into_iter()
            .map(|kind| Arc::new(kind) as Arc<dyn Resource>)
            .collect();
        Self {
            resources,
            ..Self::default()
        }
    }

    /// Finds `group/version plural`; the core group is the empty string.
    pub(crate) fn find(
        &self,
        group: &str,
        version: &str,
        plural: &str,
    ) -> Option<Arc<dyn Resource>> {
        self.all()
            .iter()
            .find(|resource| {
                resource.group() == group
                    && resource.version() == version
                    && resource.plural() == plural
            })
            .cloned()
    }

    /// Everything served.
    pub(crate) fn all(&self) -> &[Arc<dyn Resource>] {
        &self.resources
    }

    /// The `OpenAPI` documents of everything served.
    pub(crate) fn documents(&self) -> &Documents {
        self.documents.get_or_init(|| Documents::of(self))
    }

    /// Serves what this custom resource definition declares (replacing an earlier form of it).
    pub(crate) fn install(&mut self, crd: &Value) -> Result<(), Vec<FieldError>> {
        let name = crd
            .pointer("/metadata/name")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        let faults = custom::definition_faults(crd);
        if !faults.is_empty() {
            return Err(faults);
        }
        self.remove(&name);
        for resource in Custom::all_of(crd) {
            let resource: Arc<dyn Resource> = Arc::new(resource);
            self.resources.push(Arc::clone(&resource));
            self.custom.push((name.clone(), resource));
        }
        Ok(())
    }

    /// Stops serving the definition of this name (`plural.group`).
    pub(crate) fn remove(&mut self, name: &str) {
        self.documents = Arc::default();
        let (gone, kept) = std::mem::take(&mut self.custom)
            .into_iter()
            .partition(|(of, _)| of == name);
        self.custom = kept;
        let gone: Vec<(String, Arc<dyn Resource>)> = gone;
        self.resources
            .retain(|resource| !gone.iter().any(|(_, other)| Arc::ptr_eq(resource, other)));
    }
}
