//! The clusters that the table is asked of: the embedded one, and a real one when there is one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use syncline_embedded::{Cluster, Config, Launcher, clock::SystemClock};
use tempfile::TempDir;

/// Where the kubeconfig of a real cluster is given.
const KUBECONFIG: &str = "SYNCLINE_E2E_KUBECONFIG";
/// The image of pods in the table: anything with a shell.
const IMAGE: &str = "SYNCLINE_E2E_IMAGE";
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
    embedded: Option<(Cluster, TempDir)>,
}

impl Site {
    /// The embedded cluster.
    pub(crate) async fn embedded() -> Self {
        let folder = tempfile::tempdir().unwrap();
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
        Self {
            client: client(&kubeconfig, false).await,
            stranger: client(&kubeconfig, true).await,
            kubeconfig,
            image: "table.example/shell:1".to_owned(),
            embedded: Some((cluster, folder)),
        }
    }

    /// The real one, when a kubeconfig names it.
    pub(crate) async fn real() -> Option<Self> {
        let kubeconfig = PathBuf::from(std::env::var_os(KUBECONFIG)?);
        Some(Self {
            client: client(&kubeconfig, false).await,
            stranger: client(&kubeconfig, true).await,
            kubeconfig,
            image: std::env::var(IMAGE).unwrap_or_else(|_| "table.example/shell:1".to_owned()),
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

async fn client(kubeconfig: &Path, anonymous: bool) -> kube::Client {
    let mut kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    if anonymous {
        for user in &mut kubeconfig.auth_infos {
            user.auth_info = Some(AuthInfo::default());
        }
    }
    let options = KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options);
    let mut config = config.await.unwrap();
    // An answer like 504 is an answer.
    config.default_retry = false;
    kube::Client::try_from(config).unwrap()
}
