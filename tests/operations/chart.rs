//! What the chart and the plain YAML make of their values, and what the operator finds in a cluster that has more kinds.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use syncline_testkit::cluster::SYSTEM;
use syncline_testkit::scenario::CAP;
use syncline_testkit::wait::{Look, wait_for};
use syncline_testkit::{Cluster, Who, fixture, scenario};
use syncline_tests::parts::text;

use crate::release::CHART;
use crate::system::{System, helm};
use crate::{needs, turn};

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
        ensure!(
            !usual.contains("kind: ServiceMonitor"),
            "a kind that the cluster does not know"
        );
        let variable = "extraEnv[0].name=MOVER_LOG_DEBUG,extraEnv[0].value=true";
        let rendered = template(&stage.cluster, &["--set-string", variable])?;
        let expected = "            - name: MOVER_LOG_DEBUG\n              value: \"true\"\n";
        ensure!(rendered.contains(expected), "no {expected}:\n{rendered}");
        Ok(())
    })
    .await
}

/// What VolSync's chart names its objects, where that shows outside of the operator's own namespace or in what looks at it.
const VOLSYNCS: [(&str, &str); 11] = [
    ("Deployment", "volsync"),
    ("ServiceAccount", "volsync"),
    ("Service", "volsync-metrics"),
    ("ServiceMonitor", "volsync"),
    ("ClusterRole", "volsync-manager"),
    ("ClusterRoleBinding", "volsync-manager"),
    ("ClusterRole", "volsync-metrics-reader"),
    ("ClusterRole", "volsync-metrics-auth-role"),
    ("ClusterRoleBinding", "volsync-metrics-auth-rolebinding"),
    ("Role", "volsync-leader-election"),
    ("RoleBinding", "volsync-leader-election"),
];

#[tokio::test(flavor = "multi_thread")]
async fn with_volsyncs_full_name_objects_and_labels_are_volsyncs_and_none_is_without_it()
-> Result<()> {
    let place = needs::DEPLOYMENT.shared(Who::Caller).await?;
    scenario(place, "names", |stage| async move {
        let objects = |more: &[&str]| -> Result<Vec<Value>> {
            let monitors = ["--api-versions", "monitoring.coreos.com/v1"];
            fixture::documents(&template(&stage.cluster, &[&monitors, more].concat())?)
        };
        let is = |object: &Value, (kind, name): (&str, &str)| {
            text(object, "/kind") == Some(kind) && text(object, "/metadata/name") == Some(name)
        };
        let (ours, volsyncs) = (objects(&[])?, objects(&["--set=fullnameOverride=volsync"])?);
        for wanted in VOLSYNCS {
            ensure!(
                !ours.iter().any(|object| is(object, wanted)),
                "{wanted:?} would collide with VolSync's"
            );
            let found = volsyncs.iter().find(|object| is(object, wanted));
            let found = found.with_context(|| format!("no {wanted:?} in {volsyncs:?}"))?;
            let label = text(found, "/metadata/labels/control-plane");
            ensure!(label == Some("volsync-controller"), "{wanted:?}: {label:?}");
        }
        for (kind, selector) in [
            ("Service", "/spec/selector/control-plane"),
            ("Deployment", "/spec/template/metadata/labels/control-plane"),
            ("ServiceMonitor", "/spec/selector/matchLabels/control-plane"),
        ] {
            let mut all = volsyncs.iter();
            let found = all.find(|object| text(object, "/kind") == Some(kind));
            let label = found.and_then(|object| text(object, selector));
            ensure!(label == Some("volsync-controller"), "{kind}: {label:?}");
        }
        Ok(())
    })
    .await
}

/// Values that people write by mistake, and what helm says of each.
const MISTAKES: [(&str, &str); 9] = [
    ("replicaCont=2", "additional properties 'replicaCont'"),
    ("image.tags=v1", "at '/image': additional properties 'tags'"),
    ("rsync-tls.pullSecret=a", "at '/rsync-tls'"),
    ("replicaCount=many", "at '/replicaCount': got string"),
    ("manageCRDs=perhaps", "at '/manageCRDs': got string"),
    ("movers={rsink}", "at '/movers/0'"),
    (
        "imagePullSecrets={pull}",
        "at '/imagePullSecrets/0': got string",
    ),
    (
        "podAnnotations.a=true",
        "at '/podAnnotations/a': got boolean",
    ),
    (
        "leaderElection.leaseDuration=long",
        "at '/leaderElection/leaseDuration'",
    ),
];
/// What is no value of this chart's own and must be accepted all the same: helm's way to take a value away, a tag of digits,
/// and what a chart gives that this one is a part of.
const ACCEPTED: [&str; 4] = [
    "movers=null",
    "image.tag=20261121",
    "global.imageRegistry=r.test",
    "enabled=true",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_is_misspelt_or_of_the_wrong_kind_is_refused_by_its_name() -> Result<()> {
    let place = needs::DEPLOYMENT.shared(Who::Caller).await?;
    scenario(place, "mistakes", |stage| async move {
        for (value, expected) in MISTAKES {
            let refused = template(&stage.cluster, &["--set", value]);
            let words = refused.err().map(|error| error.to_string());
            ensure!(
                words.as_ref().is_some_and(|words| words.contains(expected)),
                "{value}: {words:?}"
            );
        }
        for value in ACCEPTED {
            template(&stage.cluster, &["--set", value])?;
        }
        Ok(())
    })
    .await
}

#[test]
fn the_schema_knows_the_values_of_the_chart_and_no_others() {
    let read = |name: &str| std::fs::read_to_string(format!("{CHART}/{name}")).unwrap();
    let schema: Value = serde_json::from_str(&read("values.schema.json")).unwrap();
    let values = fixture::documents(&read("values.yaml")).unwrap();
    let names = |object: &Value| -> BTreeSet<String> {
        object.as_object().unwrap().keys().cloned().collect()
    };
    let mut known = names(&schema["properties"]);
    // What a chart gives that this one is a part of.
    assert!(known.remove("global") && known.remove("enabled"));
    assert_eq!(known, names(&values[0]));
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
