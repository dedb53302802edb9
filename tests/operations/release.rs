//! The release that the whole run is about, taken away for a while.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use syncline_testkit::cluster::{OPERATOR, Real, SYSTEM};
use syncline_testkit::scenario::Stage;
use syncline_testkit::{Cluster, Site};
use syncline_tests::parts::text;

use crate::system::{System, helm};

/// The chart under test.
pub(crate) const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/helm/syncline");
/// The definitions of both kinds.
pub(crate) const DEFINITIONS: [&str; 2] = [
    "replicationsources.volsync.backube",
    "replicationdestinations.volsync.backube",
];

/// The installed release while it is not there.
pub(crate) struct Away<'a> {
    cluster: &'a Cluster,
    values: PathBuf,
}

impl<'a> Away<'a> {
    /// Uninstalls it.
    pub(crate) async fn take(stage: &'a Stage) -> Result<Self> {
        let cluster: &Cluster = &stage.cluster;
        let get = ["get", "values", OPERATOR, "--output=json"];
        let values = cluster.scratch().join("values.json");
        std::fs::write(&values, helm(cluster, &at_home(&get))?)?;
        // The operator goes before its rights do, so that it never asks for what it must not have.
        System::of(&stage.cluster).await?.scale(0).await?;
        helm(cluster, &at_home(&["uninstall", OPERATOR, "--wait"]))?;
        Ok(Self { cluster, values })
    }

    /// Installs it again with the values it had.
    pub(crate) fn bring_back(self) -> Result<()> {
        let values = self.values.to_str().context("a path that is no text")?;
        let install = ["install", OPERATOR, CHART, "--values", values];
        let whatever = ["--take-ownership", "--force-conflicts"];
        let ready = ["--wait", "--timeout=3m"];
        let all = [&install[..], &whatever, &ready].concat();
        helm(self.cluster, &at_home(&all))?;
        Ok(())
    }
}

fn at_home<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    [arguments, &["--namespace", SYSTEM]].concat()
}

/// One of the definitions, with who wrote what.
pub(crate) fn definition(real: &Real, name: &str) -> Result<Value> {
    let look = ["get", "customresourcedefinition", name];
    let whole = ["--output=json", "--show-managed-fields"];
    let said = real.kubectl_says(&[&look[..], &whole].concat())?;
    Ok(serde_json::from_str(&said)?)
}

/// Sees that a resource is the one it was, down to its status.
pub(crate) fn must_be_the_same(now: &Value, before: &Value) -> Result<()> {
    for part in ["/metadata/uid", "/spec", "/status/rsync"] {
        ensure!(
            now.pointer(part) == before.pointer(part),
            "{part}: {before} has become {now}"
        );
    }
    ensure!(text(now, "/metadata/uid").is_some(), "{now}");
    Ok(())
}

/// Installs a second release that looks after one namespace only, without the definitions, which the first one has. Returns
/// what helm says.
pub(crate) fn install_for(
    (home, watched): (&Site, &Site),
    name: &str,
    image: &str,
    values: &str,
) -> Result<String> {
    helm(
        &home.cluster,
        &[
            "install",
            name,
            CHART,
            "--namespace",
            &home.namespace,
            "--wait",
            "--timeout=3m",
            "--set=manageCRDs=false",
            &format!("--set=watchNamespace={}", watched.namespace),
            &format!("--set=image.image={image}"),
            &format!("--set={values}"),
        ],
    )
}
