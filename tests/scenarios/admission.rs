//! What a cluster's own rules do to a run: quotas that refuse what it needs, and policies that change its Jobs.

use anyhow::{Result, ensure};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use syncline_testkit::scenario::CAP;
use syncline_testkit::wait::{Look, wait_for};
use syncline_testkit::{Site, Who, scenario};

use crate::needs;
use crate::parts::{
    SYNC_CAP, condition, destination, fill_plain, image_after, listening, manually, must_be_alike,
    receiver, source, synced, text, tree_of_image,
};

/// Gives a namespace a quota `small`, and waits until it is in force.
async fn limit(site: &Site, thing: &str, count: &str) -> Result<()> {
    let hard = json!({thing: count});
    site.apply(json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "small"}, "spec": {"hard": hard}}))
        .await?;
    site.wait("ResourceQuota", "small", "been counted", |quota| {
        let is_counted = quota.pointer("/status/hard") == Some(&hard)
            && quota.pointer("/status/used")?.get(thing).is_some();
        is_counted.then_some(())
    })
    .await
}

/// Waits until a resource's error has the words of the quota about this thing.
async fn names_the_quota(site: &Site, kind: &str, thing: &str) -> Result<()> {
    let words = format!("exceeded quota: small, requested: {thing}=1");
    site.within(SYNC_CAP)
        .wait(kind, "copy", &words, |object| {
            let found = condition(object, "Synchronizing")?;
            let is_error = text(found, "/reason") == Some("Error");
            (is_error && text(found, "/message")?.contains(&words)).then_some(())
        })
        .await
}

