//! Listings in pages, and what comes of those that break off between two of them.

use syncline_testkit::store::{Fault, Kind, Refusal};

use super::cloud::Cloud;
use super::shop::replace;
use crate::tree;

/// Entries on a page.
const PAGE: usize = 50;
/// Pages of a listing. rclone gives away rows by the hundred, so a mover has seen as many when the last page does not come.
const PAGES: usize = 3;
/// Files, beside the permissions.
const FILES: usize = (PAGES - 1) * PAGE + 4;

/// A source's volume, and a server that lists it in pages.
fn in_pages() -> Cloud {
    let cloud = Cloud::new();
    let shop = &cloud.shop;
    for number in 0..FILES {
        std::fs::write(shop.src().join(format!("file {number:03}")), "first").unwrap();
    }
    let page = PAGE.to_string();
    for (name, value) in [
        ("RCLONE_S3_LIST_CHUNK", page.as_str()),
        ("RCLONE_LOW_LEVEL_RETRIES", "1"),
    ] {
        std::fs::write(shop.path("config").join(name), value).unwrap();
    }
    cloud
}

/// What lies under the path, with checksums.
fn objects(cloud: &Cloud) -> String {
    let place = format!("store:{}", cloud.shop.path);
    let mut lines: Vec<String> = cloud
        .shop
        .stock(&["lsf", "-R", "--format", "ph", &place])
        .lines()
        .map(str::to_owned)
        .collect();
    lines.sort();
    lines.join("\n")
}

fn listings(cloud: &Cloud) -> usize {
    cloud.store.requests().count_at(Kind::List, "/db/")
}

/// After so many pages every one meets with `fault`, in later tries the first one too.
fn break_off_after(cloud: &Cloud, pages: usize, fault: Fault) {
    let fault = fault.on(Kind::List).at("/db/");
    cloud.store.misbehave(fault.after(pages));
}

#[test]
fn a_destination_takes_all_pages_of_what_is_listed_or_leaves_the_volume_as_it_is() {
    let cloud = in_pages();
    let shop = &cloud.shop;
    let first = shop.source(&[]);
    first.succeeded();
    cloud.store.forget_requests();
    shop.destination(&[]).succeeded();
    assert!(listings(&cloud) >= PAGES, "{}", cloud.store.requests());
    tree::assert_same(&shop.src(), &shop.dst());
    let before = shop.path("before");
    replace(&shop.dst(), &before);
    std::fs::remove_file(shop.src().join("file 003")).unwrap();
    std::fs::write(shop.src().join("file 007"), "later").unwrap();
    let last = first.report.generation.unwrap();
    shop.source(&[("LAST_GENERATION", &last)]).succeeded();
    let held = objects(&cloud);
    let refusal = Fault::refuse(Refusal::InternalError);
    for (has_marker, fault, reason) in [
        (true, Fault::cut(), "StoreUnreachable"),
        (false, refusal, "StoreOverloaded"),
    ] {
        if !has_marker {
            shop.stock(&["purge", &format!("store:{}-syncline", shop.path)]);
            replace(&before, &shop.dst());
        }
        break_off_after(&cloud, PAGES - 1, fault);
        shop.destination(&[]).failed(reason);
        tree::assert_same(&before, &shop.dst());
        cloud.store.behave();
        shop.destination(&[]).succeeded();
        tree::compare(&shop.src(), &shop.dst(), tree::as_stock_rclone_keeps);
    }
    assert_eq!(objects(&cloud), held);
}

#[test]
fn a_source_checks_by_listings_in_pages_and_where_they_break_off_its_last_version_stays() {
    let cloud = in_pages();
    let shop = &cloud.shop;
    let first = shop.source(&[]).report.generation.unwrap();
    let check = || {
        shop.source(&[
            ("LAST_GENERATION", first.as_str()),
            ("RUNS_SINCE_FULL_CHECK", "9"),
        ])
    };
    let marker = format!("store:{}-syncline/generation.json", shop.path);
    let marker = || shop.stock(&["cat", &marker]);
    cloud.store.forget_requests();
    let whole = check();
    whole.succeeded();
    assert_eq!(whole.report.generation.as_ref(), Some(&first));
    let pages = listings(&cloud);
    assert!(pages >= PAGES, "{}", cloud.store.requests());
    let before = (objects(&cloud), marker());
    cloud.store.forget_requests();
    // The last page of the last listing.
    break_off_after(&cloud, pages - 1, Fault::cut());
    check().failed("StoreUnreachable");
    cloud.store.behave();
    let asked = cloud.store.requests();
    for kind in [Kind::Put, Kind::Delete] {
        assert_eq!(asked.count_at(kind, "/db/file"), 0, "{asked}");
    }
    assert_eq!((objects(&cloud), marker()), before);
    let again = check();
    again.succeeded();
    assert_eq!(again.report.generation, Some(first.clone()));
}
