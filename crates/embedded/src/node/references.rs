//! What a pod refers to: a Secret, a ConfigMap, its own fields.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::{ConfigMap, Container, Pod, Secret};
use kube::{Api, Client, ResourceExt as _};

use super::quantity;

/// The name of the one node.
pub(crate) const NODE_NAME: &str = "syncline";
/// The node's own address.
pub(crate) const HOST_ADDRESS: &str = "127.0.0.1";

/// Why a container cannot be started yet.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Blocked {
    /// Shown as the container's waiting reason, and tried again when something changes.
    #[error("{message}")]
    Config {
        /// For instance `CreateContainerConfigError`.
        reason: &'static str,
        /// What is missing.
        message: String,
    },
    /// Shown as an Event `FailedMount`, and tried again when something changes.
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : {message}")]
    Mount {
        /// The pod's name for it.
        volume: String,
        /// What is missing.
        message: String,
    },
    /// The API server did not answer.
    #[error("the API server did not answer: {0}")]
    Api(#[from] kube::Error),
}

impl Blocked {
    /// A fault of the container's configuration.
    pub(crate) fn config(message: String) -> Self {
        Self::Config {
            reason: "CreateContainerConfigError",
            message,
        }
    }

    /// A fault of a volume.
    pub(crate) fn mount(volume: &str, message: String) -> Self {
        Self::Mount {
            volume: volume.to_owned(),
            message,
        }
    }
}

/// The objects of one kind that hold named values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    /// A Secret.
    Secret,
    /// A ConfigMap.
    ConfigMap,
}

impl Holder {
    /// As the kubelet's messages write it.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Secret => "Secret",
            Self::ConfigMap => "ConfigMap",
        }
    }

    /// The message for an object that is not there.
    pub(crate) fn absent(self, name: &str) -> String {
        format!("{} \"{name}\" not found", self.kind().to_lowercase())
    }
}

/// What a pod may refer to.
pub(crate) struct References<'a> {
    /// For what it refers to.
    pub(crate) client: &'a Client,
    /// The pod itself.
    pub(crate) pod: &'a Pod,
    /// Its address.
    pub(crate) pod_ip: Ipv4Addr,
}

/// The values of a Secret or ConfigMap by key.
pub(crate) type Values = BTreeMap<String, Vec<u8>>;

impl References<'_> {
    /// The pod's namespace.
    pub(crate) fn namespace(&self) -> String {
        self.pod.namespace().unwrap_or_default()
    }

    /// The values of an object, or `None` when it is not there.
    pub(crate) async fn values(
        &self,
        holder: Holder,
        name: &str,
    ) -> Result<Option<Values>, kube::Error> {
        let namespace = self.namespace();
        match holder {
            Holder::Secret => {
                let secret = Api::<Secret>::namespaced(self.client.clone(), &namespace)
                    .get_opt(name)
                    .await?;
                Ok(secret.map(|secret| {
                    let data = secret.data.unwrap_or_default();
                    data.into_iter()
                        .map(|(key, value)| (key, value.0))
                        .collect()
                }))
            }
            Holder::ConfigMap => {
                let map = Api::<ConfigMap>::namespaced(self.client.clone(), &namespace)
                    .get_opt(name)
                    .await?;
                Ok(map.map(|map| {
                    let text = map
                        .data
                        .unwrap_or_default()
                        .into_iter()
                        .map(|(key, value)| (key, value.into_bytes()));
                    let binary = map
                        .binary_data
                        .unwrap_or_default()
                        .into_iter()
                        .map(|(key, value)| (key, value.0));
                    text.chain(binary).collect()
                }))
            }
        }
    }

    /// A field of the pod (`fieldRef`), as the downward API gives it.
    pub(crate) fn field(&self, path: &str) -> Option<String> {
        let metadata = &self.pod.metadata;
        let spec = self.pod.spec.as_ref();
        if let Some((field, key)) = path
            .strip_suffix("']")
            .and_then(|path| path.split_once("['"))
        {
            let map = match field {
                "metadata.labels" => metadata.labels.as_ref(),
                "metadata.annotations" => metadata.annotations.as_ref(),
                _ => return None,
            };
            return Some(
                map.and_then(|map| map.get(key))
                    .cloned()
                    .unwrap_or_default(),
            );
        }
        Some(match path {
            "metadata.name" => self.pod.name_any(),
            "metadata.namespace" => self.namespace(),
            "metadata.uid" => metadata.uid.clone().unwrap_or_default(),
            "metadata.labels" => listed(self.pod.labels()),
            "metadata.annotations" => listed(self.pod.annotations()),
            "spec.nodeName" => NODE_NAME.to_owned(),
            "spec.serviceAccountName" => spec
                .and_then(|spec| spec.service_account_name.clone())
                .unwrap_or_else(|| "default".to_owned()),
            "status.hostIP" | "status.hostIPs" => HOST_ADDRESS.to_owned(),
            "status.podIP" | "status.podIPs" => self.pod_ip.to_string(),
            _ => return None,
        })
    }
}

/// A resource of a container (`resourceFieldRef`), in units of `divisor`, rounded up.
pub(crate) fn resource(
    container: &Container,
    resource: &str,
    divisor: Option<&str>,
) -> Option<String> {
    let (which, name) = resource.split_once('.')?;
    let resources = container.resources.as_ref();
    let declared = match which {
        "limits" => resources.and_then(|resources| resources.limits.as_ref()),
        "requests" => resources.and_then(|resources| resources.requests.as_ref()),
        _ => return None,
    };
    let value = match declared.and_then(|declared| declared.get(name)) {
        Some(quantity) => quantity::parse(&quantity.0)?,
        // What has no limit may use the whole node.
        None if which == "limits" => quantity::parse(super::object::capacity().get(name)?)?,
        None => 0.0,
    };
    let divisor = divisor
        .and_then(quantity::parse)
        .filter(|divisor| *divisor > 0.0)
        .unwrap_or(1.0);
    Some(format!("{:.0}", (value / divisor).ceil()))
}

/// As the downward API lists labels: `key="value"`, one a line.
fn listed(map: &BTreeMap<String, String>) -> String {
    map.iter()
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect::<Vec<_>>()
        .join("\n")
}
