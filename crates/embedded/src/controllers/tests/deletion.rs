//! Owners, dependents, namespaces.

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret, Service, ServiceAccount};
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams};
use serde_json::{Value, json};

use super::{World, names};

fn map(name: &str, owners: &Value) -> Value {
    json!({ "metadata": { "name": name, "ownerReferences": owners } })
}

fn owner(of: &ConfigMap) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "name": of.name_any(), "uid": of.uid(), "blockOwnerDeletion": true })
}

#[tokio::test]
async fn dependents_go_with_their_owner_and_theirs_with_them() {
    let world = World::start().await;
    let maps: Api<ConfigMap> = world.api();
    let one = world.create(&maps, map("one", &json!([]))).await;
    let two = world.create(&maps, map("two", &json!([owner(&one)]))).await;
    let secrets: Api<Secret> = world.api();
    world
        .create(&secrets, map("three", &json!([owner(&two)])))
        .await;
    maps.delete("one", &DeleteParams::background())
        .await
        .unwrap();
    World::until(secrets, "three", |secret: Option<&Secret>| secret.is_none()).await;
    assert!(maps.get_opt("two").await.unwrap().is_none());
    world.stop().await;
}

#[tokio::test]
async fn an_owner_deleted_in_the_foreground_goes_last() {
    let world = World::start().await;
    let maps: Api<ConfigMap> = world.api();
    let one = world.create(&maps, map("one", &json!([]))).await;
    let mut held = map("two", &json!([owner(&one)]));
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    let two = world.create(&maps, held).await;
    maps.delete("one", &DeleteParams::foreground())
        .await
        .unwrap();
    let going =
        |map: Option<&ConfigMap>| map.is_some_and(|map| map.metadata.deletion_timestamp.is_some());
    World::until(maps.clone(), "two", going).await;
    assert!(maps.get_opt("one").await.unwrap().is_some());
    let two = maps.get(&two.name_any()).await.unwrap();
    crate::controllers::objects::remove_finalizers(&maps, &two, &["example.com/hold"])
        .await
        .unwrap();
    World::until(maps.clone(), "one", |map: Option<&ConfigMap>| map.is_none()).await;
    assert!(maps.get_opt("two").await.unwrap().is_none());
    world.stop().await;
}

#[tokio::test]
async fn orphans_stay_without_the_reference() {
    let world = World::start().await;
    let maps: Api<ConfigMap> = world.api();
    let one = world.create(&maps, map("one", &json!([]))).await;
    world.create(&maps, map("two", &json!([owner(&one)]))).await;
    maps.delete("one", &DeleteParams::orphan()).await.unwrap();
    World::until(maps.clone(), "one", |map: Option<&ConfigMap>| map.is_none()).await;
    assert!(maps.get("two").await.unwrap().owner_references().is_empty());
    world.stop().await;
}

#[tokio::test]
async fn an_object_whose_owner_never_was_is_collected_and_one_with_another_owner_stays() {
    let world = World::start().await;
    let maps: Api<ConfigMap> = world.api();
    let one = world.create(&maps, map("one", &json!([]))).await;
    let nobody =
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "name": "nobody", "uid": "none" });
    world
        .create(&maps, map("shared", &json!([nobody.clone(), owner(&one)])))
        .await;
    world.create(&maps, map("lost", &json!([nobody]))).await;
    World::until(maps.clone(), "lost", |map: Option<&ConfigMap>| {
        map.is_none()
    })
    .await;
    let solid = |map: Option<&ConfigMap>| map.is_some_and(|map| map.owner_references().len() == 1);
    World::until(maps, "shared", solid).await;
    world.stop().await;
}

#[tokio::test]
async fn a_namespace_has_an_account_and_the_authority_and_ends_empty() {
    let world = World::start().await;
    let accounts: Api<ServiceAccount> = world.api();
    World::until(
        accounts.clone(),
        "default",
        |account: Option<&ServiceAccount>| account.is_some(),
    )
    .await;
    let maps: Api<ConfigMap> = world.api();
    let authority = World::until(
        maps.clone(),
        "kube-root-ca.crt",
        |map: Option<&ConfigMap>| map.is_some(),
    )
    .await
    .unwrap();
    assert_eq!(authority.data.unwrap()["ca.crt"], "the authority");
    let mut held = map("held", &json!([]));
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    world.create(&maps, held).await;
    let namespaces: Api<Namespace> = world.all();
    namespaces
        .delete("n", &DeleteParams::default())
        .await
        .unwrap();
    let going =
        |map: Option<&ConfigMap>| map.is_some_and(|map| map.metadata.deletion_timestamp.is_some());
    let held = World::until(maps.clone(), "held", going).await.unwrap();
    assert!(namespaces.get_opt("n").await.unwrap().is_some());
    crate::controllers::objects::remove_finalizers(&maps, &held, &["example.com/hold"])
        .await
        .unwrap();
    World::until(namespaces, "n", |namespace: Option<&Namespace>| {
        namespace.is_none()
    })
    .await;
    assert!(names(&accounts).await.is_empty());
    world.stop().await;
}

#[tokio::test]
async fn a_service_forwards_to_a_ready_pod_and_refuses_without_one() {
    use k8s_openapi::api::core::v1::Pod;
    use kube::api::{Patch, PatchParams};
    use tokio::net::{TcpListener, TcpStream};

    let world = World::start().await;
    let pod = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let behind = pod.local_addr().unwrap();
    let services: Api<Service> = world.api();
    let ports = json!([{ "port": 20022, "targetPort": behind.port() }]);
    let spec = json!({ "type": "LoadBalancer", "selector": { "a": "b" }, "ports": ports });
    world
        .create(
            &services,
            json!({ "metadata": { "name": "s" }, "spec": spec }),
        )
        .await;
    let balanced = |service: Option<&Service>| {
        let balancer = service.and_then(|service| service.status.as_ref()?.load_balancer.as_ref());
        balancer
            .and_then(|balancer| balancer.ingress.as_ref())
            .is_some_and(|ingress| !ingress.is_empty())
    };
    let service = World::until(services, "s", balanced).await.unwrap();
    let at = format!("{}:20022", service.spec.unwrap().cluster_ip.unwrap());
    assert!(at.starts_with("127."), "{at}");
    assert_eq!(
        TcpStream::connect(&at).await.unwrap_err().kind(),
        std::io::ErrorKind::ConnectionRefused
    );

    let containers = json!([{ "name": "c", "image": "i" }]);
    let manifest = json!({ "metadata": { "name": "p", "labels": { "a": "b" } }, "spec": { "containers": containers } });
    world.create(&world.api::<Pod>(), manifest).await;
    let ready = json!([{ "type": "Ready", "status": "True" }]);
    let status = Patch::Merge(json!({ "status": { "podIP": behind.ip(), "conditions": ready } }));
    world
        .api::<Pod>()
        .patch_status("p", &PatchParams::default(), &status)
        .await
        .unwrap();
    let reached = async {
        while TcpStream::connect(&at).await.is_err() {
            tokio::task::yield_now().await;
        }
        pod.accept().await.unwrap();
    };
    tokio::time::timeout(super::CAP, reached).await.unwrap();
    world.stop().await;
}
