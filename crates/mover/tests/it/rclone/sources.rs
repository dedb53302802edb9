//! Sources at an S3 server that does not always tell the truth.

use syncline_testkit::store::{Fault, Kind, Refusal};

use super::cloud::Cloud;

pub(super) const OTHER: [(&str, &str); 2] = [("OWNER_NAME", "other"), ("OWNER_UID", "uid-2")];

/// A server, and a source that sent its volume to `db`.
pub(super) fn sent() -> Cloud {
    let cloud = Cloud::new();
    std::fs::create_dir(cloud.shop.src().join("folder")).unwrap();
    for name in ["folder/file", "one", "two"] {
        std::fs::write(cloud.shop.src().join(name), name).unwrap();
    }
    cloud.shop.source(&[]).succeeded();
    cloud
}

pub(super) fn objects(cloud: &Cloud) -> String {
    let place = format!("store:{}", cloud.store.path());
    cloud.store.rclone(&["lsf", "-R", &place]).unwrap()
}

#[test]
fn a_listing_that_hides_the_marker_gives_nobody_the_path_of_another() {
    let cloud = sent();
    std::fs::remove_file(cloud.shop.src().join("two")).unwrap();
    let before = objects(&cloud);
    cloud.store.misbehave(Fault::shorten(0).at("db-syncline"));
    let refused = cloud.shop.source(&OTHER);
    refused.failed_saying("PathInUse", "space/source");
    let within = format!("{}/folder", cloud.shop.path);
    let within = [OTHER[0], OTHER[1], ("RCLONE_DEST_PATH", within.as_str())];
    cloud.shop.source(&within).failed("PathInUse");
    assert!(cloud.store.struck() > 0);
    cloud.store.behave();
    assert_eq!(objects(&cloud), before);
}

#[test]
fn listings_that_show_nothing_at_all_give_nobody_the_path_of_another() {
    let cloud = sent();
    let before = objects(&cloud);
    cloud.store.misbehave(Fault::shorten(0).at("db"));
    let refused = cloud.shop.source(&OTHER);
    refused.failed_saying("PathInUse", "space/source");
    assert!(cloud.store.struck() > 0);
    cloud.store.behave();
    assert_eq!(objects(&cloud), before);
}

/// What a stock source left at the path.
fn stock_left(cloud: &Cloud) -> String {
    let full = cloud.shop.path("full");
    std::fs::create_dir(&full).unwrap();
    for name in ["one", "two", "permissions.facl"] {
        std::fs::write(full.join(name), name).unwrap();
    }
    let target = format!("store:{}", cloud.shop.path);
    cloud.shop.stock(&["sync", full.to_str().unwrap(), &target]);
    contents(cloud)
}

pub(super) fn contents(cloud: &Cloud) -> String {
    let target = format!("store:{}", cloud.shop.path);
    cloud.shop.stock(&["lsf", "--format", "ph", "-R", &target])
}

#[test]
fn a_volume_without_a_file_empties_no_path_because_listings_showed_nothing_at_first() {
    let cloud = Cloud::new();
    let before = stock_left(&cloud);
    // That which looks whether the path is bare, and the one that looks whether the store is empty too.
    cloud.store.misbehave(Fault::shorten(0).at("/db/").times(2));
    cloud.shop.source(&[]).failed("SourceUnexpectedlyEmpty");
    assert_eq!(cloud.store.struck(), 2);
    assert_eq!(contents(&cloud), before);
    // Nothing of the attempt makes others wait.
    assert!(!objects(&cloud).contains("generation.json"));
}

/// Of a source `file` of its own volume, that may not see whose a path is where a stock source left something, what becomes
/// of that while the first `lies` listings of the path show nothing.
fn sent_blindly(file: &str, lies: usize, permissions: bool) -> (String, String) {
    let cloud = Cloud::new();
    let mut before = stock_left(&cloud);
    if !permissions {
        let place = format!("store:{}/permissions.facl", cloud.shop.path);
        cloud.shop.stock(&["deletefile", &place]);
        before = contents(&cloud);
    }
    std::fs::write(cloud.shop.src().join(file), "of another source").unwrap();
    cloud
        .store
        .misbehave(Fault::refuse(Refusal::AccessDenied).at("-syncline"));
    cloud
        .store
        .misbehave(Fault::shorten(0).at("/db/").times(lies));
    cloud.store.forget_requests();
    cloud.shop.source(&[]).failed("StoreRefused");
    let asked = cloud.store.requests();
    // All of the lies were heard, and then the truth.
    assert!(
        lies == usize::MAX || asked.count_at(Kind::List, "/db/") > lies,
        "{asked}"
    );
    cloud.store.behave();
    (before, contents(&cloud))
}

