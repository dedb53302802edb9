//! The lives of things: what a cluster makes of Jobs, pods, volumes and snapshots by itself.
//!
//! Compared is, for each object, the sequence of its states as [`super::states`] words them, the same state twice in a
//! row being one; and for each object and each component that speaks of it, the sequence of different Events. Times,
//! counts, generated names and the order between objects are not. A real cluster may warn of more than was recorded: it
//! tells how busy it was.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::join_all;
use http::Request;
use http_body_util::BodyExt as _;
use kube::client::Body;
use regex::Regex;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::rows::{self, folder};
use super::site::Site;
use super::states::{self, Seen};

/// The longest that a scene may take to become what it is on a real cluster.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a recording waits for what else may come.
const SETTLING: Duration = Duration::from_secs(8);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// What is watched; those of no namespace are told apart by what they belong to.
const WATCHED: &[&str] = &[
    "/apis/batch/v1/namespaces/{ns}/jobs",
    "/api/v1/namespaces/{ns}/pods",
    "/api/v1/namespaces/{ns}/persistentvolumeclaims",
    "/api/v1/namespaces/{ns}/events",
    "/apis/snapshot.storage.k8s.io/v1/namespaces/{ns}/volumesnapshots",
    "/api/v1/persistentvolumes",
    "/apis/snapshot.storage.k8s.io/v1/volumesnapshotcontents",
];

/// Scenes; each is played in a namespace of its own, all at once.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Play {
    scenes: Vec<Scene>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scene {
    name: String,
    steps: Vec<Step>,
}

/// A request, or a state that is waited for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    /// Method and path, where `{ns}` is the scene's namespace.
    ask: Option<String>,
    #[serde(default)]
    body: Value,
    /// Whose state is waited for, for instance `Job/ok`.
    until: Option<String>,
    /// What one of its states contains.
    #[serde(default)]
    is: String,
}

/// What was seen of each object, by its name in the table.
pub(crate) type Lives = BTreeMap<String, Vec<String>>;

impl Play {
    pub(crate) fn read(name: &str) -> Self {
        let path = folder("rows").join(format!("{name}.yaml"));
        let text = std::fs::read_to_string(&path).unwrap();
        serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// Plays the scenes and tells the differences.
    pub(crate) async fn play(&self, name: &str, site: &Site, left_out: &[String]) -> Vec<String> {
        let recorded: Lives = rows::recorded(name)
            .into_iter()
            .map(|(row, line)| {
                (
                    row,
                    serde_json::from_value(line["response"].clone()).unwrap(),
                )
            })
            .collect();
        let scenes = self.scenes.iter().map(|scene| async {
            let prefix = format!("{}: ", scene.name);
            let expected: Lives = recorded
                .iter()
                .filter_map(|(row, states)| {
                    Some((row.strip_prefix(&prefix)?.to_owned(), states.clone()))
                })
                .collect();
            let own = |row: &String| left_out.contains(&format!("{prefix}{row}"));
            let stage = Stage::open(site).await;
            if let Err(fault) = stage.perform(scene).await {
                stage.close().await;
                return vec![format!("«{}» {fault}", scene.name)];
            }
            let as_recorded = |row: &str, recorded: &[String], found: &[String]| {
                recorded == found
                    || !site.is_embedded() && states::only_warns_of_more(row, recorded, found)
            };
            let found = stage.await_lives(&expected, own, as_recorded).await;
            stage.close().await;
            differences(&expected, &found, own, as_recorded)
                .into_iter()
                .map(|text| format!("«{prefix}{text}"))
                .collect()
        });
        join_all(scenes).await.concat()
    }

    /// Writes down what happens on a real cluster.
    pub(crate) async fn record(&self, name: &str, site: &Site) {
        let scenes = self.scenes.iter().map(|scene| async {
            let stage = Stage::open(site).await;
            let performed = stage.perform(scene).await;
            sleep(SETTLING).await;
            let lives = stage.lives();
            stage.close().await;
            performed.unwrap();
            lives
                .into_iter()
                .map(|(row, states)| json!({ "name": format!("{}: {row}", scene.name), "response": states }))
                .collect::<Vec<_>>()
        });
        rows::record(name, &join_all(scenes).await.concat());
    }
}

fn differences(
    expected: &Lives,
    found: &Lives,
    left_out: impl Fn(&String) -> bool,
    as_recorded: impl Fn(&str, &[String], &[String]) -> bool,
) -> Vec<String> {
    let empty = Vec::new();
    let mut rows: Vec<&String> = expected.keys().chain(found.keys()).collect();
    rows.sort();
    rows.dedup();
    let mut told = Vec::new();
    for row in rows {
        let (left, right) = (
            expected.get(row).unwrap_or(&empty),
            found.get(row).unwrap_or(&empty),
        );
        let met = as_recorded(row, left, right);
        if met && left_out(row) {
            told.push(format!("{row}» is met: take it off left-out.yaml"));
        }
        if !met && !left_out(row) {
            let lines = |states: &[String]| states.join("\n      ");
            told.push(format!(
                "{row}»\n    here\n      {}\n    recorded\n      {}",
                lines(right),
                lines(left)
            ));
        }
    }
    told
}

/// A namespace in which a scene is played, and what is seen of it.
struct Stage<'a> {
    site: &'a Site,
    namespace: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    /// They end with the stage.
    watches: JoinSet<()>,
}

