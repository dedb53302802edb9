//! Under VolSync's own definitions of the kinds, which drop every field that only Syncline has: options are given as
//! annotations, and what the status has no field for is remembered.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use syncline_testkit::cluster::Real;
use syncline_testkit::scenario::{CAP, Stage};
use syncline_testkit::tree::Ignore;
use syncline_testkit::wait::{Look, wait_for};
use syncline_testkit::{Site, Who, scenario};
use syncline_tests::parts::{
    condition, destination, fill_plain, image_after, listening, manually, over, source, synced,
    text, tree_of_image,
};
use syncline_tests::volsync::{prune_to_volsyncs, refuses_an_emptied_volume};

use crate::{needs, turn};

const DEFINITIONS: [&str; 2] = [
    "replicationsources.volsync.backube",
    "replicationdestinations.volsync.backube",
];

/// An unprivileged mover's rights; it can write into a volume that is given to its group, which costs the modes there.
fn rights(writes: bool) -> Value {
    let rights = json!({"runAsUser": 4321, "runAsGroup": 4321});
    let group = json!({"fsGroup": 4321});
    if writes { over(rights, group) } else { rights }
}

fn annotated(resource: Value, rights: &Value) -> Value {
    let annotation = json!({"syncline.dev/mover-security-context": rights.to_string()});
    over(resource, json!({"metadata": {"annotations": annotation}}))
}

#[tokio::test(flavor = "multi_thread")]
async fn under_volsyncs_definitions_annotations_say_what_fields_cannot_and_nothing_is_forgotten()
-> Result<()> {
    let _turn = turn().await;
    let place = needs::DEPLOYMENT.shared(Who::Caller).await?;
    scenario(place, "pruned", |stage| async move {
        let real = stage.cluster.real()?;
        let ours = [
            definition(real, DEFINITIONS[0])?,
            definition(real, DEFINITIONS[1])?,
        ];
        let outcome = async {
            for (manager, mut document) in ours.clone() {
                prune_to_volsyncs(&mut document)?;
                put(real, &manager, &document)?;
            }
            replicates(&stage).await
        }
        .await;
        for (manager, document) in &ours {
            put(real, manager, document)?;
        }
        is_in_force(&stage.site("after").await?, Some(&rights(true))).await?;
        outcome
    })
    .await
}

/// A definition as it is, ready to be applied again, and by whom it was applied.
fn definition(real: &Real, name: &str) -> Result<(String, Value)> {
    let said = real.kubectl_says(&[
        "get",
        "customresourcedefinition",
        name,
        "--output=json",
        "--show-managed-fields",
    ])?;
    let mut document: Value = serde_json::from_str(&said)?;
    let managers = document.pointer("/metadata/managedFields");
    let managers = managers.and_then(Value::as_array).into_iter().flatten();
    let manager = managers
        .filter(|entry| text(entry, "/operation") == Some("Apply"))
        .find_map(|entry| text(entry, "/manager"))
        .with_context(|| format!("nobody has applied {name}"))?
        .to_owned();
    let kept: Value = ["name", "labels", "annotations"]
        .into_iter()
        .filter_map(|field| {
            let value = document.pointer(&format!("/metadata/{field}"))?;
            Some((field.to_owned(), value.clone()))
        })
        .collect::<serde_json::Map<_, _>>()
        .into();
    let fields = document.as_object_mut().context("no object")?;
    fields.remove("status");
    fields.insert("metadata".to_owned(), kept);
    Ok((manager, document))
}

/// Applies a definition in the name of its manager, so that the chart's next upgrade finds what is its own.
fn put(real: &Real, manager: &str, document: &Value) -> Result<()> {
    let file = real.scratch().join("definition.json");
    std::fs::write(&file, document.to_string())?;
    let file = file.to_str().context("a path that is no text")?;
    let manager = format!("--field-manager={manager}");
    real.kubectl_says(&[
        "apply",
        "--server-side",
        "--force-conflicts",
        &manager,
        "--filename",
        file,
    ])?;
    Ok(())
}

async fn replicates(stage: &Stage) -> Result<()> {
    let (east, west) = (stage.site("east").await?, stage.site("west").await?);
    let data = east.volume("data").await?;
    fill_plain(&data, 20, 1).await?;
    let tree = data.tree().await?;
    is_in_force(&west, None).await?;
    west.apply(annotated(destination("copy", json!({})), &rights(true)))
        .await?;
    let peer = listening(&west, "copy").await?;
    west.hand_over_secret(&peer.keys, &east).await?;
    let manifest = annotated(source("copy", "data", &peer, json!({})), &rights(false));
    east.apply(manually(manifest.clone(), "once")).await?;
    let sent = synced(&east, "copy", "once").await?;
    let image = image_after(&west, "copy", None).await?;
    let received = west.get("ReplicationDestination", "copy").await?;
    for object in [&sent, &received] {
        ensure!(
            object.pointer("/spec/rsync/moverSecurityContext").is_none(),
            "{object}"
        );
        let told = condition(object, "Preserved").with_context(|| object.to_string())?;
        ensure!(
            text(told, "/reason") == Some("UnprivilegedMover"),
            "{object}"
        );
    }
    // All is the mover's user's at the other end, and only root may give a volume's root away.
    let ignored = Ignore {
        owner: true,
        root: true,
        ..Ignore::default()
    };
    tree.must_equal(&tree_of_image(&west, &image).await?, ignored)?;
    refuses_an_emptied_volume(&east, manifest, &data).await
}

/// Waits until the API server makes this of a field that only our definitions have: it takes a moment to go by new ones.
async fn is_in_force(site: &Site, expected: Option<&Value>) -> Result<()> {
    let manifest = destination("probe", json!({"moverSecurityContext": rights(true)}));
    let manifest = over(manifest, json!({"spec": {"paused": true}}));
    wait_for("the definition to be in force", CAP, || async {
        site.delete("ReplicationDestination", "probe").await?;
        // To apply a field that is not in the schema would be an error.
        site.create_as("scenario", manifest.clone()).await?;
        let made = site.get("ReplicationDestination", "probe").await?;
        let field = made.pointer("/spec/rsync/moverSecurityContext");
        Ok(if field == expected {
            Look::Done(())
        } else {
            Look::NotYet(made.to_string())
        })
    })
    .await?;
    site.delete("ReplicationDestination", "probe").await
}
