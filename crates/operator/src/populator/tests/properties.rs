//! Whatever happens, in whatever order, and wherever the operator is interrupted: no law is broken (each write to the model
//! checks them), and when the trouble ends the claim has an image and nothing temporary is left.

use proptest::prelude::*;
use serde_json::json;

use super::model::{CLAIM, Model};

#[derive(Clone, Debug)]
enum Happening {
    /// A look of which only so many writes get through: the operator is killed after them.
    InterruptedLook(usize),
    Provision,
    Bind,
    Garbage,
    NewImage,
    Sweep,
    ClaimGoes,
    ClaimComes(&'static str),
    TemporaryGoes,
    VolumesGo,
    KeepImages,
    Pass(i64),
}

fn happening() -> impl Strategy<Value = Happening> {
    use Happening::*;
    prop_oneof![
        8 => (0usize..4).prop_map(InterruptedLook),
        4 => Just(Provision),
        4 => Just(Bind),
        2 => Just(Garbage),
        3 => Just(NewImage),
        3 => Just(Sweep),
        1 => Just(ClaimGoes),
        2 => prop_oneof![Just("Wait"), Just("Empty"), Just("Fail")].prop_map(ClaimComes),
        1 => Just(TemporaryGoes),
        1 => Just(VolumesGo),
        1 => Just(KeepImages),
        1 => (0i64..200).prop_map(Pass),
    ]
}

fn happen(model: &mut Model, happening: &Happening, number: usize) {
    match happening {
        Happening::InterruptedLook(writes) => {
            if *writes > 0 {
                model.look(*writes);
            }
        }
        Happening::Provision => model.provision(),
        Happening::Bind => model.bind(),
        Happening::Garbage => model.collect_garbage(),
        Happening::NewImage => model.publish(&format!("image-{number}")),
        Happening::Sweep => model.sweep_images(),
        Happening::ClaimGoes => model.remove("PersistentVolumeClaim", CLAIM),
        Happening::ClaimComes(wish) => {
            if model.object("PersistentVolumeClaim", CLAIM).is_none() {
                model.make_claim(&json!({"syncline.dev/on-missing-image": wish}));
            }
        }
        Happening::TemporaryGoes => {
            for name in model.names("PersistentVolumeClaim") {
                if name != CLAIM {
                    model.remove("PersistentVolumeClaim", &name);
                }
            }
        }
        Happening::VolumesGo => {
            let held = model.claim("/spec/volumeName");
            for name in model.names("PersistentVolume") {
                if held != json!(name) {
                    model.remove("PersistentVolume", &name);
                }
            }
        }
        Happening::KeepImages => {
            for name in model.names("VolumeSnapshot") {
                let image = model.object_mut("VolumeSnapshot", &name).unwrap();
                image["metadata"]["labels"]["volsync.backube/do-not-delete"] = json!("yes");
            }
        }
        Happening::Pass(seconds) => model.pass(*seconds),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_claim_is_filled_in_the_end_and_nothing_is_left_over(happenings in prop::collection::vec(happening(), 0..50)) {
        let mut model = Model::new();
        for (number, step) in happenings.iter().enumerate() {
            happen(&mut model, step, number);
        }
        if model.object("PersistentVolumeClaim", CLAIM).is_none() {
            model.make_claim(&json!({}));
        }
        let claim = model.object_mut("PersistentVolumeClaim", CLAIM).unwrap();
        claim["metadata"]["annotations"] = json!({});
        model.publish("the-last-image");
        model.sweep_images();
        model.settle();
        prop_assert_eq!(model.claim("/status/phase"), "Bound");
        let volume = model.claim("/spec/volumeName");
        let volume = model.object("PersistentVolume", volume.as_str().unwrap()).unwrap();
        let uid = model.claim("/metadata/uid");
        prop_assert_eq!(&volume["spec"]["claimRef"]["uid"], &uid);
        prop_assert_eq!(model.names("PersistentVolumeClaim"), [CLAIM]);
        for name in model.names("VolumeSnapshot") {
            let labels = model.object("VolumeSnapshot", &name).unwrap()["metadata"]["labels"].as_object().unwrap().clone();
            prop_assert!(!labels.keys().any(|label| label.starts_with("volsync.backube/volpop-pvc-")), "no mark is left");
            prop_assert!(
                name == "the-last-image" || labels.contains_key("volsync.backube/do-not-delete"),
                "no image is left over: {name}"
            );
        }
        model.sweep_images();
        model.settle();
    }
}
