//! What the Secret holds is nowhere to be read.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use syncline_testkit::scenario::Stage;
use syncline_testkit::store::{Keys, Kind, ObjectStore};
use syncline_testkit::{Cluster, Site, Who, corpus, scenario};
use syncline_tests::stores::{CLAIM, Remote, obscured, privileged, receive, send};

use crate::bad_input::told;
use crate::needs;
use crate::parts::{fill_plain, manually};

/// Words that stand nowhere but in Secrets.
const PASSWORD: &str = "canary-in-the-coal-mine";
const TOKEN: &str = "canary-token-0123456789";
/// One that even the Secret has obscured only.
const OBSCURED: &str = "canary-under-a-cloth";

/// How often the logs of pods are read.
const OFTEN: Duration = Duration::from_millis(100);

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_the_secret_is_in_logs_statuses_events_or_pods() -> Result<()> {
    let place = needs::STORE.shared(Who::Caller).await?;
    scenario(place, "rclone-canary", canary).await
}

async fn canary(stage: Stage) -> Result<()> {
    let site = stage.site("both").await?;
    privileged(&site).await?;
    fill_plain(&site.volume("data").await?, 5, 1).await?;
    site.volume(CLAIM).await?;
    let (password, covered) = (obscured(PASSWORD)?, obscured(OBSCURED)?);
    let folder = Remote::folder("sealed");
    // A server that answers, and whose answers are dumped with all that they say of the keys.
    let server = ObjectStore::start(&stage.cluster).await?;
    let refused = server.rclone_conf_as("s3", Keys::Unknown);
    let (key, secret) = (
        value(&refused, "access_key_id")?,
        value(&refused, "secret_access_key")?,
    );
    // As talkative as rclone gets.
    let remote = Remote {
        conf: format!(
            "[folder]\ntype = crypt\nremote = base:/mnt/store\npassword = {password}\n\n[base]\ntype = local\n\n\
             [web]\ntype = webdav\nurl = http://someone:{PASSWORD}@127.0.0.1:1/\npass = {covered}\nbearer_token = {TOKEN}\n\n\
             {refused}"
        ),
        path: "sealed".to_owned(),
        ..folder
    }
    .with_key("RCLONE_DUMP", "headers,bodies,auth")
    .with_key("RCLONE_LOG_LEVEL", "DEBUG")
    .with_key("RCLONE_LOW_LEVEL_RETRIES", "1")
    .with_key("RCLONE_RETRIES", "1")
    .with_key("RCLONE_S3_SESSION_TOKEN", TOKEN);
    remote.tell(&site).await?;
    let heard = Overheard::begin(&site);
    let secrets = [PASSWORD, TOKEN, OBSCURED, key, secret, &password, &covered];

    send(&site, &remote, "once").await?;
    receive(&site, &remote, "once").await?;
    says_nothing(&stage, &site, &heard, &secrets).await?;

    let path = format!("{}/db", server.path());
    // What S3 answers to a HEAD has no words, so how much a reason tells of a refusal is another matter than this.
    for (section, words) in [("web", "StoreUnreachable"), ("s3", path.as_str())] {
        let elsewhere = json!({"rcloneConfigSection": section, "rcloneDestPath": path});
        let name = format!("to-{section}");
        let source = remote.source(&name, "data", elsewhere.clone());
        site.apply(manually(source, "once")).await?;
        let destination = remote.destination(&name, elsewhere);
        site.apply(manually(destination, "once")).await?;
        for kind in ["ReplicationSource", "ReplicationDestination"] {
            told(&site, kind, &name, &[words]).await?;
        }
    }
    says_nothing(&stage, &site, &heard, &secrets).await
}

/// What a section of `rclone.conf` has under this key.
fn value<'a>(section: &'a str, key: &str) -> Result<&'a str> {
    let lines = section.lines().filter_map(|line| line.split_once(" = "));
    let mut values = lines.filter_map(|(name, value)| (name == key).then_some(value));
    values.next().with_context(|| format!("no {key}"))
}

/// The logs of all pods of a namespace, read for as long as this value lives: pods go with their runs.
struct Overheard {
    logs: Arc<Mutex<BTreeMap<String, String>>>,
    reader: tokio::task::JoinHandle<()>,
}

impl Overheard {
    fn begin(site: &Site) -> Self {
        let logs = Arc::<Mutex<BTreeMap<String, String>>>::default();
        let (kept, site) = (Arc::clone(&logs), site.clone());
        let reader = tokio::spawn(async move {
            let mut often = tokio::time::interval(OFTEN);
            loop {
                often.tick().await;
                let heard = logs_of(&site).await;
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend(heard);
            }
        });
        Self { logs, reader }
    }

