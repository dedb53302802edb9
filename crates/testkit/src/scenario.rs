//! A scenario: namespaces of its own in some cluster, helpers to act there, and a full account when it fails.

use std::fmt::Write as _;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, ListParams, LogParams, Patch, PatchParams, PostParams,
};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use rand::RngExt as _;
use serde_json::{Value, json};

use crate::cluster::{Cluster, Kind, Processes};
use crate::fixture;
use crate::need::Place;
use crate::wait::{Look, wait_for};

/// How long anything that a scenario waits for may take, unless it says otherwise.
pub const CAP: Duration = Duration::from_secs(60);
/// The label that tells which pods a namespace admits.
pub(crate) const PSA_ENFORCE: &str = "pod-security.kubernetes.io/enforce";
/// The label by which namespaces are found that an aborted run left.
const MADE_BY_TESTS: &str = "syncline.dev/test";
/// How much longer everything may take on a real cluster, whose parts wait for one another.
const REAL_FACTOR: u32 = 3;
/// The field manager of test objects.
const MANAGER: &str = "scenario";
/// How many lines of the cluster's log are shown when a scenario fails.
const LOG_LINES: usize = 200;
/// What is shown of each namespace when a scenario fails.
const SHOWN: [&str; 10] = [
    "ReplicationSource",
    "ReplicationDestination",
    "Job",
    "Pod",
    "PersistentVolumeClaim",
    "VolumeSnapshot",
    "Service",
    "Endpoints",
    "Secret",
    "Event",
];

/// Runs one scenario where it can play; when it fails or panics, the error tells everything that was there to see.
///
/// A scenario whose sentence is about the product takes `Cluster::shared(Who::Caller).await?` for its place: that is the
/// cluster of the run, embedded or real, and it must hold on both. Files are reached through [`Site::volume`] and
/// [`Site::open`] only, never by a path of one's own. What not every cluster has is a [`Need`] with its reason, kept in
/// the one list of the suite; where it is not met, the run's output says so.
pub async fn scenario<F, Fut>(place: impl Into<Place>, name: &str, body: F) -> Result<()>
where
    F: FnOnce(Stage) -> Fut,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    let Some(cluster) = place.into().here(name) else {
        return Ok(());
    };
    let stage = Stage {
        cluster: Arc::clone(&cluster),
        name: name.to_owned(),
        namespaces: Arc::default(),
    };
    let outcome = tokio::spawn(body(stage.clone())).await;
    let failure = match outcome {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error),
        Err(panic) => Some(anyhow!("{panic}")),
    };
    match failure {
        None => stage.clean().await,
        Some(error) => {
            let account = stage.account().await;
            let log = cluster.log_about(&stage.made(), LOG_LINES).await;
            Err(error.context(format!("{account}\n==== log of the operator\n{log}")))
        }
    }
}

/// Where a scenario plays: a cluster and the namespaces made for it.
#[derive(Clone)]
pub struct Stage {
    /// The cluster.
    pub cluster: Arc<Cluster>,
    name: String,
    namespaces: Arc<Mutex<Vec<String>>>,
}

impl Stage {
    /// A new namespace, whose name holds the scenario's and `hint`. Its pods may be what rsync's movers are.
    pub async fn site(&self, hint: &str) -> Result<Site> {
        self.site_with(hint, "baseline").await
    }

