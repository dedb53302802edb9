//! The volumes that a spec names, and how images of them are made.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use syncline_api::movers::{CopyMethod, DestinationVolumeOptions, SourceVolumeOptions};
use syncline_api::names::Mover;

use super::Invalid;
use crate::quantity;
use crate::subject::{Spec, VolumeOptions};

/// Either side's volume.
#[derive(Clone, Debug, PartialEq)]
pub enum Volume {
    /// What is sent.
    Source(SourceVolume),
    /// What is written to.
    Destination(DestinationVolume),
}

/// How a source's image is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PointInTime {
    /// None is: the volume itself is read.
    Direct,
    /// A claim with the source as its data source.
    Clone,
    /// A snapshot, and a claim from it.
    Snapshot,
}

/// What a source sends.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceVolume {
    /// The user's claim.
    pub claim: String,
    /// How its image is made.
    pub method: PointInTime,
    /// The image's size, when not the source's.
    pub capacity: Option<Quantity>,
    /// The image's storage class, when not the source's.
    pub storage_class: Option<String>,
    /// The image's access modes, when not the source's.
    pub access_modes: Option<Vec<String>>,
    /// The snapshot's class, when not the default.
    pub snapshot_class: Option<String>,
}

/// How a destination keeps what it received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Image {
    /// The volume itself is the image.
    Direct,
    /// A snapshot of it.
    Snapshot,
}

/// The volume that a destination writes to.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// The user's claim.
    Given(String),
    /// A claim of our own.
    Made {
        /// Its size.
        capacity: Quantity,
        /// Its access modes.
        access_modes: Vec<String>,
        /// Its storage class, when not the default.
        storage_class: Option<String>,
        /// Whether it is a block device instead of a file system.
        block: bool,
        /// Whether it goes after each run.
        cleanup: bool,
    },
}

/// What a destination writes to.
#[derive(Clone, Debug, PartialEq)]
pub struct DestinationVolume {
    /// The volume.
    pub target: Target,
    /// How images of it are kept.
    pub image: Image,
    /// The snapshot's class, when not the default.
    pub snapshot_class: Option<String>,
}

/// The fields of the spec, by the mover they belong to.
#[derive(Clone, Copy)]
struct Fields(Mover);

impl Fields {
    fn named(self, field: &str) -> String {
        format!("spec.{}.{field}", self.0.field())
    }
}

pub(super) fn read(spec: &Spec, mover: Mover) -> Result<Volume, Invalid> {
    let fields = Fields(mover);
    match (spec, spec.volume(mover)) {
        (Spec::Source(spec), Some(VolumeOptions::Source(options))) => {
            source(spec.source_pvc.as_deref(), options, fields).map(Volume::Source)
        }
        (Spec::Destination(spec), Some(VolumeOptions::Destination(options))) => {
            // Only rsync can replicate devices.
            let rsync = spec.rsync.as_ref().filter(|_| mover == Mover::Rsync);
            let block = is_block(rsync.and_then(|rsync| rsync.volume_mode.as_deref()))?;
            destination(options, block, fields).map(Volume::Destination)
        }
        _ => Err(Invalid::Missing {
            field: format!("spec.{}", mover.field()),
            purpose: "it chooses the mover",
        }),
    }
}

fn source(
    claim: Option<&str>,
    options: &SourceVolumeOptions,
    fields: Fields,
) -> Result<SourceVolume, Invalid> {
    let claim = claim
        .filter(|name| !name.is_empty())
        .ok_or_else(|| Invalid::Missing {
            field: "spec.sourcePVC".to_owned(),
            purpose: "it names the PersistentVolumeClaim to replicate",
        })?;
    let method = match options.copy_method {
        Some(CopyMethod::Direct | CopyMethod::None) => PointInTime::Direct,
        Some(CopyMethod::Clone) => PointInTime::Clone,
        Some(CopyMethod::Snapshot) => PointInTime::Snapshot,
        None => {
            return Err(Invalid::NotChosen {
                field: fields.named("copyMethod"),
                values: "Direct, Clone and Snapshot",
            });
        }
    };
    let modes = options.access_modes.clone();
    Ok(SourceVolume {
        claim: claim.to_owned(),
        method,
        capacity: options
            .capacity
            .as_ref()
            .map(|capacity| size(capacity, fields))
            .transpose()?,
        storage_class: options.storage_class_name.clone(),
        access_modes: modes.map(|modes| access_modes(modes, fields)).transpose()?,
        snapshot_class: options.volume_snapshot_class_name.clone(),
    })
}

