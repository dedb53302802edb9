//! Runs of rclone: the Job, what it is told of the last run, and what is remembered of it.

use rstest::rstest;
use serde_json::{Value, json};
use syncline_api::report::{Report, Role};
use syncline_api::status::Progress;

use super::model::{Model, NAMESPACE};

const SOURCE_JOB: &str = "volsync-rclone-src-db";
const DESTINATION_JOB: &str = "volsync-rclone-dst-db";

fn source(rclone: Value) -> Model {
    let mut settings = json!({"copyMethod": "Direct"});
    super::model::merge(&mut settings, &rclone);
    Model::rclone_source(json!({"manual": "1"}), settings)
}

fn destination(rclone: Value) -> Model {
    Model::rclone_destination(json!({"manual": "1"}), rclone)
}

fn job(model: &mut Model) -> Value {
    model.settle();
    let name = model.job_name();
    let found = model.object("Job", &name).cloned();
    found.unwrap_or_else(|| panic!("{:?}", model.says()))
}

fn pod_of(job: &Value) -> &Value {
    &job["spec"]["template"]["spec"]
}

fn env<'a>(job: &'a Value, name: &str) -> Option<&'a str> {
    let all = pod_of(job)["containers"][0]["env"].as_array().unwrap();
    all.iter().find(|variable| variable["name"] == name)?["value"].as_str()
}

fn with_certificate(mut model: Model, kind: &str) -> Model {
    let encoded = kind == "Secret";
    let text = if encoded { "Y2VydA==" } else { "cert" };
    model.put(kind, "authority", json!({"data": {"tls.pem": text}}));
    model
}

/// The end of a run, and the start of the next one.
fn next_run(model: &mut Model, generation: &str, full_check: bool, tag: &str) -> Value {
    model.settle();
    model.snapshots_become_ready();
    model.settle();
    model.succeed_with(generation, full_check);
    model.settle();
    model.snapshots_become_ready();
    model.settle();
    if !tag.is_empty() {
        model.edit(json!({"trigger": {"manual": tag}}));
    }
    model.settle();
    model.snapshots_become_ready();
    job(model)
}

#[test]
fn the_job_of_a_source() {
    let rclone = json!({"copyMethod": "Clone", "moverPodLabels": {"team": "a"},
        "moverResources": {"limits": {"memory": "1Gi"}}, "customCA": {"configMapName": "authority", "key": "tls.pem"},
        "moverVolumes": [{"mountPath": "mirror", "volumeSource": {"persistentVolumeClaim": {"claimName": "pvc-user"}}}]});
    let mut model = with_certificate(source(rclone), "ConfigMap");
    model.proxies = vec![("HTTPS_PROXY".into(), "http://proxy:3128".into())];
    insta::assert_yaml_snapshot!(job(&mut model));
}

#[test]
fn the_job_of_a_destination() {
    let rclone = json!({"customCA": {"secretName": "authority", "key": "tls.pem"},
        "moverSecurityContext": {"runAsUser": 1000, "fsGroup": 1000}});
    let model = Model::rclone_destination(json!({}), rclone);
    let mut model = with_certificate(model, "Secret");
    let annotations = &mut model.resource["metadata"]["annotations"];
    *annotations = json!({"syncline.dev/rclone-state-path": "notes/db", "syncline.dev/rclone-poll-limit": "1m30s",
        "volsync.backube/enable-debug-mover": ""});
    insta::assert_yaml_snapshot!(job(&mut model));
}

#[test]
fn neither_keys_nor_a_service_are_made_and_nothing_is_said_of_rsync() {
    for mut model in [source(json!({})), destination(json!({}))] {
        model.run_once();
        assert_eq!(model.names("Secret"), ["store"]);
        assert!(model.names("Service").is_empty());
        assert!(model.status()["rsync"].is_null());
        assert_eq!(model.says().0, "WaitingForManual");
    }
}

#[test]
fn the_pods_spec_has_nothing_of_the_secrets_values() {
    let text = job(&mut source(json!({}))).to_string();
    assert!(
        !text.contains("hidden") && !text.contains("secretKeyRef"),
        "{text}"
    );
}

