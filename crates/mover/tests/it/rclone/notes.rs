//! Notes that lie elsewhere than beside the path, or did before.

use syncline_testkit::store::{Fault, Kind, Refusal};

use super::cloud::Cloud;
use super::sources::{OTHER, contents, objects, sent};
use crate::tree;

/// Another place for notes.
fn elsewhere(cloud: &Cloud) -> String {
    format!("{}/notes", cloud.store.path())
}

/// The marker in the place that the path alone names.
fn usual_marker(cloud: &Cloud) -> serde_json::Value {
    let place = format!("store:{}-syncline/generation.json", cloud.shop.path);
    serde_json::from_str(&cloud.shop.stock(&["cat", &place])).unwrap()
}

fn put(cloud: &Cloud, content: &str, path: &str) {
    let file = cloud.shop.path("put");
    std::fs::write(&file, content).unwrap();
    let place = format!("store:{}/{path}", cloud.store.path());
    cloud
        .shop
        .stock(&["copyto", file.to_str().unwrap(), &place]);
}

#[track_caller]
fn has_what_the_source_has(cloud: &Cloud, variables: &[(&str, &str)]) {
    cloud.shop.destination(variables).succeeded();
    tree::assert_same(&cloud.shop.src(), &cloud.shop.dst());
}

#[track_caller]
fn is_told_where_the_notes_are(cloud: &Cloud, variables: &[(&str, &str)], place: &str) {
    let refused = cloud.shop.destination(variables);
    refused.failed("InvalidSettings");
    let message = refused.report.message.unwrap();
    let cure = format!("syncline.dev/rclone-state-path: {place}");
    assert!(message.contains(&cure), "{message}");
}

#[test]
fn a_source_with_its_notes_elsewhere_is_refused_where_another_has_the_path() {
    let cloud = sent();
    let notes = elsewhere(&cloud);
    let told = ("STATE_PATH", notes.as_str());
    let before = objects(&cloud);
    let refused = cloud.shop.source(&[OTHER[0], OTHER[1], told]);
    refused.failed_saying("PathInUse", "space/source");
    assert_eq!(objects(&cloud), before);
}

#[test]
fn a_source_may_move_its_notes_and_back_and_each_place_names_the_other_meanwhile() {
    let cloud = sent();
    let (usual, notes) = (format!("{}-syncline", cloud.shop.path), elsewhere(&cloud));
    let told = [("STATE_PATH", notes.as_str())];
    let first = cloud.shop.source(&told);
    first.succeeded();
    assert!(first.report.full_check);
    assert_eq!(usual_marker(&cloud)["state"], "retired");
    assert!(!objects(&cloud).contains("db-syncline/manifest"));
    is_told_where_the_notes_are(&cloud, &[], &notes);
    // A destination may come another way to the same path.
    let another_way = format!("/{}/", cloud.shop.path);
    is_told_where_the_notes_are(&cloud, &[("RCLONE_DEST_PATH", &another_way)], &notes);
    has_what_the_source_has(&cloud, &told);
    // Now that all is as it should be nothing is done.
    let last = first.report.generation.unwrap();
    let again = cloud.shop.source(&[told[0], ("LAST_GENERATION", &last)]);
    again.succeeded();
    assert!(!again.report.full_check);
    cloud.shop.source(&[]).succeeded();
    assert_eq!(usual_marker(&cloud)["state"], "complete");
    is_told_where_the_notes_are(&cloud, &told, &usual);
    has_what_the_source_has(&cloud, &[]);
}

#[test]
fn notes_of_another_path_in_the_usual_place_say_nothing_of_this_one() {
    let cloud = sent();
    let path = format!("{}-x", cloud.shop.path);
    let usual = format!("{path}-syncline");
    let neighbour = ("STATE_PATH", usual.as_str());
    cloud
        .shop
        .source(&[OTHER[0], OTHER[1], neighbour])
        .failed("PathInUse");
    cloud.shop.source(&[neighbour]).succeeded();
    let notes = elsewhere(&cloud);
    let told = ("STATE_PATH", notes.as_str());
    let honest = [OTHER[0], OTHER[1], ("RCLONE_DEST_PATH", &*path), told];
    cloud.shop.source(&honest).succeeded();
    cloud.shop.source(&[neighbour]).succeeded();
}

