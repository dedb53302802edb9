//! Deleting, with all that may hold an object.

use http::StatusCode;
use serde_json::{Value, json};

use super::{Fixture, MAPS};

#[tokio::test]
async fn a_finalizer_holds_a_deleted_object_until_it_is_taken_away() {
    let cluster = Fixture::start().await;
    let body = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one", "finalizers": ["rec.example/hold"]},
    });
    cluster.post(MAPS, &body).await;
    let path = format!("{MAPS}/one");
    let marked = cluster.delete(&path, Value::Null).await;
    assert_eq!(marked.at("/kind"), "ConfigMap");
    assert_eq!(marked.at("/metadata/deletionGracePeriodSeconds"), 0);
    let more = cluster
        .merge(
            &path,
            &json!({"metadata": {"finalizers": ["rec.example/hold", "rec.example/more"]}}),
        )
        .await;
    assert_eq!(more.code, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(more.at("/details/causes").as_array().unwrap().len(), 2);
    assert_eq!(
        cluster
            .merge(&path, &json!({"metadata": {"finalizers": null}}))
            .await
            .code,
        StatusCode::OK
    );
    assert_eq!(cluster.get(&path).await.code, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_propagation_policy_becomes_a_finalizer() {
    let cluster = Fixture::start().await;
    cluster.config_map("one", json!({})).await;
    let path = format!("{MAPS}/one");
    let held = cluster
        .delete(&path, json!({"propagationPolicy": "Foreground"}))
        .await;
    assert_eq!(
        held.at("/metadata/finalizers"),
        json!(["foregroundDeletion"])
    );
    let gone = cluster
        .delete(&path, json!({"propagationPolicy": "Background"}))
        .await;
    assert_eq!(gone.at("/status"), "Success");
}

#[tokio::test]
async fn preconditions_guard_a_deletion() {
    let cluster = Fixture::start().await;
    let made = cluster.config_map("one", json!({})).await;
    let path = format!("{MAPS}/one");
    let wrong = cluster
        .delete(
            &path,
            json!({"preconditions": {"uid": "11111111-1111-1111-1111-111111111111"}}),
        )
        .await;
    assert_eq!(wrong.code, StatusCode::CONFLICT);
    assert!(
        wrong
            .at("/message")
            .as_str()
            .unwrap()
            .contains("does not match the UID in record")
    );
    let old = cluster
        .delete(&path, json!({"preconditions": {"resourceVersion": "1"}}))
        .await;
    assert_eq!(old.code, StatusCode::CONFLICT);
    let right = cluster
        .delete(
            &path,
            json!({"preconditions": {"uid": made.at("/metadata/uid")}}),
        )
        .await;
    assert_eq!(right.at("/status"), "Success");
    assert_eq!(right.at("/details/uid"), made.at("/metadata/uid"));
}

#[tokio::test]
async fn a_collection_is_deleted_by_selector() {
    let cluster = Fixture::start().await;
    for (name, set) in [("a", "x"), ("b", "x"), ("c", "y")] {
        cluster.config_map(name, json!({"set": set})).await;
    }
    let gone = cluster
        .delete(&format!("{MAPS}?labelSelector=set%3Dx"), Value::Null)
        .await;
    assert_eq!(gone.at("/items").as_array().unwrap().len(), 2);
    assert_eq!(
        cluster
            .get(MAPS)
            .await
            .at("/items")
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test]
async fn a_running_pod_is_marked_and_its_node_takes_it_away() {
    let cluster = Fixture::start().await;
    let pods = "/api/v1/namespaces/default/pods";
    let pod = |node: Option<&str>| {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
            "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}]},
        })
    };
    assert_eq!(
        cluster.post(pods, &pod(None)).await.code,
        StatusCode::CREATED
    );
    let path = format!("{pods}/p");
    assert_eq!(
        cluster.delete(&path, Value::Null).await.code,
        StatusCode::OK
    );
    assert_eq!(
        cluster.get(&path).await.code,
        StatusCode::NOT_FOUND,
        "a pod without a node goes at once"
    );

    assert_eq!(
        cluster.post(pods, &pod(Some("n"))).await.code,
        StatusCode::CREATED
    );
    let marked = cluster.delete(&path, Value::Null).await;
    assert_eq!(marked.at("/metadata/deletionGracePeriodSeconds"), 30);
    let sooner = cluster
        .delete(&path, json!({"gracePeriodSeconds": 5}))
        .await;
    assert_eq!(sooner.at("/metadata/deletionGracePeriodSeconds"), 5);
    cluster
        .delete(&path, json!({"gracePeriodSeconds": 0}))
        .await;
    assert_eq!(cluster.get(&path).await.code, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_job_deleted_without_a_policy_orphans_its_pods_and_warns() {
    let cluster = Fixture::start().await;
    let jobs = "/apis/batch/v1/namespaces/default/jobs";
    let job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}},
    });
    let made = cluster.post(jobs, &job).await;
    assert_eq!(made.code, StatusCode::CREATED, "{made:?}");
    let deleted = cluster.delete(&format!("{jobs}/j"), Value::Null).await;
    assert_eq!(deleted.at("/metadata/finalizers"), json!(["orphan"]));
    assert_eq!(deleted.at("/metadata/generation"), 2);
    assert!(deleted.warnings[0].contains("child pods are preserved by default"));
}

#[tokio::test]
async fn a_terminating_namespace_takes_nothing_new_and_goes_when_finalized() {
    let cluster = Fixture::start().await;
    let namespaces = "/api/v1/namespaces";
    let made = cluster
        .post(
            namespaces,
            &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "rec"}}),
        )
        .await;
    assert_eq!(made.at("/spec/finalizers"), json!(["kubernetes"]));
    let deleted = cluster
        .delete(&format!("{namespaces}/rec"), Value::Null)
        .await;
    assert_eq!(deleted.at("/status/phase"), "Terminating");
    let late = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "late"}});
    let refused = cluster
        .post(&format!("{namespaces}/rec/configmaps"), &late)
        .await;
    assert_eq!(refused.code, StatusCode::FORBIDDEN);
    assert_eq!(
        refused.at("/details/causes/0/reason"),
        "NamespaceTerminating"
    );
    let mut released = deleted.json();
    released["spec"]["finalizers"] = json!([]);
    assert_eq!(
        cluster
            .put(&format!("{namespaces}/rec/finalize"), &released)
            .await
            .code,
        StatusCode::OK
    );
    assert_eq!(
        cluster.get(&format!("{namespaces}/rec")).await.code,
        StatusCode::NOT_FOUND
    );
    let absent = cluster
        .post(&format!("{namespaces}/rec/configmaps"), &late)
        .await;
    assert_eq!(absent.at("/message"), "namespaces \"rec\" not found");
    assert_eq!(
        cluster
            .delete(&format!("{namespaces}/default"), Value::Null)
            .await
            .code,
        StatusCode::FORBIDDEN
    );
}
