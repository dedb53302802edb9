//! How the mover's pod is to run, alike for all movers: fields of the spec, or the annotations that stand for them where
//! `VolSync`'s definitions drop the fields.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{
    Affinity, NFSVolumeSource, PersistentVolumeClaimVolumeSource, PodSecurityContext,
    ResourceRequirements, SecretVolumeSource,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use syncline_api::labels;
use syncline_api::movers::{MoverConfig, MoverVolume};

use super::Invalid;
use crate::subject::Subject;

/// Longest name of a volume of a pod.
const LONGEST_VOLUME_NAME: usize = 63;

/// How the mover's pod is to run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MoverPod {
    /// An existing service account.
    pub service_account: Option<String>,
    /// Further labels.
    pub labels: BTreeMap<String, String>,
    /// Compute resources of the container.
    pub resources: Option<ResourceRequirements>,
    /// The pod's security context.
    pub security_context: Option<PodSecurityContext>,
    /// Where it may run.
    pub affinity: Option<Affinity>,
    /// Further volumes.
    pub volumes: Vec<ExtraVolume>,
}

/// A volume of the user's that the mover's pod mounts beside its data.
#[derive(Clone, Debug, PartialEq)]
pub struct ExtraVolume {
    /// Its name in the pod.
    pub name: String,
    /// Where it is mounted.
    pub mount_path: String,
    /// What it holds.
    pub source: ExtraSource,
}

/// What a further volume holds.
#[derive(Clone, Debug, PartialEq)]
pub enum ExtraSource {
    /// A Secret.
    Secret(SecretVolumeSource),
    /// A claim.
    Claim(PersistentVolumeClaimVolumeSource),
    /// An NFS export.
    Nfs(NFSVolumeSource),
}

/// What a resource says of its mover's pod, in fields or annotations; a field goes before its annotation.
pub fn mover_config(subject: &Subject) -> Result<MoverConfig, Invalid> {
    let spec = &subject.spec;
    let mut chosen = spec.movers().into_iter();
    let given = chosen.find_map(|mover| spec.mover_config(mover)).cloned();
    let given = given.unwrap_or_default();
    let annotations = &subject.annotations;
    Ok(MoverConfig {
        mover_security_context: or_annotation(
            given.mover_security_context,
            annotations,
            labels::MOVER_SECURITY_CONTEXT,
        )?,
        mover_affinity: or_annotation(given.mover_affinity, annotations, labels::MOVER_AFFINITY)?,
        mover_volumes: mover_volumes(given.mover_volumes, annotations)?,
        ..given
    })
}

/// The further volumes of a mover's pod, in the field or its annotation.
pub fn mover_volumes(
    field: Option<Vec<MoverVolume>>,
    annotations: &BTreeMap<String, String>,
) -> Result<Option<Vec<MoverVolume>>, Invalid> {
    or_annotation(field, annotations, labels::MOVER_VOLUMES)
}

/// The field, or else what the annotation says in JSON or YAML.
fn or_annotation<T: DeserializeOwned + Serialize>(
    field: Option<T>,
    annotations: &BTreeMap<String, String>,
    annotation: &'static str,
) -> Result<Option<T>, Invalid> {
    let text = annotations
        .get(annotation)
        .filter(|text| !text.trim().is_empty());
    match (field, text) {
        (Some(field), _) => Ok(Some(field)),
        (None, None) => Ok(None),
        (None, Some(text)) => parse(text)
            .map(Some)
            .map_err(|problem| Invalid::Annotation {
                annotation,
                problem,
            }),
    }
}

fn parse<T: DeserializeOwned + Serialize>(text: &str) -> Result<T, String> {
    let value: Value = serde_saphyr::from_str(text).map_err(|error| first_line(&error))?;
    let read: T = serde_json::from_value(value.clone()).map_err(|error| first_line(&error))?;
    let known = serde_json::to_value(&read).map_err(|error| first_line(&error))?;
    // The types of Kubernetes pass over what they do not know, and a mistyped field must not change who the mover is.
    match unknown(&value, &known) {
        Some(field) => Err(format!("it has an unknown field {field:?}")),
        None => Ok(read),
    }
}

