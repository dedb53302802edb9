//! The settings of the rsync mover over ssh, alike for both sides.

use std::collections::BTreeMap;

use syncline_api::movers::rsync::{RsyncDestinationSpec, RsyncSourceSpec};

use super::Invalid;
use crate::subject::Spec;

/// What the rsync mover is to do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rsync {
    /// The user's Secret; keys are made without it.
    pub ssh_keys: Option<String>,
    /// The Service's type.
    pub service_type: String,
    /// The Service's annotations; `None` means the default one.
    pub service_annotations: Option<BTreeMap<String, String>>,
    /// The other side's address at a source; at a destination, an address that somebody else serves.
    pub address: Option<String>,
    /// The port, when it is not the operator's default.
    pub port: Option<u16>,
    /// The folder in the destination's volume.
    pub path: Option<String>,
    /// The name to log in with.
    pub user: Option<String>,
}

pub(super) fn read(spec: &Spec) -> Result<Rsync, Invalid> {
    let missing = Invalid::Missing {
        field: "spec.rsync".to_owned(),
        purpose: "it chooses the mover",
    };
    let rsync = match spec {
        Spec::Source(spec) => of_source(spec.rsync.as_ref().ok_or(missing)?),
        Spec::Destination(spec) => of_destination(spec.rsync.as_ref().ok_or(missing)?),
    }?;
    check(&rsync)?;
    Ok(rsync)
}

fn of_source(spec: &RsyncSourceSpec) -> Result<Rsync, Invalid> {
    Ok(Rsync {
        ssh_keys: given(spec.ssh_keys.as_deref()),
        service_type: service_type(spec.service_type.as_deref())?,
        service_annotations: None,
        address: given(spec.address.as_deref()),
        port: port(spec.port)?,
        path: given(spec.path.as_deref()),
        user: given(spec.ssh_user.as_deref()),
    })
}

fn of_destination(spec: &RsyncDestinationSpec) -> Result<Rsync, Invalid> {
    Ok(Rsync {
        ssh_keys: given(spec.ssh_keys.as_deref()),
        service_type: service_type(spec.service_type.as_deref())?,
        service_annotations: spec.service_annotations.clone(),
        address: given(spec.address.as_deref()),
        port: port(spec.port)?,
        path: given(spec.path.as_deref()),
        user: given(spec.ssh_user.as_deref()),
    })
}

/// An empty text means the same as none.
fn given(text: Option<&str>) -> Option<String> {
    text.filter(|text| !text.is_empty()).map(str::to_owned)
}

fn port(port: Option<i32>) -> Result<Option<u16>, Invalid> {
    // VolSync's schema admits 0; nothing can listen there, so it means the default.
    match port {
        None | Some(0) => Ok(None),
        Some(number) => u16::try_from(number).map(Some).map_err(|_| Invalid::Field {
            field: "spec.rsync.port".to_owned(),
            value: number.to_string(),
            expected: "a TCP port is a number from 1 to 65535",
        }),
    }
}

fn service_type(name: Option<&str>) -> Result<String, Invalid> {
    match name {
        None | Some("") => Ok("ClusterIP".to_owned()),
        Some(name @ ("ClusterIP" | "LoadBalancer" | "NodePort")) => Ok(name.to_owned()),
        Some(other) => Err(Invalid::Field {
            field: "spec.rsync.serviceType".to_owned(),
            value: other.to_owned(),
            expected: "use ClusterIP, LoadBalancer or NodePort",
        }),
    }
}

fn check(rsync: &Rsync) -> Result<(), Invalid> {
    let field = |field: &str, value: &str, expected| {
        Err(Invalid::Field {
            field: field.to_owned(),
            value: value.to_owned(),
            expected,
        })
    };
    if let Some(address) = rsync.address.as_deref().filter(|text| holds_port(text)) {
        return Err(Invalid::PortInAddress {
            address: address.to_owned(),
        });
    }
    if let Some(address) = rsync.address.as_deref().filter(|text| !is_address(text)) {
        return field(
            "spec.rsync.address",
            address,
            "write a host name or an IP address, without port or user",
        );
    }
    if let Some(user) = rsync.user.as_deref().filter(|text| !is_user(text)) {
        return field(
            "spec.rsync.sshUser",
            user,
            "a login name has letters, digits, '.', '_' and '-' and begins with a letter or '_'",
        );
    }
    if let Some(path) = rsync.path.as_deref().filter(|text| !is_folder(text)) {
        return field(
            "spec.rsync.path",
            path,
            "write a folder inside the volume such as \"/data\", without \"..\" and control characters",
        );
    }
    Ok(())
}

/// Whether it ends in `:PORT`. A single colon is no IPv6 address's; in one, a port can only follow a bracket.
fn holds_port(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        digits && (host.ends_with(']') || !host.contains(':'))
    })
}

fn is_address(text: &str) -> bool {
    let inner = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    // A leading dash would be read as an option by ssh.
    !inner.is_empty()
        && !inner.starts_with('-')
        && inner.bytes().all(|byte| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'%')
        })
}

fn is_user(text: &str) -> bool {
    let first = text
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    first
        && text.len() <= 32
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
}

fn is_folder(text: &str) -> bool {
    !text.chars().any(char::is_control) && text.split('/').all(|part| part != "..")
}
