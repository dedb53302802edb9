//! Apply: the operator's only writer. Server-side apply with one field manager; deletions and changes only of the very
//! object that the plan was made for.

mod error;

use std::fmt::Debug;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use kube::core::NamespaceResourceScope;
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use syncline_api::names::Side;
use syncline_api::{ReplicationDestination, ReplicationSource};

use crate::kinds::{Key, VolumeSnapshot};
use crate::observe::Resource as Observed;
use crate::plan::{Change, Existing, Kind, Object};
use crate::status::MEMORY;

pub(crate) use error::Action;
pub use error::Error;

/// The field manager of everything that is applied.
pub const FIELD_MANAGER: &str = "syncline";

/// Writes in one namespace.
#[derive(Clone)]
pub struct Writer<'a> {
    client: &'a Client,
    namespace: &'a str,
}

impl<'a> Writer<'a> {
    /// A writer for the resource's namespace.
    pub fn new(client: &'a Client, namespace: &'a str) -> Self {
        Self { client, namespace }
    }

    /// Changes and applies, in the order given; the first failure ends it.
    pub async fn write(&self, changes: &[Change], objects: &[Object]) -> Result<(), Error> {
        for change in changes {
            self.change(change).await?;
        }
        for object in objects {
            match object {
                Object::ServiceAccount(object) => self.apply(&**object).await?,
                Object::Role(object) => self.apply(&**object).await?,
                Object::RoleBinding(object) => self.apply(&**object).await?,
                Object::Secret(object) => self.apply(&**object).await?,
                Object::Service(object) => self.apply(&**object).await?,
                Object::Claim(object) => self.apply(&**object).await?,
                Object::Snapshot(object) => self.apply(&**object).await?,
                Object::Job(object) => self.apply(&**object).await?,
            }
        }
        Ok(())
    }

    /// Writes a status, if the resource is still what it was; returns what the server made of it.
    pub async fn write_status(&self, key: &Key, document: &Value) -> Result<Observed, Error> {
        Ok(match key.side {
            Side::Source => {
                Observed::Source(Box::new(self.patch_status(&key.name, document).await?))
            }
            Side::Destination => {
                Observed::Destination(Box::new(self.patch_status(&key.name, document).await?))
            }
        })
    }

    /// Keeps in the resource's annotation what its status has no field for, if the resource is still what it was; returns
    /// its version after that.
    pub async fn remember(
        &self,
        key: &Key,
        memory: &Value,
        resource_version: Option<&str>,
    ) -> Result<Option<String>, Error> {
        let mut document = json!({ "metadata": { "annotations": { MEMORY: memory } } });
        if let (Some(version), Some(metadata)) = (resource_version, document.get_mut("metadata")) {
            metadata["resourceVersion"] = json!(version);
        }
        Ok(match key.side {
            Side::Source => {
                let written: ReplicationSource = self.merge(&key.name, &document).await?;
                written.metadata.resource_version
            }
            Side::Destination => {
                let written: ReplicationDestination = self.merge(&key.name, &document).await?;
                written.metadata.resource_version
            }
        })
    }

    /// Deletes, if they are still what they were.
    pub async fn delete(&self, targets: &[Existing]) -> Result<(), Error> {
        for target in targets {
            match target.kind {
                Kind::Job => self.delete_one::<Job>(target).await?,
                Kind::Claim => self.delete_one::<PersistentVolumeClaim>(target).await?,
                Kind::Snapshot => self.delete_one::<VolumeSnapshot>(target).await?,
            }
        }
        Ok(())
    }

    fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), self.namespace)
    }

    fn error<K: Resource<DynamicType = ()>>(
        &self,
        action: Action,
        name: &str,
        source: kube::Error,
    ) -> Error {
        Error::new(
            action,
            format!("{} {}/{name}", K::kind(&()), self.namespace),
            source,
        )
    }

    async fn apply<K>(&self, object: &K) -> Result<(), Error>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned
            + Serialize,
    {
        let name = object.name_any();
        tracing::debug!(kind = %K::kind(&()), namespace = self.namespace, name, "apply");
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        match self
            .api::<K>()
            .patch(&name, &parameters, &Patch::Apply(object))
            .await
        {
            Ok(_) => Ok(()),
            Err(error) => Err(self.error::<K>(Action::Apply, &name, error)),
        }
    }

    async fn change(&self, change: &Change) -> Result<(), Error> {
        match change.target.kind {
            Kind::Job => self.patch::<Job>(change).await,
            Kind::Claim => self.patch::<PersistentVolumeClaim>(change).await,
            Kind::Snapshot => self.patch::<VolumeSnapshot>(change).await,
        }
    }

    async fn patch<K>(&self, change: &Change) -> Result<(), Error>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let mut document = change.patch.clone();
        let preconditions =
            json!({ "uid": change.target.uid, "resourceVersion": change.target.resource_version });
        if let (Some(fields), Value::Object(preconditions)) =
            (document.as_object_mut(), preconditions)
        {
            let metadata = fields.entry("metadata").or_insert_with(|| json!({}));
            if let Some(metadata) = metadata.as_object_mut() {
                metadata.extend(
                    preconditions
                        .into_iter()
                        .filter(|(_, value)| !value.is_null()),
                );
            }
        }
        self.merge::<K>(&change.target.name, &document).await?;
        Ok(())
    }

    async fn merge<K>(&self, name: &str, document: &Value) -> Result<K, Error>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        self.api::<K>()
            .patch(name, &as_ourselves(), &Patch::Merge(document))
            .await
            .map_err(|error| self.error::<K>(Action::Change, name, error))
    }

    async fn patch_status<K>(&self, name: &str, document: &Value) -> Result<K, Error>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        self.api::<K>()
            .patch_status(name, &as_ourselves(), &Patch::Merge(document))
            .await
            .map_err(|error| self.error::<K>(Action::Status, name, error))
    }

    async fn delete_one<K>(&self, target: &Existing) -> Result<(), Error>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        tracing::debug!(kind = %K::kind(&()), namespace = self.namespace, name = target.name, "delete");
        // A Job's version changes with its status, which the decision to delete it does not rest on.
        let resource_version = if target.kind == Kind::Job {
            None
        } else {
            target.resource_version.clone()
        };
        let parameters = DeleteParams::background().preconditions(Preconditions {
            uid: Some(target.uid.clone()),
            resource_version,
        });
        match self.api::<K>().delete(&target.name, &parameters).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(self.error::<K>(Action::Delete, &target.name, error)),
        }
    }
}

/// The parameters of a merge patch of ours.
fn as_ourselves() -> PatchParams {
    PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    }
}
