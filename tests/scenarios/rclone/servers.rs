//! Stores that are servers, and wrappers around stores.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use syncline_testkit::scenario::Stage;
use syncline_testkit::store::{Backend, Keys, ObjectStore, Tls, another_ca};
use syncline_testkit::{Cluster, Site, Who, scenario};
use syncline_tests::stores::{CLAIM, Remote, fetched, files_in, obscured, privileged, send};

use crate::bad_input::told;
use crate::needs;
use crate::parts::{fill_hostile, fill_plain, manually, must_be_alike, put};

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_volume_goes_through_an_s3_server_whole() -> Result<()> {
    through_a_server("rclone-s3", Backend::S3).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_volume_goes_through_an_sftp_server_whole() -> Result<()> {
    through_a_server("rclone-sftp", Backend::Sftp).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_volume_goes_through_a_webdav_server_whole() -> Result<()> {
    through_a_server("rclone-webdav", Backend::WebDav).await
}

async fn through_a_server(name: &str, backend: Backend) -> Result<()> {
    let place = needs::STORE.shared(Who::Caller).await?;
    scenario(place, name, move |stage| async move {
        let site = stage.site("both").await?;
        privileged(&site).await?;
        let store = ObjectStore::start_as(&stage.cluster, backend, Tls::Without).await?;
        goes_through(&stage, &site, &Remote::of(&store, "db"), |_| Ok(())).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_volume_goes_through_encryption_whole_and_no_name_of_it_is_readable() -> Result<()>
{
    let cluster = Cluster::shared(Who::Caller).await?;
    scenario(cluster, "rclone-crypt", |stage| async move {
        let site = stage.site("both").await?;
        privileged(&site).await?;
        let store = site.volume(CLAIM).await?;
        let mut remote = Remote::folder("");
        // Encrypted names are longer than plain ones, and a folder takes 255 bytes.
        remote.conf = format!(
            "[base]\ntype = local\n\n[sealed]\ntype = crypt\nremote = base:/mnt/store/sealed\npassword = {}\n",
            obscured("words that nobody guesses")?
        );
        remote.section = "sealed".to_owned();
        let remote = remote.at("db");
        goes_through(&stage, &site, &remote, |folder| {
            Ok(std::fs::remove_dir_all(folder.join("names"))?)
        })
        .await?;
        let names = files_in(&store, "sealed").await?;
        let readable = names.iter().any(|name| {
            let name = name.to_string_lossy();
            ["attributes", "generation.json", "sparse"]
                .iter()
                .any(|word| name.contains(word))
        });
        ensure!(!names.is_empty() && !readable, "{names:?}");
        Ok(())
    })
    .await
}

/// Two rounds of everything that is hard to copy, without what `trim` takes away.
async fn goes_through(
    stage: &Stage,
    site: &Site,
    remote: &Remote,
    trim: impl FnOnce(&std::path::Path) -> Result<()> + Send,
) -> Result<()> {
    let data = site.volume("data").await?;
    fill_hostile(&stage.cluster, &data).await?;
    data.edit(trim).await?;
    remote.tell(site).await?;
    for round in ["first", "second"] {
        put(&data, "round", round).await?;
        let tree = data.tree().await?;
        send(site, remote, round).await?;
        must_be_alike(&tree, &fetched(site, remote, round).await?)?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_with_a_certificate_of_its_own_is_used_by_the_customs_ca_of_a_secret_or_a_config_map()
-> Result<()> {
    let place = needs::STORE.shared(Who::Caller).await?;
    scenario(place, "rclone-tls", |stage| async move {
        let store = ObjectStore::start_as(&stage.cluster, Backend::S3, Tls::Valid).await?;
        let right = store.ca_pem().context("no CA")?.to_owned();
        for (kind, field, data) in [
            ("Secret", "secretName", "stringData"),
            ("ConfigMap", "configMapName", "data"),
        ] {
            let site = stage.site(&kind.to_lowercase()).await?;
            privileged(&site).await?;
            let source = site.volume("data").await?;
            fill_plain(&source, 10, 1).await?;
            let bare = Remote::of(&store, &kind.to_lowercase());
            let remote = bare
                .clone()
                .with_spec(json!({"customCA": {field: "authority", "key": "ca.pem"}}));
            remote.tell(&site).await?;
            let authority = |pem: &str| {
                json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": "authority"}, data: {"ca.pem": pem}})
            };
            // Without any, and with one that signed nothing.
            let wrong = if kind == "Secret" { &bare } else { &remote };
            site.apply(authority(&another_ca()?)).await?;
            site.apply(manually(wrong.source("copy", "data", json!({})), "first"))
                .await?;
            let parts = [
                "CertificateRefused",
                "customCA",
                "x509: certificate signed by unknown authority",
            ];
            told(&site, "ReplicationSource", "copy", &parts).await?;
            site.apply(manually(remote.source("copy", "data", json!({})), "first"))
                .await?;
            site.apply(authority(&right)).await?;
            crate::parts::synced(&site, "copy", "first").await?;
            let copy = fetched(&site, &remote, "first").await?;
            must_be_alike(&source.tree().await?, &copy)?;
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_file_in_a_secret_of_the_movers_volumes_opens_an_sftp_server() -> Result<()> {
    let place = needs::STORE.shared(Who::Caller).await?;
    scenario(place, "rclone-key-file", |stage| async move {
        let site = stage.site("both").await?;
        privileged(&site).await?;
        let data = site.volume("data").await?;
        fill_plain(&data, 10, 1).await?;
        let store = ObjectStore::start_as(&stage.cluster, Backend::Sftp, Tls::Without).await?;
        let mut remote = Remote::of(&store, "db");
        let (before, rest) = remote.conf.split_once("key_pem = ").context("no key")?;
        let (key, after) = rest.split_once('\n').context("no end of the key")?;
        let pem = key.replace("\\n", "\n");
        remote.conf = format!("{before}key_file = /mnt/login/id\n{after}");
        remote.tell(&site).await?;
        site.apply(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "login"}, "stringData": {"id": pem}}))
            .await?;
        let login = json!([{"mountPath": "login", "volumeSource": {"secret": {"secretName": "login"}}}]);
        let remote = remote.with_spec(json!({"moverVolumes": login}));
        send(&site, &remote, "once").await?;
        must_be_alike(&data.tree().await?, &fetched(&site, &remote, "once").await?)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_whose_certificate_has_run_out_is_told_so() -> Result<()> {
    let place = needs::STORE.shared(Who::Caller).await?;
    scenario(place, "rclone-old-tls", |stage| async move {
        let site = stage.site("both").await?;
        privileged(&site).await?;
        fill_plain(&site.volume("data").await?, 3, 1).await?;
        let store = ObjectStore::start_as(&stage.cluster, Backend::S3, Tls::Expired).await?;
        let authority = store.ca_pem().context("no CA")?;
        site.apply(
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "authority"},
            "data": {"ca.pem": authority}}),
        )
        .await?;
        let custom = json!({"customCA": {"configMapName": "authority", "key": "ca.pem"}});
        let remote = Remote::of(&store, "db").with_spec(custom);
        remote.tell(&site).await?;
        site.apply(manually(remote.source("copy", "data", json!({})), "once"))
            .await?;
        site.apply(manually(remote.destination("copy", json!({})), "once"))
            .await?;
        let parts = ["CertificateRefused", "expired", "check its dates"];
        told(&site, "ReplicationSource", "copy", &parts).await?;
        told(&site, "ReplicationDestination", "copy", &parts).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_that_servers_refuse_are_told_and_right_ones_are_tried_at_once() -> Result<()> {
    let place = needs::STORE.shared(Who::Caller).await?;
    scenario(place, "rclone-login", |stage| async move {
        for (backend, keys) in [
            (Backend::S3, Keys::WrongSecret),
            (Backend::S3, Keys::Unknown),
            (Backend::Sftp, Keys::WrongSecret),
            (Backend::WebDav, Keys::WrongSecret),
        ] {
            let store = ObjectStore::start_as(&stage.cluster, backend, Tls::Without).await?;
            let site = stage.site("both").await?;
            privileged(&site).await?;
            fill_plain(&site.volume("data").await?, 3, 1).await?;
            let wrong = Remote::of_with(&store, "db", keys);
            wrong.tell(&site).await?;
            site.apply(manually(wrong.source("copy", "data", json!({})), "once"))
                .await?;
            site.apply(manually(wrong.destination("copy", json!({})), "once"))
                .await?;
            let parts = ["StoreRefused", "rclone.conf"];
            for kind in ["ReplicationSource", "ReplicationDestination"] {
                told(&site, kind, "copy", &parts)
                    .await
                    .with_context(|| format!("{backend:?} {keys:?}"))?;
            }
            Remote::of(&store, "db").tell(&site).await?;
            crate::parts::synced(&site, "copy", "once").await?;
        }
        Ok(())
    })
    .await
}
