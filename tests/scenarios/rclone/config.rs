//! What is wrong before a mover runs: the spec, the Secret, the certificate.

use anyhow::Result;
use serde_json::{Value, json};
use syncline_testkit::scenario::Stage;
use syncline_testkit::{Cluster, Site, Who, scenario};
use syncline_tests::stores::{CLAIM, Remote, SECRET, received};

use crate::bad_input::told;
use crate::parts::{fill_plain, manually, over, synced};

/// A site with a filled volume, a store, and the source `copy` that was told to run once.
async fn begun(stage: &Stage, remote: &Remote, rclone: Value) -> Result<Site> {
    let site = stage.site("both").await?;
    fill_plain(&site.volume("data").await?, 5, 1).await?;
    site.volume(CLAIM).await?;
    syncline_tests::stores::privileged(&site).await?;
    site.apply(manually(remote.source("copy", "data", rclone), "once"))
        .await?;
    Ok(site)
}

/// Waits until both kinds say this; the destination is made for it.
async fn both_say(site: &Site, remote: &Remote, rclone: Value, parts: &[&str]) -> Result<()> {
    told(site, "ReplicationSource", "copy", parts).await?;
    site.apply(manually(remote.destination("copy", rclone), "once"))
        .await?;
    told(site, "ReplicationDestination", "copy", parts).await
}

/// Both run to their ends without being asked again.
async fn both_recover(site: &Site) -> Result<()> {
    synced(site, "copy", "once").await?;
    received(site, "copy", "once").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_secret_of_rclones_is_named_and_its_coming_is_heard() -> Result<()> {
    let cluster = Cluster::shared(Who::Caller).await?;
    scenario(cluster, "rclone-secret", |stage| async move {
        let remote = Remote::folder("db");
        let site = begun(&stage, &remote, json!({})).await?;
        let secret = format!("Secret {}/{SECRET}", site.namespace);
        let parts = [
            "waiting for",
            &secret,
            "spec.rclone.rcloneConfig",
            "create it",
        ];
        both_say(&site, &remote, json!({}), &parts).await?;
        remote.tell(&site).await?;
        both_recover(&site).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_without_rclone_conf_is_named_with_the_key_and_its_coming_is_heard() -> Result<()>
{
    let cluster = Cluster::shared(Who::Caller).await?;
    scenario(cluster, "rclone-key", |stage| async move {
        let remote = Remote::folder("db");
        let site = begun(&stage, &remote, json!({})).await?;
        site.apply(over(
            remote.secret(SECRET),
            json!({"stringData": {"rclone.conf": null, "config": "x"}}),
        ))
        .await?;
        let secret = format!("Secret {}/{SECRET}", site.namespace);
        both_say(
            &site,
            &remote,
            json!({}),
            &[&secret, "lacks the key \"rclone.conf\""],
        )
        .await?;
        remote.tell(&site).await?;
        both_recover(&site).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_section_that_rclone_conf_does_not_have_is_named_with_those_that_it_has() -> Result<()> {
    let cluster = Cluster::shared(Who::Caller).await?;
    scenario(cluster, "rclone-section", |stage| async move {
        let remote = Remote::folder("db");
        let wrong = Remote {
            conf: "[other]\ntype = local\n[third]\ntype = local\n".to_owned(),
            ..remote.clone()
        };
        let site = begun(&stage, &remote, json!({})).await?;
        wrong.tell(&site).await?;
        let parts = [
            "no section \"folder\"",
            "it has: other, third",
            "rcloneConfigSection",
        ];
        both_say(&site, &remote, json!({}), &parts).await?;
        remote.tell(&site).await?;
        both_recover(&site).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_path_and_every_other_field_that_is_left_out_is_named() -> Result<()> {
    let cluster = Cluster::shared(Who::Caller).await?;
    scenario(cluster, "rclone-fields", |stage| async move {
        let remote = Remote::folder("db");
        let site = begun(&stage, &remote, json!({"rcloneDestPath": ""})).await?;
        remote.tell(&site).await?;
        let fields = [
            ("rcloneDestPath", "the bucket, or the path"),
            ("rcloneConfigSection", "the section of rclone.conf"),
            ("rcloneConfig", "the Secret that holds rclone.conf"),
        ];
        // One field after the other, so that each has to be told anew.
        for value in [json!(""), Value::Null] {
            for (field, purpose) in fields {
                let without = json!({field: value});
                let source = remote.source("copy", "data", without.clone());
                site.apply(manually(source, "once")).await?;
                let words = format!("spec.rclone.{field} must be provided");
                both_say(&site, &remote, without, &[&words, purpose]).await?;
            }
        }
        site.apply(manually(remote.source("copy", "data", json!({})), "once"))
            .await?;
        site.apply(manually(remote.destination("copy", json!({})), "once"))
            .await?;
        both_recover(&site).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_rclone_conf_that_rclone_cannot_use_is_told_apart_and_a_better_one_is_tried_at_once()
-> Result<()> {
    let cluster = Cluster::shared(Who::Caller).await?;
    scenario(cluster, "rclone-conf", |stage| async move {
        let remote = Remote::folder("db");
        let wrong = Remote {
            conf: "[folder]\ntype = nonsense\n".to_owned(),
            ..remote.clone()
        };
        let site = begun(&stage, &remote, json!({})).await?;
        wrong.tell(&site).await?;
        let parts = ["ConfigInvalid", "rclone.conf", "nonsense"];
        both_say(&site, &remote, json!({}), &parts).await?;
        remote.tell(&site).await?;
        both_recover(&site).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_lets_rclone_copy_nothing_is_refused_by_name() -> Result<()> {
    let cluster = Cluster::shared(Who::Caller).await?;
    scenario(cluster, "rclone-dry", |stage| async move {
        let remote = Remote::folder("db");
        let site = begun(&stage, &remote, json!({})).await?;
        let dry = remote.clone().with_key("RCLONE_DRY_RUN", "true");
        dry.tell(&site).await?;
        told(
            &site,
            "ReplicationSource",
            "copy",
            &["InvalidSettings", "RCLONE_DRY_RUN"],
        )
        .await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificates_holder_that_is_missing_or_lacks_the_key_is_named_and_waited_for()
-> Result<()> {
    let cluster = Cluster::shared(Who::Caller).await?;
    scenario(cluster, "rclone-ca", |stage| async move {
        let certificate = certificate()?;
        for (number, (kind, field, data)) in [
            ("Secret", "secretName", "stringData"),
            ("ConfigMap", "configMapName", "data"),
        ]
        .into_iter()
        .enumerate()
        {
            let name = format!("authority-{number}");
            let given = json!({"customCA": {field: name, "key": "ca.pem"}});
            let remote = Remote::folder("db").with_spec(given);
            let site = begun(&stage, &remote, json!({})).await?;
            remote.tell(&site).await?;
            let holder = format!("{kind} {}/{name}", site.namespace);
            let parts = ["waiting for", &holder, "customCA"];
            both_say(&site, &remote, json!({}), &parts).await?;
            let object = |key: &str| {
                json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, data: {key: certificate}})
            };
            site.apply(object("other.pem")).await?;
            let parts = [holder.as_str(), "lacks the key \"ca.pem\""];
            both_say(&site, &remote, json!({}), &parts).await?;
            site.apply(object("ca.pem")).await?;
            both_recover(&site).await?;
        }
        Ok(())
    })
    .await
}

/// Any certificate: a store that is a folder shows none.
fn certificate() -> Result<String> {
    let made = rcgen::generate_simple_self_signed(vec!["authority.test".to_owned()])?;
    Ok(made.cert.pem())
}
