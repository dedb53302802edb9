//! The requests that reading takes.

use std::fmt::Debug;

use k8s_openapi::api::core::v1::{Event, Namespace, Node, Pod};
use kube::api::{Api, ListParams, LogParams};
use kube::core::{ClusterResourceScope, NamespaceResourceScope};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;

use super::complaints::newest;
use super::{Complaint, Found};

/// Objects a page of a list holds at most.
const PAGE: u32 = 500;
/// Lines of a log that are read when a mover left no report, unless told otherwise.
const LOG_LINES: i64 = 200;

/// Something could not be read. It is tried again, with backoff.
#[derive(Debug, thiserror::Error)]
#[error("{what} could not be read")]
pub struct Error {
    /// What was to be read.
    what: String,
    /// Why not.
    #[source]
    pub source: Box<kube::Error>,
}

impl Error {
    fn new(what: String, source: kube::Error) -> Self {
        Self {
            what,
            source: Box::new(source),
        }
    }

    /// Whether the operator has no right to read it.
    pub fn is_forbidden(&self) -> bool {
        matches!(&*self.source, kube::Error::Api(status) if status.code == 403)
    }
}

/// The namespace that every cluster has from its beginning to its end.
const OLDEST_NAMESPACE: &str = "kube-system";

/// Reads in one namespace.
pub(crate) struct Reader<'a> {
    client: &'a Client,
    namespace: &'a str,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(client: &'a Client, namespace: &'a str) -> Self {
        Self { client, namespace }
    }

    pub(crate) async fn get<K>(&self, name: &str) -> Result<Option<K>, Error>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), self.namespace);
        api.get_opt(name).await.map_err(|error| {
            Error::new(format!("{} {}/{name}", K::kind(&()), self.namespace), error)
        })
    }

    pub(crate) async fn get_global<K>(&self, name: &str) -> Result<Option<K>, Error>
    where
        K: Resource<Scope = ClusterResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let api: Api<K> = Api::all(self.client.clone());
        api.get_opt(name)
            .await
            .map_err(|error| Error::new(format!("{} {name}", K::kind(&())), error))
    }

    /// Whether an object exists; nothing but its metadata is read.
    pub(super) async fn exists<K>(&self, name: &str) -> Result<bool, Error>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), self.namespace);
        match api.get_metadata_opt(name).await {
            Ok(found) => Ok(found.is_some()),
            Err(error) => Err(Error::new(
                format!("{} {}/{name}", K::kind(&()), self.namespace),
                error,
            )),
        }
    }

    /// A node. An operator that may not read nodes sees none.
    pub(super) async fn node(&self, name: &str) -> Result<Option<Node>, Error> {
        match self.get_global(name).await {
            Err(error) if error.is_forbidden() => Ok(None),
            found => found,
        }
    }

    /// The namespace itself. An operator that may not read it sees none.
    pub(crate) async fn namespace(&self) -> Result<Option<Namespace>, Error> {
        match self.get_global(self.namespace).await {
            Err(error) if error.is_forbidden() => Ok(None),
            found => found,
        }
    }

    /// What tells this cluster from all others. An operator that may not read it knows nothing.
    pub(super) async fn cluster(&self) -> Result<Option<String>, Error> {
        match self.get_global::<Namespace>(OLDEST_NAMESPACE).await {
            Err(error) if error.is_forbidden() => Ok(None),
            found => Ok(found?.and_then(|namespace| namespace.metadata.uid)),
        }
    }

    /// Whether a class exists. An operator that may not read classes takes them for present: the API server will tell.
    pub(super) async fn finds<K>(&self, name: Option<&str>) -> Result<Found, Error>
    where
        K: Resource<Scope = ClusterResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let Some(name) = name else {
            return Ok(Found::NotNamed);
        };
        let api: Api<K> = Api::all(self.client.clone());
        match api.get_metadata_opt(name).await {
            Ok(Some(_)) => Ok(Found::Present),
            Ok(None) => Ok(Found::Missing),
            Err(kube::Error::Api(status)) if status.code == 403 => Ok(Found::Present),
            Err(error) => Err(Error::new(format!("{} {name}", K::kind(&())), error)),
        }
    }

    /// All objects with a label; `None` when the cluster does not know the kind.
    pub(crate) async fn list<K>(&self, label: &str) -> Result<Option<Vec<K>>, Error>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), self.namespace);
        let mut parameters = ListParams::default().limit(PAGE);
        if !label.is_empty() {
            parameters = parameters.labels(label);
        }
        let mut all = Vec::new();
        loop {
            let page = match api.list(&parameters).await {
                Ok(page) => page,
                Err(kube::Error::Api(status)) if status.code == 404 => return Ok(None),
                Err(error) => {
                    return Err(Error::new(
                        format!("{} in {}", K::plural(&()), self.namespace),
                        error,
                    ));
                }
            };
            all.extend(page.items);
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => parameters = parameters.continue_token(&token),
                None => return Ok(Some(all)),
            }
        }
    }

    /// The newest warning about an object. An operator that may not read events hears none.
    pub(super) async fn complaint(&self, uid: &str) -> Result<Option<Complaint>, Error> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), self.namespace);
        let parameters = ListParams::default()
            .fields(&format!("involvedObject.uid={uid}"))
            .limit(PAGE);
        match api.list(&parameters).await {
            Ok(events) => Ok(newest(events.items)),
            Err(kube::Error::Api(status)) if status.code == 403 => Ok(None),
            Err(error) => Err(Error::new(format!("events in {}", self.namespace), error)),
        }
    }

    /// The end of a mover's log. That it cannot be read never keeps a run from ending.
    pub(super) async fn log(
        &self,
        pod: &str,
        container: &str,
        lines: Option<i64>,
    ) -> Option<String> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), self.namespace);
        let parameters = LogParams {
            container: Some(container.to_owned()),
            tail_lines: Some(lines.unwrap_or(LOG_LINES)),
            ..LogParams::default()
        };
        match api.logs(pod, &parameters).await {
            Ok(text) => {
                let lines = text
                    .lines()
                    .filter(|line| syncline_api::report::parse_line(line).is_none());
                Some(lines.collect::<Vec<_>>().join("\n"))
            }
            Err(error) => {
                tracing::debug!(pod, %error, "the mover's log could not be read");
                None
            }
        }
    }
}
