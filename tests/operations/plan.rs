//! The preview of what the operator would do.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use syncline_testkit::{Who, scenario};
use syncline_tests::audit;
use syncline_tests::parts::{destination, listening, manually, source, text};

use crate::outside::kubeconfig_of;
use crate::{needs, turn};

#[tokio::test(flavor = "multi_thread")]
async fn plan_all_writes_nothing_although_it_might() -> Result<()> {
    let _turn = turn().await;
    let place = needs::AUDIT.shared(Who::Caller).await?;
    scenario(place, "plan", |stage| async move {
        let site = stage.site("east").await?;
        site.apply(destination("copy", json!({}))).await?;
        let peer = listening(&site, "copy").await?;
        let lost = source("lost", "nowhere", &peer, json!({}));
        site.apply(manually(lost, "once")).await?;

        // Of somebody to whom nothing would be refused.
        let user = format!("planner-{}", site.namespace);
        let version = "rbac.authorization.k8s.io/v1";
        site.apply(json!({"apiVersion": version, "kind": "ClusterRoleBinding", "metadata": {"name": user},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}]}))
            .await?;
        let kubeconfig = stage.cluster.scratch().join("planner.kubeconfig");
        std::fs::write(&kubeconfig, kubeconfig_of(&site, &user)?)?;
        let mut command = stage.cluster.syncline(["plan", "--all", "--output", "json"]);
        let output = command.env("KUBECONFIG", kubeconfig).output();
        site.delete("ClusterRoleBinding", &user).await?;
        let output = output?;
        let words = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{words}");
        let told: Value = serde_json::from_slice(&output.stdout)?;
        for name in ["copy", "lost"] {
            ensure!(told.to_string().contains(&format!("\"{name}\"")), "{told}");
        }

        let requests = audit::requests(stage.cluster.real()?, &user)?;
        let own = |request: &&Value| text(request, "/impersonatedUser/username") == Some(&user);
        let own: Vec<&Value> = requests.iter().filter(own).collect();
        ensure!(own.len() > 10, "{} requests", own.len());
        let reads = |request: &Value| matches!(text(request, "/verb"), Some("get" | "list" | "watch"));
        let write = own.iter().find(|request| !reads(request));
        ensure!(write.is_none(), "{write:?}");
        Ok(())
    })
    .await
}
