//! The cluster that is measured: objects by kind and name, and the operator's Deployment.

use std::time::Duration;

use anyhow::{Context as _, Result};
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::time::sleep;

const MANAGER: &str = "bench";
/// How often something is looked at that no watch tells about.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// A kind of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kind(
    pub(crate) &'static str,
    pub(crate) &'static str,
    pub(crate) &'static str,
);

pub(crate) const NAMESPACE: Kind = Kind("", "v1", "Namespace");
pub(crate) const CLAIM: Kind = Kind("", "v1", "PersistentVolumeClaim");
pub(crate) const POD: Kind = Kind("", "v1", "Pod");
pub(crate) const JOB: Kind = Kind("batch", "v1", "Job");
pub(crate) const DEPLOYMENT: Kind = Kind("apps", "v1", "Deployment");
pub(crate) const SNAPSHOT: Kind = Kind("snapshot.storage.k8s.io", "v1", "VolumeSnapshot");
pub(crate) const SOURCE: Kind = Kind("volsync.backube", "v1alpha1", "ReplicationSource");
pub(crate) const DESTINATION: Kind = Kind("volsync.backube", "v1alpha1", "ReplicationDestination");

impl Kind {
    pub(crate) fn resource(self) -> ApiResource {
        ApiResource::from_gvk(&GroupVersionKind::gvk(self.0, self.1, self.2))
    }

    fn api_version(self) -> String {
        if self.0.is_empty() {
            self.1.to_owned()
        } else {
            format!("{}/{}", self.0, self.1)
        }
    }
}

/// The cluster, and the operator in it.
#[derive(Clone)]
pub(crate) struct Cluster {
    pub(crate) client: Client,
    operator_namespace: String,
    operator: String,
}

impl Cluster {
    /// The cluster of `$KUBECONFIG`; the operator is `NAMESPACE/DEPLOYMENT`.
    pub(crate) async fn connect(operator: &str) -> Result<Self> {
        let (namespace, name) = operator
            .split_once('/')
            .with_context(|| format!("{operator:?} is not NAMESPACE/DEPLOYMENT"))?;
        let client = Client::try_default()
            .await
            .context("no cluster; set KUBECONFIG")?;
        Ok(Self {
            client,
            operator_namespace: namespace.to_owned(),
            operator: name.to_owned(),
        })
    }

    pub(crate) fn api(&self, kind: Kind, namespace: &str) -> Api<DynamicObject> {
        let (client, resource) = (self.client.clone(), kind.resource());
        if kind == NAMESPACE {
            Api::all_with(client, &resource)
        } else {
            Api::namespaced_with(client, namespace, &resource)
        }
    }

    /// Applies an object whose `spec` (or other parts) are `rest`.
    pub(crate) async fn apply(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
        rest: Value,
    ) -> Result<()> {
        let mut object =
            json!({"apiVersion": kind.api_version(), "kind": kind.2, "metadata": {"name": name}});
        merge(&mut object, rest);
        self.api(kind, namespace)
            .patch(
                name,
                &PatchParams::apply(MANAGER).force(),
                &Patch::Apply(object),
            )
            .await
            .with_context(|| format!("{} {namespace}/{name} could not be applied", kind.2))?;
        Ok(())
    }

    /// A namespace in which rsync movers may run.
    pub(crate) async fn namespace(&self, name: &str) -> Result<()> {
        let labels =
            json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "baseline"}}});
        self.apply(NAMESPACE, "", name, labels).await
    }

    /// Deletes a namespace and waits until it is gone.
    pub(crate) async fn drop_namespace(&self, name: &str) -> Result<()> {
        let api = self.api(NAMESPACE, "");
        api.delete(name, &DeleteParams::default()).await?;
        while api.get_opt(name).await?.is_some() {
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// The image that the operator runs.
    pub(crate) async fn image(&self) -> Result<String> {
        let deployment = self
            .api(DEPLOYMENT, &self.operator_namespace)
            .get(&self.operator)
            .await?;
        let image = deployment
            .data
            .pointer("/spec/template/spec/containers/0/image");
        Ok(image
            .and_then(Value::as_str)
            .context("the operator has no image")?
            .to_owned())
    }

    /// Sets how many operators run, and waits until that is so.
    pub(crate) async fn scale_operator(&self, replicas: u32) -> Result<()> {
        let api = self.api(DEPLOYMENT, &self.operator_namespace);
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        api.patch(&self.operator, &PatchParams::default(), &patch)
            .await?;
        loop {
            let status = api.get(&self.operator).await?.data;
            let count = |field: &str| status.pointer(field).and_then(Value::as_u64).unwrap_or(0);
            let wanted = u64::from(replicas);
            if count("/status/readyReplicas") == wanted
                && self.operator_pods().await?.len() == replicas as usize
            {
                return Ok(());
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Sets an argument `--NAME=VALUE` of the operator (none: takes it away), and waits until one runs with it.
    pub(crate) async fn set_operator_argument(
        &self,
        name: &str,
        value: Option<&str>,
    ) -> Result<()> {
        self.scale_operator(0).await?;
        let api = self.api(DEPLOYMENT, &self.operator_namespace);
        let deployment = api.get(&self.operator).await?;
        let path = "/spec/template/spec/containers/0/args";
        let start = format!("--{name}=");
        let mut arguments: Vec<Value> = deployment
            .data
            .pointer(path)
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        arguments.retain(|argument| {
            !argument
                .as_str()
                .is_some_and(|text| text.starts_with(&start))
        });
        arguments.extend(value.map(|value| json!(format!("{start}{value}"))));
        let patch = json!([{"op": "replace", "path": path, "value": arguments}]);
        let patch = Patch::Json::<()>(serde_json::from_value(patch)?);
        api.patch(&self.operator, &PatchParams::default(), &patch)
            .await?;
        self.scale_operator(1).await
    }

    async fn operator_pods(&self) -> Result<Vec<DynamicObject>> {
        let pods = self
            .api(POD, &self.operator_namespace)
            .list(&kube::api::ListParams::default())
            .await?;
        let start = format!("{}-", self.operator);
        let ours = |pod: &DynamicObject| {
            pod.metadata
                .name
                .as_deref()
                .is_some_and(|name| name.starts_with(&start))
        };
        Ok(pods.items.into_iter().filter(ours).collect())
    }

    /// The resident memory of the operator, in MiB, as the kernel of this machine tells it.
    pub(crate) async fn operator_memory(&self) -> Result<f64> {
        let pods = self.operator_pods().await?;
        let uid = pods
            .first()
            .and_then(|pod| pod.metadata.uid.clone())
            .context("no operator runs")?;
        for entry in std::fs::read_dir("/proc")?.flatten() {
            let read =
                |file: &str| std::fs::read_to_string(entry.path().join(file)).unwrap_or_default();
            if !read("cmdline").starts_with("/syncline") || !read("cgroup").contains(&uid) {
                continue;
            }
            let status = read("status");
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            let kib: f64 = line
                .and_then(|line| line.split_whitespace().next())
                .and_then(|number| number.parse().ok())
                .context("no VmRSS")?;
            return Ok(kib / 1024.0);
        }
        anyhow::bail!("the operator's process is not on this machine: its memory cannot be read")
    }
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}