#[rstest]
#[case("", false)]
#[case("true", true)]
#[case("no", false)]
fn it_has_rights_only_where_its_namespace_gives_them(#[case] word: &str, #[case] privileged: bool) {
    for mut model in [source(json!({})), destination(json!({}))] {
        let annotations = json!({"volsync.backube/privileged-movers": word});
        model.put(
            "Namespace",
            NAMESPACE,
            json!({"metadata": {"annotations": annotations}}),
        );
        let job = job(&mut model);
        let pod = pod_of(&job);
        let context = &pod["containers"][0]["securityContext"];
        let added = if privileged {
            json!(["DAC_OVERRIDE", "CHOWN", "FOWNER"])
        } else {
            json!(null)
        };
        assert_eq!(context["capabilities"]["add"], added);
        assert_eq!(context["runAsUser"] == 0, privileged);
        assert_eq!(super::pods::passes_restricted(pod), !privileged);
        let mode = if privileged { 0o600 } else { 0o444 };
        assert_eq!(pod["volumes"][1]["secret"]["defaultMode"], mode);
        let told = if privileged { "1" } else { "0" };
        assert_eq!(env(&job, "PRIVILEGED_MOVER"), Some(told));
    }
}

#[test]
fn the_copy_and_the_volume_have_volsyncs_names() {
    let mut model = source(json!({"copyMethod": "Clone"}));
    model.settle();
    assert!(
        model
            .object("PersistentVolumeClaim", "volsync-db-src")
            .is_some()
    );
    let mut model = destination(json!({}));
    model.settle();
    assert!(
        model
            .object("PersistentVolumeClaim", "volsync-db-dest")
            .is_some()
    );
    assert!(model.object("Job", DESTINATION_JOB).is_some());
}

#[test]
fn a_source_is_told_what_its_last_run_knew() {
    let mut model = source(json!({}));
    let first = job(&mut model);
    assert_eq!(env(&first, "LAST_GENERATION"), None);
    assert_eq!(env(&first, "RUNS_SINCE_FULL_CHECK"), Some("0"));
    assert_eq!(env(&first, "FULL_CHECK_EVERY"), Some("10"));
    let second = next_run(&mut model, "1-a", true, "2");
    assert_eq!(env(&second, "LAST_GENERATION"), Some("1-a"));
    assert_eq!(env(&second, "LAST_SYNCED_ENTRIES"), Some("7"));
    assert_eq!(env(&second, "RUNS_SINCE_FULL_CHECK"), Some("0"));
    let third = next_run(&mut model, "2-a", false, "3");
    assert_eq!(env(&third, "RUNS_SINCE_FULL_CHECK"), Some("1"));
    next_run(&mut model, "3-a", false, "4");
    let status = &model.status()["rclone"];
    assert_eq!(status["generation"], "3-a");
    assert_eq!(status["runsSinceFullCheck"], 2);
    let fifth = next_run(&mut model, "3-a", true, "5");
    assert_eq!(env(&fifth, "RUNS_SINCE_FULL_CHECK"), Some("0"));
}

#[test]
fn a_source_that_went_on_unaccompanied_has_no_generation_any_more() {
    let mut model = source(json!({}));
    next_run(&mut model, "1-a", true, "2");
    model.succeed();
    model.settle();
    assert!(model.status()["rclone"]["generation"].is_null());
}

#[test]
fn of_another_volume_everything_is_compared() {
    let mut model = source(json!({}));
    next_run(&mut model, "1-a", true, "2");
    model.succeed_with("2-a", false);
    model.settle();
    let claim = model.object("PersistentVolumeClaim", "pvc-user").unwrap();
    let copy = json!({"spec": claim["spec"], "status": claim["status"]});
    model.put("PersistentVolumeClaim", "other", copy);
    model.edit(json!({"sourcePVC": "other", "trigger": {"manual": "3"}}));
    let other = job(&mut model);
    assert_eq!(env(&other, "FULL_CHECK_EVERY"), Some("1"));
    assert_eq!(env(&other, "RUNS_SINCE_FULL_CHECK"), Some("1"));
    let next = next_run(&mut model, "3-a", true, "4");
    assert_eq!(env(&next, "FULL_CHECK_EVERY"), Some("10"));
}

