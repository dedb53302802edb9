//! The clusters that the table is asked of: the embedded one, and a real one when there is one.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use kube::config::{AuthInfo, Kubeconfig};
use syncline_embedded::{Cluster, Config, Launcher, clock::SystemClock};
use syncline_testkit::cluster::config_of;
use tempfile::TempDir;

/// Where the kubeconfig of a real cluster is given.
const KUBECONFIG: &str = "SYNCLINE_E2E_KUBECONFIG";
/// The image of pods in the table: anything with a shell.
const IMAGE: &str = "SYNCLINE_E2E_IMAGE";
/// The program of our own real cluster.
const CLUSTER: &str = "SYNCLINE_E2E_CLUSTER";
/// Set to record the answers of the real cluster instead of comparing them.
const RECORD: &str = "SYNCLINE_API_RECORD";

/// A cluster with clients.
pub(crate) struct Site {
    pub(crate) client: kube::Client,
    /// A client without credentials.
    pub(crate) stranger: kube::Client,
    pub(crate) kubeconfig: PathBuf,
    /// An image with `sh`.
    pub(crate) image: String,
    /// What this cluster calls things, and what the table calls them.
    pub(crate) words: Vec<(String, String)>,
    embedded: Option<(Cluster, TempDir)>,
}

impl Site {
    /// The embedded cluster.
    pub(crate) async fn embedded() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::embedded_in(folder).await
    }

    async fn embedded_in(folder: TempDir) -> Self {
        let mut config = Config::new(folder.path());
        config
            .images
            .insert("table.example/shell".to_owned(), "/bin/sh".into());
        config.launcher = Launcher {
            program: PathBuf::from(env!("CARGO_BIN_EXE_api-table-launcher")),
            arguments: Vec::new(),
        };
        let cluster = Cluster::start(config, Arc::new(SystemClock)).await.unwrap();
        let kubeconfig = cluster.kubeconfig().to_owned();
        let image = "table.example/shell:1".to_owned();
        let client = client(&kubeconfig, false).await;
        Self {
            words: words(&client, &image).await,
            client,
            stranger: self::client(&kubeconfig, true).await,
            kubeconfig,
            image,
            embedded: Some((cluster, folder)),
        }
    }

    /// The same after it has forgotten its first revisions: the embedded cluster remembers nothing of its last life, etcd
    /// nothing from before its compaction. Another real cluster is taken to be old enough.
    pub(crate) async fn aged(mut self) -> Self {
        if let Some((cluster, folder)) = self.embedded.take() {
            cluster.shutdown().await;
            return Self::embedded_in(folder).await;
        }
        if let Some(program) = std::env::var_os(CLUSTER) {
            let address = "http://127.0.0.1:2379/v3/kv/compaction";
            let command = [
                "exec",
                "--",
                "curl",
                "-s",
                "-d",
                "{\"revision\":\"2\"}",
                address,
            ];
            let output = Command::new(program).args(command).output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            // One that was compacted further says so, which is as good.
            let is_done = said.contains("\"header\"") || said.contains("has been compacted");
            assert!(output.status.success() && is_done, "{output:?}");
        }
        self
    }

    /// The real one, when a kubeconfig names it.
    pub(crate) async fn real() -> Option<Self> {
        let kubeconfig = PathBuf::from(std::env::var_os(KUBECONFIG)?);
        let image = std::env::var(IMAGE).unwrap_or_else(|_| "table.example/shell:1".to_owned());
        let client = client(&kubeconfig, false).await;
        Some(Self {
            words: words(&client, &image).await,
            client,
            stranger: self::client(&kubeconfig, true).await,
            kubeconfig,
            image,
            embedded: None,
        })
    }

    /// Every cluster of this run.
    pub(crate) async fn all() -> Vec<Self> {
        let mut all = Vec::from_iter(Self::real().await);
        if !all.iter().any(Self::is_recorded) {
            all.insert(0, Self::embedded().await);
        }
        all
    }

    pub(crate) fn is_embedded(&self) -> bool {
        self.embedded.is_some()
    }

    /// Whether the answers here are written down instead of compared.
    pub(crate) fn is_recorded(&self) -> bool {
        !self.is_embedded() && std::env::var_os(RECORD).is_some()
    }

    /// What it is called in messages.
    pub(crate) fn title(&self) -> &'static str {
        if self.is_embedded() {
            "the embedded cluster"
        } else {
            "the real cluster"
        }
    }

    pub(crate) async fn stop(self) {
        if let Some((cluster, _folder)) = self.embedded {
            cluster.shutdown().await;
        }
    }
}

/// The names of the image, the driver, the node and the default classes.
async fn words(client: &kube::Client, image: &str) -> Vec<(String, String)> {
    let list = async |path: &str| {
        let request = http::Request::get(path).body(Vec::new()).unwrap();
        let list: serde_json::Value = client.request(request).await.unwrap();
        list["items"].as_array().cloned().unwrap_or_default()
    };
    let mut words = vec![(image.to_owned(), "{image}".to_owned())];
    for class in list("/apis/storage.k8s.io/v1/storageclasses").await {
        let default =
            &class["metadata"]["annotations"]["storageclass.kubernetes.io/is-default-class"];
        if default == "true" {
            words.extend(
                class["provisioner"]
                    .as_str()
                    .map(|name| (name.to_owned(), "{driver}".to_owned())),
            );
        }
    }
    // A short name like `syncline` may be part of others.
    for node in list("/api/v1/nodes").await {
        let name = node["metadata"]["name"].as_str().unwrap_or_default();
        words.push((format!(" to {name}"), " to {node}".to_owned()));
    }
    words
}

async fn client(kubeconfig: &Path, anonymous: bool) -> kube::Client {
    let mut kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    if anonymous {
        for user in &mut kubeconfig.auth_infos {
            user.auth_info = Some(AuthInfo::default());
        }
    }
    let mut config = config_of(kubeconfig).await.unwrap();
    // An answer like 504 is an answer.
    config.default_retry = false;
    kube::Client::try_from(config).unwrap()
}
