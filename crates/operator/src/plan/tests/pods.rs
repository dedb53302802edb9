//! How movers' pods run: rights, the user's words on them, and what becomes of them when others change them.

use rstest::rstest;
use serde_json::{Value, json};

use super::model::{Model, NAMESPACE};

const SOURCE_JOB: &str = "volsync-rsync-src-db";

fn started(mut model: Model) -> Value {
    model.settle();
    model.give_address();
    model.settle();
    let name = model.job_name();
    model
        .object("Job", &name)
        .unwrap_or_else(|| panic!("{:?}", model.says()))
        .clone()
}

fn pod_of(job: &Value) -> &Value {
    &job["spec"]["template"]["spec"]
}

fn source(rsync: Value) -> Model {
    let mut settings = json!({"copyMethod": "Direct"});
    super::model::merge(&mut settings, &rsync);
    Model::source(json!({"manual": "1"}), settings)
}

fn destination(rsync: Value) -> Model {
    Model::destination(json!({"manual": "1"}), rsync)
}

fn annotated(mut model: Model, name: &str, text: &str) -> Model {
    model.resource["metadata"]["annotations"][name] = json!(text);
    model
}

/// The pod security level `restricted`, as Kubernetes describes it.
pub(super) fn passes_restricted(pod: &Value) -> bool {
    let context = &pod["containers"][0]["securityContext"];
    let either = |field: &str| match &context[field] {
        Value::Null => pod["securityContext"][field].clone(),
        value => value.clone(),
    };
    let volumes = pod["volumes"].as_array().unwrap();
    context["allowPrivilegeEscalation"] == false
        && context["capabilities"]["drop"] == json!(["ALL"])
        && context["capabilities"]["add"].is_null()
        && either("runAsNonRoot") == true
        && either("runAsUser") != 0
        && either("seccompProfile")["type"] == "RuntimeDefault"
        && pod["hostNetwork"].is_null()
        && volumes.iter().all(|volume| volume["hostPath"].is_null())
}

#[rstest]
#[case::a_source(source(json!({})))]
#[case::a_destination(destination(json!({})))]
fn rsync_is_root_with_volsyncs_capabilities_unless_told_otherwise(#[case] model: Model) {
    let job = started(model);
    let pod = pod_of(&job);
    let context = &pod["containers"][0]["securityContext"];
    assert_eq!(context["runAsUser"], 0);
    assert_eq!(context["capabilities"]["add"].as_array().unwrap().len(), 7);
    assert_eq!(pod["securityContext"], json!({}));
    assert!(!passes_restricted(pod));
}

#[rstest]
#[case(json!({}))]
#[case(json!({"runAsUser": 1000, "fsGroup": 1000}))]
#[case(json!({"runAsUser": 1000, "runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}}))]
fn with_a_security_context_it_is_nobody_special_and_passes_restricted(#[case] context: Value) {
    for model in [
        source(json!({"moverSecurityContext": context})),
        destination(json!({"moverSecurityContext": context})),
    ] {
        let job = started(model);
        let pod = pod_of(&job);
        assert!(passes_restricted(pod), "{pod:#}");
        assert_eq!(pod["securityContext"], context);
        assert_eq!(
            pod["volumes"][1]["secret"]["defaultMode"], 0o444,
            "the keys can be read by whoever it is"
        );
        let env = pod["containers"][0]["env"].as_array().unwrap();
        assert!(env.contains(&json!({"name": "PRIVILEGED_MOVER", "value": "0"})));
    }
}

#[rstest]
#[case("true", true)]
#[case("TRUE", true)]
#[case("yes", false)]
#[case("", false)]
fn a_namespace_can_give_its_movers_volsyncs_rights(#[case] word: &str, #[case] privileged: bool) {
    let mut model =
        source(json!({"moverSecurityContext": {"runAsUser": 1000, "runAsNonRoot": true}}));
    let annotations = json!({"volsync.backube/privileged-movers": word});
    model.put(
        "Namespace",
        NAMESPACE,
        json!({"metadata": {"annotations": annotations}}),
    );
    let job = started(model);
    let pod = pod_of(&job);
    let context = &pod["containers"][0]["securityContext"];
    assert_eq!(!context["capabilities"]["add"].is_null(), privileged);
    assert_eq!(context["runAsUser"] == 0, privileged);
    assert_eq!(
        context["runAsNonRoot"] == false,
        privileged,
        "or root would not be let in"
    );
    assert_eq!(pod["securityContext"]["runAsUser"], 1000);
}

#[rstest]
#[case::as_json("{\"runAsUser\": 1000, \"fsGroup\": 2000}")]
#[case::as_yaml("runAsUser: 1000\nfsGroup: 2000\n")]
fn an_annotation_stands_for_the_field_that_volsyncs_definition_drops(#[case] text: &str) {
    let field = started(source(
        json!({"moverSecurityContext": {"runAsUser": 1000, "fsGroup": 2000}}),
    ));
    let annotation = started(annotated(
        source(json!({})),
        "syncline.dev/mover-security-context",
        text,
    ));
    assert_eq!(pod_of(&field), pod_of(&annotation));
    let both = annotated(
        source(json!({"moverSecurityContext": {"runAsUser": 7}})),
        "syncline.dev/mover-security-context",
        text,
    );
    let both = started(both);
    assert_eq!(pod_of(&both)["securityContext"], json!({"runAsUser": 7}));
}

