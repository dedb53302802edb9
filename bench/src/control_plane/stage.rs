//! The volume that is measured on: 1,000 files of 2 KiB, a source and a destination for it.

use std::time::Instant;

use anyhow::Result;
use serde_json::{Value, json};

use crate::cluster::{CLAIM, Cluster, DESTINATION, Kind, POD, SOURCE};
use crate::timeline::Timeline;

/// The resources' name at both ends.
pub(super) const NAME: &str = "bench";
const FILL: &str = "for i in $(seq 1000); do head -c 2048 /dev/urandom > /data/file-$i; done";

/// Two namespaces: the source's, with the filled volume, and the destination's.
pub(super) struct Stage {
    pub(super) cluster: Cluster,
    pub(super) image: String,
    pub(super) source: String,
    pub(super) destination: String,
}

impl Stage {
    /// Makes the namespaces, the volume and its files.
    pub(super) async fn set(cluster: &Cluster) -> Result<Self> {
        let id = std::process::id();
        let stage = Self {
            cluster: cluster.clone(),
            image: cluster.image().await?,
            source: format!("bench-source-{id}"),
            destination: format!("bench-destination-{id}"),
        };
        cluster.namespace(&stage.source).await?;
        cluster.namespace(&stage.destination).await?;
        let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "64Mi"}}});
        cluster
            .apply(CLAIM, &stage.source, "data", json!({"spec": spec}))
            .await?;
        let timeline = Timeline::begin(cluster, &stage.source, &[POD]);
        let start = Instant::now();
        let command = json!(["/bin/sh", "-c", FILL]);
        stage.pod("fill", "data", command).await?;
        timeline
            .first("a pod that fills the volume", start, |seen| {
                seen.is(POD, "fill") && seen.text("/status/phase") == Some("Succeeded")
            })
            .await?;
        Ok(stage)
    }

    /// Makes a pod in the source's namespace that mounts `claim` and runs `command`.
    pub(super) async fn pod(&self, name: &str, claim: &str, command: Value) -> Result<()> {
        let spec = json!({
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "main",
                "image": self.image,
                "imagePullPolicy": "IfNotPresent",
                "command": command,
                "securityContext": {"runAsUser": 0, "allowPrivilegeEscalation": false},
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            }],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}],
        });
        self.cluster
            .apply(POD, &self.source, name, json!({"spec": spec}))
            .await
    }

    /// Declares the destination and the source, triggered by `tag`.
    pub(super) async fn relate(&self, tag: &str) -> Result<()> {
        let rsync =
            json!({"copyMethod": "Snapshot", "capacity": "64Mi", "accessModes": ["ReadWriteOnce"]});
        self.declare(
            DESTINATION,
            &self.destination,
            json!({"trigger": {"manual": tag}, "rsync": rsync}),
        )
        .await?;
        let api = self.cluster.api(DESTINATION, &self.destination);
        let (address, keys) = loop {
            let object = api.get(NAME).await?.data;
            let text = |field: &str| {
                object
                    .pointer(field)
                    .and_then(Value::as_str)
                    .map(str::to_owned)
            };
            if let (Some(address), Some(keys)) =
                (text("/status/rsync/address"), text("/status/rsync/sshKeys"))
            {
                break (address, keys);
            }
            tokio::task::yield_now().await;
        };
        self.hand_over(&keys).await?;
        let rsync = json!({"copyMethod": "Snapshot", "address": address, "sshKeys": keys});
        let spec = json!({"sourcePVC": "data", "trigger": {"manual": tag}, "rsync": rsync});
        self.declare(SOURCE, &self.source, spec).await
    }

    async fn declare(&self, kind: Kind, namespace: &str, spec: Value) -> Result<()> {
        self.cluster
            .apply(kind, namespace, NAME, json!({"spec": spec}))
            .await
    }

    async fn hand_over(&self, keys: &str) -> Result<()> {
        const SECRET: Kind = Kind("", "v1", "Secret");
        let secret = self
            .cluster
            .api(SECRET, &self.destination)
            .get(keys)
            .await?;
        let data = secret.data.get("data").cloned().unwrap_or_default();
        self.cluster
            .apply(SECRET, &self.source, keys, json!({"data": data}))
            .await
    }

    /// Takes everything away.
    pub(super) async fn strike(self) -> Result<()> {
        self.cluster.drop_namespace(&self.source).await?;
        self.cluster.drop_namespace(&self.destination).await
    }
}
