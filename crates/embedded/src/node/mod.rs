//! The node: pods as processes.
//!
//! One task a pod ([`worker`]) carries it through its life: bound once its claims are, its containers started by the
//! [`launcher`] in roots of their own, its status and Events written as the kubelet writes them, and its end. Nothing
//! polls: a pod that waits is woken by the change of a claim, a volume, a Secret or a ConfigMap.
//!
//! Not done here: resource limits and probes (a container that runs is ready), projected service account tokens, live
//! updates of mounted Secrets, sidecars, block volumes.

mod address;
mod container;
mod env;
pub(crate) mod events;
mod images;
pub(crate) mod launcher;
mod log;
mod logs;
mod object;
mod prepare;
pub(crate) mod quantity;
pub(crate) mod references;
pub(crate) mod status;
mod volumes;
mod worker;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;

use futures::{Stream, StreamExt as _};
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolume, PersistentVolumeClaim, Pod, Secret};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt as _};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use self::address::Addresses;
pub use self::container::Launcher;
use self::events::Recorder;
use self::launcher::spec::Identity;
use self::log::OpenLogs;
pub(crate) use self::logs::NodeLogs;
use self::worker::Worker;
use crate::clock::Clock;

/// What a node is made of.
pub(crate) struct NodeConfig {
    /// The cluster's data folder; pods live in `pods/<uid>`.
    pub(crate) data_dir: PathBuf,
    /// Image name → program on the host, which a pod sees as `/<name>`.
    pub(crate) images: BTreeMap<String, PathBuf>,
    /// A folder of the host with further programs for all pods.
    pub(crate) programs: Option<PathBuf>,
    /// The program that becomes a container's first process.
    pub(crate) launcher: Launcher,
    /// Where times come from.
    pub(crate) clock: Arc<dyn Clock>,
}

/// Why the node could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NodeError {
    /// The folder of the pods cannot be made.
    #[error("cannot make the folder {path} for pods: {source}; make it writable for this user")]
    Folder {
        /// Which.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The API server did not take the Node object.
    #[error("cannot register the node with the API server: {0}")]
    Register(#[source] Box<kube::Error>),
}

/// What all pods of the node share.
pub(crate) struct Shared {
    client: Client,
    data_dir: PathBuf,
    images: BTreeMap<String, PathBuf>,
    programs: Option<PathBuf>,
    launcher: Launcher,
    clock: Arc<dyn Clock>,
    /// The node was started by root, and gives pods the users they ask for.
    privileged: bool,
    kubelet: Recorder,
    scheduler: Recorder,
    addresses: Addresses,
    logs: OpenLogs,
    /// Counts changes of whatever a pod may wait for.
    changes: watch::Sender<u64>,
    stop: CancellationToken,
}

impl Shared {
    fn pod_dir(&self, uid: &str) -> PathBuf {
        self.data_dir.join("pods").join(uid)
    }

    /// The uid that a container really has.
    fn uid_of(&self, identity: &Identity) -> u32 {
        if self.privileged {
            identity.uid
        } else {
            rustix::process::geteuid().as_raw()
        }
    }

    /// Waits a little after the API server failed, which it does only when the cluster stops or its disk is full.
    async fn pause_after(&self, error: &kube::Error) {
        tracing::warn!(%error, "the node could not reach the API server");
        let now = self.clock.now();
        let until = now.checked_add(SignedDuration::from_secs(1)).unwrap_or(now);
        tokio::select! {
            () = self.clock.sleep_until(until) => {}
            () = self.stop.cancelled() => {}
        }
    }

    /// Removes a pod's folder.
    async fn clear(&self, uid: &str) {
        let folder = self.pod_dir(uid);
        if let Err(error) = tokio::fs::remove_dir_all(&folder).await
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, folder = %folder.display(), "a pod's folder could not be removed");
        }
    }
}

/// The running node.
pub(crate) struct Node {
    shared: Arc<Shared>,
    main: Option<JoinHandle<()>>,
}

