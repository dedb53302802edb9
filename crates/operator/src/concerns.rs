//! Which resources an event about another object concerns.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, ResourceExt};
use syncline_api::movers::MoverConfig;
use syncline_api::names::{self, Mover, Side};
use syncline_api::{GROUP, ReplicationDestination, ReplicationSource};

use crate::kinds::{Key, kind_of};
use crate::options::BUILT;
use crate::plan::RESOURCE;
use crate::subject::{Spec, VolumeOptions, annotation, owners};
use crate::validate::{Certificate, Holder, mover_volumes};

/// The kinds that are referred to by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// By nothing but owner references.
    Nothing,
    /// Sources' and destinations' claims.
    Claim,
    /// Secrets with keys, configuration or certificates.
    Secret,
    /// `ConfigMap`s with certificates.
    ConfigMap,
    /// Movers' service accounts.
    ServiceAccount,
    /// Storage classes.
    StorageClass,
    /// Snapshot classes.
    SnapshotClass,
}

/// The resource that an object was made for: by its owner reference, or by a mover pod's annotation.
pub fn made_for(metadata: &ObjectMeta) -> Vec<Key> {
    let Some(namespace) = &metadata.namespace else {
        return Vec::new();
    };
    let key = |side, name: &str| Key {
        side,
        namespace: namespace.clone(),
        name: name.to_owned(),
    };
    let side_of = |kind: &str| {
        [Side::Source, Side::Destination]
            .into_iter()
            .find(|side| kind_of(*side) == kind)
    };
    let owned = owners(metadata)
        .filter(|owner| owner.api_version.split('/').next() == Some(GROUP))
        .filter_map(|owner| side_of(&owner.kind).map(|side| key(side, &owner.name)));
    let annotated = annotation(metadata, RESOURCE).and_then(|text| text.split_once('/'));
    let annotated = annotated.and_then(|(kind, name)| side_of(kind).map(|side| key(side, name)));
    owned.chain(annotated).collect()
}

/// Whether a source's spec names the object.
pub fn source_names(source: &ReplicationSource, named: Named, object: &ObjectMeta) -> bool {
    may_name(source, named, object)
        && names_object(
            source,
            &Spec::Source(Box::new(source.spec.clone())),
            named,
            object,
        )
}

/// Whether a destination's spec names the object.
pub fn destination_names(
    destination: &ReplicationDestination,
    named: Named,
    object: &ObjectMeta,
) -> bool {
    may_name(destination, named, object)
        && names_object(
            destination,
            &Spec::Destination(Box::new(destination.spec.clone())),
            named,
            object,
        )
}

/// Whether it is worth a closer look: what is named has no namespace or the resource's own, and of all that happens most
/// happens elsewhere.
fn may_name<K: Resource>(resource: &K, named: Named, object: &ObjectMeta) -> bool {
    named != Named::Nothing
        && (object.namespace.is_none() || object.namespace == resource.meta().namespace)
}

fn names_object<K: ResourceExt>(
    resource: &K,
    spec: &Spec,
    named: Named,
    object: &ObjectMeta,
) -> bool {
    let mover = spec.acting_mover();
    let (volume, config) = (spec.volume(mover), spec.mover_config(mover));
    let certificate = spec.remote().and_then(|remote| remote.custom_ca.as_ref());
    let certificate = certificate.and_then(Certificate::of);
    let holds = |holder| {
        let found = certificate.as_ref().filter(|found| found.holder == holder);
        found.map(|found| &found.name)
    };
    let names: [Option<&String>; 3] = match named {
        Named::Nothing => [None; 3],
        Named::Claim => [spec.given_claim(mover), None, None],
        Named::Secret => [
            spec.ssh_keys(),
            spec.remote()
                .and_then(|remote| remote.rclone_config.as_ref()),
            holds(Holder::Secret),
        ],
        Named::ConfigMap => [holds(Holder::ConfigMap), None, None],
        Named::ServiceAccount => [
            config.and_then(|config| config.mover_service_account.as_ref()),
            None,
            None,
        ],
        Named::StorageClass => [volume.and_then(VolumeOptions::storage_class), None, None],
        Named::SnapshotClass => [volume.and_then(VolumeOptions::snapshot_class), None, None],
    };
    names.into_iter().any(|name| is(resource, name, object))
        || config.is_some_and(|config| mounts(resource, config, named, object))
}

/// Whether the object is what one of the further volumes of the mover's pod holds.
fn mounts<K: ResourceExt>(
    resource: &K,
    config: &MoverConfig,
    named: Named,
    object: &ObjectMeta,
) -> bool {
    if !matches!(named, Named::Claim | Named::Secret) {
        return false;
    }
    let volumes = mover_volumes(config.mover_volumes.clone(), resource.annotations());
    // What cannot be read names nothing; validation tells its author.
    let volumes = volumes.ok().flatten().unwrap_or_default();
    volumes.iter().any(|volume| {
        let source = &volume.volume_source;
        let name = match named {
            Named::Claim => source
                .persistent_volume_claim
                .as_ref()
                .map(|claim| &claim.claim_name),
            _ => source
                .secret
                .as_ref()
                .and_then(|secret| secret.secret_name.as_ref()),
        };
        is(resource, name, object)
    })
}

