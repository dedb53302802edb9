//! Pods and Jobs of a whole cluster, as real processes: as the user who runs the tests and, where that is root, as an
//! ordinary user too.

#[cfg(test)]
mod stage;

use std::process::Command;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret};
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, LogParams, Patch, PatchParams};
use serde_json::json;

use self::stage::{Stage, conditions, container, job, phase, pod};

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_succeeds_has_its_message_its_log_and_its_events() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::start(folder.path()).await;
    let script = container("echo hello; echo '{\"r\":1}' >/dev/termination-log");
    stage.create::<Job>(job("ok", &script, json!({}))).await;
    let done = stage
        .until::<Job>("ok", "it completes", |job| {
            conditions(job).contains(&"Complete")
        })
        .await;
    assert_eq!(conditions(&done), ["SuccessCriteriaMet", "Complete"]);
    assert_eq!(
        (&done["status"]["succeeded"], &done["status"]["active"]),
        (&json!(1), &json!(null))
    );
    assert_eq!(done["status"]["uncountedTerminatedPods"], json!({}));
    let name = stage.pod_of("ok").await.name_any();
    let ended = stage
        .until::<Pod>(&name, "it is released", |pod| {
            pod["metadata"]["finalizers"].is_null()
        })
        .await;
    let state = &ended["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(
        (&state["exitCode"], &state["reason"], &state["message"]),
        (&json!(0), &json!("Completed"), &json!("{\"r\":1}\n"))
    );
    assert_eq!(
        (phase(&ended), ended["spec"]["nodeName"].as_str()),
        ("Succeeded", Some("syncline"))
    );
    assert!(
        ended["status"]["podIP"]
            .as_str()
            .unwrap()
            .starts_with("127.")
    );
    assert_eq!(stage.log(&name).await, "hello\n");
    let stamped = LogParams {
        timestamps: true,
        ..LogParams::default()
    };
    let stamped = stage.api::<Pod>().logs(&name, &stamped).await.unwrap();
    assert!(
        stamped.starts_with("20") && stamped.ends_with("Z hello\n"),
        "{stamped}"
    );
    for event in [
        "Normal Scheduled Successfully assigned default/",
        "Normal Pulled",
        "Normal Created",
        "Normal Started",
    ] {
        stage.has_event(&name, event).await;
    }
    stage
        .has_event(
            "ok",
            &format!("Normal SuccessfulCreate Created pod: {name}"),
        )
        .await;
    stage
        .has_event("ok", "Normal Completed Job completed")
        .await;
    stage.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_fails_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::start(folder.path()).await;
    stage
        .create::<Job>(job("bad", &container("exit 3"), json!({"backoffLimit": 0})))
        .await;
    let done = stage
        .until::<Job>("bad", "it fails", |job| conditions(job).contains(&"Failed"))
        .await;
    assert_eq!(conditions(&done), ["FailureTarget", "Failed"]);
    assert_eq!(
        (
            &done["status"]["failed"],
            &done["status"]["conditions"][1]["reason"]
        ),
        (&json!(1), &json!("BackoffLimitExceeded"))
    );
    stage
        .has_event(
            "bad",
            "Warning BackoffLimitExceeded Job has reached the specified backoff limit",
        )
        .await;
    stage.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parallelism_0_stops_the_pod_of_a_job_and_1_starts_another() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::start(folder.path()).await;
    stage
        .create::<Job>(job("par", &container("sleep 1000"), json!({})))
        .await;
    let first = stage.pod_of("par").await.name_any();
    stage
        .until::<Pod>(&first, "it runs", |pod| phase(pod) == "Running")
        .await;
    let jobs: Api<Job> = stage.api();
    let parallelism = |count: i32| Patch::Merge(json!({"spec": {"parallelism": count}}));
    jobs.patch("par", &PatchParams::default(), &parallelism(0))
        .await
        .unwrap();
    stage.gone::<Pod>(&first).await;
    let paused = stage
        .until::<Job>("par", "it rests", |job| job["status"]["terminating"] == 0)
        .await;
    assert!(paused["status"]["active"].is_null() && paused["status"]["failed"].is_null());
    jobs.patch("par", &PatchParams::default(), &parallelism(1))
        .await
        .unwrap();
    let second = stage.pod_of("par").await.name_any();
    assert_ne!(first, second);
    stage
        .until::<Pod>(&second, "it runs", |pod| phase(pod) == "Running")
        .await;
    jobs.delete("par", &DeleteParams::foreground())
        .await
        .unwrap();
    stage.gone::<Job>("par").await;
    assert!(stage.api::<Pod>().get_opt(&second).await.unwrap().is_none());
    stage.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_not_ours_is_refused_with_the_cure() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::start(folder.path()).await;
    let foreign = json!({"name": "c", "image": "quay.io/backube/volsync:latest"});
    stage
        .create::<Pod>(pod("p", json!({"containers": [foreign]})))
        .await;
    let waits = |pod: &serde_json::Value| {
        pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "ErrImageNeverPull"
    };
    let refused = stage
        .until::<Pod>("p", "it waits for an image", waits)
        .await;
    let message = refused["status"]["containerStatuses"][0]["state"]["waiting"]["message"]
        .as_str()
        .unwrap();
    assert!(
        message.ends_with("pulls no images; use one of its own: shell"),
        "{message}"
    );
    stage
        .has_event("p", "Warning ErrImageNeverPull Container image")
        .await;
    stage
        .api::<Pod>()
        .delete("p", &DeleteParams::default())
        .await
        .unwrap();
    stage.gone::<Pod>("p").await;
    stage.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_waits_for_its_secret_and_starts_when_it_comes() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::start(folder.path()).await;
    let mut waiting = container("echo $WORD; cat /etc/late/key; stat -Lc %a /etc/late/key");
    waiting["env"] =
        json!([{"name": "WORD", "valueFrom": {"secretKeyRef": {"name": "late", "key": "key"}}}]);
    waiting["volumeMounts"] = json!([{"name": "late", "mountPath": "/etc/late"}]);
    let volumes = json!([{"name": "late", "secret": {"secretName": "late", "defaultMode": 0o400}}]);
    stage
        .create::<Pod>(pod(
            "p",
            json!({"restartPolicy": "Never", "containers": [waiting], "volumes": volumes}),
        ))
        .await;
    let reason = |pod: &serde_json::Value| {
        let state = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
        state["reason"] == "CreateContainerConfigError"
            && state["message"] == "secret \"late\" not found"
    };
    stage
        .until::<Pod>("p", "it waits for its secret", reason)
        .await;
    stage
        .has_event("p", "Warning Failed Error: secret \"late\" not found")
        .await;
    let secret = json!({"metadata": {"name": "late"}, "stringData": {"key": "here\n"}});
    stage.create::<Secret>(secret).await;
    stage
        .until::<Pod>("p", "it succeeds", |pod| phase(pod) == "Succeeded")
        .await;
    assert_eq!(stage.log("p").await, "here\nhere\n400\n");
    stage.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_whose_claim_is_not_there_cannot_be_scheduled() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::start(folder.path()).await;
    let volumes = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "absent"}}]);
    stage
        .create::<Pod>(pod(
            "p",
            json!({"containers": [container("true")], "volumes": volumes}),
        ))
        .await;
    let pending = stage
        .until::<Pod>("p", "it is unschedulable", |pod| {
            pod["status"]["conditions"][0]["status"] == "False"
        })
        .await;
    let condition = &pending["status"]["conditions"][0];
    let message = "0/1 nodes are available: persistentvolumeclaim \"absent\" not found. not found";
    assert_eq!(
        (phase(&pending), &condition["reason"], &condition["message"]),
        ("Pending", &json!("Unschedulable"), &json!(message))
    );
    stage
        .has_event("p", &format!("Warning FailedScheduling {message}"))
        .await;
    stage.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn init_containers_run_first_and_share_volumes_and_fields_are_known() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::start(folder.path()).await;
    stage
        .create::<ConfigMap>(json!({"metadata": {"name": "words"}, "data": {"A": "a", "B": "b"}}))
        .await;
    let mount = json!([{"name": "shared", "mountPath": "/shared"}]);
    let first = json!({"name": "first", "image": "shell:1", "args": ["-c", "echo one >/shared/file"], "volumeMounts": mount});
    let mut second = container(
        "cat /shared/file; echo $0 $ALL $POD_IP $(hostname -i >/dev/null && hostname); pwd",
    );
    second["envFrom"] = json!([{"configMapRef": {"name": "words"}, "prefix": "W_"}]);
    second["env"] = json!([
        {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "ALL", "value": "$(W_A)$(W_B)$$(W_A)"},
    ]);
    second["args"] = json!(["$(ALL)"]);
    second["workingDir"] = json!("/some/where");
    second["volumeMounts"] = mount.clone();
    let volumes = json!([{"name": "shared", "emptyDir": {"medium": "Memory"}}]);
    let spec = json!({"restartPolicy": "Never", "initContainers": [first], "containers": [second], "volumes": volumes});
    stage.create::<Pod>(pod("p", spec)).await;
    let done = stage
        .until::<Pod>("p", "it succeeds", |pod| phase(pod) == "Succeeded")
        .await;
    let address = done["status"]["podIP"].as_str().unwrap();
    assert_eq!(
        stage.log("p").await,
        format!("one\nab$(W_A) ab$(W_A) {address} p\n/some/where\n")
    );
    stage.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_fails_is_started_again_and_its_log_of_before_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::start(folder.path()).await;
    let mut flaky = container(
        "echo try; test -e /state/second || { touch /state/second; echo lost >&2; exit 4; }",
    );
    flaky["volumeMounts"] = json!([{"name": "state", "mountPath": "/state"}]);
    flaky["terminationMessagePolicy"] = json!("FallbackToLogsOnError");
    let volumes = json!([{"name": "state", "emptyDir": {}}]);
    stage
        .create::<Pod>(pod(
            "p",
            json!({"restartPolicy": "OnFailure", "containers": [flaky], "volumes": volumes}),
        ))
        .await;
    let done = stage
        .until::<Pod>("p", "it succeeds", |pod| phase(pod) == "Succeeded")
        .await;
    let status = &done["status"]["containerStatuses"][0];
    assert_eq!(
        (
            &status["restartCount"],
            &status["lastState"]["terminated"]["exitCode"]
        ),
        (&json!(1), &json!(4))
    );
    let message = status["lastState"]["terminated"]["message"]
        .as_str()
        .unwrap();
    assert!(
        message.contains("try\n") && message.contains("lost\n"),
        "{message}"
    );
    let before = LogParams {
        previous: true,
        ..LogParams::default()
    };
    assert!(
        stage
            .api::<Pod>()
            .logs("p", &before)
            .await
            .unwrap()
            .contains("lost")
    );
    assert_eq!(stage.log("p").await, "try\n");
    stage.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_pod_has_its_grace_period_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::start(folder.path()).await;
    let polite = container("trap 'exit 0' TERM; sleep 1000 & wait");
    stage
        .create::<Pod>(pod(
            "p",
            json!({"terminationGracePeriodSeconds": 600, "containers": [polite]}),
        ))
        .await;
    stage
        .until::<Pod>("p", "it runs", |pod| conditions(pod).contains(&"Ready"))
        .await;
    stage
        .api::<Pod>()
        .delete("p", &DeleteParams::default())
        .await
        .unwrap();
    stage.gone::<Pod>("p").await;
    stage
        .has_event("p", "Normal Killing Stopping container c")
        .await;
    let pods = folder.path().join("pods");
    stage
        .soon("its folder is removed", || {
            std::fs::read_dir(&pods).unwrap().next().is_none()
        })
        .await;
    stage.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_replaces_only_what_has_failed_has_no_two_pods() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::start(folder.path()).await;
    // One of them runs when it is deleted, the other never comes up.
    let slow = container("trap 'sleep 1; exit 3' TERM; echo ready; sleep 1000 & wait");
    let policy = json!({"podReplacementPolicy": "Failed"});
    stage
        .create::<Job>(job("runs", &slow, policy.clone()))
        .await;
    let mut waits = job("waits", &container("true"), policy);
    waits["spec"]["template"]["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": "absent"});
    stage.create::<Job>(waits).await;
    let running = stage.pod_of("runs").await.name_any();
    let waiting = stage.pod_of("waits").await.name_any();
    for (pod, wanted) in [(&running, "Running"), (&waiting, "Pending")] {
        stage
            .until::<Pod>(pod, wanted, |pod| phase(pod) == wanted)
            .await;
        let now = DeleteParams::default();
        stage.api::<Pod>().delete(pod, &now).await.unwrap();
    }
    for (job, first) in [("runs", &running), ("waits", &waiting)] {
        let counted = stage
            .until::<Job>(job, "the end of its pod is counted", |job| {
                job["status"]["failed"] == 1
            })
            .await;
        assert_eq!(counted["status"]["terminating"], 0, "{job}: it has ended");
        stage
            .until::<Job>(job, "it has another pod", |job| {
                job["status"]["active"] == 1
            })
            .await;
        assert_ne!(&stage.pod_of(job).await.name_any(), first);
    }
    stage.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_goes_on_with_a_new_pod_after_the_cluster_was_away() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::start(folder.path()).await;
    stage
        .create::<Job>(job(
            "j",
            &container("sleep 1000"),
            json!({"backoffLimit": 0}),
        ))
        .await;
    let first = stage.pod_of("j").await.name_any();
    stage
        .until::<Pod>(&first, "it runs", |pod| phase(pod) == "Running")
        .await;
    stage.cluster.shutdown().await;
    let stage = Stage::start(folder.path()).await;
    let done = stage
        .until::<Job>("j", "it counts the lost pod", |job| {
            conditions(job).contains(&"Failed")
        })
        .await;
    assert_eq!(done["status"]["failed"], json!(1));
    let lost = stage
        .until::<Pod>(&first, "it has failed", |pod| phase(pod) == "Failed")
        .await;
    let code = lost["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"].as_i64();
    assert!(matches!(code, Some(137 | 143)), "{code:?}");
    stage.cluster.shutdown().await;
}

