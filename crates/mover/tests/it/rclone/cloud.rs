//! Destinations at an S3 server that does not always tell the truth.

use std::path::Path;

use syncline_testkit::store::{Backend, Fault, Kind, ObjectStore, Refusal, Tls, another_ca};

use super::shop::Shop;
use crate::tree;

/// A server, a shop whose path is `db` in its bucket, and what keeps both going.
pub(crate) struct Cloud {
    pub(crate) shop: Shop,
    pub(crate) store: ObjectStore,
    runtime: tokio::runtime::Runtime,
}

impl Cloud {
    pub(crate) fn new() -> Self {
        Self::with(Tls::Without)
    }

    fn with(tls: Tls) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let store = runtime
            .block_on(ObjectStore::near(Backend::S3, tls))
            .unwrap();
        let shop = Shop::of(&store.rclone_conf("store"), &format!("{}/db", store.path()));
        Self {
            shop,
            store,
            runtime,
        }
    }

    /// A run of VolSync's source: the permissions are read first and written last.
    fn volsync_run(&self) {
        let root = self.shop.path("");
        let script = "find src -print0 | xargs -0 getfacl -P | sed 's,^# file: src,# file: data,' >permissions.facl";
        crate::pair::run(
            std::process::Command::new("bash")
                .args(["-c", script])
                .current_dir(&root),
        );
        self.stock_sync(&self.shop.src());
        let target = format!("store:{}", self.shop.path);
        let file = self.shop.path("permissions.facl");
        self.shop.stock(&["copy", file.to_str().unwrap(), &target]);
    }

    /// What a stock source does that has this folder, but for the permissions.
    fn stock_sync(&self, from: &Path) {
        let target = format!("store:{}", self.shop.path);
        self.shop.stock(&["sync", from.to_str().unwrap(), &target]);
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        // The server's tasks may end within it.
        let _guard = self.runtime.enter();
    }
}

/// Names in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let listing = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = listing
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn fill(folder: &Path) {
    for number in 0..8 {
        std::fs::write(folder.join(format!("file {number}")), format!("{number}")).unwrap();
    }
}

#[test]
fn a_listing_that_is_short_once_deletes_nothing_where_there_is_no_marker() {
    let cloud = Cloud::new();
    fill(&cloud.shop.src());
    cloud.stock_sync(&cloud.shop.src());
    cloud.shop.destination(&[]).succeeded();
    let before = names(&cloud.shop.dst());
    assert_eq!(before.len(), 8);
    for number in 0..3 {
        // Whichever it is: that before the transfer, rclone's own, that after it.
        let short = Fault::shorten(3).at("/db/").after(number).times(1);
        cloud.store.misbehave(short);
        let ended = cloud.shop.destination(&[]);
        assert_eq!(names(&cloud.shop.dst()), before, "{}", ended.log);
        ended.succeeded();
        cloud.store.behave();
    }
    assert_eq!(cloud.store.struck(), 3);
    // A volume without anything gets all, or it is no success.
    for name in &before {
        std::fs::remove_file(cloud.shop.dst().join(name)).unwrap();
    }
    let short = Fault::shorten(3).at("/db/").after(1).times(1);
    cloud.store.misbehave(short);
    cloud.shop.destination(&[]).succeeded();
    assert_eq!(names(&cloud.shop.dst()), before);
}

#[test]
fn a_listing_that_is_short_once_leaves_nothing_behind_where_a_key_chooses_among_files() {
    let cloud = Cloud::new();
    fill(&cloud.shop.src());
    cloud.stock_sync(&cloud.shop.src());
    std::fs::write(cloud.shop.path("config/RCLONE_EXCLUDE"), "*7").unwrap();
    let mut wanted = names(&cloud.shop.src());
    wanted.retain(|name| !name.ends_with('7'));
    let mut struck = 0;
    for number in 0..8 {
        for name in names(&cloud.shop.dst()) {
            std::fs::remove_file(cloud.shop.dst().join(name)).unwrap();
        }
        // Whichever it is of all that a run looks at.
        let short = Fault::shorten(3).at("/db/").after(number).times(1);
        cloud.store.misbehave(short);
        let ended = cloud.shop.destination(&[]);
        ended.succeeded();
        assert_eq!(names(&cloud.shop.dst()), wanted, "{number}: {}", ended.log);
        struck += cloud.store.struck();
        cloud.store.behave();
    }
    assert!(struck >= 4, "{struck}");
}

