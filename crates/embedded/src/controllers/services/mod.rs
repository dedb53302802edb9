//! Services: each port listens on the Service's own loopback address and forwards to a ready pod.
//!
//! The addresses are given out by the API server when a Service is created (127.96.0.0/11). A port without a ready pod
//! does not listen, so that clients are refused as they would be by a real cluster. Only TCP is forwarded.

mod endpoints;
mod forward;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt as _};
use serde_json::json;

use self::forward::Forwarder;
use super::Context;
use super::objects::{is_going, merge_status, optional};
use super::queue::{self, Key, Trigger, watch};
use crate::node::events::{Recorder, Severity};

/// Why a look ended early; it is repeated.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Api(#[from] kube::Error),
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, std::io::Error),
}

struct Services {
    context: Context,
    recorder: Recorder,
    /// What listens now: by Service, then by address.
    listening: Mutex<BTreeMap<Key, BTreeMap<SocketAddr, Forwarder>>>,
}

/// Looks after all Services until the stop.
pub(super) async fn run(context: &Context) {
    let recorder = Recorder::new(
        context.client.clone(),
        Arc::clone(&context.clock),
        "service-forwarder",
    );
    let controller = Services {
        context: context.clone(),
        recorder,
        listening: Mutex::default(),
    };
    let controller = &controller;
    let look = move |key: Key| async move { controller.service(&key).await };
    queue::run(
        context.clock.as_ref(),
        &context.stop,
        triggers(&context.client),
        look,
    )
    .await;
}

fn triggers(client: &Client) -> Vec<Trigger<Key>> {
    let services =
        watch(Api::<Service>::all(client.clone())).map(|seen| vec![key_of(&seen.into_inner())]);
    let asked = client.clone();
    let pods = watch(Api::<Pod>::all(client.clone())).then(move |seen| {
        let pod = seen.into_inner();
        let services: Api<Service> =
            Api::namespaced(asked.clone(), &pod.namespace().unwrap_or_default());
        async move {
            let list = services
                .list(&ListParams::default())
                .await
                .map(|list| list.items)
                .unwrap_or_default();
            list.iter()
                .filter(|service| endpoints::selects(service, &pod))
                .map(key_of)
                .collect()
        }
    });
    vec![services.boxed(), pods.boxed()]
}

fn key_of(service: &Service) -> Key {
    (service.namespace().unwrap_or_default(), service.name_any())
}

/// The Service's own address, unless it has none or one that is not of this machine.
fn address_of(service: &Service) -> Option<Ipv4Addr> {
    let address: Ipv4Addr = service.spec.as_ref()?.cluster_ip.as_ref()?.parse().ok()?;
    address.is_loopback().then_some(address)
}

impl Services {
    async fn service(&self, key: &Key) -> Result<(), Fault> {
        let (namespace, name) = key;
        let services: Api<Service> = Api::namespaced(self.context.client.clone(), namespace);
        let service = optional(services.get(name).await)?.filter(|service| !is_going(service));
        let Some((service, address)) =
            service.and_then(|service| address_of(&service).map(|ip| (service, ip)))
        else {
            self.lock().remove(key);
            return Ok(());
        };
        self.publish(&services, &service, address).await?;
        let pods: Api<Pod> = Api::namespaced(self.context.client.clone(), namespace);
        let pods = pods.list(&ListParams::default()).await?;
        let wanted = endpoints::wanted(&service, &pods.items, address);
        let missing = self.update(key, &wanted);
        let mut failed = None;
        for at in missing {
            let targets = wanted.get(&at).cloned().unwrap_or_default();
            let clock = Arc::clone(&self.context.clock);
            match Forwarder::start(at, targets, clock, &self.context.stop).await {
                Ok(forwarder) => drop(
                    self.lock()
                        .entry(key.clone())
                        .or_default()
                        .insert(at, forwarder),
                ),
                Err(error) => {
                    self.tell(&service, at, &error).await;
                    failed = Some(Fault::Listen(at, error));
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Key, BTreeMap<SocketAddr, Forwarder>>> {
        self.listening
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends what is not wanted any more, brings the rest up to date, and says where nothing listens yet.
    fn update(&self, key: &Key, wanted: &BTreeMap<SocketAddr, Vec<SocketAddr>>) -> Vec<SocketAddr> {
        let mut all = self.lock();
        let own = all.entry(key.clone()).or_default();
        own.retain(|at, _| wanted.contains_key(at));
        for (at, forwarder) in &*own {
            forwarder.set_targets(wanted.get(at).cloned().unwrap_or_default());
        }
        wanted
            .keys()
            .filter(|at| !own.contains_key(at))
            .copied()
            .collect()
    }

    async fn tell(&self, service: &Service, at: SocketAddr, error: &std::io::Error) {
        let cure = match error.kind() {
            std::io::ErrorKind::PermissionDenied => {
                "an ordinary user may not listen on ports below 1024: use a higher port in spec.ports, or run as root"
            }
            std::io::ErrorKind::AddrInUse => {
                "another program listens there: use another port in spec.ports, or stop that program"
            }
            _ => "tried again",
        };
        let message = format!("Cannot listen on {at}: {error}; {cure}");
        self.recorder
            .record(service, Severity::Warning, "ListenFailed", &message)
            .await;
    }

    /// A load balancer's address is the Service's own: whoever can reach this machine's loopback can reach it.
    async fn publish(
        &self,
        api: &Api<Service>,
        service: &Service,
        address: Ipv4Addr,
    ) -> Result<(), Fault> {
        if service.spec.as_ref().and_then(|spec| spec.type_.as_deref()) != Some("LoadBalancer") {
            return Ok(());
        }
        let shown = service
            .status
            .as_ref()
            .and_then(|status| status.load_balancer.as_ref());
        let shown = shown
            .and_then(|balancer| balancer.ingress.as_ref())
            .and_then(|all| all.first());
        let shown = shown
            .and_then(|ingress| ingress.ip.as_ref())
            .and_then(|ip| ip.parse::<IpAddr>().ok());
        if shown != Some(IpAddr::V4(address)) {
            let ingress = json!([{ "ip": address, "ipMode": "VIP" }]);
            let status = json!({ "status": { "loadBalancer": { "ingress": ingress } } });
            merge_status(api, &service.name_any(), &status).await?;
        }
        Ok(())
    }
}
