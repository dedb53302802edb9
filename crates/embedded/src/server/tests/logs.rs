//! `pods/log`: which container is meant, and what is passed on to the node.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::BoxStream};
use http::StatusCode;
use serde_json::json;

use super::Fixture;
use crate::server::logs::{LogError, LogQuery, PodLogs};

/// A node that writes down what it is asked.
#[derive(Clone, Default)]
struct Node {
    asked: Arc<Mutex<Vec<LogQuery>>>,
}

impl PodLogs for Node {
    fn open(
        &self,
        query: LogQuery,
    ) -> BoxFuture<'static, Result<BoxStream<'static, Bytes>, LogError>> {
        let previous = query.previous;
        let (pod, container) = (query.pod.clone(), query.container.clone());
        self.asked.lock().unwrap().push(query);
        async move {
            if previous {
                return Err(LogError::NoPrevious { pod, container });
            }
            Ok(futures::stream::iter(["hi\n", "bye\n"].map(Bytes::from)).boxed())
        }
        .boxed()
    }
}

#[tokio::test]
async fn a_log_is_asked_of_the_node_for_one_container() {
    let cluster = Fixture::start().await;
    let node = Node::default();
    cluster.server.set_logs(Arc::new(node.clone()));
    for (name, containers) in [("one", vec!["c"]), ("two", vec!["c", "d"])] {
        let containers: Vec<_> = containers
            .iter()
            .map(|name| json!({"name": name, "image": "i"}))
            .collect();
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": containers}});
        cluster.post("/api/v1/namespaces/default/pods", &pod).await;
    }
    let log = |rest: &str| format!("/api/v1/namespaces/default/pods/{rest}");
    let answer = cluster
        .get(&log("one/log?follow=true&tailLines=5&timestamps=true"))
        .await;
    assert_eq!(
        (answer.code, answer.text.as_str()),
        (StatusCode::OK, "hi\nbye\n")
    );
    let asked = node.asked.lock().unwrap().pop().unwrap();
    assert_eq!(
        (
            asked.container.as_str(),
            asked.follow,
            asked.tail_lines,
            asked.timestamps
        ),
        ("c", true, Some(5), true)
    );

    let unnamed = cluster.get(&log("two/log")).await;
    assert_eq!(
        unnamed.at("/message"),
        "a container name must be specified for pod two, choose one of: [c d]"
    );
    assert_eq!(
        cluster.get(&log("two/log?container=d")).await.code,
        StatusCode::OK
    );
    assert_eq!(
        cluster.get(&log("two/log?container=x")).await.code,
        StatusCode::BAD_REQUEST
    );
    let none = cluster.get(&log("one/log?previous=true")).await;
    assert_eq!(
        none.at("/message"),
        "previous terminated container \"c\" in pod \"one\" not found"
    );
    assert_eq!(
        cluster.get(&log("none/log")).await.at("/message"),
        "pods \"none\" not found"
    );
}