#[test]
fn a_source_that_may_not_see_whose_the_path_is_writes_over_nothing_that_listings_do_not_show() {
    // Asked for by name: a file of the volume, and the permissions. And what a later listing shows.
    for (file, lies, permissions) in [
        ("one", usize::MAX, false),
        ("new", usize::MAX, true),
        ("new", 2, false),
    ] {
        let (before, after) = sent_blindly(file, lies, permissions);
        assert_eq!(after, before, "{file} {lies}");
    }
}

#[test]
fn a_source_that_may_not_see_whose_the_path_is_empties_none_because_listings_showed_nothing_at_first()
 {
    let (before, after) = sent_blindly("new", 3, false);
    assert!(after.contains("new"), "{after}");
    for line in before.lines() {
        assert!(after.contains(line), "{after}");
    }
}

/// Files below the path.
fn files(cloud: &Cloud) -> Vec<String> {
    let target = format!("store:{}", cloud.shop.path);
    let listing = cloud.shop.stock(&["lsf", "--files-only", "-R", &target]);
    let mut names: Vec<String> = listing.lines().map(str::to_owned).collect();
    names.sort();
    names
}

#[test]
fn what_lies_where_a_folder_or_a_file_has_to_be_goes_before_the_upload_and_all_else_after_it() {
    let cloud = Cloud::new();
    let left = cloud.shop.path("left");
    std::fs::create_dir_all(left.join("is a folder")).unwrap();
    for name in ["is a file", "is a folder/inside", "old"] {
        std::fs::write(left.join(name), name).unwrap();
    }
    let target = format!("store:{}", cloud.shop.path);
    cloud.shop.stock(&["sync", left.to_str().unwrap(), &target]);
    let volume = cloud.shop.src();
    std::fs::create_dir(volume.join("is a file")).unwrap();
    for name in ["is a file/inside", "is a folder"] {
        std::fs::write(volume.join(name), name).unwrap();
    }
    cloud
        .store
        .misbehave(Fault::hold().on(Kind::Put).at("/db/"));
    let sending = cloud.shop.start("source", "src", &[]);
    crate::pair::until("an upload is held", || cloud.store.struck() > 0);
    assert_eq!(files(&cloud), ["old"]);
    cloud.store.behave();
    sending.end().succeeded();
    assert_eq!(
        files(&cloud),
        ["is a file/inside", "is a folder", "permissions.facl"]
    );
    cloud.shop.destination(&[]).succeeded();
    crate::tree::assert_same(&volume, &cloud.shop.dst());
}

/// A run of the source that is killed while the store holds its upload to `place` back.
fn dies_at(cloud: &Cloud, place: &str, variable: (&str, &str)) {
    let upload = Fault::hold().on(Kind::Put).at(place);
    cloud.store.misbehave(upload);
    let dying = cloud.shop.start("source", "src", &[variable]);
    crate::pair::until("the upload is held", || cloud.store.struck() > 0);
    dying.kill_all();
    dying.end_somehow();
    cloud.store.behave();
}

#[test]
fn a_file_that_was_renamed_lies_under_its_old_name_until_it_lies_under_the_new_one() {
    let cloud = sent();
    let first = cloud.shop.destination(&[]).report.generation.unwrap();
    let volume = cloud.shop.src();
    let before = files(&cloud);
    assert!(before.contains(&"two".to_owned()), "{before:?}");
    std::fs::rename(volume.join("two"), volume.join("zwei")).unwrap();
    let known = ("LAST_GENERATION", first.as_str());
    dies_at(&cloud, "/db/zwei", known);
    let meanwhile = files(&cloud);
    assert!(
        before.iter().all(|name| meanwhile.contains(name)),
        "{meanwhile:?}"
    );
    cloud.shop.source(&[known]).succeeded();
    let after = files(&cloud);
    assert!(!after.contains(&"two".to_owned()), "{after:?}");
    cloud.shop.destination(&[known]).succeeded();
    crate::tree::assert_same(&volume, &cloud.shop.dst());
}

