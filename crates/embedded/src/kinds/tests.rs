//! What the kinds read, complete, refuse and merge.

use prost::Message as _;
use serde_json::{Value, json};

use super::*;

struct Nothing;

impl World for Nothing {
    fn list(&self, _group: &str, _plural: &str) -> Vec<Value> {
        Vec::new()
    }
}

fn kind(group: &str, plural: &str) -> std::sync::Arc<dyn Resource> {
    Registry::built_in().find(group, "v1", plural).unwrap()
}

fn decode(group: &str, plural: &str, body: &Value) -> Result<Decoded, DecodeError> {
    kind(group, plural).decode(
        "application/json",
        body.to_string().as_bytes(),
        FieldValidation::Strict,
    )
}

/// The envelope in which Kubernetes sends a message.
fn envelope(api_version: &str, kind: &str, message: &[u8]) -> Vec<u8> {
    let unknown = k8s_pb::apimachinery::pkg::runtime::Unknown {
        type_meta: Some(k8s_pb::apimachinery::pkg::runtime::TypeMeta {
            api_version: Some(api_version.to_owned()),
            kind: Some(kind.to_owned()),
        }),
        raw: Some(message.to_vec()),
        ..Default::default()
    };
    let mut bytes = b"k8s\0".to_vec();
    bytes.extend(unknown.encode_to_vec());
    bytes
}