#[test]
fn notes_of_another_path_beside_a_folder_above_say_nothing_of_this_one() {
    let cloud = sent();
    let above = format!("{}-x", cloud.shop.path);
    let beside = format!("{above}-syncline");
    cloud.shop.source(&[("STATE_PATH", &beside)]).succeeded();
    let inner = format!("{above}/inner");
    cloud
        .shop
        .source(&[OTHER[0], OTHER[1], ("RCLONE_DEST_PATH", &inner)])
        .succeeded();
}

#[test]
fn a_take_over_with_notes_elsewhere_keeps_the_first_source_away_until_it_takes_the_path_back() {
    let cloud = sent();
    let (usual, notes) = (format!("{}-syncline", cloud.shop.path), elsewhere(&cloud));
    let told = ("STATE_PATH", notes.as_str());
    let first = ("LAST_GENERATION", "1-x");
    std::fs::write(cloud.shop.src().join("three"), "of the second source").unwrap();
    let second = [OTHER[0], OTHER[1], told];
    let taken = cloud
        .shop
        .source(&[second[0], second[1], told, ("TAKE_OVER", "uid-1")]);
    taken.succeeded();
    is_told_where_the_notes_are(&cloud, &[], &notes);
    has_what_the_source_has(&cloud, &[told]);
    let after = contents(&cloud);
    std::fs::write(cloud.shop.src().join("three"), "of the first source").unwrap();
    for variables in [&[first][..], &[], &[told]] {
        let refused = cloud.shop.source(variables);
        refused.failed_saying("PathInUse", "space/other");
    }
    assert_eq!(contents(&cloud), after);
    let last = taken.report.generation.unwrap();
    let known = [second[0], second[1], told, ("LAST_GENERATION", &last)];
    cloud.shop.source(&known).succeeded();
    // Back again it goes in the same way.
    cloud
        .shop
        .source(&[first, ("TAKE_OVER", "uid-2")])
        .succeeded();
    cloud.shop.source(&known).failed("PathInUse");
    cloud.shop.source(&second).failed("PathInUse");
    is_told_where_the_notes_are(&cloud, &[told], &usual);
    has_what_the_source_has(&cloud, &[]);
}

#[test]
fn a_take_over_without_notes_keeps_the_first_source_away_too() {
    let cloud = sent();
    std::fs::write(cloud.shop.path("config/RCLONE_EXCLUDE"), "*.tmp").unwrap();
    let second = [OTHER[0], OTHER[1], ("TAKE_OVER", "uid-1")];
    cloud.shop.source(&second).succeeded();
    cloud.shop.source(&OTHER).succeeded();
    assert_eq!(usual_marker(&cloud)["state"], "retired");
    // Its destinations find no notes, and no place where they would be.
    cloud.shop.destination(&[]).succeeded();
    std::fs::remove_file(cloud.shop.path("config/RCLONE_EXCLUDE")).unwrap();
    cloud
        .shop
        .source(&[("LAST_GENERATION", "1-x")])
        .failed("PathInUse");
    // It may keep notes again.
    cloud.shop.source(&OTHER).succeeded();
    assert_eq!(usual_marker(&cloud)["state"], "complete");
    has_what_the_source_has(&cloud, &[]);
}

