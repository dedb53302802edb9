//! What the chart installs.

use anyhow::{Result, ensure};
use serde_json::Value;
use syncline_testkit::cluster::{OPERATOR, SYSTEM};
use syncline_testkit::{Who, scenario};
use syncline_tests::parts::text;

use crate::{needs, turn};

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_served_under_volsyncs_names_and_to_nobody_without_a_right() -> Result<()> {
    let _turn = turn().await;
    let place = needs::DEPLOYMENT.shared(Who::Caller).await?;
    scenario(place, "install", |stage| async move {
        let real = stage.cluster.real()?;
        let service: Value = serde_json::from_str(&real.kubectl_says(&[
            "-n",
            SYSTEM,
            "get",
            "service",
            "syncline-metrics",
            "--output",
            "json",
        ])?)?;
        ensure!(
            text(&service, "/metadata/labels/control-plane") == Some("syncline-controller"),
            "{service}"
        );
        ensure!(
            text(&service, "/spec/ports/0/name") == Some("https"),
            "{service}"
        );
        ensure!(
            service.pointer("/spec/ports/0/port") == Some(&Value::from(8443)),
            "{service}"
        );
        // The API server forwards the request without the caller's own token.
        let path = format!(
            "/api/v1/namespaces/{SYSTEM}/services/https:{OPERATOR}-metrics:https/proxy/metrics"
        );
        let refused = real.kubectl(&["get", "--raw", &path]).output()?;
        let words = String::from_utf8_lossy(&refused.stderr).into_owned();
        // So kubectl puts an answer of 401.
        ensure!(
            !refused.status.success() && words.contains("credentials"),
            "{words}"
        );
        let page = stage.cluster.operator_page("/metrics")?;
        ensure!(page.contains("# TYPE volsync_"), "{page}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn people_get_volsyncs_roles() -> Result<()> {
    let _turn = turn().await;
    let place = needs::DEPLOYMENT.shared(Who::Caller).await?;
    scenario(place, "roles", |stage| async move {
        let real = stage.cluster.real()?;
        for kind in ["replicationsource", "replicationdestination"] {
            for who in ["admin", "editor", "viewer"] {
                real.kubectl_says(&["get", "clusterrole", &format!("{kind}-{who}-role")])?;
            }
        }
        let edit = real.kubectl_says(&["get", "clusterrole", "edit", "--output", "json"])?;
        ensure!(
            edit.contains("replicationsources"),
            "the cluster's role `edit` was not extended"
        );
        Ok(())
    })
    .await
}
