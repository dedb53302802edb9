//! What a run remembers counts for one place in a store, whatever the Secret's name: where the Secret leads elsewhere,
//! everything is compared once.

use rstest::rstest;
use serde_json::{Value, json};

use super::model::{Model, NAMESPACE};

const STORE: &str = "type = s3\nendpoint = https://a:9000\nsecret_access_key = hidden\n";

/// The Secret with these words instead of those.
fn configure(model: &mut Model, from: &str, to: &str) {
    let text = format!("[s3]\n{}", STORE.replace(from, to));
    let bytes = k8s_openapi::ByteString(text.into_bytes());
    model.put("Secret", "store", json!({"data": {"rclone.conf": bytes}}));
}

fn job(model: &mut Model) -> Value {
    model.settle();
    model.snapshots_become_ready();
    model.settle();
    let found = model.object("Job", &model.job_name()).cloned();
    found.unwrap_or_else(|| panic!("{:?}", model.says()))
}

fn env<'a>(job: &'a Value, name: &str) -> Option<&'a str> {
    let containers = &job["spec"]["template"]["spec"]["containers"];
    let all = containers[0]["env"].as_array().unwrap();
    all.iter().find(|variable| variable["name"] == name)?["value"].as_str()
}

/// A run that ends well, and the Job of the next.
fn run(model: &mut Model, generation: &str, tag: &str) -> Value {
    job(model);
    end(model, generation);
    next(model, tag)
}

fn end(model: &mut Model, generation: &str) {
    model.succeed_with(generation, true);
    model.settle();
    model.snapshots_become_ready();
    model.settle();
}

fn next(model: &mut Model, tag: &str) -> Value {
    model.edit(json!({"trigger": {"manual": tag}}));
    job(model)
}

fn both_sides() -> [Model; 2] {
    let direct = json!({"copyMethod": "Direct"});
    [
        Model::rclone_source(json!({"manual": "1"}), direct),
        Model::rclone_destination(json!({"manual": "1"}), json!({})),
    ]
}

#[rstest]
#[case::endpoint("//a:9000", "//b:9000", true)]
#[case::kind("= s3", "= gcs", true)]
#[case::key("hidden", "renewed", false)]
#[case::session("secret_access_key", "session_token = x\nsecret_access_key", false)]
fn where_the_secret_leads_elsewhere_everything_is_compared_once(
    #[case] from: &str,
    #[case] to: &str,
    #[case] elsewhere: bool,
) {
    for mut model in both_sides() {
        let source = model.infix() == "src";
        configure(&mut model, "", "");
        let second = run(&mut model, "1-a", "2");
        assert_eq!(env(&second, "LAST_GENERATION"), Some("1-a"));
        end(&mut model, "2-a");
        configure(&mut model, from, to);
        let third = next(&mut model, "3");
        let known = (!elsewhere).then_some("2-a");
        assert_eq!(env(&third, "LAST_GENERATION"), known);
        let full = if elsewhere { "1" } else { "10" };
        let every = env(&third, "FULL_CHECK_EVERY");
        assert_eq!(every, source.then_some(full));
        end(&mut model, "3-a");
        let fourth = next(&mut model, "4");
        assert_eq!(env(&fourth, "LAST_GENERATION"), Some("3-a"), "once");
    }
}

#[test]
fn what_a_destination_fetched_without_rights_it_fetches_once_more_with_them() {
    for mut model in both_sides() {
        let source = model.infix() == "src";
        job(&mut model);
        end(&mut model, "1-a");
        let annotations = json!({"volsync.backube/privileged-movers": "true"});
        let namespace = json!({"metadata": {"annotations": annotations}});
        model.put("Namespace", NAMESPACE, namespace);
        let second = next(&mut model, "2");
        assert_eq!(env(&second, "LAST_GENERATION"), source.then_some("1-a"));
        end(&mut model, "1-a");
        let third = next(&mut model, "3");
        assert_eq!(env(&third, "LAST_GENERATION"), Some("1-a"), "once");
    }
}

#[test]
fn what_a_run_brings_that_began_before_the_secret_led_elsewhere_is_of_the_old_place() {
    for mut model in both_sides() {
        configure(&mut model, "", "");
        job(&mut model);
        configure(&mut model, "//a:9000", "//b:9000");
        let second = run(&mut model, "1-a", "2");
        assert_eq!(env(&second, "LAST_GENERATION"), None);
    }
}

#[test]
fn a_destination_that_waits_is_told_nothing_of_the_old_store_where_the_secret_leads_elsewhere() {
    let mut model = Model::rclone_destination(json!(null), json!({}));
    configure(&mut model, "", "");
    job(&mut model);
    end(&mut model, "1-a");
    assert_eq!(env(&job(&mut model), "LAST_GENERATION"), Some("1-a"));
    model.mover_runs();
    model.progress = Some(syncline_api::status::Progress {
        phase: Some("Waiting".into()),
        ..Default::default()
    });
    configure(&mut model, "//a:9000", "//b:9000");
    assert_eq!(env(&job(&mut model), "LAST_GENERATION"), None);
}