#[test]
fn what_the_permissions_name_is_not_deleted_for_any_number_of_short_listings() {
    let cloud = Cloud::new();
    fill(&cloud.shop.src());
    let permissions = cloud.shop.path("permissions.facl");
    let blocks: Vec<String> = names(&cloud.shop.src())
        .iter()
        .map(|name| {
            format!(
                "# file: data/{}\nuser::rw-\ngroup::r--\nother::r--\n\n",
                name.replace(' ', "\\040")
            )
        })
        .collect();
    cloud.stock_sync(&cloud.shop.src());
    std::fs::write(&permissions, blocks.concat()).unwrap();
    let target = format!("store:{}", cloud.shop.path);
    cloud
        .shop
        .stock(&["copy", permissions.to_str().unwrap(), &target]);
    cloud.shop.destination(&[]).succeeded();
    let before = names(&cloud.shop.dst());
    cloud.store.misbehave(Fault::shorten(3).at("/db/"));
    let ended = cloud.shop.destination(&[]);
    ended.failed("ListingIncomplete");
    assert_eq!(names(&cloud.shop.dst()), before);
    cloud.store.behave();
    // What they no longer name goes.
    std::fs::remove_file(cloud.shop.src().join("file 3")).unwrap();
    std::fs::write(
        &permissions,
        "# file: data\nuser::rwx\ngroup::r-x\nother::r-x\n\n",
    )
    .unwrap();
    cloud.stock_sync(&cloud.shop.src());
    cloud
        .shop
        .stock(&["copy", permissions.to_str().unwrap(), &target]);
    cloud.shop.destination(&[]).succeeded();
    assert_eq!(names(&cloud.shop.dst()), names(&cloud.shop.src()));
}

#[test]
fn a_refusal_of_the_marker_makes_no_stock_path_of_one_that_had_a_marker() {
    let cloud = Cloud::new();
    fill(&cloud.shop.src());
    cloud.shop.source(&[]).succeeded();
    let refused = || Fault::refuse(Refusal::AccessDenied).at("-syncline");
    // Once, in the middle of a run that began with the marker.
    cloud
        .store
        .misbehave(refused().on(Kind::Get).after(2).times(2));
    cloud.shop.destination(&[]).failed("StoreRefused");
    assert!(cloud.store.struck() > 0);
    cloud.store.behave();
    let first = cloud.shop.destination(&[]).report.generation.unwrap();
    // From the first look on, after a version that a marker told of.
    cloud.store.misbehave(refused());
    cloud
        .shop
        .destination(&[("LAST_GENERATION", &first)])
        .failed("StoreRefused");
    // Who never saw one takes what is there, and says what he cannot see.
    let ended = cloud.shop.destination(&[]);
    ended.succeeded();
    let words = ended.report.unpreserved.join("; ");
    assert!(words.contains("generation.json may not be read"), "{words}");
}

#[test]
fn who_cannot_see_whose_a_path_is_writes_there_only_if_it_is_empty_or_was_told_to() {
    let cloud = Cloud::new();
    fill(&cloud.shop.src());
    cloud
        .store
        .misbehave(Fault::refuse(Refusal::AccessDenied).at("-syncline"));
    let first = cloud.shop.source(&[]);
    first.succeeded();
    let stays = "generation.json, if there is one: it stays";
    assert!(first.report.unpreserved[0].contains(stays));
    // That it once sent something, perhaps elsewhere, is no title.
    std::fs::remove_file(cloud.shop.src().join("file 3")).unwrap();
    let sent_once = ("LAST_SYNCED_ENTRIES", "9");
    let refused = cloud.shop.source(&[sent_once]);
    refused.failed("StoreRefused");
    let message = refused.report.message.unwrap();
    assert!(
        message.contains("syncline.dev/rclone-sole-writer"),
        "{message}"
    );
    cloud.shop.destination(&[]).succeeded();
    assert!(cloud.shop.dst().join("file 3").exists());
    cloud
        .shop
        .source(&[sent_once, ("SOLE_WRITER", "1")])
        .succeeded();
    cloud.shop.destination(&[]).succeeded();
    assert!(!cloud.shop.dst().join("file 3").exists());
}

