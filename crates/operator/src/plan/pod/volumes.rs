//! What movers mount.

use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, EmptyDirVolumeSource, KeyToPath, SecretVolumeSource, Volume, VolumeMount,
};

use super::super::{Fault, Input};
use crate::validate::{Certificate, ExtraSource, ExtraVolume, Holder, MoverPod};

/// A folder in memory.
pub(in crate::plan) fn in_memory(name: &str) -> Volume {
    Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource {
            medium: Some("Memory".to_owned()),
            size_limit: None,
        }),
        ..Volume::default()
    }
}

/// A Secret as files of this mode.
pub(in crate::plan) fn secret(name: &str, secret: &str, mode: i32) -> Volume {
    Volume {
        name: name.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret.to_owned()),
            default_mode: Some(mode),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// An authority's certificate as the file `name`. It is no secret, whatever holds it.
pub(in crate::plan) fn certificate(volume: &str, from: &Certificate, name: &str) -> Volume {
    let items = Some(vec![KeyToPath {
        key: from.key.clone(),
        path: name.to_owned(),
        mode: None,
    }]);
    let mut made = Volume {
        name: volume.to_owned(),
        ..Volume::default()
    };
    match from.holder {
        Holder::Secret => {
            made.secret = Some(SecretVolumeSource {
                secret_name: Some(from.name.clone()),
                items,
                ..SecretVolumeSource::default()
            });
        }
        Holder::ConfigMap => {
            made.config_map = Some(ConfigMapVolumeSource {
                name: from.name.clone(),
                items,
                ..ConfigMapVolumeSource::default()
            });
        }
    }
    made
}

/// The mount of a volume.
pub(in crate::plan) fn mount(name: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}

/// A volume of the user's.
pub(super) fn extra(volume: &ExtraVolume) -> Volume {
    let mut made = Volume {
        name: volume.name.clone(),
        ..Volume::default()
    };
    match &volume.source {
        ExtraSource::Secret(source) => made.secret = Some(source.clone()),
        ExtraSource::Claim(source) => made.persistent_volume_claim = Some(source.clone()),
        ExtraSource::Nfs(source) => made.nfs = Some(source.clone()),
    }
    made
}

/// Its mount.
pub(super) fn extra_mount(volume: &ExtraVolume) -> VolumeMount {
    mount(&volume.name, &volume.mount_path, false)
}

/// Whether the user's further volumes are there. A pod would wait for them without a word of its own.
pub(in crate::plan) fn check_extra(input: &Input<'_>, pod: &MoverPod) -> Result<(), Fault> {
    let missing = |kind: &'static str, name: &str| Fault::MoverVolumeMissing {
        kind,
        namespace: input.namespace().to_owned(),
        name: name.to_owned(),
    };
    let further = &input.world.further;
    if let Some(name) = pod.claims().find(|name| further.claim(name).is_none()) {
        return Err(missing("PersistentVolumeClaim", name));
    }
    if let Some(name) = pod.secrets().find(|name| !further.secrets.contains(*name)) {
        return Err(missing("Secret", name));
    }
    Ok(())
}
