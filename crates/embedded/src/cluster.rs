//! Starting and stopping the parts together.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};

use syncline_volumes::Volumes;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::clock::Clock;
use crate::controllers::{self, Context, InstallError};
use crate::node::{Launcher, Node, NodeConfig, NodeError};
use crate::server::{
    ApiService, Server,
    shell::{Shell, ShellError},
};
use crate::startup::{self, StartupError};
use crate::store::{DataLock, LockError, OpenError, Store};

/// What a cluster is made of.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where everything is kept: the database, keys, volumes, logs.
    pub data_dir: PathBuf,
    /// Image name → the executable that is at `/<name>` in its pods, for instance `syncline` → this binary.
    pub images: BTreeMap<String, PathBuf>,
    /// A folder of the host with further programs for all pods, first in their `PATH`.
    pub programs: Option<PathBuf>,
    /// The program that becomes a container's first process; by default this very one.
    pub launcher: Launcher,
    /// Where HTTPS listens; port 0 takes the port of the last start if it is free, else any.
    pub listen: SocketAddr,
}

impl Config {
    /// A cluster in this folder, on any loopback port, without images.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            images: BTreeMap::new(),
            programs: None,
            launcher: Launcher::of_program(PathBuf::from("/proc/self/exe")),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        }
    }
}

/// Why a cluster did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder cannot be made.
    #[error(
        "cannot make the data folder {path}: {source}; see that its parent exists and belongs to this user"
    )]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Another cluster runs on the data folder. The message names the holder's pid.
    #[error("{0}")]
    InUse(String),
    /// The data folder cannot be locked.
    #[error("{0}")]
    Lock(String),
    /// The database cannot be opened.
    #[error("{0}")]
    Store(String),
    /// HTTPS cannot be served.
    #[error("{0}")]
    Shell(String),
    /// The node cannot run pods.
    #[error("{0}")]
    Node(String),
    /// The folders of volumes and snapshots cannot be used.
    #[error("{0}")]
    Volumes(String),
    /// The cluster's own objects could not be made.
    #[error("{0}")]
    Objects(String),
}

impl From<StartupError> for StartError {
    fn from(error: StartupError) -> Self {
        Self::Objects(error.to_string())
    }
}

impl From<InstallError> for StartError {
    fn from(error: InstallError) -> Self {
        Self::Objects(error.to_string())
    }
}

impl From<syncline_volumes::Error> for StartError {
    fn from(error: syncline_volumes::Error) -> Self {
        Self::Volumes(error.to_string())
    }
}

impl From<LockError> for StartError {
    fn from(error: LockError) -> Self {
        let text = error.to_string();
        match error {
            LockError::Held { .. } => Self::InUse(text),
            LockError::File { .. } => Self::Lock(text),
        }
    }
}

impl From<OpenError> for StartError {
    fn from(error: OpenError) -> Self {
        Self::Store(error.to_string())
    }
}

impl From<ShellError> for StartError {
    fn from(error: ShellError) -> Self {
        Self::Shell(error.to_string())
    }
}

impl From<NodeError> for StartError {
    fn from(error: NodeError) -> Self {
        Self::Node(error.to_string())
    }
}

/// A running cluster.
pub struct Cluster {
    server: Arc<Server>,
    shell: Shell,
    node: Node,
    /// Ends the controllers, which need the server to the last.
    stop_controllers: CancellationToken,
    controllers: TaskTracker,
    /// Ends the server.
    stop: CancellationToken,
    tasks: TaskTracker,
    _lock: DataLock,
}

impl Cluster {
    /// Takes the data folder, opens the store and serves it.
    pub async fn start(config: Config, clock: Arc<dyn Clock>) -> Result<Self, StartError> {
        make_folder(&config.data_dir)?;
        let lock = DataLock::take(&config.data_dir)?;
        let store = Arc::new(Store::open_file(&config.data_dir.join("cluster.db"))?);
        let stop = CancellationToken::new();
        // A start that fails half-way leaves nothing running.
        let unfinished = stop.clone().drop_guard();
        let server = Arc::new(Server::new(store, Arc::clone(&clock), stop.clone()));
        server.install_stored_definitions();

        let tasks = TaskTracker::new();
        tasks.spawn(Arc::clone(&server).clean_up_definitions());
        tasks.spawn(Arc::clone(&server).expire_events());
        let own = client(&server, "kube-apiserver");
        startup::make_objects(&own).await?;
        controllers::install(&own).await?;
        let shell =
            Shell::start(&config, ApiService::new(Arc::clone(&server)), &clock, &stop).await?;
        let (stop_controllers, controllers) = (stop.child_token(), TaskTracker::new());
        controllers.spawn(controllers::run(Context {
            client: client(&server, "kube-controller-manager"),
            volumes: Volumes::open(&config.data_dir)?,
            clock: Arc::clone(&clock),
            stop: stop_controllers.clone(),
            authority: shell.authority().to_owned(),
        }));
        let node = start_node(&server, config, clock).await?;
        server.set_logs(Arc::new(node.logs()));
        drop(unfinished.disarm());
        Ok(Self {
            server,
            shell,
            node,
            stop_controllers,
            controllers,
            stop,
            tasks,
            _lock: lock,
        })
    }

    /// A client of the API in this process, with all rights.
    pub fn client(&self) -> kube::Client {
        client(&self.server, "unknown")
    }

