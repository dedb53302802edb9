//! Which pods serve a Service's port.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use k8s_openapi::api::core::v1::{Pod, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt as _;

/// Whether the Service's selector, which must not be empty, holds for the pod.
pub(super) fn selects(service: &Service, pod: &Pod) -> bool {
    let selector = service
        .spec
        .as_ref()
        .and_then(|spec| spec.selector.as_ref());
    selector.is_some_and(|selector| {
        !selector.is_empty()
            && selector
                .iter()
                .all(|(key, value)| pod.labels().get(key) == Some(value))
    })
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions
        .into_iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    ready && pod.metadata.deletion_timestamp.is_none()
}

fn address(pod: &Pod) -> Option<Ipv4Addr> {
    pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()
}

/// The pod's port that the Service's port means: a number, the name of a container's port, or the same number.
fn target(port: &ServicePort, pod: &Pod) -> Option<u16> {
    let number = match &port.target_port {
        None | Some(IntOrString::Int(0)) => port.port,
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(name)) => {
            let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
            let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
            ports
                .find(|port| port.name.as_ref() == Some(name))?
                .container_port
        }
    };
    u16::try_from(number).ok()
}

/// Where the Service is to listen, and what is behind each; ports without a ready pod are left out.
pub(super) fn wanted(
    service: &Service,
    pods: &[Pod],
    own: Ipv4Addr,
) -> BTreeMap<SocketAddr, Vec<SocketAddr>> {
    let Some(spec) = &service.spec else {
        return BTreeMap::new();
    };
    let any = spec.publish_not_ready_addresses == Some(true);
    let chosen: Vec<&Pod> = pods
        .iter()
        .filter(|pod| selects(service, pod) && (any || is_ready(pod)))
        .collect();
    let tcp = spec
        .ports
        .iter()
        .flatten()
        .filter(|port| port.protocol.as_deref().unwrap_or("TCP") == "TCP");
    tcp.filter_map(|port| {
        let at = SocketAddr::from((own, u16::try_from(port.port).ok()?));
        let behind = |pod: &&Pod| Some(SocketAddr::from((address(pod)?, target(port, pod)?)));
        let targets: Vec<SocketAddr> = chosen.iter().filter_map(behind).collect();
        (!targets.is_empty()).then_some((at, targets))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(ready: bool, labels: &Value) -> Pod {
        let ready = if ready { "True" } else { "False" };
        serde_json::from_value(json!({
            "metadata": { "name": "p", "labels": labels },
            "spec": { "containers": [{ "name": "c", "ports": [{ "name": "ssh", "containerPort": 8022 }] }] },
            "status": { "podIP": "127.64.0.1", "conditions": [{ "type": "Ready", "status": ready }] },
        }))
        .unwrap()
    }

    fn service(ports: &Value) -> Service {
        let spec = json!({ "selector": { "a": "b" }, "ports": ports });
        serde_json::from_value(json!({ "metadata": { "name": "s" }, "spec": spec })).unwrap()
    }

    fn shown(service: &Service, pods: &[Pod]) -> Vec<String> {
        let wanted = wanted(service, pods, Ipv4Addr::new(127, 96, 0, 1));
        wanted
            .iter()
            .map(|(at, to)| format!("{at} {to:?}"))
            .collect()
    }

    #[test]
    fn a_port_means_a_number_a_name_or_itself() {
        let service = service(&json!([
            { "name": "one", "port": 22, "targetPort": 8022 },
            { "name": "two", "port": 23, "targetPort": "ssh" },
            { "name": "three", "port": 24 },
            { "name": "four", "port": 25, "targetPort": "unknown" },
            { "name": "five", "port": 26, "protocol": "UDP" },
        ]));
        assert_eq!(
            shown(&service, &[pod(true, &json!({ "a": "b", "c": "d" }))]),
            [
                "127.96.0.1:22 [127.64.0.1:8022]",
                "127.96.0.1:23 [127.64.0.1:8022]",
                "127.96.0.1:24 [127.64.0.1:24]"
            ]
        );
    }

    #[test]
    fn only_ready_pods_that_are_selected_serve() {
        let service = service(&json!([{ "port": 22 }]));
        assert!(
            shown(
                &service,
                &[
                    pod(false, &json!({ "a": "b" })),
                    pod(true, &json!({ "a": "c" }))
                ]
            )
            .is_empty()
        );
        let mut eager = service;
        eager.spec.as_mut().unwrap().publish_not_ready_addresses = Some(true);
        assert_eq!(shown(&eager, &[pod(false, &json!({ "a": "b" }))]).len(), 1);
        eager.spec.as_mut().unwrap().selector = None;
        assert!(shown(&eager, &[pod(true, &json!({}))]).is_empty());
    }
}
