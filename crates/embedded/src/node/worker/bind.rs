//! Binding a pod to the node, in the scheduler's stead.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::Error;
use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use super::{Worker, changed_or_stopped, is_gone};
use crate::node::container::Stop;
use crate::node::events::Severity;
use crate::node::object::unschedulable;
use crate::node::references::NODE_NAME;

impl Worker {
    /// Binds the pod to the node once its claims allow it. False when it is to stop or is another node's.
    pub(super) async fn bind(&self, mut stop: Stop) -> bool {
        if let Some(node) = self
            .spec
            .node_name
            .as_deref()
            .filter(|node| !node.is_empty())
        {
            return node == NODE_NAME;
        }
        let mut told = None;
        loop {
            let mut changes = self.shared.changes.subscribe();
            match self.obstacle().await {
                Ok(None) => break,
                Ok(Some(message)) if told.as_ref() != Some(&message) => {
                    self.model().unschedulable = Some(message.clone());
                    self.publish().await;
                    self.shared
                        .scheduler
                        .record(
                            self.pod.as_ref(),
                            Severity::Warning,
                            "FailedScheduling",
                            &message,
                        )
                        .await;
                    told = Some(message);
                }
                Ok(Some(_)) => {}
                Err(error) => self.shared.pause_after(&error).await,
            }
            if !changed_or_stopped(&mut changes, &mut stop).await {
                return false;
            }
        }
        self.model().unschedulable = None;
        let name = self.pod.name_any();
        let bound = json!({ "spec": { "nodeName": NODE_NAME } });
        while let Err(error) = self
            .api()
            .patch(&name, &PatchParams::default(), &Patch::Merge(&bound))
            .await
        {
            if is_gone(&error) || stop.borrow().is_some() {
                return false;
            }
            self.shared.pause_after(&error).await;
        }
        let message = format!(
            "Successfully assigned {}/{name} to {NODE_NAME}",
            self.pod.namespace().unwrap_or_default()
        );
        self.shared
            .scheduler
            .record(self.pod.as_ref(), Severity::Normal, "Scheduled", &message)
            .await;
        true
    }

    async fn obstacle(&self) -> Result<Option<String>, Error> {
        let labels = [
            ("kubernetes.io/hostname", NODE_NAME),
            ("kubernetes.io/os", "linux"),
        ];
        let unmatched = self
            .spec
            .node_selector
            .iter()
            .flatten()
            .find(|(key, value)| !labels.contains(&(key.as_str(), value.as_str())));
        if unmatched.is_some() {
            let message =
                "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.";
            return Ok(Some(message.to_owned()));
        }
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(
            self.shared.client.clone(),
            &self.pod.namespace().unwrap_or_default(),
        );
        let volumes = self.spec.volumes.iter().flatten();
        for wanted in volumes.filter_map(|volume| volume.persistent_volume_claim.as_ref()) {
            let claim = claims.get_opt(&wanted.claim_name).await?;
            if let Some(message) = unschedulable(&wanted.claim_name, claim.as_ref()) {
                return Ok(Some(message));
            }
        }
        Ok(None)
    }
}