#[test]
fn an_empty_source_is_allowed_once_for_each_value_of_the_annotation() {
    let mut model = source(json!({}));
    model.resource["metadata"]["annotations"] = json!({"syncline.dev/allow-empty-source": "once"});
    assert_eq!(env(&job(&mut model), "ALLOW_EMPTY_SOURCE"), Some("1"));
    model.succeed_with_nothing();
    model.settle();
    assert_eq!(model.status()["rclone"]["allowedEmptySource"], "once");
    model.edit(json!({"trigger": {"manual": "2"}}));
    assert_eq!(env(&job(&mut model), "ALLOW_EMPTY_SOURCE"), None);
}

#[test]
fn a_destination_without_a_trigger_waits_for_another_version_than_it_has() {
    let mut model = Model::rclone_destination(json!(null), json!({}));
    let first = job(&mut model);
    assert_eq!(env(&first, "POLL"), Some("1"));
    assert_eq!(env(&first, "POLL_LIMIT"), Some("300"));
    assert_eq!(env(&first, "LAST_GENERATION"), None, "there is nothing yet");
    let second = next_run(&mut model, "1-a", false, "");
    assert_eq!(env(&second, "POLL"), Some("1"));
    assert_eq!(env(&second, "LAST_GENERATION"), Some("1-a"));
    assert_eq!(env(&second, "PASSING_VOLUME"), None);
    assert!(model.status()["latestImage"]["name"].is_string());
}

#[rstest]
#[case(json!({"manual": "1"}))]
#[case(json!({"schedule": "*/5 * * * *"}))]
fn a_destination_with_a_trigger_takes_what_there_is(#[case] trigger: Value) {
    let job = job(&mut Model::rclone_destination(trigger, json!({})));
    assert_eq!(env(&job, "POLL"), None);
}

#[test]
fn a_volume_that_was_made_anew_is_filled_at_once() {
    let mut model = Model::rclone_destination(json!(null), json!({}));
    next_run(&mut model, "1-a", false, "");
    model.succeed_with("2-a", false);
    // Before the next run starts, somebody removes the volume.
    for _ in 0..20 {
        model.snapshots_become_ready();
        model.step(usize::MAX);
        if model.names("Job").is_empty() {
            break;
        }
    }
    let volume = (
        "PersistentVolumeClaim".to_owned(),
        "volsync-db-dest".to_owned(),
    );
    model.objects.remove(&volume);
    assert_eq!(env(&job(&mut model), "LAST_GENERATION"), None);
}

#[rstest]
#[case::path(json!({"rclone": {"rcloneDestPath": "another/db"}}))]
#[case::section(json!({"rclone": {"rcloneConfigSection": "mirror"}}))]
#[case::secret(json!({"rclone": {"rcloneConfig": "mirror"}}))]
fn the_version_of_another_place_says_nothing_of_this_one(#[case] change: Value) {
    let text = "[s3]\ntype = local\n[mirror]\ntype = local\n";
    let bytes = k8s_openapi::ByteString(text.as_bytes().to_vec());
    let config = json!({"data": {"rclone.conf": bytes}});
    let mut model = Model::rclone_destination(json!(null), json!({}));
    for name in ["store", "mirror"] {
        model.put("Secret", name, config.clone());
    }
    let second = next_run(&mut model, "1-a", false, "");
    assert_eq!(env(&second, "LAST_GENERATION"), Some("1-a"));
    // What a run that began before the change brings is of the old place.
    model.edit(change.clone());
    let third = next_run(&mut model, "2-a", false, "");
    assert_eq!(env(&third, "LAST_GENERATION"), None);
    let fourth = next_run(&mut model, "2-b", false, "");
    assert_eq!(env(&fourth, "LAST_GENERATION"), Some("2-b"));
    let mut model = source(json!({}));
    for name in ["store", "mirror"] {
        model.put("Secret", name, config.clone());
    }
    next_run(&mut model, "1-a", true, "2");
    model.succeed_with("2-a", false);
    model.settle();
    model.edit(change);
    model.edit(json!({"trigger": {"manual": "3"}}));
    let third = job(&mut model);
    assert_eq!(env(&third, "FULL_CHECK_EVERY"), Some("1"));
    assert_eq!(env(&third, "LAST_GENERATION"), None);
}

