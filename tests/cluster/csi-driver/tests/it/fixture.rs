//! A driver in a mount namespace of its own, and callers of its services.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Status};

pub(crate) use proto::controller_client::ControllerClient;
pub(crate) use proto::node_client::NodeClient;
pub(crate) use registration::registration_client::RegistrationClient;

#[expect(
    unreachable_pub,
    clippy::excessive_nesting,
    clippy::pedantic,
    reason = "generated from csi.proto"
)]
pub(crate) mod proto {
    tonic::include_proto!("csi.v1");
}

#[expect(
    unreachable_pub,
    clippy::excessive_nesting,
    clippy::pedantic,
    reason = "generated from api.proto"
)]
pub(crate) mod registration {
    tonic::include_proto!("pluginregistration");
}

use proto::volume_capability::access_mode::Mode;
use proto::volume_capability::{AccessMode, AccessType, BlockVolume, MountVolume};
use proto::volume_content_source::{SnapshotSource, Type, VolumeSource};

pub(crate) const GIB: i64 = 1 << 30;

/// A running driver and its folders.
pub(crate) struct Driver {
    pub(crate) room: TempDir,
    program: Child,
    pub(crate) controller: ControllerClient<Channel>,
    pub(crate) node: NodeClient<Channel>,
}

impl Driver {
    pub(crate) async fn start() -> Self {
        let room = TempDir::new().unwrap();
        for name in ["data", "registry", "kubelet"] {
            fs::create_dir(room.path().join(name)).unwrap();
        }
        let program = launch(room.path());
        let channel = connect(&room.path().join("csi.sock")).await;
        Self {
            room,
            program,
            controller: ControllerClient::new(channel.clone()),
            node: NodeClient::new(channel),
        }
    }

    /// Kills the driver as a crash would and starts it again; its mounts are gone with it.
    pub(crate) async fn crash(&mut self) {
        self.program.kill().unwrap();
        self.program.wait().unwrap();
        self.program = launch(self.room.path());
        let channel = connect(&self.room.path().join("csi.sock")).await;
        self.controller = ControllerClient::new(channel.clone());
        self.node = NodeClient::new(channel);
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.room.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_string_lossy().into_owned()
    }

    /// The path as the driver sees it, with all its mounts.
    pub(crate) fn seen(&self, name: &str) -> PathBuf {
        let inside = self.path(name);
        Path::new(&format!("/proc/{}/root", self.program.id()))
            .join(inside.strip_prefix("/").unwrap())
    }

    pub(crate) fn faults(&self, rules: &str) {
        let work = self.path("faults.tmp");
        fs::write(&work, rules).unwrap();
        fs::rename(&work, self.path("faults.json")).unwrap();
    }

    pub(crate) async fn registration(&self) -> RegistrationClient<Channel> {
        let socket = self.path("registry/csi.test.syncline.dev-reg.sock");
        RegistrationClient::new(connect(&socket).await)
    }

    pub(crate) async fn stage(&mut self, id: &str, block: bool) -> Result<(), Status> {
        let request = proto::NodeStageVolumeRequest {
            volume_id: id.to_owned(),
            staging_target_path: self.text(&format!("kubelet/{id}-staging")),
            volume_capability: Some(capability(block)),
            ..Default::default()
        };
        self.node.node_stage_volume(request).await.map(drop)
    }

    pub(crate) async fn publish(
        &mut self,
        id: &str,
        target: &str,
        (block, readonly): (bool, bool),
    ) -> Result<(), Status> {
        let request = proto::NodePublishVolumeRequest {
            volume_id: id.to_owned(),
            staging_target_path: self.text(&format!("kubelet/{id}-staging")),
            target_path: self.text(target),
            volume_capability: Some(capability(block)),
            readonly,
            ..Default::default()
        };
        self.node.node_publish_volume(request).await.map(drop)
    }

    pub(crate) async fn unpublish(&mut self, id: &str, target: &str) {
        let request = proto::NodeUnpublishVolumeRequest {
            volume_id: id.to_owned(),
            target_path: self.text(target),
        };
        self.node.node_unpublish_volume(request).await.unwrap();
    }

    pub(crate) async fn unstage(&mut self, id: &str) {
        let request = proto::NodeUnstageVolumeRequest {
            volume_id: id.to_owned(),
            staging_target_path: self.text(&format!("kubelet/{id}-staging")),
        };
        self.node.node_unstage_volume(request).await.unwrap();
    }

    pub(crate) async fn create(
        &mut self,
        request: proto::CreateVolumeRequest,
    ) -> Result<proto::Volume, Status> {
        let made = self.controller.create_volume(request).await?;
        Ok(made.into_inner().volume.unwrap())
    }

