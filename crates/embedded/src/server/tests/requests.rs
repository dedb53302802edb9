//! Reading and writing over plain HTTP.

use std::sync::Arc;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Fixture, MAPS};
use crate::store::Store;

fn types(events: &[Value]) -> Vec<&str> {
    events
        .iter()
        .filter_map(|event| event["type"].as_str())
        .collect()
}

#[tokio::test]
async fn a_page_of_a_list_continues_at_its_own_revision() {
    let cluster = Fixture::start().await;
    for name in ["a", "b", "c", "d", "e"] {
        cluster.config_map(name, json!({})).await;
    }
    let first = cluster.get(&format!("{MAPS}?limit=2")).await;
    let token = first.at("/metadata/continue");
    assert_eq!(first.at("/metadata/remainingItemCount"), 3);
    cluster.delete(&format!("{MAPS}/c"), Value::Null).await;
    cluster.config_map("cc", json!({})).await;
    let path = format!("{MAPS}?limit=2&continue={}", token.as_str().unwrap());
    let second = cluster.get(&path).await;
    let names = [
        second.at("/items/0/metadata/name"),
        second.at("/items/1/metadata/name"),
    ];
    assert_eq!(names, ["c", "d"]);
    assert_eq!(
        second.at("/metadata/resourceVersion"),
        first.at("/metadata/resourceVersion")
    );
    assert_eq!(second.at("/items/0/kind"), Value::Null);
}

#[tokio::test]
async fn a_watch_tells_what_its_selection_sees() {
    let cluster = Fixture::start().await;
    let start = cluster.get(MAPS).await.at("/metadata/resourceVersion");
    let one = format!("{MAPS}/one");
    cluster.config_map("other", json!({"w": "n"})).await;
    cluster.config_map("one", json!({"w": "y"})).await;
    cluster.merge(&one, &json!({"data": {"q": "1"}})).await;
    cluster
        .merge(&one, &json!({"metadata": {"labels": {"w": "n"}}}))
        .await;
    cluster.merge(&one, &json!({"data": {"q": "2"}})).await;
    let path = format!(
        "{MAPS}?watch=1&labelSelector=w%3Dy&resourceVersion={}",
        start.as_str().unwrap()
    );
    let events = cluster
        .watch(&path, |event| event["type"] == "DELETED")
        .await;
    assert_eq!(types(&events), ["ADDED", "MODIFIED", "DELETED"]);
    // The object as the selection saw it last, at the revision at which it left.
    assert_eq!(events[2]["object"]["metadata"]["labels"]["w"], "y");
    assert_ne!(
        events[2]["object"]["metadata"]["resourceVersion"],
        events[1]["object"]["metadata"]["resourceVersion"]
    );
}

#[tokio::test]
async fn a_streaming_list_ends_with_a_marked_bookmark() {
    let cluster = Fixture::start().await;
    cluster.config_map("a", json!({})).await;
    let path = format!(
        "{MAPS}?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    );
    let events = cluster
        .watch(&path, |event| event["type"] == "BOOKMARK")
        .await;
    assert_eq!(types(&events), ["ADDED", "BOOKMARK"]);
    assert_eq!(
        events[1]["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"],
        "true"
    );
}

#[tokio::test]
async fn a_watch_ends_at_its_timeout_and_at_the_stop() {
    let cluster = Fixture::start().await;
    let ended = cluster
        .watch(&format!("{MAPS}?watch=1&timeoutSeconds=1"), |_| false)
        .await;
    assert!(ended.is_empty());
    let path = format!("{MAPS}?watch=1");
    let watching = cluster.watch(&path, |_| false);
    let stopping = async { cluster.stop.cancel() };
    assert!(tokio::join!(watching, stopping).0.is_empty());
}

#[tokio::test]
async fn versions_that_are_not_are_refused_as_a_real_server_does() {
    let cluster = Fixture::start().await;
    let future = cluster
        .get(&format!(
            "{MAPS}?resourceVersion=99999&resourceVersionMatch=NotOlderThan"
        ))
        .await;
    assert_eq!(future.code, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(
        future.at("/details/causes/0/reason"),
        "ResourceVersionTooLarge"
    );
    assert_eq!(
        cluster
            .get(&format!("{MAPS}?watch=1&resourceVersion=abc"))
            .await
            .code,
        500
    );
    assert_eq!(
        cluster
            .get(&format!("{MAPS}?resourceVersionMatch=Exact"))
            .await
            .code,
        422
    );
    assert_eq!(
        cluster
            .get(&format!("{MAPS}?limit=2&continue=zzz"))
            .await
            .code,
        400
    );
}

#[tokio::test]
async fn writing_the_same_again_changes_no_version() {
    let cluster = Fixture::start().await;
    let made = cluster.config_map("one", json!({"x": "1"})).await.json();
    let path = format!("{MAPS}/one");
    let again = cluster.put(&path, &made).await;
    assert_eq!(again.json(), made);
    let changed = cluster.merge(&path, &json!({"data": {"a": "2"}})).await;
    assert_ne!(
        changed.at("/metadata/resourceVersion"),
        made["metadata"]["resourceVersion"]
    );
    let stale = cluster.put(&path, &made).await;
    assert_eq!(stale.code, StatusCode::CONFLICT);
    assert_eq!(stale.at("/reason"), "Conflict");
}

#[tokio::test]
async fn a_dry_run_answers_and_leaves_nothing() {
    let cluster = Fixture::start().await;
    let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "dry"}});
    assert_eq!(
        cluster
            .post(&format!("{MAPS}?dryRun=All"), &body)
            .await
            .code,
        StatusCode::CREATED
    );
    assert_eq!(
        cluster.get(&format!("{MAPS}/dry")).await.code,
        StatusCode::NOT_FOUND
    );
    cluster.config_map("kept", json!({})).await;
    cluster
        .send(Method::DELETE, &format!("{MAPS}/kept?dryRun=All"), "", "")
        .await;
    assert_eq!(
        cluster.get(&format!("{MAPS}/kept")).await.code,
        StatusCode::OK
    );
}

