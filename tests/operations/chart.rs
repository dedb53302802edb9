//! What the chart and the plain YAML make of their values, and what the operator finds in a cluster that has more kinds.

use anyhow::{Context, Result, ensure};
use syncline_testkit::cluster::SYSTEM;
use syncline_testkit::scenario::CAP;
use syncline_testkit::wait::{Look, wait_for};
use syncline_testkit::{Cluster, Who, scenario};

use crate::system::{System, helm};
use crate::{needs, turn};

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/helm/syncline");
const PLAIN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/install.yaml");

/// The values of VolSync's chart, each with what the rendered objects say then and do not say without it. An empty text
/// stands for what they do not say any more.
const VALUES: [(&str, &str); 36] = [
    ("replicaCount=3", "replicas: 3"),
    ("image.repository=r.test/a", "image: \"r.test/a:0.1.0\""),
    ("image.tag=t9", "ghcr.io/syncline/syncline:t9"),
    ("image.pullPolicy=Always", "imagePullPolicy: Always"),
    (
        "image.image=r.test/b@sha256:0",
        "--mover-image=r.test/b@sha256:0",
    ),
    (
        "rclone.image=r.test/c:1",
        "--rclone-container-image=r.test/c:1",
    ),
    (
        "rclone.repository=r.test/c",
        "--rclone-container-image=r.test/c:0.1.0",
    ),
    (
        "rclone.repository=r.test/c,rclone.tag=2",
        "--rclone-container-image=r.test/c:2",
    ),
    (
        "restic.image=r.test/c:1",
        "--restic-container-image=r.test/c:1",
    ),
    (
        "restic.repository=r.test/c,restic.tag=2",
        "--restic-container-image=r.test/c:2",
    ),
    (
        "rsync.image=r.test/c:1",
        "--rsync-container-image=r.test/c:1",
    ),
    (
        "rsync.repository=r.test/c,rsync.tag=2",
        "--rsync-container-image=r.test/c:2",
    ),
    (
        "rsync-tls.image=r.test/c:1",
        "--rsync-tls-container-image=r.test/c:1",
    ),
    (
        "rsync-tls.repository=r.test/c,rsync-tls.tag=2",
        "--rsync-tls-container-image=r.test/c:2",
    ),
    (
        "syncthing.image=r.test/c:1",
        "--syncthing-container-image=r.test/c:1",
    ),
    (
        "syncthing.repository=r.test/c,syncthing.tag=2",
        "--syncthing-container-image=r.test/c:2",
    ),
    ("manageCRDs=false", ""),
    ("metrics.disableAuth=true", "--metrics-require-rbac=false"),
    ("imagePullSecrets[0].name=pull", "- name: pull"),
    (
        "imagePullSecrets[0].name=pull",
        "--mover-image-pull-secrets=pull",
    ),
    ("nameOverride=other", "app.kubernetes.io/name: other"),
    ("fullnameOverride=other", "control-plane: other-controller"),
    ("serviceAccount.create=false", "serviceAccountName: default"),
    ("serviceAccount.annotations.a=b", "annotations:\n    a: b"),
    (
        "serviceAccount.name=somebody",
        "serviceAccountName: somebody",
    ),
    (
        "service.ipFamilyPolicy=PreferDualStack",
        "ipFamilyPolicy: PreferDualStack",
    ),
    ("service.ipFamilies[0]=IPv6", "ipFamilies:\n    - IPv6"),
    (
        "podAnnotations.a=b",
        "kubectl.kubernetes.io/default-container: manager\n        a: b",
    ),
    ("podLabels.some=label", "some: label"),
    ("podSecurityContext.runAsUser=1234", "runAsUser: 1234"),
    ("securityContext.runAsGroup=4321", "runAsGroup: 4321"),
    ("resources.requests.memory=77Mi", "memory: 77Mi"),
    (
        "nodeSelector.disk=fast",
        "nodeSelector:\n        disk: fast",
    ),
    (
        "tolerations[0].operator=Exists",
        "tolerations:\n        - operator: Exists",
    ),
    ("affinity.nodeAffinity.preferred=none", "preferred: none"),
    ("watchNamespace=team", "--watch-namespace=team"),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_value_of_volsyncs_chart_shows_in_what_is_installed() -> Result<()> {
    let place = needs::DEPLOYMENT.shared(Who::Caller).await?;
    scenario(place, "values", |stage| async move {
        let usual = template(&stage.cluster, &[])?;
        for (value, expected) in VALUES {
            let rendered = template(&stage.cluster, &["--set", value])?;
            if expected.is_empty() {
                let gone = "kind: CustomResourceDefinition";
                ensure!(usual.contains(gone) && !rendered.contains(gone), "{value}");
            } else {
                ensure!(
                    !usual.contains(expected),
                    "{expected} is there without {value}"
                );
                ensure!(
                    rendered.contains(expected),
                    "no {expected} with {value}:\n{rendered}"
                );
            }
        }
        let monitor = "kind: ServiceMonitor\nmetadata:\n  name: volsync\n";
        ensure!(
            !usual.contains(monitor),
            "a kind that the cluster does not know"
        );
        let more = template(
            &stage.cluster,
            &["--api-versions", "monitoring.coreos.com/v1"],
        )?;
        ensure!(more.contains(monitor), "no ServiceMonitor:\n{more}");
        Ok(())
    })
    .await
}

fn template(cluster: &Cluster, more: &[&str]) -> Result<String> {
    let usual = ["template", "syncline", CHART, "--namespace", SYSTEM];
    helm(cluster, &[&usual[..], more].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plain_yaml_is_accepted_in_every_part() -> Result<()> {
    let _turn = turn().await;
    let place = needs::DEPLOYMENT.shared(Who::Caller).await?;
    scenario(place, "plain", |stage| async move {
        // The namespace is there, so that what belongs into it is looked at, too.
        let said = stage.cluster.real()?.kubectl_says(&[
            "apply",
            "--server-side",
            "--force-conflicts",
            "--dry-run=server",
            "--validate=strict",
            "--filename",
            PLAIN,
        ])?;
        for part in [
            "namespace/syncline-system",
            "deployment.apps/syncline",
            "service/syncline-metrics",
            "customresourcedefinition.apiextensions.k8s.io/replicationsources.volsync.backube",
            "leader-election",
        ] {
            ensure!(said.contains(part), "no {part} in {said}");
        }
        Ok(())
    })
    .await
}

/// The register of volume populators, as far as it matters here.
const REGISTER: &str = r#"{"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
"metadata": {"name": "volumepopulators.populator.storage.k8s.io",
 "annotations": {"api-approved.kubernetes.io": "https://github.com/kubernetes/enhancements/pull/2934"}},
"spec": {"group": "populator.storage.k8s.io", "scope": "Cluster",
 "names": {"kind": "VolumePopulator", "listKind": "VolumePopulatorList", "plural": "volumepopulators", "singular": "volumepopulator"},
 "versions": [{"name": "v1beta1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object",
  "required": ["sourceKind"], "properties": {"sourceKind": {"type": "object", "required": ["group", "kind"],
   "properties": {"group": {"type": "string"}, "kind": {"type": "string"}}}}}}}]}}"#;