    /// The same with this level of the Pod Security Standards enforced.
    pub async fn site_with(&self, hint: &str, level: &str) -> Result<Site> {
        let number: u32 = rand::rng().random();
        let namespace = format!("{}-{hint}-{number:08x}", self.name);
        let client = self.cluster.client().await?;
        let site = Site {
            cluster: Arc::clone(&self.cluster),
            client,
            namespace: namespace.clone(),
            cap: CAP,
        };
        let labels = json!({PSA_ENFORCE: level, MADE_BY_TESTS: "scenario"});
        site.apply(
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}}),
        )
        .await?;
        self.namespaces
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(namespace);
        Ok(site)
    }

    /// The processes of these sites' pods whose command line `chosen` picks. The embedded cluster's are those of all
    /// of its pods.
    pub async fn processes(
        &self,
        sites: &[&Site],
        chosen: impl Fn(&str) -> bool,
    ) -> Result<Processes> {
        let mut uids = Vec::new();
        if self.cluster.kind() == Kind::Real {
            for site in sites {
                for pod in site.list("Pod").await? {
                    let uid = pod.pointer("/metadata/uid").and_then(Value::as_str);
                    uids.extend(uid.map(str::to_owned));
                }
            }
        }
        self.cluster.processes(&uids, chosen)
    }

    fn made(&self) -> Vec<String> {
        self.namespaces
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    async fn clean(&self) -> Result<()> {
        let client = self.cluster.client().await?;
        for namespace in self.made() {
            api_of(&client, "Namespace", None)?
                .delete(&namespace, &DeleteParams::default())
                .await?;
        }
        Ok(())
    }

    async fn account(&self) -> String {
        let mut text = String::new();
        let Ok(client) = self.cluster.client().await else {
            return "the cluster has no client for an account".to_owned();
        };
        for namespace in self.made() {
            let site = Site {
                cluster: Arc::clone(&self.cluster),
                client: client.clone(),
                namespace: namespace.clone(),
                cap: CAP,
            };
            for kind in SHOWN {
                for object in site.list(kind).await.unwrap_or_default() {
                    let _ = writeln!(text, "==== {kind} {namespace}/{}", name_of(&object));
                    text.push_str(&short(object));
                }
            }
            for pod in site.list("Pod").await.unwrap_or_default() {
                let name = name_of(&pod);
                let log = site
                    .logs(&name)
                    .await
                    .unwrap_or_else(|error| format!("{error:#}"));
                let _ = writeln!(text, "==== log of pod {name}\n{log}");
            }
        }
        text
    }
}

/// An object as compact YAML-like JSON without its bookkeeping.
fn short(mut object: Value) -> String {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    let secret = object.get("kind").and_then(Value::as_str) == Some("Secret");
    if let (true, Some(fields)) = (secret, object.as_object_mut()) {
        let keys: Vec<String> = fields
            .get("data")
            .and_then(Value::as_object)
            .map(|data| data.keys().cloned().collect())
            .unwrap_or_default();
        fields.insert("data".to_owned(), json!(keys));
    }
    format!("{object}\n")
}