#[test]
fn a_take_over_with_notes_elsewhere_waits_until_the_first_source_has_stopped() {
    let cloud = sent();
    std::fs::write(cloud.shop.src().join("held"), "of the first source").unwrap();
    cloud
        .store
        .misbehave(Fault::hold().on(Kind::Put).at("/db/held"));
    // Its looks at the marker are farther apart than they take, as they are in life.
    let unit = ("SYNCLINE_WAIT_UNIT_MS", "200");
    let first = cloud.shop.start("source", "src", &[unit]);
    crate::pair::until("the upload is held", || cloud.store.struck() > 0);
    std::fs::create_dir(cloud.shop.path("src-2")).unwrap();
    std::fs::write(cloud.shop.path("src-2").join("other"), "other").unwrap();
    let notes = elsewhere(&cloud);
    let variables = [
        OTHER[0],
        OTHER[1],
        ("STATE_PATH", notes.as_str()),
        ("TAKE_OVER", "uid-1"),
        unit,
    ];
    let second = cloud.shop.start("source", "src-2", &variables).end();
    first.end().failed("PathInUse");
    second.succeeded();
    assert!(
        second.log.contains("waiting until they have noticed"),
        "{}",
        second.log
    );
    let after = contents(&cloud);
    assert!(
        after.contains("other") && !after.contains("held"),
        "{after}"
    );
}

#[test]
fn a_marker_in_the_usual_place_that_may_not_be_changed_keeps_everything_as_it_is() {
    let cloud = sent();
    let before = objects(&cloud);
    let notes = elsewhere(&cloud);
    let told = ("STATE_PATH", notes.as_str());
    std::fs::write(cloud.shop.src().join("one"), "new").unwrap();
    let closed = Fault::refuse(Refusal::AccessDenied)
        .on(Kind::Put)
        .at("db-syncline/");
    cloud.store.misbehave(closed);
    for variables in [
        &[told][..],
        &[OTHER[0], OTHER[1], told, ("TAKE_OVER", "uid-1")],
    ] {
        let refused = cloud.shop.source(variables);
        refused.failed("StoreRefused");
        let message = refused.report.message.unwrap();
        assert!(
            message.contains("db-syncline/generation.json") && message.contains("let the keys"),
            "{message}"
        );
    }
    cloud.store.behave();
    assert_eq!(objects(&cloud), before);
    assert_eq!(usual_marker(&cloud)["state"], "complete");
}

#[test]
fn a_take_over_with_notes_elsewhere_that_changed_nothing_leaves_the_first_source_its_path() {
    let cloud = sent();
    put(&cloud, "x", "db/inner/permissions.facl");
    let before = (objects(&cloud), usual_marker(&cloud));
    let notes = elsewhere(&cloud);
    let variables = [
        OTHER[0],
        OTHER[1],
        ("STATE_PATH", notes.as_str()),
        ("TAKE_OVER", "uid-1"),
    ];
    let refused = cloud.shop.source(&variables);
    refused.failed_saying("PathInUse", "inner/permissions.facl");
    assert_eq!((objects(&cloud), usual_marker(&cloud)), before);
}

#[test]
fn a_source_that_keeps_no_notes_where_it_was_told_leaves_none_in_the_usual_place() {
    for case in ["not written", "not read", "not kept"] {
        let cloud = sent();
        let notes = elsewhere(&cloud);
        let told = ("STATE_PATH", notes.as_str());
        std::fs::write(cloud.shop.src().join("one"), "eno").unwrap();
        let closed = Fault::refuse(Refusal::AccessDenied).at("/notes");
        match case {
            "not written" => cloud.store.misbehave(closed.on(Kind::Put)),
            "not read" => cloud.store.misbehave(closed),
            _ => std::fs::write(cloud.shop.path("config/RCLONE_EXCLUDE"), "*.tmp").unwrap(),
        }
        cloud.shop.source(&[told, ("SOLE_WRITER", "1")]).succeeded();
        cloud.store.behave();
        let after = objects(&cloud);
        assert!(!after.contains("notes/generation.json"), "{case}: {after}");
        assert!(!after.contains("manifest-"), "{case}: {after}");
        assert!(!after.contains("run-"), "{case}: {after}");
        assert_eq!(usual_marker(&cloud)["state"], "retired", "{case}");
    }
    // It keeps the path all the same.
    let cloud = sent();
    std::fs::write(cloud.shop.path("config/RCLONE_EXCLUDE"), "*.tmp").unwrap();
    cloud.shop.source(&[]).succeeded();
    std::fs::remove_file(cloud.shop.path("config/RCLONE_EXCLUDE")).unwrap();
    cloud.shop.source(&OTHER).failed("PathInUse");
}

