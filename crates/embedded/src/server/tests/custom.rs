//! Custom resources: served as soon as they are defined, gone when their definition is.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::Fixture;

const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const WIDGETS: &str = "/apis/rec.example/v1/namespaces/default/widgets";

fn definition() -> Value {
    let schema = json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {
            "size": {"type": "integer"},
            "map": {
                "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                "items": {"type": "object", "required": ["k"], "properties": {
                    "k": {"type": "string"}, "v": {"type": "string"},
                }},
            },
        }},
        "status": {"type": "object", "properties": {"n": {"type": "integer"}}},
    }});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.rec.example"},
        "spec": {
            "group": "rec.example", "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget"},
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": schema},
            }],
        },
    })
}

fn widget(spec: &Value) -> Value {
    json!({"apiVersion": "rec.example/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": spec})
}

async fn with_widgets() -> Fixture {
    let cluster = Fixture::start().await;
    let made = cluster.post(CRDS, &definition()).await;
    assert_eq!(made.code, StatusCode::CREATED, "{made:?}");
    cluster
}

#[tokio::test]
async fn a_definition_is_established_and_served_at_once() {
    let cluster = with_widgets().await;
    let found = cluster.get(&format!("{CRDS}/widgets.rec.example")).await;
    let conditions = found.at("/status/conditions");
    let kinds: Vec<&str> = conditions
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|one| one["type"].as_str())
        .collect();
    assert_eq!(kinds, ["NamesAccepted", "Established"]);
    assert_eq!(
        cluster
            .post(WIDGETS, &widget(&json!({"size": 1})))
            .await
            .code,
        StatusCode::CREATED
    );
}

#[tokio::test]
async fn the_status_and_the_rest_are_written_apart() {
    let cluster = with_widgets().await;
    let mut body = widget(&json!({"size": 1}));
    body["status"] = json!({"n": 5});
    assert_eq!(
        cluster.post(WIDGETS, &body).await.at("/status"),
        Value::Null
    );
    let path = format!("{WIDGETS}/w");
    assert_eq!(
        cluster
            .merge(&path, &json!({"status": {"n": 7}}))
            .await
            .at("/status"),
        Value::Null
    );
    let both = json!({"spec": {"size": 9}, "status": {"n": 7}});
    let status = cluster.merge(&format!("{path}/status"), &both).await;
    assert_eq!(
        (status.at("/status/n"), status.at("/spec/size")),
        (json!(7), json!(1))
    );
    assert_eq!(status.at("/metadata/generation"), 1);
    assert_eq!(status.at("/metadata/managedFields/1/subresource"), "status");
    assert_eq!(
        cluster
            .merge(&path, &json!({"spec": {"size": 2}}))
            .await
            .at("/metadata/generation"),
        2
    );
    let labelled = cluster
        .merge(&path, &json!({"metadata": {"labels": {"a": "b"}}}))
        .await;
    assert_eq!(labelled.at("/metadata/generation"), 2);
}

#[tokio::test]
async fn managers_share_a_list_by_its_keys() {
    let cluster = with_widgets().await;
    let path = |manager: &str| format!("{WIDGETS}/w?fieldManager={manager}");
    let one = cluster
        .apply(
            &path("one"),
            &widget(&json!({"size": 2, "map": [{"k": "a", "v": "1"}]})),
        )
        .await;
    assert_eq!(one.code, StatusCode::CREATED, "{one:?}");
    cluster
        .apply(
            &path("two"),
            &widget(&json!({"map": [{"k": "b", "v": "2"}]})),
        )
        .await;
    let both = cluster.get(&format!("{WIDGETS}/w")).await;
    assert_eq!(
        both.at("/spec/map"),
        json!([{"k": "a", "v": "1"}, {"k": "b", "v": "2"}])
    );
    let refused = cluster
        .apply(
            &path("two"),
            &widget(&json!({"map": [{"k": "a", "v": "9"}]})),
        )
        .await;
    assert_eq!(
        refused.at("/message"),
        "Apply failed with 1 conflict: conflict with \"one\": .spec.map[k=\"a\"].v"
    );
    let gone = cluster
        .apply(&path("one"), &widget(&json!({"size": 2})))
        .await;
    assert_eq!(gone.at("/spec/map"), json!([{"k": "b", "v": "2"}]));
}

#[tokio::test]
async fn applying_a_status_conflicts_with_its_earlier_writer() {
    let cluster = with_widgets().await;
    cluster.post(WIDGETS, &widget(&json!({"size": 1}))).await;
    cluster
        .merge(&format!("{WIDGETS}/w/status"), &json!({"status": {"n": 7}}))
        .await;
    let mut body = widget(&json!({}));
    body["status"] = json!({"n": 9});
    let path = format!("{WIDGETS}/w/status?fieldManager=st");
    assert_eq!(
        cluster.apply(&path, &body).await.at("/message"),
        "Apply failed with 1 conflict: conflict with \"unknown\" with subresource \"status\" using rec.example/v1: .status.n"
    );
    let forced = cluster.apply(&format!("{path}&force=true"), &body).await;
    assert_eq!(forced.at("/status/n"), 9);
}

#[tokio::test]
async fn a_definition_takes_its_instances_with_it() {
    let cluster = with_widgets().await;
    cluster.post(WIDGETS, &widget(&json!({"size": 1}))).await;
    let deleted = cluster
        .delete(&format!("{CRDS}/widgets.rec.example"), Value::Null)
        .await;
    assert_eq!(
        deleted.at("/metadata/finalizers"),
        json!(["customresourcecleanup.apiextensions.k8s.io"])
    );
    let mut newest = cluster.server.store.watch();
    while cluster
        .get(&format!("{CRDS}/widgets.rec.example"))
        .await
        .code
        != StatusCode::NOT_FOUND
    {
        newest.changed().await.unwrap();
    }
    assert_eq!(cluster.get(WIDGETS).await.text, "404 page not found\n");
    cluster.post(CRDS, &definition()).await;
    assert_eq!(
        cluster.get(&format!("{WIDGETS}/w")).await.code,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn strategic_merge_is_for_built_in_kinds() {
    let cluster = with_widgets().await;
    cluster.post(WIDGETS, &widget(&json!({"size": 1}))).await;
    let path = format!("{WIDGETS}/w");
    let refused = cluster
        .send(
            Method::PATCH,
            &path,
            "application/strategic-merge-patch+json",
            "{}",
        )
        .await;
    assert_eq!(refused.code, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(
        cluster.get(&format!("{path}/scale")).await.at("/message"),
        "widgets.rec.example \"w\" not found"
    );
}
