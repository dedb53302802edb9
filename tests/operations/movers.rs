//! What movers may do to the cluster that they run in: nothing.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use syncline_testkit::cluster::Real;
use syncline_testkit::{Site, Who, scenario};
use syncline_tests::midway::Held;
use syncline_tests::parts::text;

use crate::{needs, turn};

#[tokio::test(flavor = "multi_thread")]
async fn a_mover_has_no_token_and_its_account_no_rights_of_its_own() -> Result<()> {
    let _turn = turn().await;
    let place = needs::DEPLOYMENT.shared(Who::Caller).await?;
    scenario(place, "powerless", |stage| async move {
        let (east, west) = (stage.site("east").await?, stage.site("west").await?);
        // Both movers run, and stay for as long as they are looked at.
        let held = Held::begin(&stage, &east, &west).await?;
        let real = stage.cluster.real()?;
        for site in [&east, &west] {
            let pods = site.list("Pod").await?;
            let of_job = |pod: &&Value| {
                pod.pointer("/metadata/labels/batch.kubernetes.io~1job-name")
                    .is_some()
            };
            let mover = pods.iter().find(of_job).context("no mover")?;
            has_no_token(real, site, mover)?;
            let account = text(mover, "/spec/serviceAccountName").context("no account")?;
            let (its, nobodys) = (rights(real, site, account)?, rights(real, site, "nobody")?);
            ensure!(
                its == nobodys,
                "{account} may do {its:#?}, an account without any binding {nobodys:#?}"
            );
        }
        held.release()?;
        held.finishes_undoubled().await
    })
    .await
}

fn has_no_token(real: &Real, site: &Site, mover: &Value) -> Result<()> {
    let name = text(mover, "/metadata/name").context("a pod without name")?;
    let volumes = mover.pointer("/spec/volumes").and_then(Value::as_array);
    let projected = |volume: &&Value| {
        volume
            .pointer("/projected/sources")
            .is_some_and(|sources| sources.to_string().contains("serviceAccountToken"))
    };
    let token = volumes.into_iter().flatten().find(projected);
    ensure!(token.is_none(), "{name} gets a token: {token:?}");
    let asked = mover.pointer("/spec/automountServiceAccountToken");
    ensure!(asked == Some(&json!(false)), "{name}: {asked:?}");
    let look = ["ls", "/var/run/secrets/kubernetes.io"];
    let inside = ["exec", "-n", &site.namespace, name, "--"];
    let found = real.kubectl(&[&inside[..], &look].concat()).output()?;
    let words = String::from_utf8_lossy(&found.stderr);
    ensure!(
        !found.status.success() && words.contains("No such file"),
        "{name} sees {}{words}",
        String::from_utf8_lossy(&found.stdout)
    );
    Ok(())
}

/// What an account may do in its namespace, in kubectl's words, in order.
fn rights(real: &Real, site: &Site, account: &str) -> Result<Vec<String>> {
    let namespace = site.namespace.as_str();
    let user = format!("--as=system:serviceaccount:{namespace}:{account}");
    let told = real.kubectl_says(&["auth", "can-i", "--list", "-n", namespace, &user])?;
    let mut lines: Vec<String> = told.lines().map(str::to_owned).collect();
    ensure!(lines.len() > 1, "{told}");
    lines.sort();
    Ok(lines)
}
