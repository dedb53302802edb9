//! `syncline plan`: what would be done, without doing it.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use syncline_operator::preview::{self, Verdict};
use syncline_testkit::scenario;
use syncline_tests::parts::destination;

use crate::operators::{Sent, cluster, options};

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_for_everything_only_reads() -> Result<()> {
    scenario(cluster().await?, "plan", |stage| async move {
        let site = stage.site("west").await?;
        site.apply(destination("copy", json!({}))).await?;
        site.apply(json!({
            "apiVersion": "volsync.backube/v1alpha1", "kind": "ReplicationSource", "metadata": {"name": "lost"},
            "spec": {"sourcePVC": "nowhere", "rsync": {"copyMethod": "Direct", "address": "a.example"}},
        }))
        .await?;
        let sent = Sent::default();
        let client = sent.through(&stage.cluster.client().await?);
        let keys = preview::keys(&client, Some(&site.namespace)).await?;
        let now = jiff::Timestamp::now();
        let mut verdicts = Vec::new();
        for key in &keys {
            let seen = preview::preview(&client, key, &options(), now).await?.context("it is there")?;
            verdicts.push((seen.name.clone(), seen.verdict, seen.applies.clone()));
        }
        assert_eq!(sent.writes(), [""; 0]);
        assert!(sent.count() > 10);
        let [(lost, trouble, _), (copy, starts, applies)] = verdicts.as_slice() else {
            anyhow::bail!("{verdicts:?}");
        };
        assert_eq!((lost.as_str(), *trouble), ("lost", Verdict::Trouble));
        assert_eq!(copy, "copy");
        assert!(matches!(starts, Verdict::Starts | Verdict::Waits), "{starts:?}");
        assert!(applies.iter().any(|object| object == "Service/volsync-rsync-dst-copy"), "{applies:?}");

        let before = site.get("ReplicationDestination", "copy").await?;
        let output = stage
            .cluster
            .embedded()?
            .syncline(["plan", "--all", "-n", &site.namespace, "-o", "json"])
            .output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let told: Value = serde_json::from_slice(&output.stdout)?;
        assert_eq!(told.as_array().map(Vec::len), Some(2));
        let table = stage
            .cluster
            .embedded()?
            .syncline(["plan", "source/lost", "-n", &site.namespace])
            .output()?;
        let table = String::from_utf8_lossy(&table.stdout).into_owned();
        assert!(table.contains("trouble") && table.contains("nowhere"), "{table}");
        assert_eq!(site.get("ReplicationDestination", "copy").await?, before);
        Ok(())
    })
    .await
}