impl Node {
    /// Registers the node and takes up its pods.
    pub(crate) async fn start(client: Client, config: NodeConfig) -> Result<Self, NodeError> {
        let data_dir = std::path::absolute(&config.data_dir).unwrap_or(config.data_dir);
        let folder = data_dir.join("pods");
        let made = tokio::fs::create_dir_all(&folder).await.and_then(|()| {
            use std::os::unix::fs::PermissionsExt as _;
            std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700))
        });
        made.map_err(|source| NodeError::Folder {
            path: folder,
            source,
        })?;
        let registered = object::register(&client, config.clock.as_ref()).await;
        registered.map_err(|error| NodeError::Register(Box::new(error)))?;
        let clock = config.clock;
        let shared = Arc::new(Shared {
            privileged: launcher::is_privileged(),
            kubelet: Recorder::new(client.clone(), Arc::clone(&clock), "kubelet"),
            scheduler: Recorder::new(client.clone(), Arc::clone(&clock), "default-scheduler"),
            addresses: Addresses::seeded(&data_dir),
            logs: OpenLogs::default(),
            changes: watch::channel(0).0,
            stop: CancellationToken::new(),
            client,
            data_dir,
            images: config.images,
            programs: config.programs,
            launcher: config.launcher,
            clock,
        });
        let main = tokio::spawn(serve(Arc::clone(&shared)));
        Ok(Self {
            shared,
            main: Some(main),
        })
    }

    /// The pods' logs.
    pub(crate) fn logs(&self) -> NodeLogs {
        NodeLogs::new(self.shared.data_dir.clone(), self.shared.logs.clone())
    }

    /// Stops every pod's processes and waits for their end; the pods' objects stay.
    pub(crate) async fn shutdown(mut self) {
        self.shared.stop.cancel();
        if let Some(main) = self.main.take()
            && let Err(error) = main.await
        {
            tracing::error!(%error, "the node ended badly");
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

/// The pods' tasks and what they are told, by uid.
struct Workers {
    shared: Arc<Shared>,
    known: HashMap<String, watch::Sender<Option<Arc<Pod>>>>,
    tasks: JoinSet<String>,
    /// Those that the list in progress has named.
    listed: HashSet<String>,
    /// Folders of pods that went while the node was away have been cleared.
    cleared: bool,
}

async fn serve(shared: Arc<Shared>) {
    let mut pods = pin!(changes_of::<Pod>(&shared.client));
    let watchers = [
        tokio::spawn(count_changes::<PersistentVolumeClaim>(Arc::clone(&shared))),
        tokio::spawn(count_changes::<PersistentVolume>(Arc::clone(&shared))),
        tokio::spawn(count_changes::<Secret>(Arc::clone(&shared))),
        tokio::spawn(count_changes::<ConfigMap>(Arc::clone(&shared))),
    ];
    let stop = shared.stop.clone();
    let mut workers = Workers {
        shared,
        known: HashMap::new(),
        tasks: JoinSet::new(),
        listed: HashSet::new(),
        cleared: false,
    };
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            event = pods.next() => match event {
                Some(Ok(event)) => workers.observe(event).await,
                Some(Err(error)) => tracing::debug!(%error, "the watch on pods is taken up again"),
                None => break,
            },
            Some(ended) = workers.tasks.join_next() => match ended {
                Ok(uid) => drop(workers.known.remove(&uid)),
                Err(error) => tracing::error!(%error, "a pod's task ended badly"),
            },
        }
    }
    for watcher in watchers {
        watcher.abort();
    }
    while let Some(ended) = workers.tasks.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a pod's task ended badly");
        }
    }
}

fn changes_of<K>(client: &Client) -> impl Stream<Item = watcher::Result<Event<K>>> + Send + use<K>
where
    K: kube::Resource<DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    watcher(Api::<K>::all(client.clone()), watcher::Config::default()).default_backoff()
}

async fn count_changes<K>(shared: Arc<Shared>)
where
    K: kube::Resource<DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let mut events = pin!(changes_of::<K>(&shared.client));
    while let Some(event) = events.next().await {
        if event.is_ok() {
            shared
                .changes
                .send_modify(|count| *count = count.wrapping_add(1));
        }
    }
}

impl Workers {
    async fn observe(&mut self, event: Event<Pod>) {
        match event {
            Event::Apply(pod) => self.seen(pod),
            Event::InitApply(pod) => {
                self.listed.insert(pod.uid().unwrap_or_default());
                self.seen(pod);
            }
            Event::Delete(pod) => self.gone(&pod.uid().unwrap_or_default()),
            Event::Init => self.listed.clear(),
            Event::InitDone => {
                let missing: Vec<String> = self
                    .known
                    .keys()
                    .filter(|uid| !self.listed.contains(*uid))
                    .cloned()
                    .collect();
                for uid in missing {
                    self.gone(&uid);
                }
                if !self.cleared {
                    self.cleared = true;
                    self.clear_orphans().await;
                }
            }
        }
    }

    fn seen(&mut self, pod: Pod) {
        let uid = pod.uid().unwrap_or_default();
        let pod = Arc::new(pod);
        if let Some(known) = self.known.get(&uid) {
            known.send_replace(Some(pod));
            return;
        }
        let address = pod
            .status
            .as_ref()
            .and_then(|status| status.pod_ip.as_ref());
        if let Some(address) = address.and_then(|address| address.parse().ok()) {
            self.shared.addresses.keep(&uid, address);
        }
        let (sender, receiver) = watch::channel(Some(Arc::clone(&pod)));
        self.known.insert(uid.clone(), sender);
        let worker = Worker::new(Arc::clone(&self.shared), pod, receiver);
        self.tasks.spawn(async move {
            worker.run().await;
            uid
        });
    }

    fn gone(&self, uid: &str) {
        if let Some(known) = self.known.get(uid) {
            known.send_replace(None);
        }
    }

    /// Removes the folders of pods that were deleted while no node ran.
    async fn clear_orphans(&self) {
        let Ok(mut folders) = tokio::fs::read_dir(self.shared.data_dir.join("pods")).await else {
            return;
        };
        while let Ok(Some(folder)) = folders.next_entry().await {
            let uid = folder.file_name().to_string_lossy().into_owned();
            if !self.known.contains_key(&uid) {
                self.shared.clear(&uid).await;
            }
        }
    }
}