/// Whether an object bears a name that one of `key`'s own would. Nothing on somebody else's object points to the resource
/// in whose way it stands, so when it goes its name is all there is to go by.
pub fn stood_in_the_way(key: &Key, object: &ObjectMeta) -> bool {
    let (side, name) = (key.side, key.name.as_str());
    let of_all: [fn(Side, &str) -> String; 4] = [
        names::ssh_keys_main,
        names::ssh_keys_source,
        names::ssh_keys_destination,
        names::service_account,
    ];
    let of_one: [fn(Mover, Side, &str) -> String; 3] = [
        names::job,
        names::service,
        // A source's snapshot has the same name.
        names::data_pvc,
    ];
    let is = |made: String| object.name.as_deref() == Some(made.as_str());
    object.namespace.as_deref() == Some(key.namespace.as_str())
        && (of_all.into_iter().any(|derive| is(derive(side, name)))
            || BUILT.into_iter().any(|mover| {
                of_one
                    .into_iter()
                    .any(|derive| is(derive(mover, side, name)))
            }))
}

/// Same name, and same namespace unless the object has none.
fn is<K: Resource>(resource: &K, name: Option<&String>, object: &ObjectMeta) -> bool {
    name.is_some()
        && name == object.name.as_ref()
        && (object.namespace.is_none() || object.namespace == resource.meta().namespace)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn metadata(value: serde_json::Value) -> ObjectMeta {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn an_object_concerns_the_resource_that_controls_it() {
        let owner = |kind: &str, group: &str| {
            metadata(json!({"namespace": "ns", "name": "x", "ownerReferences": [
                {"apiVersion": format!("{group}/v1alpha1"), "kind": kind, "name": "db", "uid": "1"}]}))
        };
        let source = Key {
            side: Side::Source,
            namespace: "ns".into(),
            name: "db".into(),
        };
        assert_eq!(
            made_for(&owner("ReplicationSource", "volsync.backube")),
            [source]
        );
        assert!(made_for(&owner("ReplicationSource", "elsewhere.example")).is_empty());
        assert!(made_for(&owner("Job", "volsync.backube")).is_empty());
    }

    #[test]
    fn a_mover_pod_concerns_the_resource_it_works_for() {
        let pod = metadata(json!({"namespace": "ns", "name": "x",
            "annotations": {"syncline.dev/resource": "ReplicationDestination/db"}}));
        assert_eq!(
            made_for(&pod),
            [Key {
                side: Side::Destination,
                namespace: "ns".into(),
                name: "db".into()
            }]
        );
    }

    #[test]
    fn what_stood_in_the_way_is_known_by_its_name() {
        let key = Key {
            side: Side::Source,
            namespace: "ns".into(),
            name: "db".into(),
        };
        for name in [
            "volsync-rsync-src-db",
            "volsync-db-src",
            "volsync-rsync-src-main-db",
            "volsync-rclone-src-db",
            "volsync-src-db",
        ] {
            let object = |namespace: &str| metadata(json!({"namespace": namespace, "name": name}));
            assert!(stood_in_the_way(&key, &object("ns")), "{name}");
            assert!(!stood_in_the_way(&key, &object("elsewhere")), "{name}");
        }
        let other = metadata(json!({"namespace": "ns", "name": "volsync-db-dst"}));
        assert!(!stood_in_the_way(&key, &other));
    }

    #[test]
    fn what_a_store_is_described_by_concerns_those_who_use_it() {
        let destination: ReplicationDestination = serde_json::from_value(json!({
            "metadata": {"namespace": "ns", "name": "db"}, "spec": {"rclone": {"rcloneConfig": "store",
                "destinationPVC": "into", "storageClassName": "fast", "customCA": {"configMapName": "ca", "key": "k"}}}}))
        .unwrap();
        let object = |name: &str| metadata(json!({"namespace": "ns", "name": name}));
        let names = |named, name: &str| destination_names(&destination, named, &object(name));
        assert!(names(Named::Secret, "store") && names(Named::ConfigMap, "ca"));
        assert!(names(Named::Claim, "into"));
        assert!(!names(Named::Secret, "ca") && !names(Named::ConfigMap, "store"));
        let class = metadata(json!({"name": "fast"}));
        assert!(destination_names(&destination, Named::StorageClass, &class));
        let elsewhere = metadata(json!({"namespace": "other", "name": "store"}));
        assert!(!destination_names(&destination, Named::Secret, &elsewhere));
    }

    #[test]
    fn a_late_claim_concerns_the_sources_that_wait_for_it() {
        let mut source: ReplicationSource = serde_json::from_value(json!({
            "metadata": {"namespace": "ns", "name": "db"}, "spec": {"sourcePVC": "late"}}))
        .unwrap();
        let claim = metadata(json!({"namespace": "ns", "name": "late"}));
        assert!(source_names(&source, Named::Claim, &claim));
        assert!(!source_names(&source, Named::Secret, &claim));
        source.metadata.namespace = Some("elsewhere".into());
        assert!(!source_names(&source, Named::Claim, &claim));
    }
}