#[test]
#[expect(clippy::too_many_lines, reason = "one message, field by field")]
fn a_protobuf_pod_is_read_as_its_json_would_be() {
    use k8s_pb::api::core::v1 as core;
    use k8s_pb::apimachinery::pkg::{
        api::resource::Quantity, apis::meta::v1 as meta, util::intstr::IntOrString,
    };
    let port = core::ContainerPort {
        container_port: Some(22),
        protocol: Some("TCP".to_owned()),
        ..Default::default()
    };
    let probe = core::Probe {
        handler: Some(core::ProbeHandler {
            tcp_socket: Some(core::TcpSocketAction {
                port: Some(IntOrString {
                    r#type: Some(1),
                    int_val: None,
                    str_val: Some("ssh".to_owned()),
                }),
                ..Default::default()
            }),
            ..Default::default()
        }),
        period_seconds: Some(3),
        ..Default::default()
    };
    let container = core::Container {
        name: Some("c".to_owned()),
        ports: vec![port],
        args: vec!["a".to_owned(), "b".to_owned()],
        liveness_probe: Some(probe),
        resources: Some(core::ResourceRequirements {
            requests: [(
                "cpu".to_owned(),
                Quantity {
                    string: Some("5m".to_owned()),
                },
            )]
            .into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let volume = core::Volume {
        name: Some("v".to_owned()),
        volume_source: Some(core::VolumeSource {
            secret: Some(core::SecretVolumeSource {
                secret_name: Some("s".to_owned()),
                default_mode: Some(384),
                ..Default::default()
            }),
            ..Default::default()
        }),
    };
    let pod = core::Pod {
        metadata: Some(meta::ObjectMeta {
            name: Some("p".to_owned()),
            labels: [("a".to_owned(), "b".to_owned())].into(),
            ..Default::default()
        }),
        spec: Some(core::PodSpec {
            containers: vec![container],
            volumes: vec![volume],
            ..Default::default()
        }),
        ..Default::default()
    };
    let bytes = envelope("v1", "Pod", &pod.encode_to_vec());
    let read = kind("", "pods")
        .decode(
            "application/vnd.kubernetes.protobuf",
            &bytes,
            FieldValidation::Strict,
        )
        .unwrap();
    let spec = json!({
        "containers": [{
            "name": "c", "args": ["a", "b"], "ports": [{ "containerPort": 22, "protocol": "TCP" }],
            "livenessProbe": { "tcpSocket": { "port": "ssh" }, "periodSeconds": 3 },
            "resources": { "requests": { "cpu": "5m" } },
        }],
        "volumes": [{ "name": "v", "secret": { "secretName": "s", "defaultMode": 384 } }],
    });
    assert_eq!(read.object["spec"], spec);
    assert_eq!(
        read.object["metadata"],
        json!({ "name": "p", "labels": { "a": "b" } })
    );
}

#[test]
fn a_protobuf_body_that_ends_early_is_refused() {
    let mut bytes = envelope("v1", "ConfigMap", b"\x0a\x7f");
    let refused = kind("", "configmaps").decode(
        "application/vnd.kubernetes.protobuf",
        &bytes,
        FieldValidation::Strict,
    );
    assert_eq!(refused.unwrap_err().code, 400);
    bytes.truncate(9);
    assert!(
        kind("", "configmaps")
            .decode(
                "application/vnd.kubernetes.protobuf",
                &bytes,
                FieldValidation::Strict
            )
            .is_err()
    );
}

#[test]
fn wrong_types_deep_inside_are_told_with_their_struct_and_path() {
    let pod = json!({ "metadata": { "name": "p" }, "spec": { "containers": [{ "name": "c", "env": [{ "name": "E", "value": 1 }] }] } });
    let error = decode("", "pods", &pod).unwrap_err();
    let told = "Pod in version \"v1\" cannot be handled as a Pod: json: cannot unmarshal number into Go struct field EnvVar.spec.containers.env.value of type string";
    assert_eq!(error.message, told);
}

#[test]
fn unknown_fields_are_told_with_their_place_in_lists() {
    let pod = json!({ "metadata": { "name": "p", "nam": 1 }, "spec": { "containers": [{ "name": "c", "imag": "x" }] } });
    let error = decode("", "pods", &pod).unwrap_err();
    assert!(
        error.message.contains("unknown field \"metadata.nam\""),
        "{}",
        error.message
    );
    assert!(
        error
            .message
            .contains("unknown field \"spec.containers[0].imag\""),
        "{}",
        error.message
    );
}

#[test]
fn a_job_gets_its_defaults_and_the_selector_of_its_pods() {
    let template = json!({ "spec": { "restartPolicy": "Never", "containers": [{ "name": "c", "image": "i:1" }] } });
    let body = json!({ "metadata": { "name": "j", "uid": "u" }, "spec": { "template": template } });
    let jobs = kind("batch", "jobs");
    let mut job = decode("batch", "jobs", &body).unwrap().object;
    jobs.default(&mut job, None);
    jobs.prepare(&mut job, None, &Nothing);
    assert_eq!(job["spec"]["completions"], 1);
    assert_eq!(job["spec"]["backoffLimit"], 6);
    assert_eq!(
        job["spec"]["selector"]["matchLabels"]["batch.kubernetes.io/controller-uid"],
        "u"
    );
    assert_eq!(
        job["spec"]["template"]["metadata"]["labels"]["job-name"],
        "j"
    );
    assert_eq!(
        job["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"],
        "IfNotPresent"
    );
    assert_eq!(jobs.validate_create(&job), Vec::new());
    let mut changed = job.clone();
    changed["spec"]["template"]["spec"]["containers"][0]["image"] = json!("other");
    assert_eq!(
        jobs.validate_update(&changed, &job, false)[0].field,
        "spec.template"
    );
    changed = job.clone();
    changed["spec"]["parallelism"] = json!(0);
    assert_eq!(jobs.validate_update(&changed, &job, false), Vec::new());
}

#[test]
fn services_get_addresses_of_their_own() {
    struct Services(Vec<Value>);
    impl World for Services {
        fn list(&self, _group: &str, _plural: &str) -> Vec<Value> {
            self.0.clone()
        }
    }
    let services = kind("", "services");
    let mut world = Services(Vec::new());
    for uid in ["a", "a", "a", "b"] {
        let mut service = json!({ "metadata": { "name": "s", "uid": uid }, "spec": { "ports": [{ "port": 22 }] } });
        services.default(&mut service, None);
        services.prepare(&mut service, None, &world);
        let address = service["spec"]["clusterIP"].as_str().unwrap();
        assert!(address.starts_with("127.96."), "{address}");
        assert!(
            world
                .0
                .iter()
                .all(|other| other["spec"]["clusterIP"] != address)
        );
        world.0.push(service);
    }
}

#[test]
fn an_event_is_the_same_in_both_of_its_groups() {
    let events = kind("events.k8s.io", "events");
    let mut event = json!({ "apiVersion": "events.k8s.io/v1", "regarding": { "name": "x" }, "note": "n", "reportingController": "c" });
    let before = event.clone();
    events.to_stored(&mut event);
    assert_eq!(
        event,
        json!({ "apiVersion": "v1", "involvedObject": { "name": "x" }, "message": "n", "reportingComponent": "c" })
    );
    events.shown_from_stored(&mut event);
    assert_eq!(event, before);
}

#[test]
fn lists_merge_as_the_published_types_say() {
    let pods = kind("", "pods");
    let by = |keys: &[(&str, Option<Value>)]| {
        Merge::ByKey(
            keys.iter()
                .map(|(key, default)| ((*key).to_owned(), default.clone()))
                .collect(),
        )
    };
    assert_eq!(
        pods.merge_at(&["spec", "containers"]),
        by(&[("name", None)])
    );
    let ports = ["spec", "containers", "*", "ports"];
    assert_eq!(
        pods.merge_at(&ports),
        by(&[("containerPort", None), ("protocol", Some(json!("TCP")))])
    );
    assert_eq!(pods.patch_merge_at(&ports), by(&[("containerPort", None)]));
    assert_eq!(pods.merge_at(&["spec", "tolerations"]), Merge::Atomic);
    assert_eq!(pods.merge_at(&["spec", "nodeSelector"]), Merge::Atomic);
    assert_eq!(pods.merge_at(&["metadata", "finalizers"]), Merge::Set);
    assert_eq!(
        pods.merge_at(&["metadata", "ownerReferences"]),
        by(&[("uid", None)])
    );
    assert_eq!(pods.merge_at(&["metadata", "labels"]), Merge::Granular);
    assert_eq!(kind("", "secrets").merge_at(&["data"]), Merge::Granular);
}

#[test]
fn an_applied_configuration_stays_as_it_was_written() {
    let body = br#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c"},"data":{}}"#;
    let read = kind("", "configmaps")
        .decode_config("application/yaml", body, FieldValidation::Strict)
        .unwrap();
    assert_eq!(
        read.object,
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "c" }, "data": {} })
    );
}