#[test]
fn a_marker_that_its_source_may_not_see_goes_before_anything_changes_and_not_before_that_is_sure() {
    let cloud = sent();
    let notes = elsewhere(&cloud);
    let blind = [("STATE_PATH", notes.as_str()), ("SOLE_WRITER", "1")];
    cloud.shop.source(&blind).succeeded();
    put(&cloud, "x", "db/inner/permissions.facl");
    let before = objects(&cloud);
    assert!(before.contains("notes/generation.json"), "{before}");
    // It may be removed all the same.
    for kind in [Kind::Get, Kind::List] {
        let closed = Fault::refuse(Refusal::AccessDenied).on(kind);
        cloud.store.misbehave(closed.at("/notes"));
    }
    let refused = cloud.shop.source(&blind);
    refused.failed_saying("PathInUse", "inner/permissions.facl");
    assert_eq!(objects(&cloud), before);
    let stranger = format!("store:{}/inner/permissions.facl", cloud.shop.path);
    cloud.shop.stock(&["deletefile", &stranger]);
    cloud.shop.source(&blind).succeeded();
    let after = objects(&cloud);
    assert!(!after.contains("notes/generation.json"), "{after}");
}

#[test]
fn the_usual_place_is_ones_own_however_it_is_spelled() {
    let cloud = sent();
    let usual = format!("/{}-syncline", cloud.shop.path);
    let told = ("STATE_PATH", usual.as_str());
    for content in ["eno", "neo"] {
        std::fs::write(cloud.shop.src().join("one"), content).unwrap();
        let ended = cloud.shop.source(&[told]);
        ended.succeeded();
        assert!(!ended.log.contains("tells of no version"), "{}", ended.log);
        assert_eq!(usual_marker(&cloud)["state"], "complete");
        has_what_the_source_has(&cloud, &[]);
    }
}

#[test]
fn half_a_retired_marker_locks_nobody_out_and_is_written_again() {
    let cloud = sent();
    let notes = elsewhere(&cloud);
    let told = ("STATE_PATH", notes.as_str());
    let mut claim = usual_marker(&cloud);
    claim["run"] = "0123".into();
    let half = "{\"version\": 1, \"sta";
    put(&cloud, half, "db-syncline/generation.json");
    cloud.shop.source(&[told]).failed("PathInUse");
    put(
        &cloud,
        &claim.to_string(),
        "db-syncline/run-0123456789abcdef0123456789abcdef.json",
    );
    let other = [OTHER[0], OTHER[1], told];
    cloud.shop.source(&other).failed("PathInUse");
    cloud.shop.source(&[told]).succeeded();
    assert_eq!(usual_marker(&cloud)["state"], "retired");
    assert!(!objects(&cloud).contains("run-"));
}

#[test]
fn a_former_place_that_may_not_be_read_is_told_of_once() {
    let cloud = sent();
    let notes = elsewhere(&cloud);
    cloud.shop.source(&[("STATE_PATH", &notes)]).succeeded();
    let closed = || Fault::refuse(Refusal::AccessDenied).at("/notes");
    cloud.store.misbehave(closed());
    let back = cloud.shop.source(&[]);
    back.succeeded();
    let lost = back.report.unpreserved.join("; ");
    assert!(lost.contains("notes/generation.json"), "{lost}");
    let last = back.report.generation.unwrap();
    let next = cloud.shop.source(&[("LAST_GENERATION", &last)]);
    next.succeeded();
    let lost = next.report.unpreserved.join("; ");
    assert!(!lost.contains("generation.json"), "{lost}");
}

