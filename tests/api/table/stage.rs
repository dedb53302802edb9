//! A story played on a cluster.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt as _;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep, timeout};

use super::compare::Names;
use super::rows::Row;
use super::site::Site;

/// The longest that anything here may take. A real garbage collector asks twice a minute which kinds there are.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long a recording waits for what comes about by itself.
const SETTLING: Duration = Duration::from_secs(4);
/// Between two looks at what comes about by itself.
const PAUSE: Duration = Duration::from_millis(20);

/// A cluster, and what the present run calls the things of the recording.
pub(crate) struct Stage<'a> {
    site: &'a Site,
    names: Names,
    kept: BTreeMap<String, String>,
}

/// What came back, whole.
struct Answer {
    status: u16,
    content_type: String,
    warnings: Vec<String>,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    /// As it stands in a recording.
    fn recorded(&self) -> Value {
        let mut response = Map::new();
        response.insert("status".to_owned(), json!(self.status));
        response.insert("contentType".to_owned(), json!(self.content_type));
        if !self.warnings.is_empty() {
            response.insert("warning".to_owned(), json!(self.warnings));
        }
        let body = serde_json::from_str(&self.text).unwrap_or_else(|_| json!(self.text));
        response.insert("body".to_owned(), body);
        Value::Object(response)
    }
}

impl<'a> Stage<'a> {
    /// A stage where these words are others.
    pub(crate) fn new(site: &'a Site, words: impl IntoIterator<Item = (String, String)>) -> Self {
        Self {
            site,
            names: Names::new(words),
            kept: BTreeMap::new(),
        }
    }