#[tokio::test(flavor = "multi_thread")]
async fn where_populators_are_registered_the_operator_enters_and_corrects_its_kind() -> Result<()> {
    let _turn = turn().await;
    let place = needs::DEPLOYMENT.shared(Who::Caller).await?;
    scenario(place, "register", |stage| async move {
        let real = stage.cluster.real()?;
        let system = System::of(&stage.cluster).await?;
        let file = real.scratch().join("register.json");
        std::fs::write(&file, REGISTER)?;
        let file = file.to_str().context("a path that is no text")?;
        real.kubectl_says(&["apply", "--server-side", "--filename", file])?;
        real.kubectl_says(&["wait", "--for=condition=Established", "--filename", file])?;
        let outcome = async {
            is_entered_anew(&stage.cluster, &system).await?;
            let wrong = r#"{"sourceKind": {"group": "example.com", "kind": "Other"}}"#;
            let entry = "volumepopulator/volsync-replicationdestination";
            real.kubectl_says(&["patch", entry, "--type=merge", "--patch", wrong])?;
            is_entered_anew(&stage.cluster, &system).await
        }
        .await;
        real.kubectl_says(&["delete", "--filename", file])?;
        outcome
    })
    .await
}

/// Restarts the operator, and waits for its entry.
async fn is_entered_anew(cluster: &Cluster, system: &System) -> Result<()> {
    system.scale(0).await?;
    system.scale(1).await?;
    wait_for("an entry in the register of populators", CAP, || async {
        let path = "jsonpath={.sourceKind.group}/{.sourceKind.kind}";
        let entry = [
            "get",
            "volumepopulator",
            "volsync-replicationdestination",
            "--output",
            path,
        ];
        let kind = cluster.real()?.kubectl_says(&entry)?;
        Ok(if kind == "volsync.backube/ReplicationDestination" {
            Look::Done(())
        } else {
            Look::NotYet(kind)
        })
    })
    .await
}