#[test]
fn while_the_first_version_with_notes_elsewhere_is_sent_nobody_takes_half_of_it() {
    let cloud = sent();
    let notes = elsewhere(&cloud);
    let told = [("STATE_PATH", notes.as_str())];
    for name in ["folder/file", "one", "two"] {
        let turned: String = name.chars().rev().collect();
        std::fs::write(cloud.shop.src().join(name), turned).unwrap();
    }
    cloud
        .store
        .misbehave(Fault::hold().on(Kind::Put).at("/db/one"));
    let source = cloud.shop.start("source", "src", &told);
    crate::pair::until("the upload is held", || cloud.store.struck() > 0);
    is_told_where_the_notes_are(&cloud, &[], &notes);
    assert_eq!(std::fs::read_dir(cloud.shop.dst()).unwrap().count(), 0);
    // Another that ends the same word sees that this one does.
    assert!(objects(&cloud).contains("db-syncline/run-"));
    cloud.store.behave();
    source.end().succeeded();
    assert!(!objects(&cloud).contains("run-"));
    has_what_the_source_has(&cloud, &told);
}

#[test]
fn a_source_that_may_not_read_its_own_marker_heeds_those_that_it_may_read() {
    let cloud = sent();
    let before = objects(&cloud);
    let (inner, notes) = (format!("{}/inner", cloud.shop.path), elsewhere(&cloud));
    let within = ("RCLONE_DEST_PATH", inner.as_str());
    let told = ("STATE_PATH", notes.as_str());
    for (part, variable) in [("inner-syncline", within), ("/notes", told)] {
        cloud
            .store
            .misbehave(Fault::refuse(Refusal::AccessDenied).at(part));
        for more in [&[][..], &[("SOLE_WRITER", "1")]] {
            let all = [&[OTHER[0], OTHER[1], variable][..], more].concat();
            let refused = cloud.shop.source(&all);
            refused.failed_saying("PathInUse", "space/source");
        }
        assert!(cloud.store.struck() > 0);
        cloud.store.behave();
    }
    assert_eq!(objects(&cloud), before);
}

#[test]
fn what_the_marker_above_a_path_cannot_tell_gives_nobody_a_place_within() {
    let cloud = sent();
    let before = contents(&cloud);
    let inner = format!("{}/inner", cloud.shop.path);
    let within = ("RCLONE_DEST_PATH", inner.as_str());
    let other = [OTHER[0], OTHER[1], within];
    // However often it is asked.
    let few = ("RCLONE_LOW_LEVEL_RETRIES", "1");
    std::fs::write(cloud.shop.path("config").join(few.0), few.1).unwrap();
    cloud
        .store
        .misbehave(Fault::refuse(Refusal::InternalError).at("db-syncline"));
    let ended = cloud.shop.source(&other);
    assert_ne!(ended.code, Some(0), "{}", ended.log);
    cloud.store.behave();
    assert_eq!(contents(&cloud), before);
    put(
        &cloud,
        "{\"version\": 1, \"sta",
        "db-syncline/generation.json",
    );
    cloud.shop.source(&other).failed("PathInUse");
    assert_eq!(contents(&cloud), before);
}

#[test]
fn a_source_that_goes_on_below_its_path_is_not_refused_by_itself() {
    let cloud = sent();
    let inner = format!("{}/inner", cloud.shop.path);
    let within = ("RCLONE_DEST_PATH", inner.as_str());
    cloud.shop.source(&[within]).succeeded();
    // To take a path over is not to end what its source does with all that lies below it.
    let inner = format!("{}/other", cloud.shop.path);
    let within = ("RCLONE_DEST_PATH", inner.as_str());
    let told = [OTHER[0], OTHER[1], within, ("TAKE_OVER", "uid-1")];
    cloud.shop.source(&told).failed("PathInUse");
}
