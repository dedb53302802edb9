//! Claims, volumes and snapshots.

use std::fs;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::{World, annotations};
use crate::controllers::snapshots::kinds::{VolumeSnapshot, VolumeSnapshotContent};
use crate::controllers::volumes::is_bound;
use crate::controllers::{CONSISTENCY, UNSETTLED};

fn claim(name: &str, size: &str, more: &Value) -> Value {
    let mut claim = json!({
        "metadata": { "name": name },
        "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": size } } },
    });
    for (key, value) in more.as_object().unwrap() {
        claim["spec"][key] = value.clone();
    }
    claim
}

fn snapshot(name: &str, claim: &str) -> Value {
    json!({ "metadata": { "name": name }, "spec": { "source": { "persistentVolumeClaimName": claim } } })
}

fn from(kind: &str, name: &str) -> Value {
    let group = if kind == "VolumeSnapshot" {
        json!("snapshot.storage.k8s.io")
    } else {
        Value::Null
    };
    json!({ "dataSource": { "apiGroup": group, "kind": kind, "name": name } })
}

impl World {
    fn claims(&self) -> Api<PersistentVolumeClaim> {
        self.api()
    }

    fn snapshots(&self) -> Api<VolumeSnapshot> {
        self.api()
    }

    async fn bound(&self, name: &str) -> PersistentVolumeClaim {
        Self::until(
            self.claims(),
            name,
            |claim: Option<&PersistentVolumeClaim>| claim.is_some_and(is_bound),
        )
        .await
        .unwrap()
    }

    async fn ready(&self, name: &str) -> VolumeSnapshot {
        let ready =
            |snapshot: Option<&VolumeSnapshot>| snapshot.is_some_and(VolumeSnapshot::is_ready);
        Self::until(self.snapshots(), name, ready).await.unwrap()
    }

    fn data(&self, claim: &PersistentVolumeClaim) -> std::path::PathBuf {
        self.volumes
            .volume_path(claim.spec.as_ref().unwrap().volume_name.as_ref().unwrap())
    }

    async fn gone<K>(&self, api: Api<K>, name: &str)
    where
        K: kube::Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + 'static,
    {
        Self::until(api, name, |object: Option<&K>| object.is_none()).await;
    }
}

#[tokio::test]
async fn a_claim_gets_a_directory_and_gives_it_back() {
    let world = World::start().await;
    world
        .create(&world.claims(), claim("v", "64Mi", &json!({})))
        .await;
    let bound = world.bound("v").await;
    let name = format!("pvc-{}", bound.uid().unwrap());
    assert_eq!(
        bound.spec.as_ref().unwrap().volume_name.as_ref(),
        Some(&name)
    );
    assert_eq!(
        bound.spec.as_ref().unwrap().storage_class_name.as_deref(),
        Some("syncline")
    );
    let status = serde_json::to_value(bound.status.clone()).unwrap();
    assert_eq!(
        status,
        json!({ "phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": { "storage": "64Mi" } })
    );
    let by = "embedded.syncline.dev".to_owned();
    for key in [
        "volume.beta.kubernetes.io/storage-provisioner",
        "volume.kubernetes.io/storage-provisioner",
    ] {
        assert_eq!(annotations(&bound).get(key), Some(&by));
    }
    assert_eq!(
        annotations(&bound)
            .get("pv.kubernetes.io/bind-completed")
            .map(String::as_str),
        Some("yes")
    );
    assert_eq!(
        world.told("v", "Provisioning").await,
        "External provisioner is provisioning volume for claim \"n/v\""
    );
    assert_eq!(
        world.told("v", "ProvisioningSucceeded").await,
        format!("Successfully provisioned volume {name}")
    );
    let data = world.data(&bound);
    assert!(data.is_dir());
    fs::write(data.join("file"), "data").unwrap();

    world
        .claims()
        .delete("v", &DeleteParams::default())
        .await
        .unwrap();
    world.gone(world.claims(), "v").await;
    world.gone(world.all::<PersistentVolume>(), &name).await;
    assert!(!data.exists());
    world.stop().await;
}

#[tokio::test]
async fn a_claim_of_an_unknown_class_waits_for_the_class() {
    let world = World::start().await;
    world
        .create(
            &world.claims(),
            claim("v", "1Gi", &json!({ "storageClassName": "later" })),
        )
        .await;
    let told = world.told("v", "ProvisioningFailed").await;
    assert_eq!(told, "storageclass.storage.k8s.io \"later\" not found");
    let class = json!({ "metadata": { "name": "later" }, "provisioner": "embedded.syncline.dev" });
    world.create(&world.all::<StorageClass>(), class).await;
    world.bound("v").await;
    world.stop().await;
}