/// Waits until a resource has no error.
async fn takes_it_back(site: &Site, kind: &str) -> Result<()> {
    site.within(SYNC_CAP)
        .wait(kind, "copy", "no error", |object| {
            let found = condition(object, "Synchronizing")?;
            (text(found, "/reason") != Some("Error")).then_some(())
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_that_refuses_a_movers_pod_is_named_until_it_is_raised() -> Result<()> {
    let place = needs::QUOTAS.shared(Who::Caller).await?;
    scenario(place, "quota-pod", |stage| async move {
        let (east, west) = (stage.site("east").await?, stage.site("west").await?);
        let data = east.volume("data").await?;
        fill_plain(&data, 10, 1).await?;
        let tree = data.tree().await?;
        limit(&west, "pods", "0").await?;
        west.apply(destination("copy", json!({}))).await?;
        names_the_quota(&west, "ReplicationDestination", "pods").await?;
        limit(&west, "pods", "5").await?;
        takes_it_back(&west, "ReplicationDestination").await?;
        let peer = listening(&west, "copy").await?;
        west.hand_over_secret(&peer.keys, &east).await?;
        east.apply(manually(source("copy", "data", &peer, json!({})), "once"))
            .await?;
        synced(&east, "copy", "once").await?;
        let image = image_after(&west, "copy", None).await?;
        must_be_alike(&tree, &tree_of_image(&west, &image).await?)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_that_refuses_the_volume_of_a_copy_is_named_until_it_is_raised() -> Result<()> {
    let place = needs::QUOTAS.shared(Who::Caller).await?;
    scenario(place, "quota-volume", |stage| async move {
        let (east, west) = (stage.site("east").await?, stage.site("west").await?);
        let data = east.volume("data").await?;
        fill_plain(&data, 10, 2).await?;
        let tree = data.tree().await?;
        let peer = receiver(&east, &west, "copy", json!({})).await?;
        limit(&east, "persistentvolumeclaims", "1").await?;
        east.apply(manually(source("copy", "data", &peer, json!({})), "once"))
            .await?;
        names_the_quota(&east, "ReplicationSource", "persistentvolumeclaims").await?;
        ensure!(east.list("Job").await?.is_empty(), "a Job without its data");
        limit(&east, "persistentvolumeclaims", "2").await?;
        synced(&east, "copy", "once").await?;
        takes_it_back(&east, "ReplicationSource").await?;
        let image = image_after(&west, "copy", None).await?;
        must_be_alike(&tree, &tree_of_image(&west, &image).await?)
    })
    .await
}

/// What the policy does to each Job: of that, Syncline itself says `backoffLimit` otherwise, and the rest not at all.
const CHANGE: &str = r#"Object{spec: Object.spec{backoffLimit: 4, template: Object.spec.template{
  metadata: Object.spec.template.metadata{annotations: {"policy.test/seen": "yes"}},
  spec: Object.spec.template.spec{terminationGracePeriodSeconds: 7}}}}"#;

fn is_changed(job: &Value) -> bool {
    let template = "/spec/template/metadata/annotations/policy.test~1seen";
    job.pointer("/spec/backoffLimit") == Some(&json!(4)) && text(job, template) == Some("yes")
}

/// A policy that changes each Job of these namespaces when it is made; its name.
async fn change_jobs(sites: [&Site; 2]) -> Result<String> {
    let [site, _] = sites;
    let name = site.namespace.clone();
    let namespaces = sites.map(|site| site.namespace.as_str());
    let version = "admissionregistration.k8s.io/v1";
    site.apply(json!({
        "apiVersion": version, "kind": "MutatingAdmissionPolicy", "metadata": {"name": name},
        "spec": {
            "matchConstraints": {
                "namespaceSelector": {"matchExpressions": [
                    {"key": "kubernetes.io/metadata.name", "operator": "In", "values": namespaces}]},
                "resourceRules": [{"apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["jobs"]}],
            },
            "failurePolicy": "Fail", "reinvocationPolicy": "Never",
            "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": CHANGE}}],
        },
    }))
    .await?;
    site.apply(
        json!({"apiVersion": version, "kind": "MutatingAdmissionPolicyBinding", "metadata": {"name": name},
        "spec": {"policyName": name}}),
    )
    .await?;
    for site in sites {
        is_in_force(site).await?;
    }
    Ok(name)
}

/// Waits until a Job that is made here would be changed.
async fn is_in_force(site: &Site) -> Result<()> {
    let job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "probe"},
        "spec": {"backoffLimit": 2, "template": {"spec": {
            "restartPolicy": "Never", "containers": [{"name": "probe", "image": "none"}]}}},
    });
    wait_for("the policy to be in force", CAP, || async {
        let parameters = PatchParams::apply("scenario").dry_run();
        let made = site
            .api("Job")?
            .patch("probe", &parameters, &Patch::Apply(&job))
            .await?;
        let made = serde_json::to_value(made)?;
        Ok(if is_changed(&made) {
            Look::Done(())
        } else {
            Look::NotYet(made.to_string())
        })
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_a_policy_changed_on_its_way_in_is_left_alone() -> Result<()> {
    let place = needs::ADMISSION_POLICIES.shared(Who::Caller).await?;
    scenario(place, "policy", |stage| async move {
        let (east, west) = (stage.site("east").await?, stage.site("west").await?);
        let name = change_jobs([&east, &west]).await?;
        let outcome = replicates_under_the_policy(&east, &west).await;
        for kind in ["MutatingAdmissionPolicyBinding", "MutatingAdmissionPolicy"] {
            east.delete(kind, &name).await?;
        }
        outcome
    })
    .await
}

async fn replicates_under_the_policy(east: &Site, west: &Site) -> Result<()> {
    let data = east.volume("data").await?;
    fill_plain(&data, 10, 3).await?;
    let tree = data.tree().await?;
    west.apply(destination("copy", json!({}))).await?;
    let peer = listening(west, "copy").await?;
    west.hand_over_secret(&peer.keys, east).await?;
    stays_as_it_is(west, "ReplicationDestination", "volsync-rsync-dst-copy").await?;
    east.apply(manually(source("copy", "data", &peer, json!({})), "once"))
        .await?;
    synced(east, "copy", "once").await?;
    let image = image_after(west, "copy", None).await?;
    must_be_alike(&tree, &tree_of_image(west, &image).await?)?;
    is_the_only_one(east, "volsync-rsync-src-copy").await
}

/// Lets the operator look once more at a resource whose changed Job runs, and compares the Job as a whole.
async fn stays_as_it_is(site: &Site, kind: &str, name: &str) -> Result<()> {
    let job = site
        .wait("Job", name, "a mover that runs", |job| {
            (job.pointer("/status/ready") == Some(&json!(1))).then(|| job.clone())
        })
        .await?;
    ensure!(is_changed(&job), "the policy did not change {job}");
    let looked = json!({"spec": {"paused": false}});
    let generation = site.merge(kind, "copy", looked).await?;
    let generation = generation.pointer("/metadata/generation").cloned();
    site.wait(kind, "copy", "been looked at again", |object| {
        let seen = condition(object, "Synchronizing")?.get("observedGeneration");
        (seen == generation.as_ref()).then_some(())
    })
    .await?;
    let kept = site.get("Job", name).await?;
    ensure!(kept == job, "of {job}\nbecame {kept}");
    Ok(())
}

/// Of this name there was one Job, and it had one pod.
async fn is_the_only_one(site: &Site, name: &str) -> Result<()> {
    let events = site.list("Event").await?;
    let pods = events.iter().filter(|event| {
        text(event, "/involvedObject/kind") == Some("Job")
            && text(event, "/involvedObject/name") == Some(name)
            && text(event, "/reason") == Some("SuccessfulCreate")
    });
    let count = pods.count();
    ensure!(count == 1, "{count} pods of {name}: {events:?}");
    Ok(())
}
