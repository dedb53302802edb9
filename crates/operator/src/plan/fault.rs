//! What keeps a run from going on, although the spec is right. Each message names cause, object and cure.

use syncline_api::names::{Mover, Side};

/// The reason of the event that tells of a spec that only its author can correct.
pub(super) const INVALID_SPEC: &str = "InvalidSpec";

/// Something in the cluster that is not as it must be. The run goes on by itself when it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A claim that the spec names is not there.
    #[error(
        "waiting for PersistentVolumeClaim {namespace}/{name}, which {field} names and which does not exist; create it or correct {field}, and the run starts by itself"
    )]
    ClaimMissing {
        /// The field that names it.
        field: String,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// The claim lost its volume.
    #[error(
        "PersistentVolumeClaim {namespace}/{name} has lost its volume (phase Lost); restore the PersistentVolume, or delete the claim and create it anew"
    )]
    ClaimLost {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// A volume cannot become a device, or stop being one.
    #[error(
        "spec.rsync.volumeMode is {wanted}, and PersistentVolumeClaim {namespace}/{name} has been made with {present}, which cannot change; set it back, or delete the claim to have it made anew"
    )]
    OtherVolumeMode {
        /// What the spec says.
        wanted: &'static str,
        /// The claim's namespace.
        namespace: String,
        /// The claim's name.
        name: String,
        /// What it has.
        present: &'static str,
    },
    /// The user's Secret is not there.
    #[error(
        "waiting for Secret {namespace}/{name}, which spec.rsync.sshKeys names and which does not exist; copy it from the namespace of the other side, whose status.rsync.sshKeys names it, or create one with the keys {keys}"
    )]
    SecretMissing {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// The keys it needs.
        keys: String,
    },
    /// The user's Secret lacks a key.
    #[error(
        "Secret {namespace}/{name}, which spec.rsync.sshKeys names, lacks the key {key:?}, or its value is empty; it must hold {keys}"
    )]
    SecretIncomplete {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// The first key that it lacks.
        key: &'static str,
        /// The keys it needs.
        keys: String,
    },
    /// The Secret with rclone's configuration is not there.
    #[error(
        "waiting for Secret {namespace}/{name}, which spec.rclone.rcloneConfig names and which does not exist; create it with rclone's configuration under the key rclone.conf (kubectl create secret generic {name} -n {namespace} --from-file=rclone.conf), or correct the field, and the run starts by itself"
    )]
    ConfigMissing {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// The Secret has no configuration.
    #[error(
        "Secret {namespace}/{name}, which spec.rclone.rcloneConfig names, lacks the key \"rclone.conf\", or its value is empty; add rclone's configuration under that key, and the run starts by itself"
    )]
    ConfigIncomplete {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// The configuration does not know the store.
    #[error(
        "rclone.conf in Secret {namespace}/{name} has no section {section:?} ({known}); add it, or correct spec.rclone.rcloneConfigSection"
    )]
    SectionMissing {
        /// The section.
        section: String,
        /// What there is instead.
        known: String,
        /// The Secret's namespace.
        namespace: String,
        /// The Secret's name.
        name: String,
    },
    /// What holds the authority's certificate is not there.
    #[error(
        "waiting for {kind} {namespace}/{name}, which spec.rclone.customCA names and which does not exist; create it or correct customCA, and the run starts by itself"
    )]
    CertificateMissing {
        /// Its kind.
        kind: &'static str,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// What is to hold the authority's certificate does not.
    #[error(
        "{kind} {namespace}/{name}, which spec.rclone.customCA names, lacks the key {key:?}, or its value is empty; add the certificate of the store's authority under that key, or correct customCA.key"
    )]
    CertificateIncomplete {
        /// Its kind.
        kind: &'static str,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// The key.
        key: String,
    },
    /// A device cannot be sent file by file.
    #[error(
        "PersistentVolumeClaim {namespace}/{name} is a device (volumeMode Block), and spec.{mover} replicates file systems only; use spec.rsync for it"
    )]
    DeviceNotCarried {
        /// The field of the mover.
        mover: &'static str,
        /// The claim's namespace.
        namespace: String,
        /// The claim's name.
        name: String,
    },
    /// Keys could not be made.
    #[error(
        "ssh keys for Secret {namespace}/{name} could not be made: {reason}; name a Secret of your own in spec.rsync.sshKeys"
    )]
    KeysNotMade {
        /// The Secret's namespace.
        namespace: String,
        /// The Secret's name.
        name: String,
        /// What went wrong.
        reason: String,
    },
    /// The user's service account is not there.
    #[error(
        "waiting for ServiceAccount {namespace}/{name}, which spec.{mover}.moverServiceAccount names and which does not exist; create it or correct the field"
    )]
    ServiceAccountMissing {
        /// The field of the mover.
        mover: &'static str,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// What one of the user's further volumes holds is not there.
    #[error(
        "waiting for {kind} {namespace}/{name}, which moverVolumes names and which does not exist; create it or correct moverVolumes"
    )]
    MoverVolumeMissing {
        /// Its kind.
        kind: &'static str,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// A source knows no destination.
    #[error(
        "spec.rsync.address is not set, so there is no destination to send to; set it to status.rsync.address of the ReplicationDestination"
    )]
    NoDestination,
    /// The load balancer gave no address yet.
    #[error(
        "waiting for an address of Service {namespace}/{name} of type LoadBalancer; check the cluster's load balancer, or set spec.rsync.serviceType to ClusterIP"
    )]
    NoAddress {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// A storage class that the spec names is not there.
    #[error(
        "StorageClass {name}, which spec.{mover}.storageClassName names, does not exist; create it or correct the field"
    )]
    StorageClassMissing {
        /// The field of the mover.
        mover: &'static str,
        /// Its name.
        name: String,
    },
    /// A snapshot class that the spec names is not there.
    #[error(
        "VolumeSnapshotClass {name}, which spec.{mover}.volumeSnapshotClassName names, does not exist; create it or correct the field"
    )]
    SnapshotClassMissing {
        /// The field of the mover.
        mover: &'static str,
        /// Its name.
        name: String,
    },
    /// The cluster knows no snapshots.
    #[error(
        "copyMethod Snapshot needs the VolumeSnapshot resource of snapshot.storage.k8s.io/v1, which this cluster does not have; install the CSI snapshot controller, or use copyMethod {instead}"
    )]
    SnapshotsUnknown {
        /// What to use instead.
        instead: &'static str,
    },
    /// The driver could not make a snapshot.
    #[error(
        "VolumeSnapshot {namespace}/{name} could not be made: {reason}; it is tried again by itself, see the snapshot's events"
    )]
    SnapshotFailed {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// The driver's words.
        reason: String,
    },
    /// A volume would be too small for what it is made from.
    #[error(
        "spec.{mover}.capacity {capacity} is too small: {origin} needs at least {needed}; enlarge it or leave it out"
    )]
    CapacityTooSmall {
        /// The field of the mover.
        mover: &'static str,
        /// What the spec says.
        capacity: String,
        /// What the volume is made from.
        origin: String,
        /// What that needs.
        needed: String,
    },
    /// A volume cannot shrink.
    #[error(
        "spec.{mover}.capacity {capacity} is smaller than PersistentVolumeClaim {namespace}/{name}, which has {present}, and volumes cannot shrink; raise it again, or delete the claim to have it made anew"
    )]
    CannotShrink {
        /// The field of the mover.
        mover: &'static str,
        /// What the spec says.
        capacity: String,
        /// The claim's namespace.
        namespace: String,
        /// The claim's name.
        name: String,
        /// What it has.
        present: String,
    },
    /// An object with the name of ours is not ours.
    #[error(
        "{kind} {namespace}/{name} exists and does not belong to this {owner}, so it is left alone; rename or delete it"
    )]
    NameConflict {
        /// The object's kind.
        kind: &'static str,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// The resource's kind.
        owner: &'static str,
    },
    /// The node of a pod that uses the volume cannot be selected.
    #[error(
        "node {node}, where pod {namespace}/{pod} uses the volume, has no label kubernetes.io/hostname, so the mover cannot be sent there; label the node, or use copyMethod Snapshot or Clone"
    )]
    NodeWithoutHostname {
        /// The node.
        node: String,
        /// The pod's namespace.
        namespace: String,
        /// The pod.
        pod: String,
    },
    /// The mover's pod does not come up.
    #[error(
        "the mover's pod {namespace}/{pod} does not start: {reason}; remove what keeps it (kubectl describe pod tells more), and it starts by itself"
    )]
    PodStuck {
        /// The cause in a word.
        word: &'static str,
        /// The pod's namespace.
        namespace: String,
        /// The pod.
        pod: String,
        /// What the cluster says.
        reason: String,
    },
    /// The namespace does not let the mover's pod in.
    #[error(
        "namespace {namespace} enforces the pod security level {level}, which refuses the mover's pod: {cure}; the run then goes on by itself (refused: {details})"
    )]
    PodSecurity {
        /// The namespace.
        namespace: String,
        /// The level.
        level: String,
        /// What of the pod it refuses.
        details: String,
        /// What to do.
        cure: String,
    },
    /// Something else does not let the mover's pod in.
    #[error(
        "the mover's pod in namespace {namespace} is refused: {reason}; change what refuses it (a quota, a policy, a webhook), and the run goes on by itself"
    )]
    PodRefused {
        /// The namespace.
        namespace: String,
        /// What the cluster says.
        reason: String,
    },
    /// The node of the mover's pod is gone or cut off.
    #[error(
        "node {node}, where the mover's pod {namespace}/{pod} runs, does not answer; the run goes on when the node is back, or from the start when {what} by force (kubectl delete {objects} -n {namespace} --force) and the node is known to be down"
    )]
    NodeLost {
        /// What is to be deleted to start anew, and that it is.
        what: &'static str,
        /// The same for `kubectl`.
        objects: String,
        /// The pod's namespace.
        namespace: String,
        /// The pod.
        pod: String,
        /// The node.
        node: String,
    },
    /// A claim gets no volume.
    #[error(
        "PersistentVolumeClaim {namespace}/{name} gets no volume: {reason}; remove what keeps it, and the run goes on by itself"
    )]
    ClaimUnbound {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// What the cluster says.
        reason: String,
    },
    /// The user's claim has no volume yet, so there is nothing to copy.
    #[error(
        "waiting for PersistentVolumeClaim {namespace}/{name} to be bound; it has no volume yet that could be copied (with volumeBindingMode WaitForFirstConsumer it gets one with its first pod); the run then starts by itself"
    )]
    NothingToCopy {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// The mover's image is somebody else's.
    #[error(
        "MoverImageNotSyncline: the movers' image {image} is not Syncline's: {evidence}; give the operator the image of its own release ({settings} or --mover-image), nothing was transferred with this one"
    )]
    ForeignImage {
        /// The image.
        image: String,
        /// What shows it.
        evidence: String,
        /// The operator's settings that name the image of this mover.
        settings: String,
    },
    /// A mover's run failed.
    #[error("the {side} mover failed{reason}: {message}")]
    TransferFailed {
        /// Which side it was.
        side: &'static str,
        /// Why, in a word in brackets.
        reason: String,
        /// Why, in a sentence.
        message: String,
    },
    /// The volume went away between transfer and image.
    #[error(
        "PersistentVolumeClaim {namespace}/{name} was deleted before an image of what it received was made; the transfer is repeated"
    )]
    VolumeVanished {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

impl Fault {
    /// The reason of the event that tells of it.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::ClaimMissing { .. } => "PersistentVolumeClaimMissing",
            Self::ClaimLost { .. } => "PersistentVolumeClaimLost",
            Self::ClaimUnbound { .. } | Self::NothingToCopy { .. } => {
                "PersistentVolumeClaimNotBound"
            }
            Self::SecretMissing { .. } | Self::ConfigMissing { .. } => "SecretMissing",
            Self::SecretIncomplete { .. } | Self::ConfigIncomplete { .. } => "SecretIncomplete",
            Self::SectionMissing { .. } => "SectionMissing",
            Self::CertificateMissing { .. } => "CertificateMissing",
            Self::CertificateIncomplete { .. } => "CertificateIncomplete",
            Self::ServiceAccountMissing { .. } => "ServiceAccountMissing",
            Self::MoverVolumeMissing { .. } => "MoverVolumeMissing",
            Self::StorageClassMissing { .. } => "StorageClassMissing",
            Self::SnapshotClassMissing { .. } => "VolumeSnapshotClassMissing",
            Self::SnapshotFailed { .. } => "VolumeSnapshotFailed",
            Self::NoAddress { .. } => "NoServiceAddressAssigned",
            Self::NameConflict { .. } => "NameConflict",
            Self::PodStuck { word, .. } => word,
            Self::PodSecurity { .. } => "PodSecurityViolation",
            Self::PodRefused { .. } => "MoverPodRefused",
            Self::NodeLost { .. } => "NodeLost",
            Self::ForeignImage { .. } => "MoverImageNotSyncline",
            Self::OtherVolumeMode { .. }
            | Self::DeviceNotCarried { .. }
            | Self::NoDestination
            | Self::CapacityTooSmall { .. }
            | Self::CannotShrink { .. } => INVALID_SPEC,
            Self::KeysNotMade { .. }
            | Self::SnapshotsUnknown { .. }
            | Self::NodeWithoutHostname { .. }
            | Self::TransferFailed { .. }
            | Self::VolumeVanished { .. } => "SyncFailed",
        }
    }

    /// How its message begins for as long as the cause is the same: a driver may have other words for each of its attempts.
    pub(super) fn beginning(&self) -> String {
        let mut text = self.to_string();
        if matches!(self, Self::SnapshotFailed { .. })
            && let Some(end) = text.find(" could not be made")
        {
            text.truncate(end);
        }
        text
    }

    /// The image of a mover is somebody else's.
    pub(super) fn foreign_image(mover: Mover, image: String, evidence: String) -> Self {
        let flag = mover.as_str();
        let variable = flag.replace('-', "_").to_uppercase();
        Self::ForeignImage {
            image,
            evidence,
            settings: format!("--{flag}-container-image, RELATED_IMAGE_{variable}_CONTAINER"),
        }
    }

    /// The claim that a side's spec names is not there.
    pub(super) fn claim_missing((side, mover): (Side, Mover), namespace: &str, name: &str) -> Self {
        let field = match side {
            Side::Source => "spec.sourcePVC".to_owned(),
            Side::Destination => format!("spec.{}.destinationPVC", mover.field()),
        };
        Self::ClaimMissing {
            field,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }
}