fn destination(
    options: &DestinationVolumeOptions,
    block: bool,
    fields: Fields,
) -> Result<DestinationVolume, Invalid> {
    let image = match options.copy_method {
        Some(CopyMethod::Direct | CopyMethod::None) => Image::Direct,
        Some(CopyMethod::Snapshot) => Image::Snapshot,
        None => {
            return Err(Invalid::NotChosen {
                field: fields.named("copyMethod"),
                values: "Direct and Snapshot",
            });
        }
        Some(CopyMethod::Clone) => {
            return Err(Invalid::Field {
                field: fields.named("copyMethod"),
                value: "Clone".to_owned(),
                expected: "unsupported copyMethod for a destination: it must be one of Direct and Snapshot",
            });
        }
    };
    let given = options
        .destination_pvc
        .clone()
        .filter(|name| !name.is_empty());
    let target = match given {
        Some(claim) => Target::Given(claim),
        None => made(options, block, fields)?,
    };
    Ok(DestinationVolume {
        target,
        image,
        snapshot_class: options.volume_snapshot_class_name.clone(),
    })
}

fn made(
    options: &DestinationVolumeOptions,
    block: bool,
    fields: Fields,
) -> Result<Target, Invalid> {
    let needed = |field| Invalid::NoVolume {
        field: fields.named(field),
        claim: fields.named("destinationPVC"),
    };
    let capacity = options.capacity.as_ref();
    let modes = options.access_modes.clone();
    Ok(Target::Made {
        capacity: size(capacity.ok_or_else(|| needed("capacity"))?, fields)?,
        access_modes: access_modes(modes.ok_or_else(|| needed("accessModes"))?, fields)?,
        storage_class: options.storage_class_name.clone(),
        block,
        cleanup: options.cleanup_temp_pvc.unwrap_or(false),
    })
}

fn is_block(mode: Option<&str>) -> Result<bool, Invalid> {
    match mode {
        None | Some("" | "Filesystem") => Ok(false),
        Some("Block") => Ok(true),
        Some(other) => Err(Invalid::Field {
            field: "spec.rsync.volumeMode".to_owned(),
            value: other.to_owned(),
            expected: "use Filesystem, which is the default, or Block",
        }),
    }
}

fn size(quantity: &Quantity, fields: Fields) -> Result<Quantity, Invalid> {
    if quantity::bytes(quantity).is_some_and(|bytes| bytes > 0) {
        return Ok(quantity.clone());
    }
    Err(Invalid::Field {
        field: fields.named("capacity"),
        value: quantity.0.clone(),
        expected: "a volume's size is a positive quantity such as 10Gi",
    })
}

fn access_modes(modes: Vec<String>, fields: Fields) -> Result<Vec<String>, Invalid> {
    const KNOWN: [&str; 4] = [
        "ReadWriteOnce",
        "ReadOnlyMany",
        "ReadWriteMany",
        "ReadWriteOncePod",
    ];
    match modes.iter().find(|mode| !KNOWN.contains(&mode.as_str())) {
        None if !modes.is_empty() => Ok(modes),
        unknown => Err(Invalid::Field {
            field: fields.named("accessModes"),
            value: unknown.cloned().unwrap_or_default(),
            expected: "use one or more of ReadWriteOnce, ReadOnlyMany, ReadWriteMany and ReadWriteOncePod",
        }),
    }
}
