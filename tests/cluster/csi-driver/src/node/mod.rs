//! CSI's Node service: volumes where pods see them.
//!
//! A directory is bind-mounted at its staging path and from there at every target. A disk gets a loop device when it is
//! staged, whose node is bind-mounted at every target; a read-only target shows a device of its own that takes no
//! writes, because a read-only mount of a device's node would not keep anybody from writing to the device.

mod disks;
mod folders;
mod usage;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tonic::{Request, Response, Status};

use crate::controller::{kind_of, topology};
use crate::driver::Driver;
use crate::error::Fault;
use crate::mounts;
use crate::proto::csi::node_server::Node;
use crate::proto::csi::node_service_capability::{self as capability, Type, rpc};
use crate::proto::csi::volume_capability::AccessMode;
use crate::proto::csi::volume_capability::access_mode::Mode;
use crate::proto::csi::{
    NodeExpandVolumeRequest, NodeExpandVolumeResponse, NodeGetCapabilitiesRequest,
    NodeGetCapabilitiesResponse, NodeGetInfoRequest, NodeGetInfoResponse,
    NodeGetVolumeStatsRequest, NodeGetVolumeStatsResponse, NodePublishVolumeRequest,
    NodePublishVolumeResponse, NodeServiceCapability, NodeStageVolumeRequest,
    NodeStageVolumeResponse, NodeUnpublishVolumeRequest, NodeUnpublishVolumeResponse,
    NodeUnstageVolumeRequest, NodeUnstageVolumeResponse, VolumeCapability,
};
use crate::records::{Kind, Volume};

/// The service.
pub(crate) struct OnNode(pub(crate) Arc<Driver>);

/// An absolute path that a request must name.
fn path_of(text: &str, what: &str) -> Result<PathBuf, Fault> {
    if Path::new(text).is_absolute() {
        return Ok(PathBuf::from(text));
    }
    Err(Fault::Invalid(format!(
        "the {what} is missing or not absolute: `{text}`"
    )))
}

/// The volume of a request, which must be of the kind that its capability asks for.
fn volume_for(
    driver: &Driver,
    id: &str,
    capability: Option<&VolumeCapability>,
) -> Result<Volume, Fault> {
    if id.is_empty() {
        return Err(Fault::Invalid("the volume id is missing".to_owned()));
    }
    let Some(capability) = capability else {
        return Err(Fault::Invalid(
            "the volume capability is missing".to_owned(),
        ));
    };
    let kind = kind_of(std::slice::from_ref(capability))?;
    let volume = driver.volume(id)?;
    if volume.kind != kind {
        return Err(Fault::Invalid(format!(
            "the volume `{id}` is a {:?} and cannot be used as a {kind:?}",
            volume.kind
        )));
    }
    Ok(volume)
}

fn mode_of(capability: Option<&VolumeCapability>) -> Mode {
    capability
        .and_then(|capability| capability.access_mode.as_ref())
        .map_or(Mode::Unknown, AccessMode::mode)
}

fn publish(driver: &Driver, request: &NodePublishVolumeRequest) -> Result<(), Fault> {
    let capability = request.volume_capability.as_ref();
    if request.target_path.is_empty() {
        return Err(Fault::Invalid("the target path is missing".to_owned()));
    }
    let volume = volume_for(driver, &request.volume_id, capability)?;
    let target = path_of(&request.target_path, "target path")?;
    let staging = path_of(&request.staging_target_path, "staging target path")?;
    let mode = mode_of(capability);
    let read_only =
        request.readonly || matches!(mode, Mode::SingleNodeReaderOnly | Mode::MultiNodeReaderOnly);
    let source = match volume.kind {
        Kind::Directory => folders::staged(driver, &volume, &staging)?,
        Kind::Disk => disks::device(driver, &volume, read_only)?,
    };
    if mode == Mode::SingleNodeSingleWriter {
        for mount in mounts::all()? {
            let other = mount.point != target && mount.point != staging;
            if other && mounts::same(&mount.point, &source) && !is_device_node(&mount.point) {
                return Err(Fault::Precondition(format!(
                    "the volume `{}` is for one pod only and is published at {} already",
                    volume.id,
                    mount.point.display()
                )));
            }
        }
    }
    if let Some(mount) = mounts::at(&target)? {
        if mounts::same(&target, &source) && mount.read_only == read_only {
            return Ok(());
        }
        return Err(Fault::Taken {
            what: "mount",
            id: target.display().to_string(),
            difference: format!("it is another volume, or read-only is {}", mount.read_only),
        });
    }
    match volume.kind {
        Kind::Directory => mounts::make_directory(&target)?,
        Kind::Disk => mounts::make_file(&target)?,
    }
    mounts::bind(&source, &target, read_only)
}

/// Whether it is a node in `/dev` and not one that was published.
fn is_device_node(path: &Path) -> bool {
    path.parent() == Some(Path::new("/dev"))
}

#[tonic::async_trait]
impl Node for OnNode {
    async fn node_get_info(
        &self,
        _: Request<NodeGetInfoRequest>,
    ) -> Result<Response<NodeGetInfoResponse>, Status> {
        Ok(Response::new(NodeGetInfoResponse {
            node_id: self.0.node.clone(),
            max_volumes_per_node: 0,
            accessible_topology: Some(topology(&self.0)),
        }))
    }