#[test]
fn a_pod_whose_processes_died_with_the_cluster_has_failed() {
    let folder = tempfile::tempdir().unwrap();
    let script = container("sleep 1000");
    let crash = tokio::runtime::Runtime::new().unwrap();
    let (stage, name) = crash.block_on(async {
        let stage = Stage::start(folder.path()).await;
        stage
            .create::<Job>(job("j", &script, json!({"backoffLimit": 0})))
            .await;
        let name = stage.pod_of("j").await.name_any();
        stage
            .until::<Pod>(&name, "it runs", |pod| phase(pod) == "Running")
            .await;
        (stage, name)
    });
    // Every task of the cluster ends where it stands, as with `kill -9`.
    drop(crash);
    drop(stage);
    let again = tokio::runtime::Runtime::new().unwrap();
    again.block_on(async {
        let stage = Stage::start(folder.path()).await;
        let lost = stage
            .until::<Pod>(&name, "it has failed", |pod| phase(pod) == "Failed")
            .await;
        let state = &lost["status"]["containerStatuses"][0]["state"]["terminated"];
        assert_eq!(
            (&state["exitCode"], &state["reason"]),
            (&json!(137), &json!("ContainerStatusUnknown"))
        );
        stage
            .until::<Job>("j", "it counts it", |job| {
                conditions(job).contains(&"Failed")
            })
            .await;
        stage.cluster.shutdown().await;
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_waits_for_its_claim_and_keeps_its_data_there() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::start(folder.path()).await;
    let mounts = json!([
        {"name": "v", "mountPath": "/data"},
        {"name": "v", "mountPath": "/below", "subPath": "a/b", "readOnly": true},
    ]);
    let volumes = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "late"}}]);
    let with_claim = |script: &str| {
        let mut writer = container(script);
        writer["volumeMounts"] = mounts.clone();
        json!({"restartPolicy": "Never", "containers": [writer], "volumes": volumes})
    };
    stage
        .create::<Pod>(pod(
            "one",
            with_claim("echo kept >/data/a/b/file; cat /below/file"),
        ))
        .await;
    stage
        .until::<Pod>("one", "it is unschedulable", |pod| {
            pod["status"]["conditions"][0]["status"] == "False"
        })
        .await;
    let claim = json!({"metadata": {"name": "late"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}});
    stage.create::<PersistentVolumeClaim>(claim).await;
    stage
        .until::<Pod>("one", "it succeeds", |pod| phase(pod) == "Succeeded")
        .await;
    assert_eq!(stage.log("one").await, "kept\n");
    stage
        .create::<Pod>(pod(
            "two",
            with_claim("cat /data/a/b/file; echo x 2>/dev/null >/below/no || echo sealed"),
        ))
        .await;
    stage
        .until::<Pod>("two", "it succeeds", |pod| phase(pod) == "Succeeded")
        .await;
    assert_eq!(stage.log("two").await, "kept\nsealed\n");
    stage.cluster.shutdown().await;
}

#[test]
fn all_of_this_holds_for_an_ordinary_user_too() {
    let own = std::env::current_exe().unwrap();
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let words = ["--reuid", "1000", "--regid", "1000", "--clear-groups", "--"];
    let ran = Command::new("setpriv")
        .args(words)
        .arg(own)
        .env("TMPDIR", "/tmp")
        .args(["--skip", "ordinary_user"])
        .output();
    let ran = ran.unwrap();
    assert!(
        ran.status.success(),
        "{}{}",
        String::from_utf8_lossy(&ran.stdout),
        String::from_utf8_lossy(&ran.stderr)
    );
}
