//! `pods/log`: who has the logs, and how a request for them is read.

use std::sync::Arc;

use bytes::Bytes;
use futures::{future::BoxFuture, stream::BoxStream};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{
    Server,
    answer::{self, Reply},
    dispatch::Call,
    metadata,
    route::Target,
    status::Failure,
};

/// Which lines of which container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogQuery {
    pub(crate) namespace: String,
    pub(crate) pod: String,
    /// The pod's uid, by which its files are found.
    pub(crate) uid: String,
    pub(crate) container: String,
    /// The container's run before the present one.
    pub(crate) previous: bool,
    /// Go on until the container has ended.
    pub(crate) follow: bool,
    pub(crate) tail_lines: Option<u64>,
    pub(crate) limit_bytes: Option<u64>,
    /// Only lines written at this time or later.
    pub(crate) since: Option<Timestamp>,
    /// Each line begins with the time at which it was written, RFC 3339 with nanoseconds.
    pub(crate) timestamps: bool,
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    #[error("container \"{container}\" in pod \"{pod}\" is waiting to start: {reason}")]
    NotStarted {
        pod: String,
        container: String,
        reason: String,
    },
    #[error("previous terminated container \"{container}\" in pod \"{pod}\" not found")]
    NoPrevious { pod: String, container: String },
    #[error("the log of container \"{container}\" in pod \"{pod}\" cannot be read: {source}")]
    Unreadable {
        pod: String,
        container: String,
        source: std::io::Error,
    },
}

/// Whoever runs the pods.
pub(crate) trait PodLogs: Send + Sync + 'static {
    /// Opens a log. The stream ends where the log does; with `follow`, when the container has ended.
    fn open(
        &self,
        query: LogQuery,
    ) -> BoxFuture<'static, Result<BoxStream<'static, Bytes>, LogError>>;
}

impl Server {
    /// Says who has the logs; before, requests for them are answered with 503-like faults.
    pub(crate) fn set_logs(&self, logs: Arc<dyn PodLogs>) {
        // The first stays: a cluster has one node.
        drop(self.logs.set(logs));
    }

    /// `GET …/pods/name/log`.
    pub(crate) async fn pod_log(&self, call: &Call, target: &Target) -> Result<Reply, Failure> {
        let stored = self.fetch(target)?;
        let query = read(call, target, &stored.object, self.now())?;
        let Some(logs) = self.logs.get() else {
            return Err(Failure::internal("the node is not running yet; try again"));
        };
        let stop = self.stop.clone();
        let lines = logs
            .open(query)
            .await
            .map_err(|error| Failure::bad_request(error.to_string()))?;
        let until_stop = futures::StreamExt::take_until(lines, stop.cancelled_owned());
        Ok(Reply::stream("text/plain", answer::streamed(until_stop)))
    }
}

fn read(call: &Call, target: &Target, pod: &Value, now: Timestamp) -> Result<LogQuery, Failure> {
    let since_seconds = call
        .query
        .get("sinceSeconds")
        .and_then(|text| text.parse::<i64>().ok());
    let since_time = call
        .query
        .get("sinceTime")
        .and_then(|text| text.parse::<Timestamp>().ok());
    Ok(LogQuery {
        namespace: target.namespace().to_owned(),
        pod: target.name().to_owned(),
        uid: metadata::text(pod, "uid").unwrap_or_default().to_owned(),
        container: container(call, target, pod)?,
        previous: call.query.flag("previous"),
        follow: call.query.flag("follow"),
        tail_lines: call.query.number("tailLines"),
        limit_bytes: call.query.number("limitBytes"),
        since: since_seconds
            .and_then(|seconds| now.checked_sub(SignedDuration::from_secs(seconds)).ok())
            .or(since_time),
        timestamps: call.query.flag("timestamps"),
    })
}

/// The container asked for, or the only one.
fn container(call: &Call, target: &Target, pod: &Value) -> Result<String, Failure> {
    let names = |list: &str| -> Vec<String> {
        let containers = pod
            .pointer(&format!("/spec/{list}"))
            .and_then(Value::as_array);
        let names = containers
            .into_iter()
            .flatten()
            .filter_map(|container| container.get("name")?.as_str());
        names.map(str::to_owned).collect()
    };
    let (main, first) = (names("containers"), names("initContainers"));
    match call.query.get("container") {
        Some(wanted) if main.iter().chain(&first).any(|name| name == wanted) => {
            Ok(wanted.to_owned())
        }
        Some(wanted) => Err(Failure::bad_request(format!(
            "container {wanted} is not valid for pod {}",
            target.name()
        ))),
        None => match main.as_slice() {
            [only] => Ok(only.clone()),
            _ => Err(Failure::bad_request(format!(
                "a container name must be specified for pod {}, choose one of: [{}]",
                target.name(),
                main.join(" ")
            ))),
        },
    }
}
