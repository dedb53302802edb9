//! CSI's Controller service: volumes and snapshots, wherever they are used.

mod paging;
mod snapshots;
mod volumes;

use std::sync::Arc;

use tonic::{Request, Response, Status};

use crate::driver::{Call, Driver};
use crate::error::Fault;
use crate::faults::Subject;
use crate::proto::csi::controller_server::Controller;
use crate::proto::csi::controller_service_capability::{self as capability, Type, rpc};
use crate::proto::csi::volume_capability::AccessType;
use crate::proto::csi::{
    ControllerExpandVolumeRequest, ControllerExpandVolumeResponse,
    ControllerGetCapabilitiesRequest, ControllerGetCapabilitiesResponse,
    ControllerServiceCapability, CreateSnapshotRequest, CreateSnapshotResponse,
    CreateVolumeRequest, CreateVolumeResponse, DeleteSnapshotRequest, DeleteSnapshotResponse,
    DeleteVolumeRequest, DeleteVolumeResponse, GetCapacityRequest, GetCapacityResponse,
    GetSnapshotRequest, GetSnapshotResponse, ListSnapshotsRequest, ListSnapshotsResponse,
    ListVolumesRequest, ListVolumesResponse, ValidateVolumeCapabilitiesRequest,
    ValidateVolumeCapabilitiesResponse, VolumeCapability, validate_volume_capabilities_response,
};
use crate::records::{self, Kind, Owner};

pub(crate) use volumes::topology;

/// No volume is larger: 1 TiB. Disks are sparse, so that this costs nothing.
pub(crate) const LARGEST: u64 = 1 << 40;

/// The service.
pub(crate) struct Controlled(pub(crate) Arc<Driver>);

/// The one kind of use that all these capabilities ask for.
pub(crate) fn kind_of(capabilities: &[VolumeCapability]) -> Result<Kind, Fault> {
    let mut kinds = capabilities
        .iter()
        .map(|capability| match capability.access_type {
            Some(AccessType::Mount(_)) => Ok(Kind::Directory),
            Some(AccessType::Block(_)) => Ok(Kind::Disk),
            None => Err(Fault::Invalid(
                "a volume capability has neither `mount` nor `block`".to_owned(),
            )),
        });
    let first = kinds.next().unwrap_or_else(|| {
        Err(Fault::Invalid(
            "the volume capabilities are missing".to_owned(),
        ))
    })?;
    for kind in kinds {
        if kind? != first {
            return Err(Fault::Invalid(
                "no volume can be mounted and be a block device".to_owned(),
            ));
        }
    }
    Ok(first)
}

/// A call by the name of what it makes, with the owner that the sidecar tells.
fn about_new(name: &'static str, id: &str, what: &str, parameter: impl Fn(&str) -> String) -> Call {
    let kind = if what == "volume" {
        "pvc"
    } else {
        "volumesnapshot"
    };
    Call {
        name,
        subject: Subject {
            owner: Owner {
                namespace: parameter(&format!("csi.storage.k8s.io/{kind}/namespace")),
                name: parameter(&format!("csi.storage.k8s.io/{kind}/name")),
            },
            id: id.to_owned(),
        },
        key: format!("{what} {id}"),
    }
}

/// The id for a name that a caller gives.
fn id_for(name: &str) -> Result<String, Fault> {
    if name.is_empty() {
        return Err(Fault::Invalid("the name is missing".to_owned()));
    }
    records::id_of(name)
        .ok_or_else(|| Fault::Invalid(format!("the name `{name}` is too long: use 128 bytes")))
}

/// A call about nothing in particular.
fn about_all(name: &'static str) -> Call {
    static SERIAL: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let serial = SERIAL.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    Call {
        name,
        subject: Subject::default(),
        key: format!("list {serial}"),
    }
}

