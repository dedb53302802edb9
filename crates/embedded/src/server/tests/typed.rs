//! kube's typed client and its watcher over the service in process.

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams},
    runtime::{WatchStreamExt as _, watcher},
};
use serde_json::json;

use super::Fixture;

fn client(cluster: &Fixture) -> Api<ConfigMap> {
    Api::default_namespaced(kube::Client::new(cluster.service.clone(), "default"))
}

fn map(name: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        ..ConfigMap::default()
    }
}

#[tokio::test]
async fn objects_are_made_changed_listed_and_deleted() {
    let cluster = Fixture::start().await;
    let maps = client(&cluster);
    let made = maps
        .create(&PostParams::default(), &map("one"))
        .await
        .unwrap();
    assert!(made.uid().is_some() && made.resource_version().is_some());
    let patch = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"k": "v"}, "metadata": {"name": "one"}});
    let applied = maps
        .patch(
            "one",
            &PatchParams::apply("syncline"),
            &Patch::Apply(&patch),
        )
        .await
        .unwrap();
    assert_eq!(applied.data.unwrap()["k"], "v");
    assert_eq!(
        maps.list(&ListParams::default()).await.unwrap().items.len(),
        1
    );
    maps.delete("one", &DeleteParams::default()).await.unwrap();
    assert!(maps.get_opt("one").await.unwrap().is_none());
}

#[tokio::test]
async fn a_watcher_sees_what_is_there_and_what_comes() {
    for config in [
        watcher::Config::default(),
        watcher::Config::default().streaming_lists(),
    ] {
        let cluster = Fixture::start().await;
        let maps = client(&cluster);
        maps.create(&PostParams::default(), &map("first"))
            .await
            .unwrap();
        let mut seen = watcher(maps.clone(), config).applied_objects().boxed();
        assert_eq!(seen.try_next().await.unwrap().unwrap().name_any(), "first");
        maps.create(&PostParams::default(), &map("second"))
            .await
            .unwrap();
        assert_eq!(seen.try_next().await.unwrap().unwrap().name_any(), "second");
    }
}