#[test]
fn a_stock_sources_upload_that_goes_on_is_not_taken_for_a_version() {
    let cloud = Cloud::new();
    let shop = &cloud.shop;
    std::fs::create_dir(shop.src().join("folder")).unwrap();
    for number in 0..4 {
        std::fs::write(shop.src().join(format!("folder/{number}")), "first").unwrap();
    }
    cloud.volsync_run();
    shop.destination(&[]).succeeded();
    for number in 0..4 {
        std::fs::write(shop.src().join(format!("folder/{number}")), "later").unwrap();
    }
    // One object of four comes late; nothing else moves meanwhile.
    cloud
        .store
        .misbehave(Fault::hold().on(Kind::Put).at("folder/3"));
    std::thread::scope(|scope| {
        let source = scope.spawn(|| cloud.volsync_run());
        crate::pair::until("the last object is held", || cloud.store.struck() > 0);
        let fetching = shop.start("destination", "dst", &[("SYNCLINE_WAIT_UNIT_MS", "200")]);
        fetching.wait_for("whether the store still shows the same");
        cloud.store.behave();
        source.join().unwrap();
        fetching.end().succeeded();
    });
    for number in 0..4 {
        let file = shop.dst().join(format!("folder/{number}"));
        assert_eq!(std::fs::read_to_string(file).unwrap(), "later");
    }
}

#[test]
fn the_upload_of_a_source_without_notes_is_not_taken_for_a_version() {
    let cloud = Cloud::new();
    let shop = &cloud.shop;
    let closed = || Fault::refuse(Refusal::AccessDenied).at("-syncline");
    let objects = ["0", "1", "2", "3", "4", "5", "6", "7"];
    // The first version and a later one, of which one object of eight comes late.
    for (content, unit) in [("first", "40"), ("later", "400")] {
        for name in objects {
            std::fs::write(shop.src().join(name), content).unwrap();
        }
        cloud.store.misbehave(closed());
        let late = Fault::hold().on(Kind::Put).at("/db/3");
        cloud.store.misbehave(late);
        std::thread::scope(|scope| {
            let source = scope.spawn(|| shop.source(&[("SOLE_WRITER", "1")]));
            let sent = || {
                let path = format!("store:{}", shop.path);
                let all = shop.stock(&["cat", "--exclude", "*.facl", &path]);
                all.matches(content).count() == 7
            };
            crate::pair::until("the other objects are there", sent);
            let unit = ("SYNCLINE_WAIT_UNIT_MS", unit);
            let fetching = shop.start("destination", "dst", &[unit]);
            fetching.wait_for("whether the store still shows the same");
            cloud.store.behave();
            source.join().unwrap().succeeded();
            fetching.end().succeeded();
        });
        for name in objects {
            let file = std::fs::read_to_string(shop.dst().join(name));
            assert_eq!(file.unwrap(), content);
        }
    }
}

#[test]
fn a_destination_that_lets_a_store_rest_takes_the_version_of_a_source_that_announces_itself_meanwhile()
 {
    let cloud = Cloud::new();
    let shop = &cloud.shop;
    fill(&shop.src());
    cloud.stock_sync(&shop.src());
    // Without permissions the rest is ten minutes, longer than any wait here.
    let unit = ("SYNCLINE_WAIT_UNIT_MS", "1000");
    let resting = shop.start("destination", "dst", &[unit]);
    resting.wait_for("whether the store still shows the same");
    let source = shop.source(&[]);
    source.succeeded();
    let ended = resting.end();
    ended.succeeded();
    assert_eq!(ended.report.generation, source.report.generation);
}

#[test]
fn the_first_upload_of_a_stock_source_is_not_taken_for_a_version_before_its_permissions_are_there()
{
    let cloud = Cloud::new();
    let shop = &cloud.shop;
    fill(&shop.src());
    cloud
        .store
        .misbehave(Fault::hold().on(Kind::Put).at("/db/").times(1));
    std::thread::scope(|scope| {
        let source = scope.spawn(|| cloud.volsync_run());
        crate::pair::until("an object is held", || cloud.store.struck() > 0);
        let listed = || shop.stock(&["lsf", &format!("store:{}", shop.path)]);
        crate::pair::until("the others are there", || listed().lines().count() == 7);
        // The rest is 24 seconds then, of which a busy machine takes some before the line is said.
        let unit = ("SYNCLINE_WAIT_UNIT_MS", "40");
        let mut fetching = shop.start("destination", "dst", &[unit]);
        fetching.wait_for("whether the store still shows the same");
        // A minute and more, in these units.
        std::thread::sleep(std::time::Duration::from_secs(3));
        let waits = fetching.is_running();
        cloud.store.behave();
        source.join().unwrap();
        assert!(waits, "{}", fetching.log());
        fetching.end().succeeded();
    });
    assert_eq!(names(&shop.dst()), names(&shop.src()));
}

