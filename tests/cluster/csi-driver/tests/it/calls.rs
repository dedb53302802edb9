//! Volumes and snapshots through CSI's calls, with real mounts and loop devices.

use std::fs::{self, OpenOptions};
use std::io::{Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use tonic::Code;

use crate::fixture::registration::{InfoRequest, RegistrationStatus};
use crate::fixture::{Driver, GIB, code, from_snapshot, from_volume, may_mount, proto, wish};

fn write(device: &Path, at: u64, text: &[u8]) -> std::io::Result<()> {
    let file = OpenOptions::new().write(true).open(device)?;
    file.write_all_at(text, at)
}

fn read(device: &Path, at: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    fs::File::open(device)
        .unwrap()
        .read_exact_at(&mut bytes, at)
        .unwrap();
    bytes
}

fn size(device: &Path) -> u64 {
    fs::File::open(device)
        .unwrap()
        .seek(SeekFrom::End(0))
        .unwrap()
}

#[tokio::test]
async fn directories_are_published_snapshotted_restored_and_cloned() {
    if !may_mount() {
        return;
    }
    let mut driver = Driver::start().await;
    let made = driver.create(wish("one", false)).await.unwrap();
    assert_eq!((made.volume_id.as_str(), made.capacity_bytes), ("one", GIB));
    let topology = &made.accessible_topology[0].segments;
    assert_eq!(topology["topology.csi.test.syncline.dev/node"], "here");

    let early = driver
        .publish("one", "kubelet/target", (false, false))
        .await;
    assert_eq!(code(early), Code::FailedPrecondition, "not staged yet");
    driver.stage("one", false).await.unwrap();
    for _ in 0..2 {
        driver
            .publish("one", "kubelet/target", (false, false))
            .await
            .unwrap();
    }
    driver
        .publish("one", "kubelet/reader", (false, true))
        .await
        .unwrap();
    let file = driver.seen("kubelet/target/file");
    fs::write(&file, "first").unwrap();
    assert_eq!(
        fs::read(driver.seen("kubelet/reader/file")).unwrap(),
        b"first"
    );
    fs::write(driver.seen("kubelet/reader/other"), "x").unwrap_err();

    let snapshot = driver.snapshot("one", "image").await.unwrap();
    assert!(snapshot.ready_to_use);
    assert_eq!(snapshot.size_bytes, GIB);
    fs::write(&file, "later").unwrap();
    let mut restore = wish("two", false);
    restore.volume_content_source = Some(from_snapshot("image"));
    let restored = driver.create(restore).await.unwrap();
    assert_eq!(restored.volume_context["consistency"], "none");
    let mut clone = wish("three", false);
    clone.volume_content_source = Some(from_volume("one"));
    driver.create(clone).await.unwrap();
    for (id, text) in [("two", "first"), ("three", "later")] {
        driver.stage(id, false).await.unwrap();
        let target = format!("kubelet/target-{id}");
        driver.publish(id, &target, (false, false)).await.unwrap();
        let file = driver.seen(&format!("{target}/file"));
        assert_eq!(fs::read_to_string(file).unwrap(), text);
    }

    assert_eq!(
        code(driver.delete("one").await),
        Code::FailedPrecondition,
        "it is in use"
    );
    for target in ["kubelet/target", "kubelet/reader"] {
        driver.unpublish("one", target).await;
        assert!(!driver.seen(target).exists());
    }
    driver.unstage("one").await;
    driver.delete("one").await.unwrap();
    assert!(!driver.path("data/volumes/one").exists());
}

#[tokio::test]
async fn a_crash_forgets_nothing_that_was_told_and_keeps_nothing_that_was_not() {
    if !may_mount() {
        return;
    }
    let mut driver = Driver::start().await;
    driver.create(wish("one", false)).await.unwrap();
    fs::write(driver.path("data/volumes/one/data/file"), "kept").unwrap();
    driver.snapshot("one", "image").await.unwrap();
    // As a call leaves it that dies between making the data and telling.
    driver.create(wish("untold", true)).await.unwrap();
    fs::remove_file(driver.path("data/records/volumes/untold.json")).unwrap();
    driver.crash().await;

    let listed = driver
        .controller
        .list_volumes(proto::ListVolumesRequest::default());
    let entries = listed.await.unwrap().into_inner().entries;
    let ids: Vec<_> = entries
        .into_iter()
        .map(|entry| entry.volume.unwrap().volume_id)
        .collect();
    assert_eq!(ids, ["one"]);
    assert!(!driver.path("data/volumes/untold").exists());
    let mut restore = wish("two", false);
    restore.volume_content_source = Some(from_snapshot("image"));
    driver.create(restore).await.unwrap();
    let file = driver.path("data/volumes/two/data/file");
    assert_eq!(fs::read_to_string(file).unwrap(), "kept");
}

#[tokio::test]
async fn disks_are_devices_that_grow_and_whose_snapshots_hold_what_was_written() {
    if !may_mount() {
        return;
    }
    let mut driver = Driver::start().await;
    driver.create(wish("one", true)).await.unwrap();
    driver.stage("one", true).await.unwrap();
    for _ in 0..2 {
        driver
            .publish("one", "kubelet/device", (true, false))
            .await
            .unwrap();
    }
    let device = driver.seen("kubelet/device");
    assert_eq!(size(&device), 1 << 30);
    write(&device, 4096, b"first").unwrap();
    driver.snapshot("one", "image").await.unwrap();
    write(&device, 4096, b"later").unwrap();
    let mut restore = wish("two", true);
    restore.volume_content_source = Some(from_snapshot("image"));
    restore.capacity_range = Some(proto::CapacityRange {
        required_bytes: 2 * GIB,
        limit_bytes: 0,
    });
    driver.create(restore).await.unwrap();
    driver.stage("two", true).await.unwrap();
    driver
        .publish("two", "kubelet/reader", (true, true))
        .await
        .unwrap();
    let reader = driver.seen("kubelet/reader");
    assert_eq!(read(&reader, 4096, 5), b"first");
    assert_eq!(size(&reader), 2 << 30);
    write(&reader, 0, b"x").unwrap_err();

    let expand = proto::ControllerExpandVolumeRequest {
        volume_id: "one".to_owned(),
        capacity_range: Some(proto::CapacityRange {
            required_bytes: 3 * GIB,
            limit_bytes: 0,
        }),
        ..Default::default()
    };
    let grown = driver.controller.controller_expand_volume(expand).await;
    assert!(grown.unwrap().into_inner().node_expansion_required);
    let expand = proto::NodeExpandVolumeRequest {
        volume_id: "one".to_owned(),
        volume_path: driver.text("kubelet/device"),
        ..Default::default()
    };
    driver.node.node_expand_volume(expand).await.unwrap();
    assert_eq!(size(&device), 3 << 30);
    assert_eq!(read(&device, 4096, 5), b"later");
    let stats = proto::NodeGetVolumeStatsRequest {
        volume_id: "one".to_owned(),
        volume_path: driver.text("kubelet/device"),
        ..Default::default()
    };
    let stats = driver.node.node_get_volume_stats(stats).await.unwrap();
    assert_eq!(stats.into_inner().usage[0].total, 3 * GIB);

    driver.unpublish("one", "kubelet/device").await;
    assert_eq!(code(driver.delete("one").await), Code::FailedPrecondition);
    driver.unstage("one").await;
    driver.delete("one").await.unwrap();
}

#[tokio::test]
async fn the_same_wish_finds_the_same_volume_and_another_one_the_name_taken() {
    let mut driver = Driver::start().await;
    let first = driver.create(wish("one", false)).await.unwrap();
    assert_eq!(driver.create(wish("one", false)).await.unwrap(), first);
    assert_eq!(
        code(driver.create(wish("one", true)).await),
        Code::AlreadyExists
    );
    let mut larger = wish("one", false);
    larger.capacity_range = Some(proto::CapacityRange {
        required_bytes: 2 * GIB,
        limit_bytes: 0,
    });
    assert_eq!(code(driver.create(larger).await), Code::AlreadyExists);
    let mut smaller = wish("two", false);
    smaller.volume_content_source = Some(from_volume("one"));
    smaller.capacity_range = Some(proto::CapacityRange {
        required_bytes: GIB / 2,
        limit_bytes: 0,
    });
    assert_eq!(code(driver.create(smaller).await), Code::OutOfRange);
    let mut elsewhere = wish("three", false);
    elsewhere.accessibility_requirements = Some(proto::TopologyRequirement {
        requisite: vec![proto::Topology {
            segments: [(
                "topology.csi.test.syncline.dev/node".to_owned(),
                "there".to_owned(),
            )]
            .into(),
        }],
        preferred: Vec::new(),
    });
    assert_eq!(
        code(driver.create(elsewhere).await),
        Code::ResourceExhausted
    );
    let odd = driver.create(wish("name with / and ../", false)).await;
    let odd = odd.unwrap().volume_id;
    assert!(driver.path("data/volumes").join(&odd).is_dir(), "{odd}");
    driver.delete(&odd).await.unwrap();
    driver.delete("../../data").await.unwrap();
    assert!(driver.path("data/volumes/one").is_dir());
}

#[tokio::test]
async fn faults_hold_for_their_namespace_until_they_are_taken_back() {
    let mut driver = Driver::start().await;
    driver.create(wish("one", false)).await.unwrap();
    driver.faults(
        r#"[{"match": "space", "snapshot": {"neverReady": true}, "clone": {"refuse": true}},
            {"match": "other", "create": {"noSpace": true}}]"#,
    );
    let snapshot = driver.snapshot("one", "image").await.unwrap();
    assert!(!snapshot.ready_to_use);
    let mut restore = wish("two", false);
    restore.volume_content_source = Some(from_snapshot("image"));
    assert_eq!(
        code(driver.create(restore.clone()).await),
        Code::FailedPrecondition
    );
    let mut clone = wish("three", false);
    clone.volume_content_source = Some(from_volume("one"));
    let refused = driver.create(clone.clone()).await.unwrap_err();
    assert_eq!(
        refused.message(),
        "clones of volumes are refused by the faults file"
    );
    driver.create(wish("four", false)).await.unwrap();

    driver.faults(
        r#"[{"match": "space", "create": {"noSpace": true}},
            {"fail": {"call": "CreateSnapshot", "code": "Unavailable", "message": "gone", "times": 1}}]"#,
    );
    assert_eq!(
        code(driver.create(wish("five", false)).await),
        Code::ResourceExhausted
    );
    let failed = driver.snapshot("one", "image").await.unwrap_err();
    assert_eq!(
        (failed.code(), failed.message()),
        (Code::Unavailable, "gone")
    );
    assert!(driver.snapshot("one", "image").await.unwrap().ready_to_use);

    driver.faults(r#"{"snapshot": {"refuse": true}}"#);
    let refused = driver.snapshot("one", "another").await;
    assert_eq!(code(refused), Code::FailedPrecondition);
    driver.faults("[]");
    driver.create(restore).await.unwrap();
    driver.create(clone).await.unwrap();
}

#[tokio::test]
async fn a_call_that_hangs_locks_nothing_and_another_on_the_same_volume_works() {
    let mut driver = Driver::start().await;
    driver.faults(r#"{"hang": {"call": "CreateVolume"}}"#);
    let hanging = driver.create(wish("one", false));
    let waited = tokio::time::timeout(Duration::from_millis(50), hanging).await;
    assert!(waited.is_err(), "it hangs until the caller gives up");
    driver.delete("one").await.unwrap();
    driver.faults("[]");
    driver.create(wish("one", false)).await.unwrap();
}

#[tokio::test]
async fn the_kubelet_finds_the_driver_under_a_second_name_of_the_same_socket() {
    let driver = Driver::start().await;
    let mut kubelet = driver.registration().await;
    let info = kubelet.get_info(InfoRequest {}).await.unwrap().into_inner();
    assert_eq!(
        (info.r#type.as_str(), info.name.as_str()),
        ("CSIPlugin", "csi.test.syncline.dev")
    );
    assert_eq!(info.endpoint, driver.text("csi.sock"));
    let registered = RegistrationStatus {
        plugin_registered: true,
        error: String::new(),
    };
    kubelet
        .notify_registration_status(registered)
        .await
        .unwrap();
}