#[tokio::test]
async fn a_claim_in_use_stays_until_the_pod_is_gone() {
    let world = World::start().await;
    world
        .create(&world.claims(), claim("v", "1Gi", &json!({})))
        .await;
    let data = world.data(&world.bound("v").await);
    let pod = json!({
        "metadata": { "name": "p" },
        "spec": {
            "nodeName": "somewhere",
            "containers": [{ "name": "c", "image": "i" }],
            "volumes": [{ "name": "v", "persistentVolumeClaim": { "claimName": "v" } }],
        },
    });
    world.create(&world.api::<Pod>(), pod).await;
    world
        .claims()
        .delete("v", &DeleteParams::default())
        .await
        .unwrap();
    // Another claim's whole life passes meanwhile: the first one has been looked at.
    world
        .create(&world.claims(), claim("w", "1Gi", &json!({})))
        .await;
    world.bound("w").await;
    let waiting = world.claims().get("v").await.unwrap();
    assert!(waiting.metadata.deletion_timestamp.is_some() && is_bound(&waiting) && data.is_dir());
    let now = DeleteParams {
        grace_period_seconds: Some(0),
        ..DeleteParams::default()
    };
    world.api::<Pod>().delete("p", &now).await.unwrap();
    world.gone(world.claims(), "v").await;
    world.stop().await;
}

#[tokio::test]
async fn an_adopted_folder_is_bound_and_never_deleted() {
    let world = World::start().await;
    let folder = world.folder.path().join("of somebody");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("file"), "theirs").unwrap();
    let volume = json!({
        "metadata": { "name": "adopted-n-v", "annotations": { "embedded.syncline.dev/adopted": "true" } },
        "spec": {
            "capacity": { "storage": "10Gi" }, "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain", "hostPath": { "path": folder },
            "claimRef": { "kind": "PersistentVolumeClaim", "namespace": "n", "name": "v" },
        },
    });
    world.create(&world.all::<PersistentVolume>(), volume).await;
    let more = json!({ "storageClassName": "", "volumeName": "adopted-n-v" });
    world
        .create(&world.claims(), claim("v", "10Gi", &more))
        .await;
    world.bound("v").await;
    world.create(&world.snapshots(), snapshot("s", "v")).await;
    let ready = world.ready("s").await;
    let image = world.volumes.image_path(ready.content().unwrap());
    assert_eq!(fs::read_to_string(image.join("file")).unwrap(), "theirs");

    world
        .claims()
        .delete("v", &DeleteParams::default())
        .await
        .unwrap();
    world.gone(world.claims(), "v").await;
    let released = |volume: Option<&PersistentVolume>| {
        volume.and_then(|volume| volume.status.as_ref()?.phase.as_deref()) == Some("Released")
    };
    World::until(world.all::<PersistentVolume>(), "adopted-n-v", released).await;
    world
        .all::<PersistentVolume>()
        .delete("adopted-n-v", &DeleteParams::default())
        .await
        .unwrap();
    world
        .gone(world.all::<PersistentVolume>(), "adopted-n-v")
        .await;
    assert_eq!(fs::read_to_string(folder.join("file")).unwrap(), "theirs");
    world.stop().await;
}

#[tokio::test]
async fn a_snapshot_is_restored_cloned_and_deleted() {
    let world = World::start().await;
    world
        .create(&world.claims(), claim("v", "64Mi", &json!({})))
        .await;
    let data = world.data(&world.bound("v").await);
    fs::write(data.join("file"), "first").unwrap();
    world.create(&world.snapshots(), snapshot("s", "v")).await;
    let ready = world.ready("s").await;
    let status = ready.status.clone().unwrap();
    assert_eq!(status.restore_size.as_deref(), Some("64Mi"));
    assert!(status.creation_time.is_some() && status.error.is_none());
    assert_eq!(
        ready.content(),
        Some(format!("snapcontent-{}", ready.uid().unwrap()).as_str())
    );
    assert_eq!(
        ready.spec.volume_snapshot_class_name.as_deref(),
        Some("syncline")
    );
    assert!(["atomic", "per-file", "none"].contains(&annotations(&ready)[CONSISTENCY].as_str()));
    assert!(!annotations(&ready).contains_key(UNSETTLED));
    assert_eq!(ready.finalizers().len(), 2);
    assert_eq!(
        world.told("s", "SnapshotReady").await,
        "Snapshot n/s is ready to use."
    );
    let free = |claim: Option<&PersistentVolumeClaim>| {
        claim.is_some_and(|claim| claim.finalizers() == ["kubernetes.io/pvc-protection"])
    };
    World::until(world.claims(), "v", free).await;

    fs::write(data.join("file"), "second").unwrap();
    world
        .create(
            &world.claims(),
            claim("restored", "64Mi", &from("VolumeSnapshot", "s")),
        )
        .await;
    world
        .create(
            &world.claims(),
            claim("cloned", "64Mi", &from("PersistentVolumeClaim", "v")),
        )
        .await;
    let (restored, cloned) = (world.bound("restored").await, world.bound("cloned").await);
    assert_eq!(
        annotations(&restored).get(CONSISTENCY),
        annotations(&ready).get(CONSISTENCY)
    );
    assert_eq!(
        fs::read_to_string(world.data(&restored).join("file")).unwrap(),
        "first"
    );
    assert_eq!(
        fs::read_to_string(world.data(&cloned).join("file")).unwrap(),
        "second"
    );
    World::until(world.claims(), "v", free).await;

    let content = ready.content().unwrap().to_owned();
    world
        .snapshots()
        .delete("s", &DeleteParams::default())
        .await
        .unwrap();
    world.gone(world.snapshots(), "s").await;
    world
        .gone(world.all::<VolumeSnapshotContent>(), &content)
        .await;
    assert!(world.volumes.images().unwrap().is_empty());
    world.stop().await;
}

