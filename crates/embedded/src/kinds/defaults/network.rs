//! Defaults of Services, and the addresses that they get.

use std::collections::HashSet;
use std::net::Ipv4Addr;

use serde_json::{Map, Value, json};

use super::super::World;
use super::{absent, empty, items, map};

/// Services get addresses 127.96.0.1 to 127.96.255.254: on loopback, apart from those of pods.
const FIRST: u32 = u32::from_be_bytes([127, 96, 0, 1]);
const COUNT: u32 = 65_534;

/// A Service's defaults.
pub(super) fn fill(service: &mut Value) {
    let Some(spec) = map(service, "spec") else {
        return;
    };
    empty(spec, "type", "ClusterIP");
    empty(spec, "sessionAffinity", "None");
    let kind = spec
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    for port in items(spec, "ports") {
        empty(port, "protocol", "TCP");
        let number = port.get("port").cloned().unwrap_or(Value::Null);
        if port
            .get("targetPort")
            .is_none_or(|target| *target == json!(0) || *target == json!(""))
        {
            port.insert("targetPort".to_owned(), number);
        }
    }
    if kind != "ExternalName" {
        absent(spec, "internalTrafficPolicy", || json!("Cluster"));
    }
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
        absent(spec, "externalTrafficPolicy", || json!("Cluster"));
    }
    if kind == "LoadBalancer" {
        absent(spec, "allocateLoadBalancerNodePorts", || json!(true));
    }
}

/// Gives the Service an address, and keeps the one that it has.
pub(super) fn prepare(service: &mut Value, old: Option<&Value>, world: &dyn World) {
    let uid = service
        .pointer("/metadata/uid")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let before = old
        .and_then(|old| old.get("spec"))
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default();
    if old.is_none() {
        super::set_status(service, json!({ "loadBalancer": {} }));
    }
    let Some(spec) = map(service, "spec") else {
        return;
    };
    if spec.get("type") == Some(&json!("ExternalName")) {
        for key in [
            "clusterIP",
            "clusterIPs",
            "ipFamilies",
            "ipFamilyPolicy",
            "internalTrafficPolicy",
        ] {
            spec.remove(key);
        }
        return;
    }
    for key in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        if let Some(value) = before.get(key) {
            absent(spec, key, || value.clone());
        }
    }
    empty_address(spec, &uid, world);
    let address = spec.get("clusterIP").cloned().unwrap_or(Value::Null);
    absent(spec, "clusterIPs", || json!([address]));
    absent(spec, "ipFamilies", || json!(["IPv4"]));
    absent(spec, "ipFamilyPolicy", || json!("SingleStack"));
}

fn empty_address(spec: &mut Map<String, Value>, uid: &str, world: &dyn World) {
    if spec
        .get("clusterIP")
        .and_then(Value::as_str)
        .is_some_and(|address| !address.is_empty())
    {
        return;
    }
    let named = spec
        .get("clusterIPs")
        .and_then(|addresses| addresses.get(0))
        .and_then(Value::as_str)
        .map(str::to_owned);
    let address = named.or_else(|| free_address(uid, world).map(|address| address.to_string()));
    if let Some(address) = address {
        spec.insert("clusterIP".to_owned(), json!(address));
    }
}

/// An address that no Service has. The search begins at a place that the uid gives, so that two clusters on one machine
/// seldom meet.
fn free_address(uid: &str, world: &dyn World) -> Option<Ipv4Addr> {
    let services = world.list("", "services");
    let taken: HashSet<&str> = services
        .iter()
        .filter_map(|service| service.pointer("/spec/clusterIP")?.as_str())
        .collect();
    let start = uid.bytes().fold(0_u32, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(u32::from(byte))
    }) % COUNT;
    (0..COUNT)
        .map(|step| Ipv4Addr::from_bits(FIRST + (start + step) % COUNT))
        .find(|address| !taken.contains(address.to_string().as_str()))
}