impl<'a> Stage<'a> {
    async fn open(site: &'a Site) -> Self {
        let own = super::own_words(&["t-life".to_owned()]);
        let mut stage = Self {
            site,
            namespace: own.into_iter().next().unwrap().1,
            seen: Arc::default(),
            watches: JoinSet::new(),
        };
        let labels = json!({ "pod-security.kubernetes.io/enforce": "privileged" });
        let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": stage.namespace, "labels": labels } });
        let (status, text) = stage.ask("POST /api/v1/namespaces", &namespace).await;
        assert_eq!(status, 201, "{text}");
        let deadline = Instant::now() + PATIENCE;
        // A pod is refused until its account is there.
        while stage
            .ask(
                "GET /api/v1/namespaces/{ns}/serviceaccounts/default",
                &Value::Null,
            )
            .await
            .0
            != 200
        {
            assert!(
                Instant::now() < deadline,
                "no account in {}",
                stage.namespace
            );
            sleep(PAUSE).await;
        }
        for path in WATCHED {
            stage.watch(path).await;
        }
        stage
    }

    async fn watch(&mut self, path: &str) {
        let uri = format!("{}?watch=1", path.replace("{ns}", &self.namespace));
        let request = Request::get(uri).body(Body::empty()).unwrap();
        let response = self.site.client.send(request).await.unwrap();
        assert!(
            response.status().is_success(),
            "{path}: {}",
            response.status()
        );
        let (seen, namespace) = (Arc::clone(&self.seen), self.namespace.clone());
        self.watches.spawn(async move {
            let mut pieces = response.into_body().into_data_stream();
            let mut rest = Vec::new();
            while let Some(Ok(piece)) = pieces.next().await {
                rest.extend_from_slice(&piece);
                while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = rest.drain(..=end).collect();
                    let event: Value = serde_json::from_slice(&line).unwrap();
                    seen.lock()
                        .unwrap()
                        .extend(states::read(&event, &namespace));
                }
            }
        });
    }

    async fn ask(&self, ask: &str, body: &Value) -> (u16, String) {
        let (method, path) = ask.split_once(' ').unwrap();
        let here = |text: &str| {
            text.replace("{ns}", &self.namespace)
                .replace("{image}", &self.site.image)
        };
        let content_type = if method == "PATCH" {
            "application/merge-patch+json"
        } else {
            "application/json"
        };
        let request = Request::builder()
            .method(method)
            .uri(here(path))
            .header("content-type", content_type);
        let body = if body.is_null() {
            String::new()
        } else {
            here(&body.to_string())
        };
        let response = self
            .site
            .client
            .send(request.body(Body::from(body.into_bytes())).unwrap())
            .await
            .unwrap();
        let status = response.status().as_u16();
        let text = response.into_body().collect_bytes().await.unwrap();
        (status, String::from_utf8_lossy(&text).into_owned())
    }

    async fn perform(&self, scene: &Scene) -> Result<(), String> {
        for step in &scene.steps {
            if let Some(ask) = &step.ask {
                let (status, text) = self.ask(ask, &step.body).await;
                if status >= 300 {
                    return Err(format!("{ask}: {status} {text}"));
                }
            }
            let Some(whose) = &step.until else { continue };
            let deadline = Instant::now() + PATIENCE;
            let met = |lives: &Lives| {
                lives
                    .get(whose)
                    .is_some_and(|states| states.iter().any(|state| state.contains(&step.is)))
            };
            while !met(&self.lives()) {
                if Instant::now() > deadline {
                    return Err(format!(
                        "{whose} never is «{}»: {:#?}",
                        step.is,
                        self.lives()
                    ));
                }
                sleep(PAUSE).await;
            }
        }
        Ok(())
    }

    /// Waits until everything is as expected, or no longer.
    async fn await_lives(
        &self,
        expected: &Lives,
        left_out: impl Fn(&String) -> bool,
        as_recorded: impl Fn(&str, &[String], &[String]) -> bool,
    ) -> Lives {
        let deadline = Instant::now() + PATIENCE / 4;
        loop {
            let lives = self.lives();
            let met = expected.iter().all(|(row, states)| {
                let found = lives.get(row).map_or(&[][..], Vec::as_slice);
                left_out(row) || as_recorded(row, states, found)
            });
            if met || Instant::now() > deadline {
                return lives;
            }
            sleep(PAUSE).await;
        }
    }

    fn lives(&self) -> Lives {
        let seen = self.seen.lock().unwrap().clone();
        let words = self
            .site
            .words
            .iter()
            .cloned()
            .chain([(self.namespace.clone(), "life".to_owned())]);
        states::lives(&seen, &words.collect::<Vec<_>>(), &uids())
    }

    async fn close(mut self) {
        self.watches.abort_all();
        let (status, text) = self
            .ask("DELETE /api/v1/namespaces/{ns}", &Value::Null)
            .await;
        assert!(status < 300, "{status} {text}");
    }
}

fn uids() -> Regex {
    Regex::new("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").unwrap()
}