fn name_of(object: &Value) -> String {
    object
        .pointer("/metadata/name")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

/// A namespace: one "site" of a replication.
#[derive(Clone)]
pub struct Site {
    /// The cluster it is in.
    pub cluster: Arc<Cluster>,
    /// A client with the cluster's kubeconfig.
    pub client: Client,
    /// Its name.
    pub namespace: String,
    /// How long its waits may take.
    pub cap: Duration,
}

impl Site {
    /// Server-side applies an object into this namespace and returns what the server made of it.
    pub async fn apply(&self, object: Value) -> Result<Value> {
        let kind = object
            .get("kind")
            .and_then(Value::as_str)
            .context("an object without kind")?
            .to_owned();
        let name = name_of(&object);
        let applied = self
            .api(&kind)?
            .patch(
                &name,
                &PatchParams::apply(MANAGER).force(),
                &Patch::Apply(&object),
            )
            .await
            .with_context(|| format!("cannot apply {kind} {name}"))?;
        Ok(serde_json::to_value(applied)?)
    }

    /// Applies every document of a YAML text.
    pub async fn apply_yaml(&self, text: &str) -> Result<()> {
        for object in fixture::documents(text)? {
            self.apply(object).await?;
        }
        Ok(())
    }

    /// Merges `change` into an object.
    pub async fn merge(&self, kind: &str, name: &str, change: Value) -> Result<Value> {
        let merged = self
            .api(kind)?
            .patch(name, &PatchParams::default(), &Patch::Merge(&change))
            .await?;
        Ok(serde_json::to_value(merged)?)
    }

    /// Merges `change` into an object's status.
    pub async fn merge_status(&self, kind: &str, name: &str, change: Value) -> Result<Value> {
        let merged = self
            .api(kind)?
            .patch_status(name, &PatchParams::default(), &Patch::Merge(&change))
            .await?;
        Ok(serde_json::to_value(merged)?)
    }

    /// Creates an object as a controller of this name does that writes whole objects.
    pub async fn create_as(&self, manager: &str, object: Value) -> Result<()> {
        let object: DynamicObject = serde_json::from_value(object)?;
        let kind = object
            .types
            .as_ref()
            .map(|types| types.kind.clone())
            .context("an object without kind")?;
        let parameters = PostParams {
            field_manager: Some(manager.to_owned()),
            ..PostParams::default()
        };
        self.api(&kind)?.create(&parameters, &object).await?;
        Ok(())
    }

    /// Lets the namespace enforce this level of the Pod Security Standards.
    pub(crate) async fn enforce(&self, level: &str) -> Result<()> {
        let change = json!({"metadata": {"labels": {PSA_ENFORCE: level}}});
        self.merge("Namespace", &self.namespace, change).await?;
        Ok(())
    }

    /// The same site with another cap on its waits.
    #[must_use]
    pub fn within(&self, cap: Duration) -> Self {
        Self {
            cap,
            ..self.clone()
        }
    }

    fn patience(&self) -> Duration {
        match self.cluster.kind() {
            Kind::Embedded => self.cap,
            Kind::Real => self.cap * REAL_FACTOR,
        }
    }

    /// The same site through a new client, for instance after a restart of the cluster.
    pub async fn again(&self) -> Result<Self> {
        Ok(Self {
            client: self.cluster.client().await?,
            ..self.clone()
        })
    }

    /// The object, if there is one.
    pub async fn find(&self, kind: &str, name: &str) -> Result<Option<Value>> {
        Ok(self
            .api(kind)?
            .get_opt(name)
            .await?
            .map(serde_json::to_value)
            .transpose()?)
    }

    /// The object.
    pub async fn get(&self, kind: &str, name: &str) -> Result<Value> {
        self.find(kind, name)
            .await?
            .with_context(|| format!("there is no {kind} {name} in {}", self.namespace))
    }

    /// All objects of a kind.
    pub async fn list(&self, kind: &str) -> Result<Vec<Value>> {
        let list = self.api(kind)?.list(&ListParams::default()).await?;
        list.items
            .into_iter()
            .map(|mut item| {
                item.types.get_or_insert_with(|| kube::core::TypeMeta {
                    kind: kind.to_owned(),
                    ..Default::default()
                });
                Ok(serde_json::to_value(item)?)
            })
            .collect()
    }

    /// Deletes an object; one that is not there is no error.
    pub async fn delete(&self, kind: &str, name: &str) -> Result<()> {
        match self.api(kind)?.delete(name, &DeleteParams::default()).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(error).with_context(|| format!("cannot delete {kind} {name}")),
        }
    }

    /// Deletes a pod without any grace: its containers are killed.
    pub async fn kill_pod(&self, name: &str) -> Result<()> {
        let at_once = DeleteParams {
            grace_period_seconds: Some(0),
            ..DeleteParams::default()
        };
        let killed = self.api("Pod")?.delete(name, &at_once).await;
        killed.with_context(|| format!("cannot kill the pod {name}"))?;
        Ok(())
    }

    /// Waits until `seen` finds in the object what it looks for.
    pub async fn wait<T>(
        &self,
        kind: &str,
        name: &str,
        what: &str,
        seen: impl Fn(&Value) -> Option<T>,
    ) -> Result<T> {
        let text = format!("{kind} {}/{name} to have {what}", self.namespace);
        wait_for(&text, self.patience(), || async {
            let Some(object) = self.find(kind, name).await? else {
                return Ok(Look::NotYet("no such object".to_owned()));
            };
            Ok(seen(&object).map_or_else(
                || Look::NotYet(short(object.get("status").cloned().unwrap_or_default())),
                Look::Done,
            ))
        })
        .await
    }

    /// Waits until the object is gone.
    pub async fn wait_gone(&self, kind: &str, name: &str) -> Result<()> {
        let text = format!("{kind} {}/{name} to be gone", self.namespace);
        wait_for(&text, self.patience(), || async {
            Ok(self
                .find(kind, name)
                .await?
                .map_or(Look::Done(()), |object| Look::NotYet(short(object))))
        })
        .await
    }

    /// A container's log.
    pub async fn logs(&self, pod: &str) -> Result<String> {
        let api: Api<k8s_openapi::api::core::v1::Pod> =
            Api::namespaced(self.client.clone(), &self.namespace);
        Ok(api.logs(pod, &LogParams::default()).await?)
    }

    /// Copies a Secret from here to another site, as a person does between two clusters.
    pub async fn hand_over_secret(&self, name: &str, to: &Self) -> Result<()> {
        let secret = self.get("Secret", name).await?;
        let data = secret.get("data").cloned().unwrap_or_default();
        to.apply(
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data}),
        )
        .await?;
        Ok(())
    }

    /// The API of a kind, in this namespace when the kind has namespaces.
    pub fn api(&self, kind: &str) -> Result<Api<DynamicObject>> {
        api_of(&self.client, kind, Some(&self.namespace))
    }
}