    pub(crate) async fn snapshot(
        &mut self,
        volume: &str,
        name: &str,
    ) -> Result<proto::Snapshot, Status> {
        let request = proto::CreateSnapshotRequest {
            source_volume_id: volume.to_owned(),
            name: name.to_owned(),
            parameters: owner("volumesnapshot", "space", name),
            ..Default::default()
        };
        let made = self.controller.create_snapshot(request).await?;
        Ok(made.into_inner().snapshot.unwrap())
    }

    pub(crate) async fn delete(&mut self, id: &str) -> Result<(), Status> {
        let request = proto::DeleteVolumeRequest {
            volume_id: id.to_owned(),
            ..Default::default()
        };
        self.controller.delete_volume(request).await.map(drop)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
        let detached = driver(self.room.path()).arg("--detach-all").status();
        assert!(detached.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

fn driver(room: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_csi-driver"));
    command.arg("--data").arg(room.join("data"));
    command
}

fn launch(room: &Path) -> Child {
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(room.join("log"))
        .unwrap();
    let program = env!("CARGO_BIN_EXE_csi-driver");
    let mut command = if is_root() {
        // `unshare` becomes the driver, so that the process is the driver itself.
        let mut alone = Command::new("unshare");
        alone.args(["--mount", "--propagation", "private", program]);
        alone
    } else {
        Command::new(program)
    };
    command
        .arg("--data")
        .arg(room.join("data"))
        .arg("--socket")
        .arg(room.join("csi.sock"))
        .arg("--kubelet-registration")
        .arg(room.join("registry"))
        .arg("--faults")
        .arg(room.join("faults.json"))
        .args(["--node", "here"])
        .stdin(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// Connects as soon as somebody listens.
async fn connect(socket: &Path) -> Channel {
    let start = Instant::now();
    loop {
        let path = socket.to_owned();
        let channel = Endpoint::from_static("http://driver")
            .connect_with_connector(tower::service_fn(move |_: Uri| {
                let path = path.clone();
                async move { UnixStream::connect(path).await.map(TokioIo::new) }
            }))
            .await;
        match channel {
            Ok(channel) => return channel,
            Err(error) => assert!(
                start.elapsed() < Duration::from_secs(30),
                "nobody listens at {}: {error}",
                socket.display()
            ),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) fn capability(block: bool) -> proto::VolumeCapability {
    proto::VolumeCapability {
        access_mode: Some(AccessMode {
            mode: Mode::SingleNodeWriter.into(),
        }),
        access_type: Some(if block {
            AccessType::Block(BlockVolume {})
        } else {
            AccessType::Mount(MountVolume::default())
        }),
    }
}

/// What the sidecars tell with `--extra-create-metadata`.
fn owner(kind: &str, namespace: &str, name: &str) -> HashMap<String, String> {
    [("namespace", namespace), ("name", name)]
        .map(|(what, value)| {
            (
                format!("csi.storage.k8s.io/{kind}/{what}"),
                value.to_owned(),
            )
        })
        .into()
}

/// A wish for a volume of 1 GiB in the namespace `space`.
pub(crate) fn wish(name: &str, block: bool) -> proto::CreateVolumeRequest {
    proto::CreateVolumeRequest {
        name: name.to_owned(),
        capacity_range: Some(proto::CapacityRange {
            required_bytes: GIB,
            limit_bytes: 0,
        }),
        volume_capabilities: vec![capability(block)],
        parameters: owner("pvc", "space", name),
        ..Default::default()
    }
}

pub(crate) fn from_snapshot(id: &str) -> proto::VolumeContentSource {
    proto::VolumeContentSource {
        r#type: Some(Type::Snapshot(SnapshotSource {
            snapshot_id: id.to_owned(),
        })),
    }
}

pub(crate) fn from_volume(id: &str) -> proto::VolumeContentSource {
    proto::VolumeContentSource {
        r#type: Some(Type::Volume(VolumeSource {
            volume_id: id.to_owned(),
        })),
    }
}

/// Names the program csi-sanity, where a run is to judge the driver: `make e2e` sets it.
pub(crate) const JUDGE: &str = "SYNCLINE_CSI_SANITY";

/// Only root can mount; says so when it cannot. In a run that is to judge the driver, that is a failure.
#[track_caller]
pub(crate) fn may_mount() -> bool {
    if !is_root() {
        assert!(
            std::env::var_os(JUDGE).is_none(),
            "{JUDGE} is set, but only root can mount: the driver cannot be judged"
        );
        println!("not run: only root can mount");
    }
    is_root()
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|facts| facts.uid() == 0)
}

#[track_caller]
pub(crate) fn code<T: std::fmt::Debug>(outcome: Result<T, Status>) -> Code {
    outcome.unwrap_err().code()
}