#[test]
fn a_destination_that_lets_a_stock_sources_first_upload_rest_goes_on_when_that_has_said_its_last_word()
 {
    let cloud = Cloud::new();
    let shop = &cloud.shop;
    fill(&shop.src());
    let last_word = format!("/{}/permissions.facl", shop.path);
    cloud
        .store
        .misbehave(Fault::hold().on(Kind::Put).at(last_word.as_str()));
    std::thread::scope(|scope| {
        let source = scope.spawn(|| cloud.volsync_run());
        crate::pair::until("all but the permissions is there", || {
            cloud.store.struck() > 0
        });
        // The rest is five minutes then, longer than any wait here, and a pause in it is seven seconds and a half.
        let unit = ("SYNCLINE_WAIT_UNIT_MS", "500");
        let resting = shop.start("destination", "dst", &[unit]);
        resting.wait_for("or when permissions.facl is written");
        resting.wait_for(r#""phase":"Resting""#);
        cloud.store.forget_requests();
        let asked = || cloud.store.requests();
        crate::pair::until("a look at the permissions", || {
            asked().count_at(Kind::Head, &last_word) > 0
        });
        let asked = asked();
        cloud.store.behave();
        source.join().unwrap();
        let listed = format!("/{}/", shop.path);
        assert_eq!(asked.count_at(Kind::List, &listed), 0, "{asked}");
        resting.end().succeeded();
    });
    assert_eq!(names(&shop.dst()), names(&shop.src()));
}

#[test]
fn all_comes_through_names_and_contents_that_are_encrypted_in_a_bucket() {
    let cloud = Cloud::new();
    let shop = &cloud.shop;
    let obscured = shop.stock(&["obscure", "secret words"]);
    let bucket = cloud.store.path();
    let conf = format!(
        "{}\n[hidden]\ntype = crypt\nremote = store:{bucket}/encrypted\npassword = {}\n",
        cloud.store.rclone_conf("store"),
        obscured.trim()
    );
    std::fs::write(shop.path("config/rclone.conf"), conf).unwrap();
    let hidden = [
        ("RCLONE_CONFIG_SECTION", "hidden"),
        ("RCLONE_DEST_PATH", "db"),
    ];
    tree::fill(&shop.src());
    let first = shop.source(&hidden);
    first.succeeded();
    shop.destination(&hidden).succeeded();
    tree::assert_same(&shop.src(), &shop.dst());
    tree::change(&shop.src());
    let last = first.report.generation.unwrap();
    let last = ("LAST_GENERATION", last.as_str());
    cloud.store.forget_requests();
    shop.source(&[hidden[0], hidden[1], last]).succeeded();
    // Without hashes, only the version tells which files are still right.
    let ended = shop.destination(&[hidden[0], hidden[1], last]);
    ended.succeeded();
    tree::assert_same(&shop.src(), &shop.dst());
    // No listing asks for the time of each object.
    let sealed = shop.stock(&["cryptdecode", "--reverse", "hidden:", "db"]);
    let folder = sealed.split_whitespace().last().unwrap();
    let asked = cloud.store.requests();
    let heads = asked.count_at(Kind::Head, &format!("/encrypted/{folder}/"));
    assert!(heads < 12, "{heads}: {asked}");
    let names = shop.stock(&["lsf", "-R", "--files-only", &format!("store:{bucket}")]);
    assert!(
        !names.contains("permissions") && !names.contains("generation"),
        "{names}"
    );
}

#[test]
fn a_destination_without_a_trigger_looks_ever_more_rarely_and_never_gives_up() {
    let cloud = Cloud::new();
    fill(&cloud.shop.src());
    let first = cloud.shop.source(&[]).report.generation.unwrap();
    cloud.store.forget_requests();
    let begun = std::time::Instant::now();
    let variables = [
        ("POLL", "1"),
        ("POLL_LIMIT", "1"),
        ("LAST_GENERATION", first.as_str()),
        ("SYNCLINE_WAIT_UNIT_MS", "50"),
    ];
    let waiting = cloud.shop.start("destination", "dst", &variables);
    let looks = || {
        cloud
            .store
            .requests()
            .count_at(Kind::Get, "generation.json")
    };
    crate::pair::until("the ninth look", || looks() >= 9);
    // 50, 100, 200, 400, 800 ms, and then one second each time.
    assert!(begun.elapsed() >= std::time::Duration::from_millis(4500));
    let asked = cloud.store.requests();
    assert_eq!(asked.count_at(Kind::List, "/db/"), 0, "{asked}");
    assert!(asked.total() <= 9 * 5, "{asked}");
    std::fs::write(cloud.shop.src().join("new"), "new").unwrap();
    cloud.shop.source(&[]).succeeded();
    waiting.end().succeeded();
    assert!(cloud.shop.dst().join("new").exists());
}

#[test]
fn faults_that_pass_do_not_add_up_while_a_destination_waits() {
    let cloud = Cloud::new();
    fill(&cloud.shop.src());
    let first = cloud.shop.source(&[]).report.generation.unwrap();
    let variables = [
        ("POLL", "1"),
        ("POLL_LIMIT", "1"),
        ("LAST_GENERATION", first.as_str()),
    ];
    let waiting = cloud.shop.start("destination", "dst", &variables);
    let troubles = || waiting.log().matches("next try in").count();
    let rests = || waiting.log().matches("waiting for a new version").count();
    // One more than the tries that a run has.
    for number in 1..=6 {
        crate::pair::until("it waits", || rests() >= number);
        let looks = || {
            let asked = cloud.store.requests();
            asked.count_at(Kind::Get, "generation.json")
        };
        let before = looks();
        crate::pair::until("a look that is answered", || looks() > before + 1);
        cloud
            .store
            .misbehave(Fault::refuse(Refusal::InternalError).at("-syncline"));
        crate::pair::until("a try fails", || troubles() >= number);
        cloud.store.behave();
    }
    std::fs::write(cloud.shop.src().join("new"), "new").unwrap();
    cloud.shop.source(&[]).succeeded();
    waiting.end().succeeded();
    assert!(cloud.shop.dst().join("new").exists());
}

#[test]
fn a_destination_trusts_no_certificate_that_it_was_not_told_to() {
    let cloud = Cloud::with(Tls::Valid);
    let shop = &cloud.shop;
    fill(&shop.src());
    let place = |name: &str, pem: &str| {
        std::fs::write(shop.path(name), pem).unwrap();
        shop.path(name).display().to_string()
    };
    let right = place("right.pem", cloud.store.ca_pem().unwrap());
    let wrong = place("wrong.pem", &another_ca().unwrap());
    shop.source(&[("CUSTOM_CA", &right)]).succeeded();
    let few = ("RCLONE_LOW_LEVEL_RETRIES", "1");
    std::fs::write(shop.path("config").join(few.0), few.1).unwrap();
    shop.destination(&[("CUSTOM_CA", &wrong)])
        .failed("CertificateRefused");
    shop.destination(&[]).failed("CertificateRefused");
    assert_eq!(names(&shop.dst()).len(), 0);
    shop.destination(&[("CUSTOM_CA", &right)]).succeeded();
    assert_eq!(names(&shop.dst()), names(&shop.src()));
}

#[test]
fn a_store_behind_a_proxy_is_reached_through_it_and_not_where_no_proxy_names_the_store() {
    let cloud = Cloud::new();
    let shop = &cloud.shop;
    fill(&shop.src());
    // A name that only the proxy knows, which is the server's own door. Go uses no proxy for loopback addresses.
    let (proxy, conf) = (
        cloud.store.endpoint_for_pods(),
        cloud.store.rclone_conf("store"),
    );
    let conf = conf.replace(proxy, "http://shop");
    assert!(conf.contains("http://shop\n"), "{conf}");
    std::fs::write(shop.path("config/rclone.conf"), conf).unwrap();
    let through = [("HTTP_PROXY", proxy)];
    shop.source(&through).succeeded();
    assert!(cloud.store.requests().count_at(Kind::Put, "/db/") > 8);
    shop.destination(&through).succeeded();
    tree::assert_same(&shop.src(), &shop.dst());
    std::fs::write(shop.path("config/RCLONE_LOW_LEVEL_RETRIES"), "1").unwrap();
    cloud.store.forget_requests();
    let around = [("HTTP_PROXY", proxy), ("NO_PROXY", "shop")];
    shop.source(&around).failed("StoreUnreachable");
    assert_eq!(cloud.store.requests().total(), 0);
}