#[test]
fn affinity_and_volumes_are_taken_from_fields_and_annotations_alike() {
    let affinity = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}]}}});
    let volumes = json!([
        {"mountPath": "certs/own", "volumeSource": {"secret": {"secretName": "ca", "defaultMode": 256}}},
        {"mountPath": "scratch", "volumeSource": {"persistentVolumeClaim": {"claimName": "pvc-user"}}},
        {"mountPath": "nfs", "volumeSource": {"nfs": {"server": "s", "path": "/x"}}}]);
    let with_secret = |mut model: Model| {
        model.put("Secret", "ca", json!({}));
        model
    };
    let job = started(with_secret(destination(
        json!({"moverAffinity": affinity, "moverVolumes": volumes}),
    )));
    let pod = pod_of(&job);
    assert_eq!(pod["affinity"], affinity);
    let named = |list: &Value, name: &str| {
        let found = list
            .as_array()
            .unwrap()
            .iter()
            .find(|entry| entry["name"] == name);
        found.cloned().unwrap_or_default()
    };
    for (name, path) in [
        ("u-certs-own", "/mnt/certs/own"),
        ("u-scratch", "/mnt/scratch"),
        ("u-nfs", "/mnt/nfs"),
    ] {
        let mounted = named(&pod["containers"][0]["volumeMounts"], name);
        assert_eq!(mounted["mountPath"], path);
    }
    assert_eq!(
        named(&pod["volumes"], "u-certs-own")["secret"]["secretName"],
        "ca"
    );
    assert_eq!(named(&pod["volumes"], "u-nfs")["nfs"]["server"], "s");
    let model = annotated(
        destination(json!({})),
        "syncline.dev/mover-affinity",
        &affinity.to_string(),
    );
    let model = annotated(model, "syncline.dev/mover-volumes", &volumes.to_string());
    assert_eq!(pod_of(&started(with_secret(model))), pod);
}

#[rstest]
#[case::no_secret(json!([{"mountPath": "a", "volumeSource": {"secret": {"secretName": "none"}}}]), "Secret site-a/none")]
#[case::no_claim(json!([{"mountPath": "a", "volumeSource": {"persistentVolumeClaim": {"claimName": "none"}}}]), "PersistentVolumeClaim site-a/none")]
#[case::nothing(json!([{"mountPath": "a", "volumeSource": {}}]), "one of secret, persistentVolumeClaim and nfs")]
#[case::two(json!([{"mountPath": "a", "volumeSource": {"secret": {"secretName": "x"}, "nfs": {"server": "s", "path": "/"}}}]), "one of")]
#[case::out(json!([{"mountPath": "../data", "volumeSource": {"secret": {"secretName": "x"}}}]), "below /mnt")]
#[case::letters(json!([{"mountPath": "A_b", "volumeSource": {"secret": {"secretName": "x"}}}]), "lower-case")]
#[case::twice(json!([{"mountPath": "a/b", "volumeSource": {"nfs": {"server": "s", "path": "/"}}},
    {"mountPath": "a-b", "volumeSource": {"nfs": {"server": "s", "path": "/"}}}]), "same path")]
fn a_further_volume_that_cannot_be_mounted_is_named(#[case] volumes: Value, #[case] words: &str) {
    let mut model = source(json!({"moverVolumes": volumes}));
    model.settle();
    let (reason, message) = model.says();
    assert_eq!(reason, "Error");
    assert!(
        message.contains("moverVolumes") && message.contains(words),
        "{message}"
    );
    assert!(model.names("Job").is_empty());
    assert_eq!(model.step(usize::MAX), 0, "and then there is rest");
}

#[test]
fn a_secret_that_may_be_absent_is_not_waited_for() {
    let volumes = json!([{"mountPath": "a", "volumeSource": {"secret": {"secretName": "none", "optional": true}}}]);
    started(source(json!({"moverVolumes": volumes})));
}

#[rstest]
#[case("{\"runAsUsr\": 1}", "unknown field \"runAsUsr\"")]
#[case("{\"runAsUser\": \"me\"}", "invalid type")]
#[case("[", "syncline.dev/mover-security-context")]
fn an_annotation_that_cannot_be_read_is_named(#[case] text: &str, #[case] words: &str) {
    let mut model = annotated(
        source(json!({})),
        "syncline.dev/mover-security-context",
        text,
    );
    model.settle();
    let (reason, message) = model.says();
    assert_eq!(reason, "Error");
    assert!(
        message.contains("syncline.dev/mover-security-context") && message.contains(words),
        "{message}"
    );
    assert!(model.names("Job").is_empty());
}

