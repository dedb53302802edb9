//! The Service that leads to a mover, and the address that it gives.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use syncline_api::labels;
use syncline_api::names::{self, Mover, Side};

use super::draft::{Draft, reference};
use super::rsync::pod_labels;
use super::{Fault, Input, Object};
use crate::validate::Rsync;

/// Where the mover's container listens.
pub(super) const CONTAINER_PORT: i32 = 8022;
/// How long a Service may be without an address before an event says so.
const ADDRESS_WITHIN: SignedDuration = SignedDuration::from_secs(15);

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// The address for the status.
    pub(super) address: Option<String>,
    /// Whether a run has to wait for the address.
    pub(super) pending: bool,
    /// What is wrong.
    pub(super) fault: Option<Fault>,
}

/// Sees to the Service. VolSync makes one at a source too, when that names no destination.
pub(super) fn ensure(draft: &mut Draft<'_>, input: &Input<'_>, rsync: &Rsync) -> Outcome {
    let side = input.subject.key.side;
    if let Some(address) = &rsync.address {
        let published = (side == Side::Destination).then(|| address.clone());
        return Outcome {
            address: published,
            ..Outcome::default()
        };
    }
    let present = input.world.service.as_ref();
    if let Err(fault) = input.check_owned("Service", present.map(|service| &service.metadata)) {
        return Outcome {
            fault: Some(fault),
            ..Outcome::default()
        };
    }
    let wanted = wanted(input, rsync);
    let name = wanted.metadata.name.clone().unwrap_or_default();
    draft.ensure(present, wanted, Object::Service);
    let address = present.and_then(address_of);
    let overdue = announce(draft, input, present, address.as_deref());
    let (pending, fault) = match (side, &address) {
        (Side::Source, _) => (false, Some(Fault::NoDestination)),
        (Side::Destination, Some(_)) => (false, None),
        (Side::Destination, None) => {
            let fault = Fault::NoAddress {
                namespace: input.namespace().to_owned(),
                name,
            };
            (true, overdue.then_some(fault))
        }
    };
    Outcome {
        address,
        pending,
        fault,
    }
}

fn wanted(input: &Input<'_>, rsync: &Rsync) -> Service {
    let side = input.subject.key.side;
    let mut metadata = input.metadata(names::service(Mover::Rsync, side, input.name()));
    metadata.annotations = match &rsync.service_annotations {
        Some(given) if given.is_empty() => None,
        Some(given) => Some(given.clone()),
        None => Some(default_annotations()),
    };
    Service {
        metadata,
        spec: Some(ServiceSpec {
            type_: Some(rsync.service_type.clone()),
            selector: Some(pod_labels(side, input.name())),
            ports: Some(vec![ServicePort {
                name: Some("ssh".to_owned()),
                port: i32::from(rsync.port.unwrap_or(input.settings.rsync_port)),
                protocol: Some("TCP".to_owned()),
                target_port: Some(IntOrString::Int(CONTAINER_PORT)),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

fn default_annotations() -> BTreeMap<String, String> {
    [(
        labels::AWS_LOAD_BALANCER_TYPE.to_owned(),
        labels::AWS_LOAD_BALANCER_TYPE_NLB.to_owned(),
    )]
    .into()
}

/// The load balancer's host name or address; for the other types the cluster address.
fn address_of(service: &Service) -> Option<String> {
    let balancer = service
        .status
        .as_ref()
        .and_then(|status| status.load_balancer.as_ref());
    let ingress = balancer.and_then(|balancer| balancer.ingress.as_ref()?.first());
    if let Some(address) =
        ingress.and_then(|ingress| ingress.hostname.clone().or_else(|| ingress.ip.clone()))
    {
        return Some(address);
    }
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("LoadBalancer") {
        return None;
    }
    spec.cluster_ip
        .clone()
        .filter(|address| !address.is_empty() && address != "None")
}

/// Tells of an address that came, and of one that does not come; returns whether it is overdue.
fn announce(
    draft: &mut Draft<'_>,
    input: &Input<'_>,
    present: Option<&Service>,
    address: Option<&str>,
) -> bool {
    let Some(service) = present else { return false };
    let related = Some(reference("v1", "Service", &service.metadata));
    let known = input
        .subject
        .state
        .rsync
        .as_ref()
        .and_then(|rsync| rsync.address.as_deref());
    if let Some(address) = address {
        if known != Some(address) {
            draft.note(
                "ServiceAddressAssigned",
                "CreateMover",
                format!("Service has the address {address}"),
                related,
            );
        }
        return false;
    }
    let Some(created) = &service.metadata.creation_timestamp else {
        return false;
    };
    let late = created.0 + ADDRESS_WITHIN;
    if input.now() < late {
        draft.wake(late);
        return false;
    }
    draft.warn(
        "NoServiceAddressAssigned",
        "CreateMover",
        "Service still waits for an address".to_owned(),
        related,
    );
    true
}