#[tokio::test]
async fn paths_that_are_not_served_say_so() {
    let cluster = Fixture::start().await;
    let page = cluster.get("/apis/nope.example/v1/things").await;
    assert_eq!(
        (page.code, page.text.as_str()),
        (StatusCode::NOT_FOUND, "404 page not found\n")
    );
    let resource = cluster.get("/apis/batch/v1/namespaces/default/nopes").await;
    assert_eq!(
        resource.at("/message"),
        "the server could not find the requested resource"
    );
    assert_eq!(
        cluster.put("/api/v1/namespaces", &json!({})).await.code,
        StatusCode::METHOD_NOT_ALLOWED
    );
    assert_eq!(cluster.get("/healthz").await.text, "ok");
}

#[tokio::test]
async fn many_writers_of_one_object_lose_no_change() {
    let cluster = Fixture::start().await;
    cluster.config_map("one", json!({})).await;
    let path = format!("{MAPS}/one");
    let writes = (0..20).map(|number| {
        let (cluster, path) = (&cluster, &path);
        async move {
            let name = format!("k{number}");
            let body = json!({"data": {name: "1"}});
            assert_eq!(cluster.merge(path, &body).await.code, StatusCode::OK);
        }
    });
    futures::future::join_all(writes).await;
    assert_eq!(
        cluster
            .get(&path)
            .await
            .at("/data")
            .as_object()
            .unwrap()
            .len(),
        21
    );
}

#[tokio::test]
async fn a_watch_from_a_forgotten_revision_is_told_to_start_anew() {
    let store = Arc::new(Store::open(redb::backends::InMemoryBackend::new()).unwrap());
    store.forget(100);
    let cluster = Fixture::over(store).await;
    let events = cluster
        .watch(&format!("{MAPS}?watch=1&resourceVersion=5"), |_| false)
        .await;
    assert_eq!(types(&events), ["ERROR"]);
    assert_eq!(events[0]["object"]["code"], 410);
    assert_eq!(events[0]["object"]["reason"], "Expired");
}

#[tokio::test]
async fn metadata_and_tables_are_shown_when_asked_for() {
    let cluster = Fixture::start().await;
    cluster.config_map("one", json!({})).await;
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let shown = cluster.accept(MAPS, table).await;
    assert_eq!(shown.at("/rows/0/cells/0"), "one");
    let metadata = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    let shown = cluster.accept(MAPS, metadata).await;
    assert_eq!(shown.at("/items/0/metadata/name"), "one");
    assert_eq!(shown.at("/items/0/data"), Value::Null);
    assert_eq!(
        cluster.accept(MAPS, "text/html").await.code,
        StatusCode::NOT_ACCEPTABLE
    );
    let yaml = cluster
        .accept(&format!("{MAPS}/one"), "application/yaml")
        .await;
    assert!(yaml.text.contains("kind: ConfigMap"), "{}", yaml.text);
}