#[test]
fn every_fault_of_an_object_is_told_at_once() {
    let pod = json!({
        "metadata": { "name": "P", "labels": { "a b": "c d" } },
        "spec": { "restartPolicy": "Never", "containers": [{ "name": "c", "volumeMounts": [{ "name": "v", "mountPath": "/v" }] }] },
    });
    let fields: Vec<String> = kind("", "pods")
        .validate_create(&pod)
        .into_iter()
        .map(|fault| fault.field)
        .collect();
    let expected = [
        "metadata.name",
        "metadata.labels",
        "metadata.labels",
        "spec.containers[0].image",
        "spec.containers[0].volumeMounts[0].name",
    ];
    assert_eq!(fields, expected);
}

#[test]
fn every_built_in_kind_has_a_struct_columns_and_a_schema() {
    for resource in Registry::built_in().all() {
        let (name, components) = resource.openapi();
        assert!(types::find(&name).is_some(), "{name}");
        assert!(components.contains_key(&name), "{name}");
        assert_eq!(resource.empty()["kind"], resource.kind());
        let columns = resource.columns();
        assert!(columns.iter().any(|column| column.name == "Name"), "{name}");
    }
}

#[test]
fn quantities_are_text_and_compare_as_numbers() {
    assert_eq!(meta::quantity_value("1Gi"), Some(1_073_741_824.0));
    assert_eq!(meta::quantity_value("500m"), Some(0.5));
    assert_eq!(meta::quantity_value("1e3"), Some(1000.0));
    for wrong in ["1Gx", "", "G", "1 Gi", "--1"] {
        assert!(meta::quantity(&json!(wrong)).is_err(), "{wrong}");
    }
}