fn first_line(error: &dyn std::fmt::Display) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().to_owned()
}

/// The first field of `given` that was not understood.
fn unknown(given: &Value, known: &Value) -> Option<String> {
    match (given, known) {
        (Value::Object(given), Value::Object(known)) => {
            given
                .iter()
                .find_map(|(name, value)| match known.get(name) {
                    Some(known) => unknown(value, known),
                    None if value.is_null() => None,
                    None => Some(name.clone()),
                })
        }
        (Value::Array(given), Value::Array(known)) => given
            .iter()
            .zip(known)
            .find_map(|(given, known)| unknown(given, known)),
        _ => None,
    }
}

pub(super) fn read(subject: &Subject) -> Result<MoverPod, Invalid> {
    let config = mover_config(subject)?;
    Ok(MoverPod {
        service_account: config.mover_service_account.filter(|name| !name.is_empty()),
        labels: config.mover_pod_labels.unwrap_or_default(),
        resources: config.mover_resources,
        security_context: config.mover_security_context,
        affinity: config.mover_affinity,
        volumes: volumes(config.mover_volumes.unwrap_or_default())?,
    })
}

fn volumes(given: Vec<MoverVolume>) -> Result<Vec<ExtraVolume>, Invalid> {
    let mut names = BTreeSet::new();
    given
        .into_iter()
        .map(|volume| {
            let path = volume.mount_path.clone();
            let volume = extra(volume).map_err(|problem| Invalid::MoverVolume {
                path: path.clone(),
                problem,
            })?;
            if names.insert(volume.name.clone()) {
                Ok(volume)
            } else {
                Err(Invalid::MoverVolume {
                    path,
                    problem: "another one has the same path; give each a path of its own",
                })
            }
        })
        .collect()
}

fn extra(volume: MoverVolume) -> Result<ExtraVolume, &'static str> {
    let path = volume.mount_path.as_str();
    if path.is_empty() || path.split('/').any(|part| part == "..") || path.contains(':') {
        return Err("mountPath must be a path below /mnt, without `..` and `:`");
    }
    let name = format!("u-{}", path.replace('/', "-"));
    if !is_label(&name) {
        return Err(
            "the pod's volume is named u-<mountPath> with `-` for each `/`, so mountPath may have lower-case letters, \
             digits, `-` and `/` only, may not end in `/` or `-`, and may have 61 characters at most",
        );
    }
    let sources = volume.volume_source;
    let source = match (sources.secret, sources.persistent_volume_claim, sources.nfs) {
        (Some(secret), None, None) => match secret.secret_name.as_deref() {
            None | Some("") => return Err("volumeSource.secret.secretName must name a Secret"),
            Some(_) => ExtraSource::Secret(secret),
        },
        (None, Some(claim), None) if claim.claim_name.is_empty() => {
            return Err("volumeSource.persistentVolumeClaim.claimName must name a claim");
        }
        (None, Some(claim), None) => ExtraSource::Claim(claim),
        (None, None, Some(nfs)) => ExtraSource::Nfs(nfs),
        _ => {
            return Err("volumeSource must have one of secret, persistentVolumeClaim and nfs");
        }
    };
    Ok(ExtraVolume {
        mount_path: format!("/mnt/{}", path.trim_start_matches('/')),
        name,
        source,
    })
}

/// A label of the name service, as volumes of pods are named.
fn is_label(name: &str) -> bool {
    name.len() <= LONGEST_VOLUME_NAME
        && !name.ends_with('-')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

impl MoverPod {
    /// The claims among the further volumes.
    pub fn claims(&self) -> impl Iterator<Item = &str> {
        self.volumes
            .iter()
            .filter_map(|volume| match &volume.source {
                ExtraSource::Claim(claim) => Some(claim.claim_name.as_str()),
                ExtraSource::Secret(_) | ExtraSource::Nfs(_) => None,
            })
    }

    /// The Secrets among the further volumes that have to exist.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        self.volumes
            .iter()
            .filter_map(|volume| match &volume.source {
                ExtraSource::Secret(secret) if secret.optional != Some(true) => {
                    secret.secret_name.as_deref()
                }
                _ => None,
            })
    }
}
