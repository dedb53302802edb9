//! The last word on a whole run of the suites on a real cluster: the operator's permissions, held against what it asked for.
//! `make e2e` runs it when all the others are over, on the cluster of those that disturb one.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use syncline_operator::permissions::{Feature, PERMISSIONS, Permission};
use syncline_testkit::cluster::{Real, SYSTEM};
use syncline_testkit::{Need, Who, scenario};
use syncline_tests::audit;
use syncline_tests::parts::text;

const AUDIT: Need = Need::own_real(
    "the audit log is the one of tests/cluster, with all that the other suites have made the operator do",
);
/// The user whom the installed operator works as.
const OPERATOR: &str = "system:serviceaccount:syncline-system:syncline";
/// Names the image of the version before this one, whose requests do not count.
const PREVIOUS_IMAGE: &str = "SYNCLINE_E2E_PREVIOUS_IMAGE";
/// Names the audit log of the cluster on which the other suites ran.
const OTHER_LOG: &str = "SYNCLINE_E2E_OTHER_AUDIT_LOG";

#[tokio::test(flavor = "multi_thread")]
async fn no_permission_was_missing_and_none_was_granted_in_vain() -> Result<()> {
    let place = AUDIT.shared(Who::Caller).await?;
    scenario(place, "audit", |stage| async move {
        let real = stage.cluster.real()?;
        let before = pods_of_previous_version(real)?;
        let mut requests = audit::requests(real, OPERATOR)?;
        if let Some(log) = std::env::var_os(OTHER_LOG) {
            requests.extend(audit::requests_in(Path::new(&log), OPERATOR)?);
        }
        let counts = |request: &&Value| {
            let pod = "/user/extra/authentication.kubernetes.io~1pod-name/0";
            let pod = text(request, pod).unwrap_or_default();
            text(request, "/user/username") == Some(OPERATOR)
                && !before.iter().any(|prefix| pod.starts_with(prefix))
        };
        let requests: Vec<&Value> = requests.iter().filter(counts).collect();
        ensure!(
            !requests.is_empty(),
            "the operator asked for nothing at all"
        );
        // A namespace that ends refuses what is new in it, too, but not for want of a permission.
        let refused = requests.iter().find(|request| {
            let decision = "/annotations/authorization.k8s.io~1decision";
            text(request, decision).is_some_and(|decision| decision != "allow")
        });
        ensure!(refused.is_none(), "not allowed: {refused:?}");
        let used = audit::uses(requests.iter().copied());
        let idle: Vec<String> = PERMISSIONS
            .iter()
            .filter(|row| is_granted_and_asked_for(row))
            .flat_map(|row| row.verbs.iter().map(move |verb| (row, *verb)))
            .filter(|(row, verb)| {
                let wanted = (
                    (*verb).to_owned(),
                    row.group.to_owned(),
                    row.resource.to_owned(),
                );
                !used.contains(&wanted)
            })
            .map(|(row, verb)| format!("{verb} {}", row.full_resource()))
            .collect();
        ensure!(
            idle.is_empty(),
            "granted, but used by no test of this run: {}",
            idle.join(", ")
        );
        Ok(())
    })
    .await
}

/// Whether the installed operator has the right, and asks for it in a request of its own.
fn is_granted_and_asked_for(row: &Permission) -> bool {
    // Of pull secrets only an operator of one namespace has rights of their own: tests/operations/one_namespace.rs.
    row.unseen.is_none() && row.feature != Feature::PullSecrets
}

/// How the names of the previous version's pods begin.
fn pods_of_previous_version(real: &Real) -> Result<Vec<String>> {
    let Ok(image) = std::env::var(PREVIOUS_IMAGE) else {
        return Ok(Vec::new());
    };
    let told = real.kubectl_says(&["-n", SYSTEM, "get", "replicasets", "--output", "json"])?;
    let told: Value = serde_json::from_str(&told)?;
    let sets = told.pointer("/items").and_then(Value::as_array);
    let sets = sets.context("a list without items")?.iter();
    let is_previous =
        |set: &&Value| text(set, "/spec/template/spec/containers/0/image") == Some(image.as_str());
    Ok(sets
        .filter(is_previous)
        .filter_map(|set| Some(format!("{}-", text(set, "/metadata/name")?)))
        .collect())
}
