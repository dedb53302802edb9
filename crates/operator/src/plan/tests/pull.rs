//! The Secrets that movers' images are pulled with.

use serde_json::{Value, json};

use super::model::Model;

fn with_original(text: &str) -> Model {
    let mut model = Model::source(json!({"manual": "1"}), json!({"copyMethod": "Direct"}));
    put_original(&mut model, text);
    model
}

fn put_original(model: &mut Model, text: &str) {
    let secret =
        json!({"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": text}});
    model.put("Original", "regcred", secret);
}

fn copy(model: &Model) -> Value {
    let copies: Vec<_> = model
        .names("Secret")
        .into_iter()
        .filter(|name| name.starts_with("volsync-pull-"))
        .collect();
    let [name] = copies.as_slice() else {
        panic!("{copies:?}")
    };
    assert_eq!(*name, format!("volsync-pull-{:08x}", crc32("regcred")));
    model.object("Secret", name).unwrap().clone()
}

/// CRC-32 (IEEE), the long way.
fn crc32(text: &str) -> u32 {
    !text.bytes().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| {
            (sum >> 1) ^ (0xEDB8_8320 & (sum & 1).wrapping_neg())
        })
    })
}

#[test]
fn a_pull_secret_is_copied_and_the_movers_account_refers_to_the_copy() {
    let mut model = with_original("e30=");
    model.settle();
    let secret = copy(&model);
    assert_eq!(secret["type"], "kubernetes.io/dockerconfigjson");
    assert_eq!(secret["data"][".dockerconfigjson"], "e30=");
    let owner = &secret["metadata"]["ownerReferences"][0];
    assert_eq!(
        (&owner["uid"], &owner["controller"]),
        (&json!("cr-uid"), &Value::Null)
    );
    let account = model.object("ServiceAccount", "volsync-src-db").unwrap();
    let name = secret["metadata"]["name"].clone();
    assert_eq!(account["imagePullSecrets"], json!([{"name": name}]));
    assert_eq!(model.step(usize::MAX), 0);
}

#[test]
fn a_changed_original_changes_the_copy() {
    let mut model = with_original("e30=");
    model.settle();
    put_original(&mut model, "bmV3");
    model.settle();
    assert_eq!(copy(&model)["data"][".dockerconfigjson"], "bmV3");
    assert_eq!(model.step(usize::MAX), 0);
}

#[test]
fn a_copy_is_shared_and_each_resource_adds_itself_to_its_owners() {
    let mut model = with_original("e30=");
    let other = json!({"apiVersion": "volsync.backube/v1alpha1", "kind": "ReplicationSource", "name": "other", "uid": "other-uid"});
    let name = format!("volsync-pull-{:08x}", crc32("regcred"));
    model.put("Secret", &name, json!({"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": "e30="},
        "metadata": {"labels": {"app.kubernetes.io/created-by": "volsync"}, "ownerReferences": [other]}}));
    model.settle();
    let owners = copy(&model)["metadata"]["ownerReferences"].clone();
    let uids: Vec<_> = owners
        .as_array()
        .unwrap()
        .iter()
        .map(|owner| owner["uid"].clone())
        .collect();
    assert_eq!(uids, ["other-uid", "cr-uid"]);
}

#[test]
fn a_secret_of_somebody_else_under_the_name_is_left_alone() {
    let mut model = with_original("e30=");
    let name = format!("volsync-pull-{:08x}", crc32("regcred"));
    model.put("Secret", &name, json!({"data": {"x": "eA=="}}));
    model.settle();
    assert!(model.says().1.contains(&name), "{:?}", model.says());
    assert_eq!(copy(&model)["data"], json!({"x": "eA=="}));
}

#[test]
fn without_pull_secrets_the_account_refers_to_none_any_more() {
    let mut model = with_original("e30=");
    model.settle();
    model.objects.retain(|(kind, _), _| kind != "Original");
    let plan = model.plan();
    let account = plan.apply.iter().find_map(|object| match object {
        crate::plan::Object::ServiceAccount(account) => Some(account),
        _ => None,
    });
    assert_eq!(account.unwrap().image_pull_secrets, None);
}