#[tonic::async_trait]
impl Controller for Controlled {
    async fn controller_get_capabilities(
        &self,
        _: Request<ControllerGetCapabilitiesRequest>,
    ) -> Result<Response<ControllerGetCapabilitiesResponse>, Status> {
        use rpc::Type as Rpc;
        let capabilities = [
            Rpc::CreateDeleteVolume,
            Rpc::ListVolumes,
            Rpc::GetCapacity,
            Rpc::CreateDeleteSnapshot,
            Rpc::ListSnapshots,
            Rpc::GetSnapshot,
            Rpc::CloneVolume,
            Rpc::ExpandVolume,
            Rpc::SingleNodeMultiWriter,
        ]
        .map(|what| ControllerServiceCapability {
            r#type: Some(Type::Rpc(capability::Rpc {
                r#type: what.into(),
            })),
        });
        Ok(Response::new(ControllerGetCapabilitiesResponse {
            capabilities: capabilities.into(),
        }))
    }

    async fn create_volume(
        &self,
        request: Request<CreateVolumeRequest>,
    ) -> Result<Response<CreateVolumeResponse>, Status> {
        let request = request.into_inner();
        let id = id_for(&request.name)?;
        let call = about_new("CreateVolume", &id, "volume", |key| {
            request.parameters.get(key).cloned().unwrap_or_default()
        });
        let owner = call.subject.owner.clone();
        self.0
            .run(call, move |driver, effects| {
                let wish = volumes::Wish::new(driver, id, owner, &request)?;
                let volume = volumes::create(driver, effects, &wish)?;
                Ok(CreateVolumeResponse {
                    volume: Some(volumes::shown(driver, &volume)),
                })
            })
            .await
    }

    async fn delete_volume(
        &self,
        request: Request<DeleteVolumeRequest>,
    ) -> Result<Response<DeleteVolumeResponse>, Status> {
        let id = request.into_inner().volume_id;
        let call = self.0.about_volume("DeleteVolume", &id);
        self.0
            .run(call, move |driver, _| {
                volumes::delete(driver, &id)?;
                Ok(DeleteVolumeResponse {})
            })
            .await
    }

    async fn validate_volume_capabilities(
        &self,
        request: Request<ValidateVolumeCapabilitiesRequest>,
    ) -> Result<Response<ValidateVolumeCapabilitiesResponse>, Status> {
        let request = request.into_inner();
        let call = self
            .0
            .about_volume("ValidateVolumeCapabilities", &request.volume_id);
        self.0
            .run(call, move |driver, _| {
                if request.volume_id.is_empty() {
                    return Err(Fault::Invalid("the volume id is missing".to_owned()));
                }
                let kind = kind_of(&request.volume_capabilities)?;
                let volume = driver.volume(&request.volume_id)?;
                if kind != volume.kind || !request.mutable_parameters.is_empty() {
                    return Ok(ValidateVolumeCapabilitiesResponse {
                        confirmed: None,
                        message: format!("this volume is a {:?}", volume.kind),
                    });
                }
                let confirmed = validate_volume_capabilities_response::Confirmed {
                    volume_context: request.volume_context,
                    volume_capabilities: request.volume_capabilities,
                    parameters: request.parameters,
                    ..validate_volume_capabilities_response::Confirmed::default()
                };
                Ok(ValidateVolumeCapabilitiesResponse {
                    confirmed: Some(confirmed),
                    message: String::new(),
                })
            })
            .await
    }

    async fn list_volumes(
        &self,
        request: Request<ListVolumesRequest>,
    ) -> Result<Response<ListVolumesResponse>, Status> {
        let request = request.into_inner();
        self.0
            .run(about_all("ListVolumes"), move |driver, _| {
                volumes::list(driver, &request)
            })
            .await
    }

    async fn get_capacity(
        &self,
        request: Request<GetCapacityRequest>,
    ) -> Result<Response<GetCapacityResponse>, Status> {
        let request = request.into_inner();
        self.0
            .run(about_all("GetCapacity"), move |driver, _| {
                volumes::capacity(driver, &request)
            })
            .await
    }

    async fn create_snapshot(
        &self,
        request: Request<CreateSnapshotRequest>,
    ) -> Result<Response<CreateSnapshotResponse>, Status> {
        let request = request.into_inner();
        let id = id_for(&request.name)?;
        let call = about_new("CreateSnapshot", &id, "snapshot", |key| {
            request.parameters.get(key).cloned().unwrap_or_default()
        });
        let owner = call.subject.owner.clone();
        self.0
            .run(call, move |driver, effects| {
                let snapshot = snapshots::create(driver, effects, &request, (id, owner))?;
                Ok(CreateSnapshotResponse {
                    snapshot: Some(snapshots::shown(driver, &snapshot)?),
                })
            })
            .await
    }

    async fn delete_snapshot(
        &self,
        request: Request<DeleteSnapshotRequest>,
    ) -> Result<Response<DeleteSnapshotResponse>, Status> {
        let id = request.into_inner().snapshot_id;
        let call = snapshots::about(&self.0, "DeleteSnapshot", &id);
        self.0
            .run(call, move |driver, _| {
                snapshots::delete(driver, &id)?;
                Ok(DeleteSnapshotResponse {})
            })
            .await
    }

    async fn list_snapshots(
        &self,
        request: Request<ListSnapshotsRequest>,
    ) -> Result<Response<ListSnapshotsResponse>, Status> {
        let request = request.into_inner();
        self.0
            .run(about_all("ListSnapshots"), move |driver, _| {
                snapshots::list(driver, &request)
            })
            .await
    }

    async fn get_snapshot(
        &self,
        request: Request<GetSnapshotRequest>,
    ) -> Result<Response<GetSnapshotResponse>, Status> {
        let id = request.into_inner().snapshot_id;
        let call = snapshots::about(&self.0, "GetSnapshot", &id);
        self.0
            .run(call, move |driver, _| {
                if id.is_empty() {
                    return Err(Fault::Invalid("the snapshot id is missing".to_owned()));
                }
                let snapshot = driver.snapshot(&id)?;
                Ok(GetSnapshotResponse {
                    snapshot: Some(snapshots::shown(driver, &snapshot)?),
                })
            })
            .await
    }

    async fn controller_expand_volume(
        &self,
        request: Request<ControllerExpandVolumeRequest>,
    ) -> Result<Response<ControllerExpandVolumeResponse>, Status> {
        let request = request.into_inner();
        let call = self
            .0
            .about_volume("ControllerExpandVolume", &request.volume_id);
        self.0
            .run(call, move |driver, _| volumes::expand(driver, &request))
            .await
    }
}
