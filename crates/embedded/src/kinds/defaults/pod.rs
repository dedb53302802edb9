//! Defaults of pods and pod templates.

use serde_json::{Map, Value, json};

use super::{absent, empty, items, map};

type Fields = Map<String, Value>;

/// A pod's defaults.
pub(super) fn fill(pod: &mut Value) {
    let Some(spec) = map(pod, "spec") else { return };
    absent(spec, "enableServiceLinks", || json!(true));
    for key in ["containers", "initContainers"] {
        items(spec, key).for_each(requests_from_limits);
    }
    fill_spec(spec);
}

/// What a pod asks for is what it is limited to, unless it says so.
fn requests_from_limits(container: &mut Fields) {
    let Some(limits) = container
        .get("resources")
        .and_then(|resources| resources.get("limits"))
        .cloned()
    else {
        return;
    };
    let resources = container
        .get_mut("resources")
        .and_then(Value::as_object_mut);
    let requests = resources.and_then(|resources| {
        resources
            .entry("requests")
            .or_insert_with(|| json!({}))
            .as_object_mut()
    });
    if let (Some(requests), Some(limits)) = (requests, limits.as_object()) {
        for (key, amount) in limits {
            absent(requests, key, || amount.clone());
        }
    }
}

/// The defaults that pods and templates share.
pub(super) fn fill_spec(spec: &mut Fields) {
    empty(spec, "dnsPolicy", "ClusterFirst");
    empty(spec, "restartPolicy", "Always");
    empty(spec, "schedulerName", "default-scheduler");
    absent(spec, "securityContext", || json!({}));
    absent(spec, "terminationGracePeriodSeconds", || json!(30));
    if let Some(name) = spec
        .get("serviceAccountName")
        .or_else(|| spec.get("serviceAccount"))
        .cloned()
    {
        spec.insert("serviceAccountName".to_owned(), name.clone());
        spec.insert("serviceAccount".to_owned(), name);
    }
    for key in ["initContainers", "containers", "ephemeralContainers"] {
        items(spec, key).for_each(fill_container);
    }
    items(spec, "volumes").for_each(fill_volume);
}

fn fill_container(container: &mut Fields) {
    let image = container
        .get("image")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let last = image.rsplit('/').next().unwrap_or_default();
    let latest =
        !last.contains('@') && last.rsplit_once(':').is_none_or(|(_, tag)| tag == "latest");
    empty(
        container,
        "imagePullPolicy",
        if latest { "Always" } else { "IfNotPresent" },
    );
    empty(container, "terminationMessagePath", "/dev/termination-log");
    empty(container, "terminationMessagePolicy", "File");
    absent(container, "resources", || json!({}));
    items(container, "ports").for_each(|port| empty(port, "protocol", "TCP"));
    for key in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.get_mut(key).and_then(Value::as_object_mut) {
            fill_probe(probe);
        }
    }
    for variable in items(container, "env") {
        let source = variable.get_mut("valueFrom").and_then(Value::as_object_mut);
        if let Some(field) = source
            .and_then(|source| source.get_mut("fieldRef"))
            .and_then(Value::as_object_mut)
        {
            empty(field, "apiVersion", "v1");
        }
    }
}

fn fill_probe(probe: &mut Fields) {
    for (key, number) in [
        ("timeoutSeconds", 1),
        ("periodSeconds", 10),
        ("successThreshold", 1),
        ("failureThreshold", 3),
    ] {
        absent(probe, key, || json!(number));
    }
    if let Some(get) = probe.get_mut("httpGet").and_then(Value::as_object_mut) {
        empty(get, "path", "/");
        empty(get, "scheme", "HTTP");
    }
}

fn fill_volume(volume: &mut Fields) {
    if volume.len() == 1 && volume.contains_key("name") {
        volume.insert("emptyDir".to_owned(), json!({}));
    }
    for key in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = volume.get_mut(key).and_then(Value::as_object_mut) {
            absent(source, "defaultMode", || json!(420));
        }
    }
    if let Some(path) = volume.get_mut("hostPath").and_then(Value::as_object_mut) {
        absent(path, "type", || json!(""));
    }
    let projected = volume.get_mut("projected").and_then(Value::as_object_mut);
    for source in projected
        .into_iter()
        .flat_map(|projected| items(projected, "sources"))
    {
        if let Some(token) = source
            .get_mut("serviceAccountToken")
            .and_then(Value::as_object_mut)
        {
            absent(token, "expirationSeconds", || json!(3600));
        }
    }
}

/// The first status of a pod, and what admission adds.
pub(super) fn prepare(pod: &mut Value) {
    let Some(spec) = map(pod, "spec") else { return };
    empty(spec, "serviceAccountName", "default");
    let account = spec
        .get("serviceAccountName")
        .cloned()
        .unwrap_or(Value::Null);
    spec.insert("serviceAccount".to_owned(), account);
    absent(spec, "priority", || json!(0));
    absent(spec, "preemptionPolicy", || json!("PreemptLowerPriority"));
    if let Some(tolerations) = spec
        .entry("tolerations")
        .or_insert_with(|| json!([]))
        .as_array_mut()
    {
        for key in [
            "node.kubernetes.io/not-ready",
            "node.kubernetes.io/unreachable",
        ] {
            if !tolerations
                .iter()
                .any(|toleration| toleration.get("key") == Some(&json!(key)))
            {
                let toleration = json!({ "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300 });
                tolerations.push(toleration);
            }
        }
    }
    let class = quality(spec);
    super::set_status(pod, json!({ "phase": "Pending", "qosClass": class }));
}

/// The quality of service class that the containers' resources give.
fn quality(spec: &Fields) -> &'static str {
    let lists = ["containers", "initContainers"]
        .iter()
        .filter_map(|key| spec.get(*key)?.as_array());
    let resources: Vec<&Value> = lists
        .flatten()
        .map(|container| container.get("resources").unwrap_or(&Value::Null))
        .collect();
    let is_set = |resources: &&Value, key: &str| {
        resources
            .get(key)
            .and_then(Value::as_object)
            .is_some_and(|map| !map.is_empty())
    };
    if !resources
        .iter()
        .any(|resources| is_set(resources, "requests") || is_set(resources, "limits"))
    {
        return "BestEffort";
    }
    let guaranteed = resources.iter().all(|resources| {
        let limits = resources.get("limits").and_then(Value::as_object);
        limits.is_some_and(|limits| limits.contains_key("cpu") && limits.contains_key("memory"))
            && resources
                .get("requests")
                .is_none_or(|requests| Some(requests) == resources.get("limits"))
    });
    if guaranteed {
        "Guaranteed"
    } else {
        "Burstable"
    }
}