    /// The kubeconfig for clients of other processes; only this user can read it.
    pub fn kubeconfig(&self) -> &Path {
        self.shell.kubeconfig()
    }

    /// Where the API is served, for instance `https://127.0.0.1:6443`.
    pub fn url(&self) -> String {
        self.shell.url()
    }

    /// Stops the pods, ends every watch and closes the store.
    pub async fn shutdown(self) {
        self.stop_controllers.cancel();
        self.controllers.close();
        self.controllers.wait().await;
        self.node.shutdown().await;
        self.stop.cancel();
        self.shell.stopped().await;
        self.tasks.close();
        self.tasks.wait().await;
        let store = Arc::clone(&self.server.store);
        if tokio::task::spawn_blocking(move || store.close())
            .await
            .is_err()
        {
            tracing::error!("the store did not close in order; what it acknowledged is safe");
        }
    }
}

fn client(server: &Arc<Server>, name: &'static str) -> kube::Client {
    kube::Client::new(ApiService::new(Arc::clone(server)).named(name), "default")
}

async fn start_node(
    server: &Arc<Server>,
    config: Config,
    clock: Arc<dyn Clock>,
) -> Result<Node, NodeError> {
    let Config {
        data_dir,
        images,
        programs,
        launcher,
        ..
    } = config;
    Node::start(
        client(server, "kubelet"),
        NodeConfig {
            data_dir,
            images,
            programs,
            launcher,
            clock,
        },
    )
    .await
}

fn make_folder(path: &Path) -> Result<(), StartError> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| StartError::Folder {
            path: path.to_owned(),
            source,
        })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::api::{Api, ObjectMeta, PostParams};
    use kube::config::{KubeConfigOptions, Kubeconfig};

    use super::*;
    use crate::clock::SystemClock;

    async fn start(folder: &Path) -> Result<Cluster, StartError> {
        Cluster::start(Config::new(folder), Arc::new(SystemClock)).await
    }

    async fn https_client(cluster: &Cluster) -> kube::Client {
        let config = Kubeconfig::read_from(cluster.kubeconfig()).unwrap();
        let config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default())
            .await
            .unwrap();
        kube::Client::try_from(config).unwrap()
    }

    fn map(name: &str) -> ConfigMap {
        ConfigMap {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                ..ObjectMeta::default()
            },
            ..ConfigMap::default()
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_cluster_is_reached_by_its_kubeconfig_and_goes_on_after_a_restart() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let cluster = start(folder.path()).await.unwrap();
        let permissions = std::fs::metadata(cluster.kubeconfig())
            .unwrap()
            .permissions();
        assert_eq!(permissions.mode() & 0o777, 0o600);
        let client = https_client(&cluster).await;
        assert_eq!(client.apiserver_version().await.unwrap().major, "1");
        let maps: Api<ConfigMap> = Api::default_namespaced(client);
        let made = maps
            .create(&PostParams::default(), &map("kept"))
            .await
            .unwrap();
        let url = cluster.url();
        cluster.shutdown().await;

        let cluster = start(folder.path()).await.unwrap();
        assert_eq!(cluster.url(), url);
        let maps: Api<ConfigMap> = Api::default_namespaced(https_client(&cluster).await);
        assert_eq!(maps.get("kept").await.unwrap().metadata, made.metadata);
        cluster.shutdown().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn open_watches_end_when_the_cluster_stops() {
        use futures::{StreamExt as _, TryStreamExt as _};
        let folder = tempfile::tempdir().unwrap();
        let cluster = start(folder.path()).await.unwrap();
        let inside: Api<ConfigMap> = Api::default_namespaced(cluster.client());
        let outside: Api<ConfigMap> = Api::default_namespaced(https_client(&cluster).await);
        let parameters = kube::api::WatchParams::default().labels("none=none");
        let mut inside = inside.watch(&parameters, "0").await.unwrap().boxed();
        let mut outside = outside.watch(&parameters, "0").await.unwrap().boxed();
        let stopping = tokio::spawn(cluster.shutdown());
        assert!(inside.try_next().await.unwrap().is_none());
        assert!(outside.try_next().await.unwrap().is_none());
        stopping.await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn without_a_credential_everything_but_the_version_is_forbidden() {
        let folder = tempfile::tempdir().unwrap();
        let cluster = start(folder.path()).await.unwrap();
        let mut config = Kubeconfig::read_from(cluster.kubeconfig()).unwrap();
        config.auth_infos[0].auth_info = Some(kube::config::AuthInfo::default());
        let config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default())
            .await
            .unwrap();
        let client = kube::Client::try_from(config).unwrap();
        client.apiserver_version().await.unwrap();
        let maps: Api<ConfigMap> = Api::default_namespaced(client);
        let Err(kube::Error::Api(refused)) = maps.list(&kube::api::ListParams::default()).await
        else {
            panic!("an anonymous client was let in");
        };
        assert_eq!(
            refused.message,
            "configmaps is forbidden: User \"system:anonymous\" cannot list resource \"configmaps\" in API group \"\" in \
             the namespace \"default\""
        );
        cluster.shutdown().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_second_cluster_on_the_same_data_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let cluster = start(folder.path()).await.unwrap();
        let refused = start(folder.path()).await.err().unwrap().to_string();
        assert!(
            refused.contains(&format!("process {}", std::process::id())),
            "{refused}"
        );
        cluster.shutdown().await;
    }
}
