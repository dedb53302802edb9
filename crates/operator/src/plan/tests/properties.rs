//! Whatever happens, in whatever order, and wherever the operator is interrupted: no law is broken (each step of the model
//! checks them), and when the trouble ends there is a success and then rest.

use proptest::prelude::*;
use serde_json::{Value, json};
use syncline_api::names::{Mover, Side};
use syncline_api::report::{Report, Role};
use syncline_api::status::Progress;

use super::model::Model;

/// What may happen to a resource.
#[derive(Clone, Debug)]
enum Happening {
    /// A look of which only so many writes get through: the operator is killed after them.
    InterruptedLook(usize),
    Settle,
    SnapshotsReady,
    SnapshotsFail,
    Address,
    Succeed,
    Runs,
    Reports(bool),
    Confirmed(bool),
    Guarded(bool),
    Trigger(u8),
    Fail,
    Pass(i64),
    Manual(u8),
    Paused(bool),
    Method(&'static str),
    Schedule(&'static str),
    Mover(bool),
    JobVanishes,
    CopyVanishes,
    KeepSnapshots,
    ClaimGoes,
    ClaimComes,
    Place(bool),
    /// The Secret with rclone's configuration goes, is spoilt, or is as it should be.
    Config(u8),
    /// The other mover is chosen.
    Other,
    /// The mover of a destination says that it waits for a new version.
    Waits,
    Path(u8),
}

fn happening() -> impl Strategy<Value = Happening> {
    use Happening::*;
    prop_oneof![
        6 => (0usize..6).prop_map(InterruptedLook),
        4 => Just(Settle),
        3 => Just(SnapshotsReady),
        1 => Just(SnapshotsFail),
        2 => Just(Address),
        4 => Just(Succeed),
        3 => Just(Runs),
        3 => any::<bool>().prop_map(Reports),
        3 => any::<bool>().prop_map(Confirmed),
        1 => any::<bool>().prop_map(Guarded),
        2 => any::<u8>().prop_map(Trigger),
        2 => Just(Fail),
        3 => (0i64..900).prop_map(Pass),
        2 => any::<u8>().prop_map(Manual),
        1 => any::<bool>().prop_map(Paused),
        1 => prop_oneof![Just("Direct"), Just("Clone"), Just("Snapshot"), Just("None")].prop_map(Method),
        1 => prop_oneof![Just("*/5 * * * *"), Just("@hourly"), Just("bad"), Just("0 0 31 2 *")].prop_map(Schedule),
        1 => any::<bool>().prop_map(Mover),
        1 => Just(JobVanishes),
        1 => Just(CopyVanishes),
        1 => Just(KeepSnapshots),
        1 => Just(ClaimGoes),
        1 => Just(ClaimComes),
        1 => any::<bool>().prop_map(Place),
    ]
}

/// What may happen to a resource of rclone besides.
fn happening_to_rclone() -> impl Strategy<Value = Happening> {
    use Happening::*;
    prop_oneof![
        20 => happening(),
        1 => any::<u8>().prop_map(Config),
        1 => Just(Other),
        1 => Just(Waits),
        1 => any::<u8>().prop_map(Path),
    ]
}

fn happen(model: &mut Model, happening: &Happening) {
    let remove = |model: &mut Model, kind: &str, name: String| {
        model.objects.remove(&(kind.to_owned(), name));
    };
    match happening {
        Happening::InterruptedLook(writes) => {
            model.step(*writes);
        }
        // A resource without a trigger never comes to rest, so looks are counted.
        Happening::Settle => {
            (0..8).any(|_| model.step(usize::MAX) == 0);
        }
        Happening::SnapshotsReady => model.snapshots_become_ready(),
        Happening::SnapshotsFail => model.objects.iter_mut().for_each(|((kind, _), object)| {
            if kind == "VolumeSnapshot" && object["status"].is_null() {
                object["status"] = json!({"readyToUse": false, "error": {"message": "no"}});
            }
        }),
        Happening::Address => model.give_address(),
        Happening::Succeed => model.succeed(),
        Happening::Runs | Happening::Reports(_) | Happening::Confirmed(_) => {
            tell_of_pod(model, happening);
        }
        Happening::Guarded(guarded) => {
            let word = if *guarded { json!("") } else { json!(null) };
            annotate(model, &json!({"volsync.backube/use-copy-trigger": word}));
        }
        Happening::Trigger(number) => {
            annotate(
                model,
                &json!({"volsync.backube/copy-trigger": number.to_string()}),
            );
        }
        Happening::Fail => model.fail(),
        Happening::Pass(seconds) => model.pass(*seconds),
        Happening::Manual(tag) => model.edit(json!({"trigger": {"manual": tag.to_string()}})),
        Happening::Paused(paused) => model.edit(json!({"paused": paused})),
        Happening::Method(method) => {
            let field = model.mover().field();
            model.edit(json!({field: {"copyMethod": method}}));
        }
        Happening::Schedule(schedule) => {
            model.edit(json!({"trigger": {"manual": null, "schedule": schedule}}));
        }
        Happening::Mover(two) => {
            model.edit(json!({"restic": if *two { json!({}) } else { json!(null) }}));
        }
        Happening::JobVanishes => remove(model, "Job", model.job_name()),
        Happening::CopyVanishes => remove(model, "VolumeSnapshot", model.own_claim()),
        Happening::KeepSnapshots => model.objects.iter_mut().for_each(|((kind, _), object)| {
            // The copy of a source under its fixed name stands in the way when it is to be kept, and that is said.
            if kind == "VolumeSnapshot" && object["metadata"]["name"] != "volsync-db-src" {
                object["metadata"]["labels"]["volsync.backube/do-not-delete"] = json!("yes");
            }
        }),
        Happening::ClaimGoes => remove(model, "PersistentVolumeClaim", "pvc-user".to_owned()),
        Happening::ClaimComes => restore_claim(model),
        Happening::Place(free) => model.may_start = *free,
        Happening::Config(_) | Happening::Other | Happening::Waits | Happening::Path(_) => {
            happen_to_rclone(model, happening);
        }
    }
}

fn happen_to_rclone(model: &mut Model, happening: &Happening) {
    match happening {
        Happening::Config(0..=80) => {
            model.objects.remove(&("Secret".into(), "store".into()));
        }
        Happening::Config(81..=160) => model.put("Secret", "store", json!({"data": {}})),
        Happening::Config(_) => model.put_store(),
        Happening::Other => choose(model, model.mover() != Mover::Rclone),
        Happening::Waits => {
            model.progress = Some(Progress {
                phase: Some("Waiting".to_owned()),
                ..Progress::default()
            });
        }
        Happening::Path(path) if model.mover() == Mover::Rclone => {
            let path = format!("bucket/{path}");
            model.edit(json!({"rclone": {"rcloneDestPath": path}}));
        }
        _ => {}
    }
}

/// Takes the settings of one mover to the other.
fn choose(model: &mut Model, rclone: bool) {
    let (from, to) = if rclone {
        ("rsync", "rclone")
    } else {
        ("rclone", "rsync")
    };
    let mut settings = model.resource["spec"][from].clone();
    if settings.is_null() {
        return;
    }
    super::model::merge(&mut settings, &super::model::store());
    settings["address"] = json!("dst.example");
    model.edit(json!({from: null, to: settings}));
}

/// What is heard of the Job's pod: that it runs, what its log says, what the kubelet says of its end.
fn tell_of_pod(model: &mut Model, happening: &Happening) {
    let name = model.job_name();
    if model.object("Job", &name).is_none() {
        return;
    }
    let role = match model.side {
        Side::Source => Role::Source,
        Side::Destination => Role::Destination,
    };
    let mover = model.mover().as_str();
    let success = Report::successful(mover, role);
    let runs = |model: &Model| {
        let pod = model.object("Pod", &format!("{name}-x"));
        pod.is_some_and(|pod| pod["status"]["phase"] == "Running")
    };
    match happening {
        Happening::Runs => model.mover_runs(),
        Happening::Reports(last) if runs(model) => model.mover_reports(success, *last),
        Happening::Confirmed(true) if runs(model) => model.pod_ends(&success, true),
        Happening::Confirmed(false) if runs(model) => {
            let failed = Report::failed(mover, role, "Interrupted", "told to stop");
            model.pod_ends(&failed, false);
        }
        _ => {}
    }
}

fn annotate(model: &mut Model, annotations: &Value) {
    if let Some(claim) = model.object_mut("PersistentVolumeClaim", "pvc-user") {
        super::model::merge(&mut claim["metadata"]["annotations"], annotations);
    }
}

fn restore_claim(model: &mut Model) {
    if model.object("PersistentVolumeClaim", "pvc-user").is_none() {
        let claim = Model::source(json!({}), json!({}))
            .object("PersistentVolumeClaim", "pvc-user")
            .unwrap()
            .clone();
        model.put("PersistentVolumeClaim", "pvc-user", claim);
    }
}

/// The trouble ends; the resource must come to a success of its own, and then to rest.
fn recovers(model: &mut Model, tag: &str) {
    restore_claim(model);
    annotate(model, &json!({"volsync.backube/use-copy-trigger": null}));
    model.may_start = true;
    model.edit(
        json!({"paused": false, "restic": null, "trigger": {"manual": tag, "schedule": null}}),
    );
    let field = model.mover().field();
    model.edit(json!({field: {"copyMethod": "Snapshot"}}));
    model.put_store();
    for _ in 0..12 {
        model.pass(700);
        (0..10).any(|_| model.step(usize::MAX) == 0);
        model.give_address();
        model.snapshots_become_ready();
        model.succeed();
    }
    model.settle();
    assert_eq!(
        model.status()["lastManualSync"],
        tag,
        "{:#?}",
        model.status()
    );
    assert_eq!(model.says().0, "WaitingForManual");
    let plan = model.plan();
    assert!(
        plan.apply.is_empty() && plan.changes.is_empty() && plan.delete.is_empty(),
        "at rest nothing is written"
    );
    assert_eq!(plan.wake, None);
    assert!(plan.events.is_empty(), "{:?}", plan.events);
    assert!(model.names("Job").is_empty(), "nothing temporary is left");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_source_keeps_the_laws_and_recovers(happenings in prop::collection::vec(happening(), 0..60)) {
        let mut model = Model::source(json!({"manual": "0"}), json!({}));
        for step in &happenings {
            happen(&mut model, step);
        }
        recovers(&mut model, "the-end");
        prop_assert_eq!(model.names("PersistentVolumeClaim"), ["pvc-user"]);
        let kept = model.objects.iter().filter(|((kind, _), object)| {
            kind == "VolumeSnapshot" && object["metadata"]["ownerReferences"][0]["uid"] == super::model::UID
        });
        prop_assert_eq!(kept.count(), 0, "no copy is left behind");
    }

    #[test]
    fn a_source_of_rclone_keeps_the_laws_and_recovers(
        happenings in prop::collection::vec(happening_to_rclone(), 0..60),
    ) {
        let mut model = Model::rclone_source(json!({"manual": "0"}), json!({}));
        for step in &happenings {
            happen(&mut model, step);
        }
        choose(&mut model, true);
        recovers(&mut model, "the-end");
        prop_assert_eq!(model.names("PersistentVolumeClaim"), ["pvc-user"]);
        let kept = model.objects.iter().filter(|((kind, _), object)| {
            kind == "VolumeSnapshot" && object["metadata"]["ownerReferences"][0]["uid"] == super::model::UID
        });
        prop_assert_eq!(kept.count(), 0, "no copy is left behind");
    }

    #[test]
    fn a_destination_of_rclone_keeps_the_laws_and_recovers(
        given in any::<bool>(),
        happenings in prop::collection::vec(happening_to_rclone(), 0..60),
    ) {
        let target = if given { json!({"destinationPVC": "pvc-user"}) } else { json!({}) };
        let mut model = Model::rclone_destination(json!({"manual": "0"}), target);
        for step in &happenings {
            happen(&mut model, step);
        }
        choose(&mut model, true);
        recovers(&mut model, "a-rest");
        recovers(&mut model, "the-end");
        let image = model.status()["latestImage"]["name"].as_str().unwrap_or_default().to_owned();
        prop_assert!(model.object("VolumeSnapshot", &image).is_some());
        let ours = model.objects.iter().filter(|((kind, _), object)| {
            kind == "VolumeSnapshot" && object["metadata"]["ownerReferences"][0]["uid"] == super::model::UID
        });
        prop_assert_eq!(ours.count(), 1, "one image is kept");
    }

    #[test]
    fn a_destination_keeps_the_laws_and_recovers(
        given in any::<bool>(),
        happenings in prop::collection::vec(happening(), 0..60),
    ) {
        let target = if given { json!({"destinationPVC": "pvc-user"}) } else { json!({}) };
        let mut model = Model::destination(json!({"manual": "0"}), target);
        for step in &happenings {
            happen(&mut model, step);
        }
        // A run that was under way ends with the method it started with; the one after it is of the last spec.
        recovers(&mut model, "a-rest");
        recovers(&mut model, "the-end");
        let image = model.status()["latestImage"]["name"].as_str().unwrap_or_default().to_owned();
        prop_assert!(model.object("VolumeSnapshot", &image).is_some());
        let ours = model.objects.iter().filter(|((kind, _), object)| {
            kind == "VolumeSnapshot" && object["metadata"]["ownerReferences"][0]["uid"] == super::model::UID
        });
        prop_assert_eq!(ours.count(), 1, "one image is kept");
    }
}