#[tokio::test]
async fn a_retained_content_outlives_its_snapshot_and_serves_the_next() {
    let world = World::start().await;
    world
        .create(&world.claims(), claim("v", "64Mi", &json!({})))
        .await;
    fs::write(world.data(&world.bound("v").await).join("file"), "kept").unwrap();
    world.create(&world.snapshots(), snapshot("s", "v")).await;
    let content = world.ready("s").await.content().unwrap().to_owned();
    let contents = world.all::<VolumeSnapshotContent>();
    let retain = Patch::Merge(json!({ "spec": { "deletionPolicy": "Retain" } }));
    contents
        .patch(&content, &PatchParams::default(), &retain)
        .await
        .unwrap();
    world
        .snapshots()
        .delete("s", &DeleteParams::default())
        .await
        .unwrap();
    world.gone(world.snapshots(), "s").await;
    let reference =
        json!({ "spec": { "volumeSnapshotRef": { "name": "t", "namespace": "n", "uid": null } } });
    contents
        .patch(&content, &PatchParams::default(), &Patch::Merge(reference))
        .await
        .unwrap();
    let again = json!({ "metadata": { "name": "t" }, "spec": { "source": { "volumeSnapshotContentName": content } } });
    world.create(&world.snapshots(), again).await;
    world.ready("t").await;
    world
        .create(
            &world.claims(),
            claim("restored", "64Mi", &from("VolumeSnapshot", "t")),
        )
        .await;
    let restored = world.bound("restored").await;
    assert_eq!(
        fs::read_to_string(world.data(&restored).join("file")).unwrap(),
        "kept"
    );
    world.stop().await;
}

#[tokio::test]
async fn what_a_snapshot_lacks_is_told_and_awaited() {
    let world = World::start().await;
    world
        .create(&world.snapshots(), snapshot("s", "late"))
        .await;
    let message = "Failed to set default snapshot class with error failed to retrieve PVC late from the lister: \"persistentvolumeclaim \\\"late\\\" not found\"";
    let refused = move |snapshot: Option<&VolumeSnapshot>| {
        let error = snapshot.and_then(|snapshot| snapshot.status.as_ref()?.error.as_ref());
        error.and_then(|error| error.message.as_deref()) == Some(message)
    };
    World::until(world.snapshots(), "s", refused).await;
    assert_eq!(
        world.told("s", "SetDefaultSnapshotClassFailed").await,
        message
    );

    let mut classless = snapshot("t", "late");
    classless["spec"]["volumeSnapshotClassName"] = json!("absent");
    world
        .create(&world.claims(), claim("late", "1Mi", &json!({})))
        .await;
    world.create(&world.snapshots(), classless).await;
    assert_eq!(
        world.told("t", "GetSnapshotClassFailed").await,
        "Failed to get snapshot class with error volumesnapshotclass.snapshot.storage.k8s.io \"absent\" not found"
    );
    let ready = world.ready("s").await;
    assert!(
        ready.status.unwrap().error.is_none(),
        "the error goes with its cause"
    );
    world.stop().await;
}

#[tokio::test]
async fn a_claim_waits_for_its_snapshot_and_must_be_large_enough() {
    let world = World::start().await;
    world
        .create(
            &world.claims(),
            claim("early", "64Mi", &from("VolumeSnapshot", "s")),
        )
        .await;
    assert_eq!(
        world.told("early", "ProvisioningFailed").await,
        "error getting handle for DataSource Type VolumeSnapshot by Name s: error getting snapshot s from api server: volumesnapshots.snapshot.storage.k8s.io \"s\" not found"
    );
    world
        .create(&world.claims(), claim("v", "64Mi", &json!({})))
        .await;
    world.bound("v").await;
    world.create(&world.snapshots(), snapshot("s", "v")).await;
    world.bound("early").await;
    world
        .create(
            &world.claims(),
            claim("small", "1Mi", &from("VolumeSnapshot", "s")),
        )
        .await;
    assert_eq!(
        world.told("small", "ProvisioningFailed").await,
        "error getting handle for DataSource Type VolumeSnapshot by Name s: requested volume size 1048576 is less than the size 67108864 for the source snapshot s"
    );
    world.stop().await;
}