/// A run that wrote without having been let see whose the path is.
fn succeed_blindly(model: &mut Model) {
    let mut report = Report::successful("rclone", Role::Source);
    (report.entries, report.blind) = (Some(7), true);
    model.end_job(&report, true);
    model.settle();
}

#[test]
fn a_source_that_was_not_let_see_whose_its_path_is_may_go_on_so_at_that_place_and_no_other() {
    let mut model = source(json!({}));
    assert_eq!(env(&job(&mut model), "SOLE_WRITER"), None);
    // Without notes, as where the Secret chooses among files, is not without having seen.
    model.succeed();
    model.settle();
    model.edit(json!({"trigger": {"manual": "1b"}}));
    assert_eq!(env(&job(&mut model), "SOLE_WRITER"), None);
    succeed_blindly(&mut model);
    model.edit(json!({"trigger": {"manual": "2"}}));
    assert_eq!(env(&job(&mut model), "SOLE_WRITER"), Some("1"));
    succeed_blindly(&mut model);
    model.edit(json!({"rclone": {"rcloneDestPath": "another/db"}}));
    model.edit(json!({"trigger": {"manual": "3"}}));
    assert_eq!(env(&job(&mut model), "SOLE_WRITER"), None);
}

#[test]
fn a_source_says_of_which_cluster_it_is_and_whom_it_replaces() {
    let mut model = source(json!({}));
    let first = job(&mut model);
    for name in ["OWNER_CLUSTER", "TAKE_OVER", "SOLE_WRITER"] {
        assert_eq!(env(&first, name), None);
    }
    let mut model = source(json!({}));
    model.cluster = Some("c-1".to_owned());
    model.resource["metadata"]["annotations"] = json!({"syncline.dev/rclone-take-over": "u-old", "syncline.dev/rclone-sole-writer": "true"});
    let job = job(&mut model);
    assert_eq!(env(&job, "OWNER_CLUSTER"), Some("c-1"));
    assert_eq!(env(&job, "TAKE_OVER"), Some("u-old"));
    assert_eq!(env(&job, "SOLE_WRITER"), Some("1"));
}

#[test]
fn a_path_is_taken_over_once_for_each_time_that_it_is_told() {
    let told = |model: &mut Model, uid: Option<&str>, tag: &str| {
        let annotations = &mut model.resource["metadata"]["annotations"];
        *annotations = json!({"syncline.dev/rclone-take-over": uid});
        if uid.is_none() {
            *annotations = json!({});
        }
        model.edit(json!({"trigger": {"manual": tag}}));
        let told = env(&job(model), "TAKE_OVER").map(str::to_owned);
        model.succeed();
        model.settle();
        told
    };
    let mut model = source(json!({}));
    assert_eq!(told(&mut model, Some("u-a"), "1").as_deref(), Some("u-a"));
    assert_eq!(model.status()["rclone"]["tookOver"], "u-a");
    // Left where it is, as in a repository, it is no word for ever.
    assert_eq!(told(&mut model, Some("u-a"), "2"), None);
    assert_eq!(told(&mut model, Some("u-b"), "3").as_deref(), Some("u-b"));
    assert_eq!(told(&mut model, None, "4"), None);
    assert!(model.status()["rclone"]["tookOver"].is_null());
    assert_eq!(told(&mut model, Some("u-b"), "5").as_deref(), Some("u-b"));
}

#[test]
fn the_time_that_a_destination_waited_is_no_part_of_its_run() {
    let mut model = Model::rclone_destination(json!(null), json!({"copyMethod": "Direct"}));
    model.settle();
    model.pass(3600);
    let mut report = Report::successful("rclone", Role::Destination);
    report.generation = Some("1-a".to_owned());
    report.waited = Some(3_590_500);
    model.end_job(&report, true);
    model.settle();
    assert_eq!(model.status()["lastSyncDuration"], "9.5s");
}