    async fn node_get_capabilities(
        &self,
        _: Request<NodeGetCapabilitiesRequest>,
    ) -> Result<Response<NodeGetCapabilitiesResponse>, Status> {
        use rpc::Type as Rpc;
        let capabilities = [
            Rpc::StageUnstageVolume,
            Rpc::GetVolumeStats,
            Rpc::ExpandVolume,
            Rpc::SingleNodeMultiWriter,
        ]
        .map(|what| NodeServiceCapability {
            r#type: Some(Type::Rpc(capability::Rpc {
                r#type: what.into(),
            })),
        });
        Ok(Response::new(NodeGetCapabilitiesResponse {
            capabilities: capabilities.into(),
        }))
    }

    async fn node_stage_volume(
        &self,
        request: Request<NodeStageVolumeRequest>,
    ) -> Result<Response<NodeStageVolumeResponse>, Status> {
        let request = request.into_inner();
        let call = self.0.about_volume("NodeStageVolume", &request.volume_id);
        self.0
            .run(call, move |driver, _| {
                if request.staging_target_path.is_empty() {
                    return Err(Fault::Invalid("the staging path is missing".to_owned()));
                }
                let capability = request.volume_capability.as_ref();
                let volume = volume_for(driver, &request.volume_id, capability)?;
                let staging = path_of(&request.staging_target_path, "staging target path")?;
                match volume.kind {
                    Kind::Directory => folders::stage(driver, &volume, &staging)?,
                    Kind::Disk => {
                        disks::device(driver, &volume, false)?;
                    }
                }
                Ok(NodeStageVolumeResponse {})
            })
            .await
    }

    async fn node_unstage_volume(
        &self,
        request: Request<NodeUnstageVolumeRequest>,
    ) -> Result<Response<NodeUnstageVolumeResponse>, Status> {
        let request = request.into_inner();
        let call = self.0.about_volume("NodeUnstageVolume", &request.volume_id);
        self.0
            .run(call, move |driver, _| {
                if request.volume_id.is_empty() {
                    return Err(Fault::Invalid("the volume id is missing".to_owned()));
                }
                let staging = path_of(&request.staging_target_path, "staging target path")?;
                mounts::unbind(&staging)?;
                disks::release(driver, &request.volume_id)?;
                Ok(NodeUnstageVolumeResponse {})
            })
            .await
    }

    async fn node_publish_volume(
        &self,
        request: Request<NodePublishVolumeRequest>,
    ) -> Result<Response<NodePublishVolumeResponse>, Status> {
        let request = request.into_inner();
        let call = self.0.about_volume("NodePublishVolume", &request.volume_id);
        self.0
            .run(call, move |driver, _| {
                publish(driver, &request)?;
                Ok(NodePublishVolumeResponse {})
            })
            .await
    }

    async fn node_unpublish_volume(
        &self,
        request: Request<NodeUnpublishVolumeRequest>,
    ) -> Result<Response<NodeUnpublishVolumeResponse>, Status> {
        let request = request.into_inner();
        let call = self
            .0
            .about_volume("NodeUnpublishVolume", &request.volume_id);
        self.0
            .run(call, move |_, _| {
                if request.volume_id.is_empty() {
                    return Err(Fault::Invalid("the volume id is missing".to_owned()));
                }
                let target = path_of(&request.target_path, "target path")?;
                mounts::unbind(&target)?;
                mounts::remove_target(&target)?;
                Ok(NodeUnpublishVolumeResponse {})
            })
            .await
    }

    async fn node_get_volume_stats(
        &self,
        request: Request<NodeGetVolumeStatsRequest>,
    ) -> Result<Response<NodeGetVolumeStatsResponse>, Status> {
        let request = request.into_inner();
        let mut call = self
            .0
            .about_volume("NodeGetVolumeStats", &request.volume_id);
        // Counting takes long in a large volume, and disturbs nobody.
        call.key = format!("usage {}", call.key);
        self.0
            .run(call, move |driver, _| usage::tell(driver, &request))
            .await
    }

    async fn node_expand_volume(
        &self,
        request: Request<NodeExpandVolumeRequest>,
    ) -> Result<Response<NodeExpandVolumeResponse>, Status> {
        let request = request.into_inner();
        let call = self.0.about_volume("NodeExpandVolume", &request.volume_id);
        self.0
            .run(call, move |driver, _| {
                if request.volume_id.is_empty() {
                    return Err(Fault::Invalid("the volume id is missing".to_owned()));
                }
                if request.volume_path.is_empty() {
                    return Err(Fault::Invalid("the volume path is missing".to_owned()));
                }
                let volume = driver.volume(&request.volume_id)?;
                if volume.kind == Kind::Disk {
                    disks::grow(driver, &volume)?;
                }
                Ok(NodeExpandVolumeResponse {
                    capacity_bytes: i64::try_from(volume.capacity).unwrap_or(i64::MAX),
                })
            })
            .await
    }
}