fn api_of(client: &Client, kind: &str, namespace: Option<&str>) -> Result<Api<DynamicObject>> {
    let (group, version, plural, namespaced) = match kind {
        "Namespace" => ("", "v1", "namespaces", false),
        "PersistentVolume" => ("", "v1", "persistentvolumes", false),
        "StorageClass" => ("storage.k8s.io", "v1", "storageclasses", false),
        "Deployment" => ("apps", "v1", "deployments", true),
        "Role" => ("rbac.authorization.k8s.io", "v1", "roles", true),
        "RoleBinding" => ("rbac.authorization.k8s.io", "v1", "rolebindings", true),
        "ClusterRole" => ("rbac.authorization.k8s.io", "v1", "clusterroles", false),
        "ClusterRoleBinding" => (
            "rbac.authorization.k8s.io",
            "v1",
            "clusterrolebindings",
            false,
        ),
        "PersistentVolumeClaim" => ("", "v1", "persistentvolumeclaims", true),
        "Pod" => ("", "v1", "pods", true),
        "Secret" => ("", "v1", "secrets", true),
        "ConfigMap" => ("", "v1", "configmaps", true),
        "ResourceQuota" => ("", "v1", "resourcequotas", true),
        "Service" => ("", "v1", "services", true),
        "ServiceAccount" => ("", "v1", "serviceaccounts", true),
        "Endpoints" => ("", "v1", "endpoints", true),
        "Event" => ("", "v1", "events", true),
        "Job" => ("batch", "v1", "jobs", true),
        "Lease" => ("coordination.k8s.io", "v1", "leases", true),
        "MutatingAdmissionPolicy" => (
            "admissionregistration.k8s.io",
            "v1",
            "mutatingadmissionpolicies",
            false,
        ),
        "MutatingAdmissionPolicyBinding" => (
            "admissionregistration.k8s.io",
            "v1",
            "mutatingadmissionpolicybindings",
            false,
        ),
        "VolumeSnapshot" => ("snapshot.storage.k8s.io", "v1", "volumesnapshots", true),
        "VolumeSnapshotContent" => (
            "snapshot.storage.k8s.io",
            "v1",
            "volumesnapshotcontents",
            false,
        ),
        "ReplicationSource" => ("volsync.backube", "v1alpha1", "replicationsources", true),
        "ReplicationDestination" => (
            "volsync.backube",
            "v1alpha1",
            "replicationdestinations",
            true,
        ),
        other => bail!("the scenarios know no kind {other}: add it to testkit"),
    };
    let resource =
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
    Ok(match namespace {
        Some(namespace) if namespaced => Api::namespaced_with(client.clone(), namespace, &resource),
        _ => Api::all_with(client.clone(), &resource),
    })
}