#[test]
fn a_volume_that_goes_with_each_run_waits_for_the_next_version_all_the_same() {
    let rclone = json!({"cleanupTempPVC": true});
    let mut model = Model::rclone_destination(json!(null), rclone);
    let second = next_run(&mut model, "1-a", false, "");
    assert_eq!(env(&second, "LAST_GENERATION"), Some("1-a"));
    assert_eq!(env(&second, "PASSING_VOLUME"), Some("1"));
}

#[test]
fn a_mover_that_only_waits_makes_way_for_a_corrected_spec() {
    let mut model = Model::rclone_destination(json!(null), json!({}));
    job(&mut model);
    model.mover_runs();
    model.settle();
    let before = model.object("Job", DESTINATION_JOB).unwrap()["metadata"]["uid"].clone();
    let path = json!({"rclone": {"rcloneDestPath": "bucket/other"}});
    model.progress = Some(Progress {
        phase: Some("Transferring".into()),
        ..Progress::default()
    });
    model.edit(path);
    model.settle();
    let job_now = |model: &Model| model.object("Job", DESTINATION_JOB).unwrap().clone();
    assert_eq!(job_now(&model)["metadata"]["uid"], before, "it transfers");
    model.progress = Some(Progress {
        phase: Some("Waiting".into()),
        ..Progress::default()
    });
    model.settle();
    assert_ne!(job_now(&model)["metadata"]["uid"], before);
    assert_eq!(
        env(&job_now(&model), "RCLONE_DEST_PATH"),
        Some("bucket/other")
    );
    assert_eq!(model.status()["retry"], json!(null), "nothing has failed");
}

#[test]
fn a_mover_that_only_waits_makes_way_for_a_corrected_secret() {
    let mut model = Model::rclone_destination(json!(null), json!({}));
    job(&mut model);
    model.mover_runs();
    model.settle();
    let uid =
        |model: &Model| model.object("Job", DESTINATION_JOB).unwrap()["metadata"]["uid"].clone();
    let before = uid(&model);
    let says = |phase: &str| {
        Some(Progress {
            phase: Some(phase.into()),
            ..Progress::default()
        })
    };
    model.progress = says("Waiting");
    model.settle();
    assert_eq!(uid(&model), before, "nothing has changed");
    model.progress = says("Transferring");
    model.put_store();
    model.settle();
    assert_eq!(uid(&model), before, "it transfers");
    model.progress = says("Waiting");
    model.settle();
    assert_ne!(uid(&model), before);
    assert_eq!(model.status()["retry"], json!(null), "nothing has failed");
}

#[test]
fn what_a_mover_waited_before_it_made_way_is_no_part_of_the_next_ones_run() {
    let rclone = json!({"copyMethod": "Direct"});
    let mut model = Model::rclone_destination(json!(null), rclone);
    job(&mut model);
    model.mover_runs();
    model.progress = Some(Progress {
        phase: Some("Waiting".into()),
        ..Progress::default()
    });
    model.pass(3600);
    model.settle();
    model.edit(json!({"rclone": {"rcloneDestPath": "bucket/other"}}));
    model.settle();
    model.mover_runs();
    model.pass(30);
    let mut report = Report::successful("rclone", Role::Destination);
    report.generation = Some("1-a".to_owned());
    report.waited = Some(10_000);
    model.end_job(&report, true);
    model.settle();
    assert_eq!(model.status()["lastSyncDuration"], "20s");
}

#[test]
fn a_run_of_another_mover_ends_before_one_of_rclone_starts() {
    let mut model = Model::destination(json!(null), json!({"destinationPVC": "pvc-user"}));
    model.settle();
    model.give_address();
    model.settle();
    assert_eq!(model.names("Job"), ["volsync-rsync-dst-db"]);
    let mut rclone = Model::rclone_destination(json!(null), json!({"destinationPVC": "pvc-user"}));
    let secret = rclone
        .objects
        .remove(&("Secret".to_owned(), "store".to_owned()));
    model.put("Secret", "store", secret.unwrap());
    model.edit(json!({"rsync": null, "rclone": rclone.resource["spec"]["rclone"]}));
    model.step(usize::MAX);
    assert!(model.names("Job").is_empty(), "{:?}", model.names("Job"));
    model.settle();
    assert_eq!(model.names("Job"), [DESTINATION_JOB]);
}

