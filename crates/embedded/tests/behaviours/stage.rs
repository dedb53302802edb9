//! The cluster that the recording is replayed on, and what was done to it between the recorded requests.

use std::time::Duration;

use futures::StreamExt as _;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::{Value, json};
use syncline_embedded::Cluster;

use super::compare::Names;
use super::recorded::Recorded;

/// The longest that anything here may take.
const PATIENCE: Duration = Duration::from_secs(10);
const MAPS: &str = "/api/v1/namespaces/rec/configmaps";

/// A cluster with a client, and the names that differ from the recording's.
pub(crate) struct Stage {
    client: kube::Client,
    /// A client without credentials.
    stranger: kube::Client,
    names: Names,
}

/// What came back, whole.
struct Answer {
    status: u64,
    content_type: String,
    warnings: Vec<String>,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }
}

impl Stage {
    pub(crate) async fn new(cluster: &Cluster) -> Self {
        let mut kubeconfig = kube::config::Kubeconfig::read_from(cluster.kubeconfig()).unwrap();
        for user in &mut kubeconfig.auth_infos {
            user.auth_info = Some(kube::config::AuthInfo::default());
        }
        let options = kube::config::KubeConfigOptions::default();
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options);
        let stranger = kube::Client::try_from(config.await.unwrap()).unwrap();
        Self {
            client: cluster.client(),
            stranger,
            names: Names::default(),
        }
    }

    /// Asks as the recording did and compares.
    pub(crate) async fn play(&mut self, recorded: &Recorded) -> Result<(), String> {
        self.before(&recorded.name).await;
        if let Some(events) = recorded.events().cloned() {
            return self.watch(recorded, &events).await;
        }
        let waits = matches!(
            recorded.name.as_str(),
            "foreground: child gone"
                | "foreground: owner gone"
                | "orphan: child stays without the reference"
                | "owner that never existed: child collected"
                | "crd: established"
                | "crd: discovery"
                | "crd: gone"
                | "namespace gone"
        );
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let answer = self.ask(recorded).await;
            let outcome = self.judge(recorded, &answer);
            if outcome.is_ok() || !waits || tokio::time::Instant::now() > deadline {
                return outcome;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn ask(&self, recorded: &Recorded) -> Answer {
        let client = if recorded.name == "no credentials" {
            &self.stranger
        } else {
            &self.client
        };
        let (content_type, accept) = (recorded.content_type.as_deref(), recorded.accept.as_deref());
        let path = self.names.translate(&recorded.path);
        let body = recorded
            .body
            .as_deref()
            .map(|body| self.names.translate(body))
            .unwrap_or_default();
        read(
            send(
                client,
                (&recorded.method, &path),
                content_type,
                accept,
                body,
            )
            .await,
        )
        .await
    }

    fn judge(&mut self, recorded: &Recorded, answer: &Answer) -> Result<(), String> {
        if recorded.status() != answer.status {
            return Err(format!(
                "  status {}, a real server: {}\n  {}",
                answer.status,
                recorded.status(),
                answer.text
            ));
        }
        if let Some(content_type) = recorded.response["contentType"].as_str()
            && content_type != answer.content_type
        {
            return Err(format!(
                "  content type {}, a real server: {content_type}",
                answer.content_type
            ));
        }
        let warnings: Vec<String> =
            serde_json::from_value(recorded.response["warning"].clone()).unwrap_or_default();
        if warnings != answer.warnings {
            return Err(format!(
                "  warnings {:?}, a real server: {warnings:?}",
                answer.warnings
            ));
        }
        let here = Self::reduce(recorded, answer);
        if let Some(names) = recorded.response["names"].as_array() {
            let found: Vec<&Value> = here["items"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|item| &item["metadata"]["name"])
                .collect();
            return if found.iter().eq(&names.iter().collect::<Vec<_>>()) {
                Ok(())
            } else {
                Err(format!("  names {found:?}"))
            };
        }
        match &recorded.response["body"] {
            Value::Null => Ok(()),
            // The recording tells only how long some answers were.
            Value::String(text) if text.starts_with('(') && text.ends_with(" characters)") => {
                Ok(())
            }
            Value::String(text) if text == &answer.text => Ok(()),
            Value::String(text) => {
                Err(format!("  text {:?}, a real server: {text:?}", answer.text))
            }
            body => {
                let body = shortened(body);
                self.names.learn(&body, &here);
                self.names.difference(&body, &here).map_or(Ok(()), Err)
            }
        }
    }

    /// The part of an answer that was recorded.
    fn reduce(recorded: &Recorded, answer: &Answer) -> Value {
        let here = answer.json();
        match recorded.name.as_str() {
            "crd: established" => here["status"].clone(),
            name if name.ends_with("(shortened)") => {
                subset(&shortened(&recorded.response["body"]), &here)
            }
            _ => here,
        }
    }

    async fn watch(&mut self, recorded: &Recorded, events: &[Value]) -> Result<(), String> {
        let path = self.names.translate(&recorded.path);
        let response = send(&self.client, ("GET", &path), None, None, String::new()).await;
        if u64::from(response.status().as_u16()) != recorded.status() {
            return Err(format!("  status {}", response.status()));
        }
        self.during(&recorded.name).await;
        let wanted = events.len();
        let mut found: Vec<Value> = Vec::new();
        let mut pieces = response.into_body().into_data_stream();
        let mut rest = String::new();
        let collect = async {
            while found.len() < wanted {
                let Some(Ok(piece)) = pieces.next().await else {
                    break;
                };
                rest.push_str(&String::from_utf8_lossy(&piece));
                while let Some((line, after)) = rest.clone().split_once('\n') {
                    found.push(serde_json::from_str(line).unwrap());
                    after.clone_into(&mut rest);
                }
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, collect).await.is_ok();
        if !in_time || found.len() < wanted {
            return Err(format!("  {} events of {wanted}: {found:?}", found.len()));
        }
        found.truncate(wanted);
        let (left, right) = (json!(events), json!(found));
        self.names.learn(&left, &right);
        self.names.difference(&left, &right).map_or(Ok(()), Err)
    }

    async fn post(&self, path: &str, object: Value) {
        let answer = read(
            send(
                &self.client,
                ("POST", path),
                Some("application/json"),
                None,
                object.to_string(),
            )
            .await,
        )
        .await;
        // An object that an unmet behaviour left over is as good as a new one.
        assert!(matches!(answer.status, 201 | 409), "{}", answer.text);
    }

    async fn patch(&self, path: &str, patch: Value) {
        let kind = Some("application/merge-patch+json");
        let answer =
            read(send(&self.client, ("PATCH", path), kind, None, patch.to_string()).await).await;
        assert!(matches!(answer.status, 200 | 404), "{}", answer.text);
    }

    async fn delete(&self, path: &str, options: Value) {
        let answer = read(
            send(
                &self.client,
                ("DELETE", path),
                Some("application/json"),
                None,
                options.to_string(),
            )
            .await,
        )
        .await;
        assert!(matches!(answer.status, 200 | 404), "{}", answer.text);
    }

    async fn map(&self, name: &str, metadata: Value) -> Value {
        let mut metadata = metadata;
        metadata["name"] = json!(name);
        self.post(MAPS, json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": { "a": "1" } })).await;
        self.get(&format!("{MAPS}/{name}")).await
    }

    async fn get(&self, path: &str) -> Value {
        read(send(&self.client, ("GET", path), None, None, String::new()).await)
            .await
            .json()
    }

    fn owned_by(name: &str, uid: &Value) -> Value {
        json!({ "ownerReferences": [{ "apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": uid, "blockOwnerDeletion": true }] })
    }

    /// Looks until the object has this field, or patience ends: then the next comparison tells.
    async fn wait_for(&self, object: &str, field: &str) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while self
            .get(object)
            .await
            .pointer(field)
            .is_none_or(Value::is_null)
            && tokio::time::Instant::now() < deadline
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What the recording did before a request without recording it.
    async fn before(&mut self, name: &str) {
        match name {
            // The recording came after the namespace had got its certificate.
            "create" => {
                self.wait_for(&format!("{MAPS}/kube-root-ca.crt"), "/data")
                    .await;
            }
            "list with limit" => {
                for i in 0..5 {
                    self.map(
                        &format!("l{i}"),
                        json!({ "labels": { "set": "l", "i": i.to_string() } }),
                    )
                    .await;
                }
            }
            "delete with a finalizer marks" => {
                self.patch(
                    &format!("{MAPS}/l2"),
                    json!({ "metadata": { "finalizers": ["rec.example/hold"] } }),
                )
                .await;
            }
            "foreground delete: finalizer foregroundDeletion" => {
                let owner = self.map("owner", json!({})).await;
                self.map("child", Self::owned_by("owner", &owner["metadata"]["uid"]))
                    .await;
            }
            "orphan: child stays without the reference" => {
                let owner = self.map("owner", json!({})).await;
                self.map("child", Self::owned_by("owner", &owner["metadata"]["uid"]))
                    .await;
                self.delete(
                    &format!("{MAPS}/owner"),
                    json!({ "propagationPolicy": "Orphan" }),
                )
                .await;
            }
            "owner that never existed: child collected" => {
                self.map(
                    "lost",
                    Self::owned_by("ghost", &json!("11111111-1111-1111-1111-111111111111")),
                )
                .await;
            }
            // The recording came after the controller had noticed the Job.
            "job: parallelism may change, generation rises" => {
                let job = "/apis/batch/v1/namespaces/rec/jobs/j";
                self.wait_for(job, "/status/startTime").await;
            }
            // What the rule should have refused is put away again.
            "cr: duplicate map key" => {
                self.delete("/apis/rec.example/v1/namespaces/rec/widgets/x", json!({}))
                    .await;
            }
            // Something must hold the namespace while the next requests look at it.
            "namespace delete" => {
                self.map("held", json!({ "finalizers": ["rec.example/hold"] }))
                    .await;
            }
            "namespace gone" => {
                self.patch(
                    &format!("{MAPS}/held"),
                    json!({ "metadata": { "finalizers": null } }),
                )
                .await;
            }
            _ => {}
        }
    }

    /// What the recording did while it watched.
    async fn during(&mut self, name: &str) {
        let one = format!("{MAPS}/w1");
        if name.starts_with("watch from resourceVersion") || name.starts_with("watch with selector")
        {
            self.map("w1", json!({ "labels": { "w": "y" } })).await;
            self.patch(&one, json!({ "data": { "q": "1" } })).await;
            self.patch(&one, json!({ "metadata": { "labels": { "w": "n" } } }))
                .await;
            self.delete(&one, json!({})).await;
        }
    }
}

/// The index of `OpenAPI` documents names them with hashes; only the documents of groups served are compared.
fn shortened(body: &Value) -> Value {
    match body.pointer("/paths/api~1v1") {
        Some(_) => json!({ "paths": { "api/v1": { "serverRelativeURL": "(own)" } } }),
        None => body.clone(),
    }
}

/// The items of an aggregated discovery that the recording shows.
fn subset(recorded: &Value, here: &Value) -> Value {
    let mut here = here.clone();
    if let Some(url) = here.pointer_mut("/paths/api~1v1/serverRelativeURL") {
        assert!(
            url.as_str()
                .unwrap()
                .starts_with("/openapi/v3/api/v1?hash=")
        );
        return json!({ "paths": { "api/v1": { "serverRelativeURL": "(own)" } } });
    }
    let name = |item: &Value| item["metadata"]["name"].clone();
    let groups = recorded["items"].as_array().cloned().unwrap_or_default();
    if let Some(items) = here["items"].as_array_mut() {
        items.retain(|item| groups.iter().any(|group| name(group) == name(item)));
        for (item, group) in items.iter_mut().zip(&groups) {
            let shown: Vec<Value> = group["versions"][0]["resources"]
                .as_array()
                .unwrap()
                .iter()
                .map(|resource| resource["resource"].clone())
                .collect();
            if let Some(resources) = item["versions"][0]["resources"].as_array_mut() {
                resources.retain(|resource| shown.contains(&resource["resource"]));
            }
        }
    }
    here
}

async fn send(
    client: &kube::Client,
    (method, path): (&str, &str),
    content_type: Option<&str>,
    accept: Option<&str>,
    body: String,
) -> Response<Body> {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(content_type) = content_type {
        request = request.header("content-type", content_type);
    }
    if let Some(accept) = accept {
        request = request.header("accept", accept);
    }
    client
        .send(request.body(Body::from(body.into_bytes())).unwrap())
        .await
        .unwrap()
}

async fn read(response: Response<Body>) -> Answer {
    let headers = response.headers().clone();
    let text = |name: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_owned()
    };
    let warnings = headers
        .get_all("warning")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .map(str::to_owned)
        .collect();
    let status = u64::from(response.status().as_u16());
    let body = response.into_body().collect_bytes().await.unwrap();
    Answer {
        status,
        content_type: text("content-type"),
        warnings,
        text: String::from_utf8_lossy(&body).into_owned(),
    }
}
