//! A cluster with one image, a shell, and ways to look at it.

use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{Api, ListParams, LogParams, PostParams};
use kube::runtime::wait::await_condition;
use kube::{Client, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use syncline_embedded::{Cluster, Config, Launcher, clock::SystemClock};

/// Longer than anything here takes on a loaded machine.
const CAP: Duration = Duration::from_secs(60);

pub(crate) struct Stage {
    pub(crate) cluster: Cluster,
    pub(crate) client: Client,
}

impl Stage {
    pub(crate) async fn start(folder: &Path) -> Self {
        let own = std::env::current_exe().unwrap();
        let program = own
            .parent()
            .and_then(Path::parent)
            .unwrap()
            .join("examples/pod-launcher");
        let mut config = Config::new(folder);
        config.images.insert("shell".to_owned(), "/bin/sh".into());
        config.launcher = Launcher {
            program,
            arguments: Vec::new(),
        };
        let cluster = Cluster::start(config, Arc::new(SystemClock)).await.unwrap();
        let client = cluster.client();
        Self { cluster, client }
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), "default")
    }

    pub(crate) async fn create<K>(&self, object: Value) -> K
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned
            + serde::Serialize,
    {
        let object: K = serde_json::from_value(object).unwrap();
        self.api()
            .create(&PostParams::default(), &object)
            .await
            .unwrap()
    }

    /// Waits until an object is as wanted; gives it as it is then.
    pub(crate) async fn until<K>(
        &self,
        name: &str,
        what: &str,
        holds: impl Fn(&Value) -> bool,
    ) -> Value
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned
            + serde::Serialize
            + Send
            + 'static,
    {
        let condition = |object: Option<&K>| {
            object.is_some_and(|object| holds(&serde_json::to_value(object).unwrap()))
        };
        let waited =
            tokio::time::timeout(CAP, await_condition(self.api::<K>(), name, condition)).await;
        if let Ok(found) = waited {
            serde_json::to_value(found.unwrap().unwrap()).unwrap()
        } else {
            let last = self.api::<K>().get_opt(name).await.unwrap();
            let last = serde_json::to_string_pretty(&last).unwrap();
            panic!(
                "{name}: {what} did not come true: {last}\n{:#?}",
                self.events(name).await
            )
        }
    }

    pub(crate) async fn gone<K>(&self, name: &str)
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + 'static,
    {
        let gone = await_condition(self.api::<K>(), name, |object: Option<&K>| object.is_none());
        tokio::time::timeout(CAP, gone)
            .await
            .expect("it is still there")
            .unwrap();
    }

    /// The one pod of a Job, once it is there.
    pub(crate) async fn pod_of(&self, job: &str) -> Pod {
        let pods: Api<Pod> = self.api();
        let of_job = ListParams::default().labels(&format!("job-name={job}"));
        for _ in 0..600 {
            let found = pods.list(&of_job).await.unwrap().items;
            if let Some(pod) = found
                .into_iter()
                .max_by_key(|pod| pod.creation_timestamp().map(|time| time.0))
            {
                return pod;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{job} has no pod: {:#?}", self.events(job).await)
    }

    /// `Type Reason message` of every Event about an object.
    pub(crate) async fn events(&self, name: &str) -> Vec<String> {
        let all = self
            .api::<Event>()
            .list(&ListParams::default())
            .await
            .unwrap()
            .items;
        let about = all
            .into_iter()
            .filter(|event| event.involved_object.name.as_deref() == Some(name));
        let text = |text: Option<String>| text.unwrap_or_default();
        about
            .map(|event| {
                format!(
                    "{} {} {}",
                    text(event.type_),
                    text(event.reason),
                    text(event.message)
                )
            })
            .collect()
    }

    pub(crate) async fn has_event(&self, name: &str, wanted: &str) {
        for _ in 0..600 {
            if self
                .events(name)
                .await
                .iter()
                .any(|event| event.starts_with(wanted))
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!(
            "no Event {wanted:?} about {name}: {:#?}",
            self.events(name).await
        )
    }

    pub(crate) async fn soon(&self, what: &str, holds: impl Fn() -> bool) {
        for _ in 0..600 {
            if holds() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{what} did not come true")
    }

    pub(crate) async fn log(&self, pod: &str) -> String {
        self.api::<Pod>()
            .logs(pod, &LogParams::default())
            .await
            .unwrap()
    }
}

/// A container that runs a script.
pub(crate) fn container(script: &str) -> Value {
    json!({ "name": "c", "image": "shell", "command": ["/shell", "-c", script] })
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "a `json!` reads best in place"
)]
pub(crate) fn pod(name: &str, spec: Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name }, "spec": spec })
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "a `json!` reads best in place"
)]
pub(crate) fn job(name: &str, container: &Value, extra: Value) -> Value {
    let template = json!({ "spec": { "restartPolicy": "Never", "terminationGracePeriodSeconds": 2, "containers": [container] } });
    let mut spec = json!({ "template": template });
    spec.as_object_mut()
        .unwrap()
        .extend(extra.as_object().unwrap().clone());
    json!({ "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": name }, "spec": spec })
}

pub(crate) fn phase(object: &Value) -> &str {
    object["status"]["phase"].as_str().unwrap_or_default()
}

/// The conditions that are true.
pub(crate) fn conditions(object: &Value) -> Vec<&str> {
    let all = object["status"]["conditions"].as_array();
    let holding = all
        .into_iter()
        .flatten()
        .filter(|condition| condition["status"] == "True");
    holding
        .filter_map(|condition| condition["type"].as_str())
        .collect()
}
