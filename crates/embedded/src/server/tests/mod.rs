//! The service as clients see it.

mod custom;
mod deletion;
mod logs;
mod requests;
mod typed;

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::{ApiService, Server};
use crate::clock::SystemClock;
use crate::store::Store;

/// A server over a store in memory.
pub(super) struct Fixture {
    pub(super) server: Arc<Server>,
    pub(super) service: ApiService,
    pub(super) stop: CancellationToken,
}

/// An answer read to its end.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) code: StatusCode,
    pub(super) warnings: Vec<String>,
    pub(super) text: String,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The value at a JSON pointer.
    pub(super) fn at(&self, pointer: &str) -> Value {
        self.json().pointer(pointer).cloned().unwrap_or_default()
    }
}

impl Fixture {
    /// With the namespace `default`.
    pub(super) async fn start() -> Self {
        Self::over(Arc::new(
            Store::open(redb::backends::InMemoryBackend::new()).unwrap(),
        ))
        .await
    }

    pub(super) async fn over(store: Arc<Store>) -> Self {
        let stop = CancellationToken::new();
        let server = Arc::new(Server::new(store, Arc::new(SystemClock), stop.clone()));
        let service = ApiService::new(Arc::clone(&server));
        tokio::spawn(Arc::clone(&server).clean_up_definitions());
        let fixture = Self {
            server,
            service,
            stop,
        };
        let made = fixture
            .post(
                "/api/v1/namespaces",
                &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}}),
            )
            .await;
        assert_eq!(made.code, StatusCode::CREATED, "{made:?}");
        fixture
    }

    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: &str,
    ) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", content_type)
            .body(Full::new(Bytes::from(body.to_owned())))
            .unwrap();
        self.answer(request).await
    }

    async fn answer(&self, request: Request<Full<Bytes>>) -> Answer {
        let response = self.service.clone().oneshot(request).await.unwrap();
        let warnings = response
            .headers()
            .get_all("warning")
            .iter()
            .map(|value| value.to_str().unwrap().to_owned());
        let (code, warnings) = (response.status(), warnings.collect());
        let text = String::from_utf8(
            response
                .into_body()
                .collect()
                .await
                .unwrap()
                .to_bytes()
                .to_vec(),
        )
        .unwrap();
        Answer {
            code,
            warnings,
            text,
        }
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, "", "").await
    }

    pub(super) async fn accept(&self, path: &str, accept: &str) -> Answer {
        let request = Request::builder()
            .uri(path)
            .header("accept", accept)
            .body(Full::new(Bytes::new()))
            .unwrap();
        self.answer(request).await
    }

    pub(super) async fn delete(&self, path: &str, options: Value) -> Answer {
        let body = if options.is_null() {
            String::new()
        } else {
            options.to_string()
        };
        self.send(Method::DELETE, path, "application/json", &body)
            .await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, "application/json", &body.to_string())
            .await
    }

    pub(super) async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::PUT, path, "application/json", &body.to_string())
            .await
    }

    pub(super) async fn merge(&self, path: &str, body: &Value) -> Answer {
        self.send(
            Method::PATCH,
            path,
            "application/merge-patch+json",
            &body.to_string(),
        )
        .await
    }

    pub(super) async fn apply(&self, path: &str, body: &Value) -> Answer {
        self.send(
            Method::PATCH,
            path,
            "application/apply-patch+yaml",
            &body.to_string(),
        )
        .await
    }

    /// The events of a watch up to and with the one that `last` names.
    pub(super) async fn watch(&self, path: &str, last: impl Fn(&Value) -> bool) -> Vec<Value> {
        let request = Request::builder()
            .uri(path)
            .body(Full::new(Bytes::new()))
            .unwrap();
        let response = self.service.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let mut pieces = response.into_body().into_data_stream();
        let mut events = Vec::new();
        while let Some(piece) = pieces.next().await {
            for line in piece
                .unwrap()
                .split(|byte| *byte == b'\n')
                .filter(|line| !line.is_empty())
            {
                let event: Value = serde_json::from_slice(line).unwrap();
                let ended = last(&event);
                events.push(event);
                if ended {
                    return events;
                }
            }
        }
        events
    }

    pub(super) async fn config_map(&self, name: &str, labels: Value) -> Answer {
        let body = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}, "data": {"a": "1"},
        });
        self.post("/api/v1/namespaces/default/configmaps", &body)
            .await
    }
}

pub(super) const MAPS: &str = "/api/v1/namespaces/default/configmaps";