#[test]
fn a_mistake_beside_a_running_mover_does_not_hide_it() {
    let mut model = source(json!({}));
    model.settle();
    model.edit(json!({"restic": {}}));
    model.succeed_with("1-a", true);
    model.settle();
    assert!(model.names("Job").is_empty());
    assert_eq!(model.status()["rclone"]["generation"], "1-a");
    assert!(
        model.says().1.contains("rclone, restic"),
        "{:?}",
        model.says()
    );
}

#[test]
fn the_log_that_is_followed_is_that_of_the_container_rclone() {
    let mut model = source(json!({}));
    model.settle();
    model.mover_runs();
    let calls = model.plan().calls;
    assert!(
        format!("{calls:?}").contains("container: \"rclone\""),
        "{calls:?}"
    );
}

#[test]
fn what_the_store_cannot_carry_is_said_until_it_is_carried() {
    let mut model = source(json!({}));
    model.settle();
    let mut report = Report::successful("rclone", Role::Source);
    report.unpreserved = vec![
        "symbolic links".into(),
        "cure: a path below the bucket".into(),
    ];
    model.end_job(&report, true);
    model.settle();
    let preserved = |model: &Model| {
        let all = model.status()["conditions"].as_array().unwrap().clone();
        all.into_iter().find(|found| found["type"] == "Preserved")
    };
    let said = preserved(&model).unwrap();
    assert_eq!(said["reason"], "NotCarried");
    assert_eq!(
        said["message"],
        "not everything was preserved: symbolic links; cure: a path below the bucket"
    );
    model.edit(json!({"trigger": {"manual": "2"}}));
    model.settle();
    model.succeed();
    model.settle();
    assert_eq!(preserved(&model), None);
}

#[rstest]
#[case("", true, "UnprivilegedMover")]
#[case("", false, "NotCarried")]
#[case("true", true, "NotCarried")]
fn a_destination_says_whether_rights_would_have_helped(
    #[case] word: &str,
    #[case] wanted: bool,
    #[case] reason: &str,
) {
    let mut model = destination(json!({"copyMethod": "Direct"}));
    let annotations = json!({"volsync.backube/privileged-movers": word});
    model.put(
        "Namespace",
        NAMESPACE,
        json!({"metadata": {"annotations": annotations}}),
    );
    model.settle();
    let mut report = Report::successful("rclone", Role::Destination);
    report.unpreserved = vec!["links, or owners".into()];
    report.for_want_of_rights = wanted;
    model.end_job(&report, true);
    model.settle();
    let conditions = model.status()["conditions"].to_string();
    assert!(conditions.contains(reason), "{conditions}");
    let is_cured =
        conditions.contains("annotate namespace site-a with volsync.backube/privileged-movers");
    assert_eq!(is_cured, word.is_empty() && wanted);
}

#[test]
fn volsyncs_job_of_the_same_name_is_left_to_finish() {
    let mut model = source(json!({}));
    let owner = json!({"apiVersion": "volsync.backube/v1alpha1", "kind": "ReplicationSource", "name": "db",
        "uid": super::model::UID, "controller": true, "blockOwnerDeletion": true});
    model.put("Job", SOURCE_JOB, json!({
        "metadata": {"ownerReferences": [owner], "labels": {"volsync.backube/cleanup": super::model::UID}},
        "spec": {"backoffLimit": 2, "parallelism": 1, "template": {"spec": {"containers": [{"name": "rclone"}],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "pvc-user"}}]}}},
    }));
    model.resource["status"] = json!({"lastSyncStartTime": "2026-01-01T00:00:00Z"});
    let before = model.object("Job", SOURCE_JOB).unwrap().clone();
    model.settle();
    assert_eq!(*model.object("Job", SOURCE_JOB).unwrap(), before);
    model.object_mut("Job", SOURCE_JOB).unwrap()["status"] =
        json!({"succeeded": 1, "conditions": [{"type": "Complete", "status": "True"}]});
    model.settle();
    assert_eq!(model.status()["lastManualSync"], "1");
}
