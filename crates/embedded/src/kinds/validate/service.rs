//! Faults of Services.

use serde_json::{Value, json};

use super::super::meta::{self, NameRule};
use super::{FieldError, list, text};

/// Faults of a new Service.
pub(super) fn create(service: &Value) -> Vec<FieldError> {
    let mut faults = Vec::new();
    let kind = text(service, "/spec/type");
    if !matches!(
        kind,
        "ClusterIP" | "NodePort" | "LoadBalancer" | "ExternalName"
    ) {
        let supported = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
        faults.push(FieldError::not_supported(
            "spec.type",
            &json!(kind),
            &supported,
        ));
    }
    if kind == "ExternalName" && text(service, "/spec/externalName").is_empty() {
        faults.push(FieldError::required("spec.externalName", ""));
    }
    let ports = list(service, "/spec/ports");
    if ports.is_empty() && kind != "ExternalName" && text(service, "/spec/clusterIP") != "None" {
        faults.push(FieldError::required("spec.ports", ""));
    }
    let mut names = Vec::new();
    let mut taken = Vec::new();
    for (position, port) in ports.iter().enumerate() {
        let field = format!("spec.ports[{position}]");
        let name = text(port, "/name");
        if ports.len() > 1 && name.is_empty() {
            faults.push(FieldError::required(format!("{field}.name"), ""));
        } else if !name.is_empty() {
            for fault in meta::name_faults(NameRule::Label, name) {
                faults.push(FieldError::invalid(
                    format!("{field}.name"),
                    &json!(name),
                    &fault,
                ));
            }
            if names.contains(&name) {
                faults.push(FieldError::duplicate(format!("{field}.name"), &json!(name)));
            }
            names.push(name);
        }
        number(port.get("port"), &format!("{field}.port"), &mut faults);
        if let Some(target) = port.get("targetPort").filter(|target| target.is_number()) {
            number(Some(target), &format!("{field}.targetPort"), &mut faults);
        }
        let identity = json!({ "port": port.get("port"), "protocol": port.get("protocol") });
        if taken.contains(&identity) {
            faults.push(FieldError::duplicate(field, &identity));
        }
        taken.push(identity);
    }
    faults.extend(meta::label_faults(
        service.pointer("/spec/selector"),
        "spec.selector",
    ));
    faults
}

fn number(port: Option<&Value>, field: &str, faults: &mut Vec<FieldError>) {
    let port = port.cloned().unwrap_or_else(|| json!(0));
    if !port
        .as_i64()
        .is_some_and(|port| (1..=65_535).contains(&port))
    {
        faults.push(FieldError::invalid(
            field,
            &port,
            "must be between 1 and 65535, inclusive",
        ));
    }
}

/// A Service's address stays.
pub(super) fn update(new: &Value, old: &Value) -> Vec<FieldError> {
    let (now, before) = (text(new, "/spec/clusterIP"), text(old, "/spec/clusterIP"));
    let external = |service: &Value| text(service, "/spec/type") == "ExternalName";
    if before.is_empty() || now == before || external(new) || external(old) {
        return Vec::new();
    }
    let shown = new.pointer("/spec/clusterIPs").unwrap_or(&Value::Null);
    vec![FieldError::invalid(
        "spec.clusterIPs[0]",
        shown,
        "may not change once set",
    )]
}
