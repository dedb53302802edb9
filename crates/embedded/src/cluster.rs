//! Starting and stopping the parts together.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, ObjectMeta, PostParams};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::clock::Clock;
use crate::server::{
    ApiService, Server,
    shell::{Shell, ShellError},
};
use crate::store::{DataLock, LockError, OpenError, Store};

/// Namespaces that every cluster has.
const NAMESPACES: [&str; 2] = ["default", "kube-system"];

/// What a cluster is made of.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where everything is kept: the database, keys, volumes, logs.
    pub data_dir: PathBuf,
    /// Image name → the executable that is at `/<name>` in its pods, for instance `syncline` → this binary.
    pub images: BTreeMap<String, PathBuf>,
    /// Where HTTPS listens; port 0 takes the port of the last start if it is free, else any.
    pub listen: SocketAddr,
}

impl Config {
    /// A cluster in this folder, on any loopback port, without images.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            images: BTreeMap::new(),
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
    /// Another cluster runs on the data folder, or it cannot be locked. The message names the holder's pid.
    #[error("{0}")]
    Lock(String),
    /// The database cannot be opened.
    #[error("{0}")]
    Store(String),
    /// HTTPS cannot be served.
    #[error("{0}")]
    Shell(String),
    /// The cluster's own objects could not be made.
    #[error("cannot make the namespace {name}: {source}; the log says what the API server found")]
    Namespace {
        /// The namespace.
        name: &'static str,
        /// What the API says.
        source: Box<kube::Error>,
    },
}

impl From<LockError> for StartError {
    fn from(error: LockError) -> Self {
        Self::Lock(error.to_string())
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

/// A running cluster.
pub struct Cluster {
    server: Arc<Server>,
    shell: Shell,
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
        let server = Arc::new(Server::new(store, Arc::clone(&clock), stop.clone()));
        server.install_stored_definitions();

        let tasks = TaskTracker::new();
        tasks.spawn(Arc::clone(&server).clean_up_definitions());
        let client = client(&server);
        make_namespaces(&client).await?;
        let shell =
            Shell::start(&config, ApiService::new(Arc::clone(&server)), &clock, &stop).await?;
        Ok(Self {
            server,
            shell,
            stop,
            tasks,
            _lock: lock,
        })
    }

    /// A client of the API in this process, with all rights.
    pub fn client(&self) -> kube::Client {
        client(&self.server)
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

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn client(server: &Arc<Server>) -> kube::Client {
    kube::Client::new(ApiService::new(Arc::clone(server)), "default")
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

async fn make_namespaces(client: &kube::Client) -> Result<(), StartError> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    for name in NAMESPACES {
        let namespace = Namespace {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                ..ObjectMeta::default()
            },
            ..Namespace::default()
        };
        match namespaces.create(&PostParams::default(), &namespace).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(source) => {
                return Err(StartError::Namespace {
                    name,
                    source: Box::new(source),
                });
            }
        }
    }
    Ok(())
}