    fn logs(&self) -> Vec<(String, String)> {
        let logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        logs.clone().into_iter().collect()
    }
}

/// What the pods of a namespace have said so far. One that has not begun has said nothing, and one that is gone was read
/// before.
async fn logs_of(site: &Site) -> Vec<(String, String)> {
    let mut heard = Vec::new();
    for pod in site.list("Pod").await.unwrap_or_default() {
        let name = crate::parts::text(&pod, "/metadata/name").unwrap_or_default();
        let log = site.logs(name).await.unwrap_or_default();
        if !log.is_empty() {
            heard.push((format!("the log of {name}"), log));
        }
    }
    heard
}

impl Drop for Overheard {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// Looks for the secrets in all that anybody without a right to read Secrets may see.
async fn says_nothing(
    stage: &Stage,
    site: &Site,
    heard: &Overheard,
    secrets: &[&str],
) -> Result<()> {
    let mut seen = Vec::new();
    for kind in [
        "ReplicationSource",
        "ReplicationDestination",
        "Job",
        "Pod",
        "Event",
        "ConfigMap",
        "PersistentVolumeClaim",
    ] {
        for object in site.list(kind).await? {
            seen.push((kind.to_owned(), object.to_string()));
        }
    }
    ensure!(!heard.logs().is_empty(), "no pod's log was read");
    seen.extend(heard.logs());
    let namespaces = [site.namespace.clone()];
    let log = stage.cluster.log_about(&namespaces, usize::MAX).await;
    seen.push(("the operator's log".to_owned(), log));
    for (place, text) in seen {
        for secret in secrets {
            ensure!(!text.contains(secret), "{secret} is in {place}: {text}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_the_secret_goes_before_our_own_tuning() -> Result<()> {
    let place = needs::STORE.shared(Who::Caller).await?;
    scenario(place, "rclone-tuned", |stage| async move {
        let site = stage.site("both").await?;
        privileged(&site).await?;
        let data = site.volume("data").await?;
        data.edit(|folder| {
            Ok(std::fs::write(
                folder.join("big"),
                corpus::noise(65 << 20, 3),
            )?)
        })
        .await?;
        let store = ObjectStore::start(&stage.cluster).await?;
        let ours = Remote::of(&store, "ours");
        let theirs = ours.at(&format!("{}/theirs", store.path()));
        let theirs = theirs.with_key("RCLONE_S3_CHUNK_SIZE", "5Mi");
        // Parts of 16 MiB, as we would have them, and of five.
        for (remote, tag, parts) in [(ours, "ours", 5), (theirs, "theirs", 13)] {
            remote.tell(&site).await?;
            store.forget_requests();
            send(&site, &remote, tag).await?;
            let asked = store.requests();
            let big = format!("/{tag}/big");
            ensure!(asked.count_at(Kind::Part, &big) == parts, "{tag}: {asked}");
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_the_secret_describe_a_store_and_pass_over_files_as_with_stock_rclone() -> Result<()>
{
    let cluster = Cluster::shared(Who::Caller).await?;
    scenario(cluster, "rclone-keys", |stage| async move {
        let site = stage.site("both").await?;
        privileged(&site).await?;
        let data = site.volume("data").await?;
        fill_plain(&data, 10, 1).await?;
        let store = site.volume(CLAIM).await?;
        // The store is described by keys alone, and one of them passes over files, as stock rclone would.
        let remote = Remote {
            conf: "# nothing\n".to_owned(),
            section: "by_keys".to_owned(),
            ..Remote::folder("db")
        }
        .with_key("RCLONE_CONFIG_BY_KEYS_TYPE", "local")
        .with_key("RCLONE_EXCLUDE", "*7");
        remote.tell(&site).await?;
        let sent = send(&site, &remote, "once").await?;
        let told = crate::parts::condition(&sent, "Preserved").cloned();
        for words in ["symbolic links", "cure: a Secret without RCLONE_EXCLUDE"] {
            let says = |told: &serde_json::Value| told.to_string().contains(words);
            ensure!(told.as_ref().is_some_and(says), "{told:?}");
        }
        let objects = syncline_tests::stores::files_in(&store, "db").await?;
        ensure!(
            objects.len() == 10 && !objects.iter().any(|name| name.ends_with("file-000007")),
            "{objects:?}"
        );
        Ok(())
    })
    .await
}