#[tokio::test]
async fn a_claim_can_grow() {
    let world = World::start().await;
    world
        .create(&world.claims(), claim("v", "1Gi", &json!({})))
        .await;
    world.bound("v").await;
    let more =
        Patch::Merge(json!({ "spec": { "resources": { "requests": { "storage": "2Gi" } } } }));
    world
        .claims()
        .patch("v", &PatchParams::default(), &more)
        .await
        .unwrap();
    let grown = |claim: Option<&PersistentVolumeClaim>| {
        let capacity =
            claim.and_then(|claim| claim.status.as_ref()?.capacity.as_ref()?.get("storage"));
        capacity.is_some_and(|size| size.0 == "2Gi")
    };
    World::until(world.claims(), "v", grown).await;
    world.stop().await;
}

#[tokio::test]
async fn a_volume_that_is_moved_to_another_claim_is_that_ones() {
    let world = World::start().await;
    world
        .create(&world.claims(), claim("first", "64Mi", &json!({})))
        .await;
    let first = world.bound("first").await;
    fs::write(world.data(&first).join("file"), "moved").unwrap();
    let source = json!({"dataSourceRef":
        { "apiGroup": "elsewhere.example", "kind": "Other", "name": "x" } });
    world
        .create(&world.claims(), claim("second", "64Mi", &source))
        .await;
    let second = world.claims().get("second").await.unwrap();
    let reference = json!({ "spec": { "claimRef": { "name": "second", "namespace": "n", "uid": second.uid(),
        "resourceVersion": second.resource_version() } } });
    let volumes = world.all::<PersistentVolume>();
    let volume = first.spec.unwrap().volume_name.unwrap();
    volumes
        .patch(&volume, &PatchParams::default(), &Patch::Merge(reference))
        .await
        .unwrap();
    let second = world.bound("second").await;
    assert_eq!(
        second.spec.as_ref().unwrap().volume_name.as_ref(),
        Some(&volume)
    );
    let lost = |claim: Option<&PersistentVolumeClaim>| {
        let phase = claim.and_then(|claim| claim.status.as_ref()?.phase.as_deref());
        phase == Some("Lost")
    };
    World::until(world.claims(), "first", lost).await;
    world
        .claims()
        .delete("first", &DeleteParams::default())
        .await
        .unwrap();
    world.gone(world.claims(), "first").await;
    assert_eq!(
        fs::read_to_string(world.data(&second).join("file")).unwrap(),
        "moved"
    );
    world.stop().await;
}

#[tokio::test]
async fn a_claim_for_a_device_gets_a_file_that_is_copied_and_grows() {
    let world = World::start().await;
    let block = |more: Value| {
        let mut spec = json!({ "volumeMode": "Block" });
        spec.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        spec
    };
    let path = |claim: &PersistentVolumeClaim| {
        let volume = claim.spec.as_ref().unwrap().volume_name.clone().unwrap();
        world.volumes.disk_path(&volume)
    };
    world
        .create(&world.claims(), claim("disk", "64Mi", &block(json!({}))))
        .await;
    let disk = path(&world.bound("disk").await);
    assert_eq!(fs::metadata(&disk).unwrap().len(), 64 << 20);
    fs::write(&disk, "first").unwrap();
    fs::File::options()
        .write(true)
        .open(&disk)
        .unwrap()
        .set_len(64 << 20)
        .unwrap();
    world
        .create(&world.snapshots(), snapshot("s", "disk"))
        .await;
    world.ready("s").await;
    let restored = claim("restored", "80Mi", &block(from("VolumeSnapshot", "s")));
    world.create(&world.claims(), restored).await;
    let restored = path(&world.bound("restored").await);
    assert_eq!(fs::metadata(&restored).unwrap().len(), 80 << 20);
    assert!(fs::read(&restored).unwrap().starts_with(b"first"));
    let other = claim("other", "64Mi", &from("VolumeSnapshot", "s"));
    world.create(&world.claims(), other).await;
    let told = world.told("other", "ProvisioningFailed").await;
    assert!(told.contains("another volumeMode"), "{told}");
    let larger = json!({ "spec": { "resources": { "requests": { "storage": "96Mi" } } } });
    world
        .claims()
        .patch("disk", &PatchParams::default(), &Patch::Merge(larger))
        .await
        .unwrap();
    world.told("disk", "VolumeResizeSuccessful").await;
    assert_eq!(fs::metadata(&disk).unwrap().len(), 96 << 20);
    world.stop().await;
}