    /// Does what a row without a name asks for.
    pub(crate) async fn prepare(&mut self, row: &Row) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.ask(row).await;
            let fine = answer.status < 300 || row.may.contains(&answer.status);
            let here = answer.json();
            let has = row
                .has
                .as_deref()
                .is_none_or(|path| here.pointer(path).is_some_and(|part| !part.is_null()));
            if fine && has {
                return self.keep(row, &here);
            }
            let waits = row.has.is_some() && Instant::now() < deadline;
            assert!(waits, "{}: {} {}", row.ask, answer.status, answer.text);
            sleep(PAUSE).await;
        }
    }

    /// Asks, and compares with the recorded answer.
    pub(crate) async fn compare(&mut self, row: &Row, response: &Value) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let outcome = if row.events.is_some() {
                self.compare_watch(row, response).await
            } else {
                let answer = self.ask(row).await;
                self.keep(row, &answer.json());
                self.judge(row, response, &answer)
            };
            if outcome.is_ok() || !row.until || Instant::now() > deadline {
                return outcome;
            }
            sleep(PAUSE).await;
        }
    }

    /// Asks, and gives the answer as it is recorded.
    pub(crate) async fn record(&mut self, row: &Row) -> Value {
        if row.until {
            sleep(SETTLING).await;
        }
        if row.events.is_some() {
            let (status, events) = self.watch(row).await;
            return json!({ "status": status, "events": events });
        }
        let answer = self.ask(row).await;
        self.keep(row, &answer.json());
        let mut recorded = answer.recorded();
        if row.form {
            recorded["body"] = Value::Null;
        }
        recorded
    }

    fn keep(&mut self, row: &Row, here: &Value) {
        for (name, path) in &row.keep {
            if let Some(value) = here.pointer(path).and_then(Value::as_str) {
                self.kept.insert(name.clone(), value.to_owned());
            }
        }
    }

    /// A text of the table as it is asked here.
    fn here(&self, text: &str) -> String {
        let mut text = self.names.translate(text);
        for (name, value) in &self.kept {
            text = text.replace(&format!("{{{name}}}"), value);
        }
        text
    }

    async fn ask(&self, row: &Row) -> Answer {
        read(self.send(row).await).await
    }

    async fn send(&self, row: &Row) -> Response<Body> {
        let client = if row.anonymous {
            &self.site.stranger
        } else {
            &self.site.client
        };
        let mut request = Request::builder()
            .method(row.method())
            .uri(self.here(row.path()));
        let body = row.text();
        if body.is_some() {
            let content_type = row.content_type.as_deref().unwrap_or("application/json");
            request = request.header("content-type", content_type);
        }
        if let Some(accept) = &row.accept {
            request = request.header("accept", accept);
        }
        let body = body.map(|body| self.here(&body)).unwrap_or_default();
        let request = request.body(Body::from(body.into_bytes())).unwrap();
        client.send(request).await.unwrap()
    }

    fn judge(&mut self, row: &Row, recorded: &Value, answer: &Answer) -> Result<(), String> {
        let status = recorded["status"].as_u64().unwrap();
        if status != u64::from(answer.status) {
            return Err(format!(
                "  status {}, recorded: {status}\n  {}",
                answer.status, answer.text
            ));
        }
        if let Some(content_type) = recorded["contentType"].as_str()
            && content_type != answer.content_type
        {
            return Err(format!(
                "  content type {}, recorded: {content_type}",
                answer.content_type
            ));
        }
        let warnings: Vec<String> =
            serde_json::from_value(recorded["warning"].clone()).unwrap_or_default();
        let mut warnings: Vec<String> = warnings.iter().map(|text| self.here(text)).collect();
        let mut found = answer.warnings.clone();
        // What a cluster's own admission says of pods is no answer of the API.
        found.retain(|warning| !warning.contains("would violate PodSecurity"));
        // Their order means nothing.
        warnings.sort();
        found.sort();
        if warnings != found {
            return Err(format!(
                "  warnings {:?}, recorded: {warnings:?}",
                answer.warnings
            ));
        }
        let whole = answer.json();
        self.judge_body(row, recorded, answer, &whole)
    }

    fn judge_body(
        &mut self,
        row: &Row,
        recorded: &Value,
        answer: &Answer,
        whole: &Value,
    ) -> Result<(), String> {
        if let Some(names) = recorded["names"].as_array() {
            let found: Vec<&Value> = whole["items"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|item| &item["metadata"]["name"])
                .collect();
            let met = found.iter().eq(&names.iter().collect::<Vec<_>>());
            return met
                .then_some(())
                .ok_or_else(|| format!("  names {found:?}"));
        }
        match &recorded["body"] {
            Value::Null => Ok(()),
            // The recording tells only how long some answers were.
            Value::String(text) if text.starts_with('(') && text.ends_with(" characters)") => {
                Ok(())
            }
            Value::String(text) => {
                let text = self.here(text);
                let met = text == answer.text;
                met.then_some(())
                    .ok_or_else(|| format!("  text {:?}, recorded: {text:?}", answer.text))
            }
            body => {
                let (body, part) = parts(row, body, whole);
                self.names.learn(&body, &part);
                self.names.difference(&body, &part).map_or(Ok(()), Err)
            }
        }
    }

    async fn compare_watch(&mut self, row: &Row, recorded: &Value) -> Result<(), String> {
        let (status, found) = self.watch(row).await;
        if recorded["status"].as_u64() != Some(u64::from(status)) {
            return Err(format!("  status {status}"));
        }
        let expired = |event: &Value| event.pointer("/object/code") == Some(&json!(410));
        if row.may_expire && found.first().is_some_and(expired) {
            return Ok(());
        }
        let left = recorded["events"].clone();
        if left.as_array().map(Vec::len) != Some(found.len()) {
            return Err(format!("  {} events: {found:?}", found.len()));
        }
        let right = Value::Array(found);
        self.names.learn(&left, &right);
        self.names.difference(&left, &right).map_or(Ok(()), Err)
    }

    /// Opens a watch, does what is to be done during it, and gives its events.
    async fn watch(&mut self, row: &Row) -> (u16, Vec<Value>) {
        let response = self.send(row).await;
        let status = response.status().as_u16();
        for during in &row.during {
            self.prepare(during).await;
        }
        let wanted = row.events.unwrap_or_default();
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
        // Too few events are told by the comparison.
        let _ = timeout(PATIENCE, collect).await;
        found.truncate(wanted);
        (status, found)
    }

    /// Deletes what a story leaves.
    pub(crate) async fn clean_up(&self, paths: &[String]) {
        for path in paths {
            let path = self.here(path);
            let request = Request::delete(&path).body(Body::empty()).unwrap();
            let status = self.site.client.send(request).await.unwrap().status();
            assert!(
                status.is_success() || status == 404,
                "{path} is not deleted: {status}"
            );
        }
    }
}

/// The parts of a recorded answer and of the one here that are compared.
fn parts(row: &Row, recorded: &Value, here: &Value) -> (Value, Value) {
    if row.shortened {
        return (shortened(recorded), subset(&shortened(recorded), here));
    }
    let Some(path) = &row.part else {
        return (recorded.clone(), here.clone());
    };
    // An older recording holds the part itself.
    let left = recorded.pointer(path).unwrap_or(recorded);
    (
        left.clone(),
        here.pointer(path).cloned().unwrap_or_default(),
    )
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
    if let Some(url) = here.pointer("/paths/api~1v1/serverRelativeURL") {
        let url = url.as_str().unwrap_or_default();
        let own = url.starts_with("/openapi/v3/api/v1?hash=");
        return shortened(&json!({ "paths": { "api/v1": own } }));
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
    let status = response.status().as_u16();
    let body = response.into_body().collect_bytes().await.unwrap();
    Answer {
        status,
        content_type: text("content-type"),
        warnings,
        text: String::from_utf8_lossy(&body).into_owned(),
    }
}
