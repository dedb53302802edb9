//! The operator's own namespace.

use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use syncline_testkit::cluster::{OPERATOR, SYSTEM};
use syncline_testkit::scenario::CAP;
use syncline_testkit::wait::{Look, wait_for};
use syncline_testkit::{Cluster, Site};
use syncline_tests::parts::text;

use crate::release::CHART;

/// What a helm command prints that must succeed.
pub(crate) fn helm(cluster: &Cluster, arguments: &[&str]) -> Result<String> {
    let program = std::env::var_os("HELM").unwrap_or_else(|| "helm".into());
    let output = Command::new(program)
        .args(arguments)
        .arg("--kubeconfig")
        .arg(cluster.kubeconfig())
        .output()
        .context("cannot start helm: name one in HELM")?;
    ensure!(
        output.status.success(),
        "helm {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

/// What is installed.
pub(crate) struct Version {
    /// The image, with its tag.
    pub(crate) image: String,
    /// The folder of the chart.
    pub(crate) chart: String,
}

/// The operator's Deployment and what belongs to it.
pub(crate) struct System {
    site: Site,
}

impl System {
    /// In this cluster.
    pub(crate) async fn of(cluster: &Arc<Cluster>) -> Result<Self> {
        Ok(Self {
            site: Site {
                cluster: Arc::clone(cluster),
                client: cluster.client().await?,
                namespace: SYSTEM.to_owned(),
                cap: CAP * 2,
            },
        })
    }

    /// The operator's own namespace.
    pub(crate) fn site(&self) -> &Site {
        &self.site
    }

    /// Gives the installed chart other values, as one who has helm does.
    pub(crate) async fn set(&self, values: &str) -> Result<()> {
        let upgrade = ["upgrade", OPERATOR, CHART, "--namespace", SYSTEM];
        // With `--reuse-values` a value that is set to null stays what it was.
        let values = ["--reset-then-reuse-values", "--set", values];
        let patience = ["--wait", "--timeout", "3m"];
        helm(
            &self.site.cluster,
            &[&upgrade[..], &values, &patience].concat(),
        )?;
        // The pods before are gone then, too.
        self.scale(1).await
    }

    /// Names of the operator's pods that are ready.
    pub(crate) async fn operators(&self) -> Result<Vec<String>> {
        let pods = self.site.list("Pod").await?;
        let ready = |pod: &&Value| {
            let conditions = pod.pointer("/status/conditions").and_then(Value::as_array);
            pod.pointer("/metadata/deletionTimestamp").is_none()
                && conditions.is_some_and(|all| {
                    all.iter().any(|condition| {
                        text(condition, "/type") == Some("Ready")
                            && text(condition, "/status") == Some("True")
                    })
                })
        };
        Ok(pods
            .iter()
            .filter(ready)
            .filter_map(|pod| text(pod, "/metadata/name").map(str::to_owned))
            .collect())
    }

    /// Makes it so many replicas, and waits until they are ready and no others are there.
    pub(crate) async fn scale(&self, replicas: usize) -> Result<()> {
        let count = format!("--replicas={replicas}");
        self.kubectl(&["scale", &format!("deployment/{OPERATOR}"), &count])?;
        wait_for("the replicas to be ready", CAP * 2, || async {
            let (ready, all) = (
                self.operators().await?.len(),
                self.site.list("Pod").await?.len(),
            );
            Ok(if ready == replicas && all == replicas {
                Look::Done(())
            } else {
                Look::NotYet(format!("{ready} of {all} pods are ready"))
            })
        })
        .await
    }

    /// The pod that holds the lease, once it is another than `before`.
    pub(crate) async fn leader_other_than(&self, before: Option<&str>) -> Result<String> {
        wait_for("another leader", CAP * 2, || async {
            let pods = self.operators().await?;
            let leases = self.site.list("Lease").await?;
            let leader = leases
                .iter()
                .filter_map(|lease| text(lease, "/spec/holderIdentity"))
                // An identity begins with the pod's name.
                .find_map(|holder| pods.iter().find(|pod| holder.starts_with(pod.as_str())));
            Ok(match leader {
                Some(pod) if Some(pod.as_str()) != before => Look::Done(pod.clone()),
                _ => Look::NotYet(format!("{leases:?}")),
            })
        })
        .await
    }

    /// Installs another version with helm, and waits until only pods of that version are there.
    pub(crate) async fn install(&self, version: &Version) -> Result<()> {
        let Version { image, chart } = version;
        let (repository, tag) = image.rsplit_once(':').context("an image without a tag")?;
        let repository = format!("--set=image.repository={repository}");
        let tag = format!("--set-string=image.tag={tag}");
        let upgrade = ["upgrade", OPERATOR, chart, "--namespace", SYSTEM];
        // What the chart gives by itself is the chart's own affair in each version.
        let values = ["--reset-then-reuse-values", &repository, &tag];
        helm(&self.site.cluster, &[&upgrade[..], &values[..]].concat())?;
        wait_for("the image to be in place", CAP * 3, || async {
            let pods = self.site.list("Pod").await?;
            let images: Vec<_> = pods
                .iter()
                .map(|pod| text(pod, "/spec/containers/0/image"))
                .collect();
            let ready = self.operators().await?.len();
            Ok(
                if ready > 0 && images.iter().all(|found| *found == Some(image.as_str())) {
                    Look::Done(())
                } else {
                    Look::NotYet(format!("{ready} ready, {images:?}"))
                },
            )
        })
        .await
    }

    /// Takes the operator away, and what it was scaled to; the next installation brings it.
    pub(crate) async fn remove(&self) -> Result<()> {
        self.site.delete("Deployment", OPERATOR).await?;
        wait_for("the operator to be gone", CAP * 2, || async {
            let pods = self.site.list("Pod").await?;
            Ok(if pods.is_empty() {
                Look::Done(())
            } else {
                Look::NotYet(format!("{} pods", pods.len()))
            })
        })
        .await
    }

    /// The image that the operator runs.
    pub(crate) async fn image(&self) -> Result<String> {
        let deployment = self.site.get("Deployment", OPERATOR).await?;
        let image = text(&deployment, "/spec/template/spec/containers/0/image");
        image
            .map(str::to_owned)
            .context("a Deployment without image")
    }

    fn kubectl(&self, arguments: &[&str]) -> Result<()> {
        let real = self.site.cluster.real()?;
        real.kubectl_says(&[&["-n", SYSTEM], arguments].concat())?;
        Ok(())
    }
}