#[test]
fn a_job_that_an_admission_webhook_changed_is_left_alone() {
    for mut model in [source(json!({})), destination(json!({}))] {
        model.settle();
        model.give_address();
        model.settle();
        let name = model.job_name();
        let job = model.object_mut("Job", &name).unwrap();
        job["metadata"]["labels"]["mesh.example/injected"] = json!("yes");
        job["spec"]["backoffLimit"] = json!(6);
        job["spec"]["ttlSecondsAfterFinished"] = json!(600);
        let pod = &mut job["spec"]["template"]["spec"];
        pod["containers"][0]["image"] = json!("mirror.example/syncline");
        pod["containers"][0]["resources"] = json!({"limits": {"memory": "1Gi"}});
        pod["containers"][0]["env"]
            .as_array_mut()
            .unwrap()
            .push(json!({"name": "X", "value": "y"}));
        pod["containers"]
            .as_array_mut()
            .unwrap()
            .push(json!({"name": "mesh", "image": "proxy"}));
        pod["securityContext"] = json!({"seccompProfile": {"type": "RuntimeDefault"}});
        pod["tolerations"] = json!([{"key": "spot"}]);
        let changed = job.clone();
        for _ in 0..3 {
            model.pass(60);
            assert_eq!(model.step(usize::MAX), 0, "nothing is written");
        }
        assert_eq!(model.object("Job", &name), Some(&changed));
        model.succeed();
        model.settle();
        model.snapshots_become_ready();
        model.settle();
        assert_eq!(model.status()["lastManualSync"], "1");
        assert!(model.names("Job").is_empty());
    }
}

#[test]
fn the_mover_follows_a_further_volume_that_is_in_use_elsewhere() {
    let volumes = json!([{"mountPath": "extra", "volumeSource": {"persistentVolumeClaim": {"claimName": "extra"}}}]);
    let mut model = source(json!({"copyMethod": "Clone", "moverVolumes": volumes}));
    model.put(
        "PersistentVolumeClaim",
        "extra",
        json!({"spec": {"accessModes": ["ReadWriteOnce"]}}),
    );
    model.step(usize::MAX);
    model.step(usize::MAX);
    model
        .objects
        .remove(&("Job".to_owned(), SOURCE_JOB.to_owned()));
    let mut world = model.world();
    let pod = json!({"metadata": {"name": "app", "namespace": NAMESPACE}, "status": {"phase": "Running"},
        "spec": {"nodeName": "node-1", "containers": [], "volumes": [
            {"name": "v", "persistentVolumeClaim": {"claimName": "extra"}}]}});
    world.users = vec![serde_json::from_value(pod).unwrap()];
    let node =
        json!({"metadata": {"name": "node-1", "labels": {"kubernetes.io/hostname": "host-1"}}});
    world.nodes = vec![serde_json::from_value(node).unwrap()];
    let plan = model.plan_with(&world);
    let Some(crate::plan::Object::Job(job)) = plan.apply.last() else {
        panic!("{plan:#?}")
    };
    let spec = job.spec.as_ref().unwrap().template.spec.as_ref().unwrap();
    assert_eq!(
        spec.node_selector.as_ref().unwrap()["kubernetes.io/hostname"],
        "host-1"
    );
}

#[rstest]
#[case(json!(["ReadWriteMany"]), false)]
#[case(json!(["ReadOnlyMany"]), false)]
#[case(json!(["ReadWriteOnce"]), true)]
#[case(json!(["ReadWriteOncePod"]), true)]
fn only_a_volume_of_one_node_at_a_time_binds_its_mover_to_that_node(
    #[case] modes: Value,
    #[case] bound: bool,
) {
    let mut model = source(json!({}));
    model
        .object_mut("PersistentVolumeClaim", "pvc-user")
        .unwrap()["status"]["accessModes"] = modes;
    model.step(usize::MAX);
    let mut world = model.world();
    // The node's name is not what its label says.
    let pod = json!({"metadata": {"name": "app", "namespace": NAMESPACE}, "status": {"phase": "Running"},
        "spec": {"nodeName": "node-1", "containers": [], "volumes": [
            {"name": "v", "persistentVolumeClaim": {"claimName": "pvc-user"}}]}});
    world.users = vec![serde_json::from_value(pod).unwrap()];
    let node =
        json!({"metadata": {"name": "node-1", "labels": {"kubernetes.io/hostname": "host-1"}}});
    world.nodes = vec![serde_json::from_value(node).unwrap()];
    let plan = model.plan_with(&world);
    let Some(crate::plan::Object::Job(job)) = plan.apply.last() else {
        panic!("{plan:#?}")
    };
    let spec = job.spec.as_ref().unwrap().template.spec.as_ref().unwrap();
    let selected = spec
        .node_selector
        .as_ref()
        .map(|all| all["kubernetes.io/hostname"].as_str());
    assert_eq!(selected, bound.then_some("host-1"));
}
