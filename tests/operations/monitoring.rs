//! How a monitoring system finds the metrics: the object by which Prometheus's own operator does.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use syncline_testkit::scenario::{CAP, Stage};
use syncline_testkit::wait::{Look, wait_for};
use syncline_testkit::{Site, Who, scenario};
use syncline_tests::parts::text;

use crate::release::install_for;
use crate::system::{System, helm};
use crate::{needs, turn};

const RELEASE: &str = "monitored";
/// The kind `ServiceMonitor`, as far as it matters here.
const DEFINITION: &str = r#"{"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
"metadata": {"name": "servicemonitors.monitoring.coreos.com"},
"spec": {"group": "monitoring.coreos.com", "scope": "Namespaced",
 "names": {"kind": "ServiceMonitor", "listKind": "ServiceMonitorList", "plural": "servicemonitors", "singular": "servicemonitor"},
 "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object",
  "required": ["spec"], "properties": {"spec": {"type": "object", "required": ["endpoints", "selector"],
   "x-kubernetes-preserve-unknown-fields": true}}}}}]}}"#;

#[tokio::test(flavor = "multi_thread")]
async fn where_the_cluster_knows_service_monitors_one_leads_to_the_metrics_and_goes_with_the_release()
-> Result<()> {
    let _turn = turn().await;
    let place = needs::DEPLOYMENT.shared(Who::Caller).await?;
    scenario(place, "monitor", |stage| async move {
        let real = stage.cluster.real()?;
        let file = real.scratch().join("monitors.json");
        std::fs::write(&file, DEFINITION)?;
        let file = file.to_str().context("a path that is no text")?;
        real.kubectl_says(&["apply", "--server-side", "--filename", file])?;
        let outcome = comes_and_goes(&stage, file).await;
        real.kubectl_says(&["delete", "--filename", file])?;
        outcome
    })
    .await
}

async fn comes_and_goes(stage: &Stage, definition: &str) -> Result<()> {
    let real = stage.cluster.real()?;
    real.kubectl_says(&[
        "wait",
        "--for=condition=Established",
        "--filename",
        definition,
    ])?;
    wait_for("the kind to be served", CAP, || async {
        let served = real.kubectl_says(&["get", "--raw", "/apis/monitoring.coreos.com/v1"])?;
        Ok(if served.contains("servicemonitors") {
            Look::Done(())
        } else {
            Look::NotYet(served)
        })
    })
    .await?;
    let watched = stage.site("watched").await?;
    let home = stage.site_with("home", "restricted").await?;
    let image = System::of(&stage.cluster).await?.image().await?;
    // Its metrics are for everybody, so that it can be beside another one; its objects have the names that VolSync's have.
    let values = "metrics.disableAuth=true,fullnameOverride=volsync";
    install_for((&home, &watched), RELEASE, &image, values)?;
    leads_to_the_metrics(&home)?;
    let namespace = home.namespace.as_str();
    helm(
        &home.cluster,
        &["uninstall", RELEASE, "--namespace", namespace, "--wait"],
    )?;
    let left = real.kubectl_says(&[
        "get",
        "servicemonitors",
        "--namespace",
        namespace,
        "--output=name",
    ])?;
    ensure!(left.is_empty(), "{left}");
    Ok(())
}

/// Does what Prometheus does: goes from the monitor's selector to a Service, and by the port's name to the page.
fn leads_to_the_metrics(home: &Site) -> Result<()> {
    let real = home.cluster.real()?;
    let here = ["--namespace", home.namespace.as_str(), "--output=json"];
    let get = |what: &[&str]| -> Result<Value> {
        let said = real.kubectl_says(&[&["get"], what, &here[..]].concat())?;
        Ok(serde_json::from_str(&said)?)
    };
    let monitor = get(&["servicemonitor", "volsync"])?;
    let endpoint = |field: &str| {
        let pointer = format!("/spec/endpoints/0/{field}");
        text(&monitor, &pointer)
            .map(str::to_owned)
            .with_context(|| format!("no {field} in {monitor}"))
    };
    let labels = monitor
        .pointer("/spec/selector/matchLabels")
        .and_then(Value::as_object)
        .context("a monitor that selects nothing")?;
    let labels: Vec<String> = labels
        .iter()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    let services = get(&["services", "--selector", &labels.join(",")])?;
    let services = services.pointer("/items").and_then(Value::as_array);
    let [service] = services.map(Vec::as_slice).unwrap_or_default() else {
        anyhow::bail!("{labels:?} select {services:?}");
    };
    let name = text(service, "/metadata/name").context("a Service without a name")?;
    let page = format!(
        "/api/v1/namespaces/{}/services/{}:{name}:{}/proxy{}",
        home.namespace,
        endpoint("scheme")?,
        endpoint("port")?,
        endpoint("path")?
    );
    let page = real.kubectl_says(&["get", "--raw", &page])?;
    ensure!(page.contains("# TYPE volsync_"), "{page}");
    Ok(())
}