#[test]
fn what_only_a_run_that_died_has_sent_stands_in_no_way_either() {
    let cloud = sent();
    let first = cloud.shop.destination(&[]).report.generation.unwrap();
    let volume = cloud.shop.src();
    std::fs::write(volume.join("late"), "a file").unwrap();
    let known = ("LAST_GENERATION", first.as_str());
    // All else is sent before.
    dies_at(&cloud, "/db/permissions.facl", known);
    assert!(files(&cloud).contains(&"late".to_owned()));
    std::fs::remove_file(volume.join("late")).unwrap();
    std::fs::create_dir(volume.join("late")).unwrap();
    std::fs::write(volume.join("late/inside"), "a folder's").unwrap();
    cloud
        .store
        .misbehave(Fault::hold().on(Kind::Put).at("/db/late/inside"));
    let held = cloud.store.struck();
    let sending = cloud.shop.start("source", "src", &[known]);
    crate::pair::until("the upload is held", || cloud.store.struck() > held);
    assert!(!files(&cloud).contains(&"late".to_owned()));
    cloud.store.behave();
    sending.end().succeeded();
    cloud.shop.destination(&[known]).succeeded();
    crate::tree::assert_same(&volume, &cloud.shop.dst());
}

#[test]
fn a_marker_that_nobody_can_read_gives_nobody_the_path_of_another() {
    let cloud = sent();
    let place = format!("store:{}-syncline/generation.json", cloud.shop.path);
    let broken = cloud.shop.path("broken");
    std::fs::write(&broken, "{\"version\": 1, \"sta").unwrap();
    cloud
        .shop
        .stock(&["copyto", broken.to_str().unwrap(), &place]);
    let before = objects(&cloud);
    let refused = cloud.shop.source(&OTHER);
    refused.failed("PathInUse");
    let message = refused.report.message.unwrap();
    assert!(
        message.contains("cannot be understood") && message.contains(&place),
        "{message}"
    );
    assert_eq!(objects(&cloud), before);
    // Whoever has written here before writes a new one.
    cloud.shop.source(&[("LAST_GENERATION", "1-0")]).succeeded();
}

#[test]
fn a_first_run_that_dies_with_half_a_marker_is_taken_up_by_the_same_source_only() {
    let cloud = Cloud::new();
    std::fs::write(cloud.shop.src().join("file"), "content").unwrap();
    // It has not shown yet that it is at work.
    let slow = ("SYNCLINE_WAIT_UNIT_MS", "1000");
    dies_at(&cloud, "/db/file", slow);
    // Nobody waits for it for ever.
    let hasty = [("SYNCLINE_WAIT_UNIT_MS", "1"), ("POLL", "1")];
    cloud.shop.destination(&hasty).failed("SourceUploading");
    let place = format!("store:{}-syncline/generation.json", cloud.shop.path);
    let half = cloud.shop.path("half");
    std::fs::write(&half, "{\"version\": 1, \"sta").unwrap();
    cloud
        .shop
        .stock(&["copyto", half.to_str().unwrap(), &place]);
    cloud.shop.source(&OTHER).failed("PathInUse");
    cloud.shop.source(&[]).succeeded();
    cloud.shop.destination(&[]).succeeded();
    crate::tree::assert_same(&cloud.shop.src(), &cloud.shop.dst());
}

#[test]
fn what_lies_in_lost_and_found_of_a_bucket_is_nobodys_concern() {
    let cloud = sent();
    let found = cloud.shop.path("found");
    std::fs::write(&found, "by fsck").unwrap();
    let place = format!("store:{}/lost+found/found", cloud.shop.path);
    cloud
        .shop
        .stock(&["copyto", found.to_str().unwrap(), &place]);
    cloud
        .shop
        .source(&[("RUNS_SINCE_FULL_CHECK", "20")])
        .succeeded();
    assert!(objects(&cloud).contains("lost+found/found"));
    cloud.shop.destination(&[]).succeeded();
    crate::tree::assert_same(&cloud.shop.src(), &cloud.shop.dst());
}

#[test]
fn a_source_that_was_not_let_see_whose_the_path_is_says_so_and_leaves_no_marker_to_vouch_for_it() {
    let cloud = sent();
    let seen = cloud.shop.source(&[]);
    assert!(!seen.report.blind);
    // Refused once, as by a rule that is being changed; what is asked for next is answered.
    let refused = || {
        Fault::refuse(Refusal::AccessDenied)
            .at("generation.json")
            .times(1)
    };
    for kind in [Kind::Head, Kind::Get] {
        cloud.store.misbehave(refused().on(kind));
    }
    let before = objects(&cloud);
    cloud.shop.source(&OTHER).failed("StoreRefused");
    assert_eq!(objects(&cloud), before);
    cloud.store.behave();
    for kind in [Kind::Head, Kind::Get] {
        cloud.store.misbehave(refused().on(kind));
    }
    let told = cloud
        .shop
        .source(&[OTHER[0], OTHER[1], ("SOLE_WRITER", "1")]);
    told.succeeded();
    assert!(told.report.blind);
    assert!(!objects(&cloud).contains("generation.json"));
}
