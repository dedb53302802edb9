//! Derived names.

use std::collections::BTreeSet;

use jiff::Timestamp;
use proptest::prelude::*;
use syncline_api::names::{self, Mover, Side};

const SIDES: [Side; 2] = [Side::Source, Side::Destination];

#[test]
fn names_are_those_that_volsync_gives() {
    use Mover::{Rclone, Restic, Rsync, RsyncTls, Syncthing};
    use Side::{Destination, Source};
    let jobs = [
        (Rsync, Source, "volsync-rsync-src-db"),
        (Rsync, Destination, "volsync-rsync-dst-db"),
        (RsyncTls, Destination, "volsync-rsync-tls-dst-db"),
        (Rclone, Source, "volsync-rclone-src-db"),
        (Restic, Destination, "volsync-dst-db"),
        (Syncthing, Source, "volsync-db"),
    ];
    for (mover, side, expected) in jobs {
        assert_eq!(names::job(mover, side, "db"), expected);
    }
    let volumes = [
        (Rsync, Source, "volsync-db-src"),
        (Rsync, Destination, "volsync-db-dst"),
        (RsyncTls, Destination, "volsync-db-dst"),
        (Rclone, Destination, "volsync-db-dest"),
        (Restic, Destination, "volsync-db-dest"),
        (Restic, Source, "volsync-db-src"),
    ];
    for (mover, side, expected) in volumes {
        assert_eq!(names::data_pvc(mover, side, "db"), expected);
    }
    assert_eq!(names::service(Rsync, Source, "db"), "volsync-rsync-src-db");
    assert_eq!(names::source_snapshot("db"), "volsync-db-src");
    assert_eq!(
        names::ssh_keys_main(Destination, "db"),
        "volsync-rsync-dst-main-db"
    );
    assert_eq!(
        names::ssh_keys_source(Destination, "db"),
        "volsync-rsync-dst-src-db"
    );
    assert_eq!(
        names::ssh_keys_destination(Source, "db"),
        "volsync-rsync-src-dest-db"
    );
    assert_eq!(names::service_account(Destination, "db"), "volsync-dst-db");
    assert_eq!(names::label_value(Source, "db"), "src-db");
}

#[test]
fn a_name_that_is_too_long_becomes_its_crc32() {
    // "volsync-rsync-src-" has 18 characters: 45 more fit.
    let fits = "a".repeat(45);
    assert_eq!(
        names::job(Mover::Rsync, Side::Source, &fits),
        format!("volsync-rsync-src-{fits}")
    );
    // The checksum of the check value of CRC-32 is known: cbf43926.
    let long = format!("{}x", "a".repeat(45));
    let job = names::job(Mover::Rsync, Side::Source, &long);
    assert_eq!(
        job,
        format!("volsync-rsync-src-{:08x}", crc32fast::hash(long.as_bytes()))
    );
    assert_eq!(crc32fast::hash(b"123456789"), 0xcbf4_3926);
}

#[test]
fn an_image_is_named_after_its_volume_and_time() {
    let time: Timestamp = "2021-01-14T19:43:05.9Z".parse().expect("a time");
    assert_eq!(
        names::snapshot("volsync-dest-test", time),
        "volsync-dest-test-20210114194305"
    );
}

/// Names of objects, long ones among them.
fn object_name() -> impl Strategy<Value = String> {
    let part = (any::<u64>(), 1..60_usize).prop_map(|(seed, length)| {
        format!("{seed:x}")
            .chars()
            .cycle()
            .take(length)
            .collect::<String>()
    });
    prop::collection::vec(part, 1..5).prop_map(|parts| parts.join("."))
}

fn is_label(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let outer = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.len() <= 63 && text.chars().all(inner) && text.starts_with(outer) && text.ends_with(outer)
}

fn is_subdomain(text: &str) -> bool {
    text.len() <= 253
        && text
            .split('.')
            .all(|part| is_label(part) || (part.len() > 63 && is_label(&part[..1])))
}

#[test]
fn two_replications_do_not_share_a_name() {
    let stem = "a-name-that-is-long-enough-to-be-replaced-by-its-checksum.and-more";
    let names: Vec<_> = (0..3000).map(|number| format!("{stem}{number}")).collect();
    let jobs: BTreeSet<_> = names
        .iter()
        .map(|name| names::job(Mover::Rsync, Side::Source, name))
        .collect();
    assert_eq!(jobs.len(), names.len());
    let services: BTreeSet<_> = names
        .iter()
        .map(|name| names::service(Mover::Rsync, Side::Source, name))
        .collect();
    assert_eq!(services.len(), names.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn names_of_jobs_and_services_and_labels_fit(name in object_name()) {
        for (side, mover) in SIDES.into_iter().flat_map(|side| Mover::ALL.map(|mover| (side, mover))) {
            let job = names::job(mover, side, &name);
            prop_assert!(job.len() <= 63 && is_subdomain(&job), "{}", job);
            let service = names::service(mover, side, &name);
            prop_assert!(is_label(&service) && service.starts_with("volsync-"), "{}", service);
            let label = names::label_value(side, &name);
            prop_assert!(label.len() <= 63 && is_subdomain(&label), "{}", label);
        }
    }

    #[test]
    fn names_of_images_fit_and_keep_their_time(pvc in object_name(), second in 0..4_000_000_000_i64) {
        let time = Timestamp::from_second(second).expect("within range");
        let name = names::snapshot(&pvc, time);
        let stamp = time.strftime("-%Y%m%d%H%M%S").to_string();
        prop_assert!(is_subdomain(&name) && name.ends_with(&stamp), "{}", name);
        let whole = format!("{pvc}{stamp}");
        prop_assert!(whole.len() > names::LONGEST_OBJECT_NAME || name == whole);
    }

    #[test]
    fn the_objects_of_one_replication_have_different_names(name in object_name()) {
        let secrets: BTreeSet<_> = SIDES
            .into_iter()
            .flat_map(|side| {
                [
                    names::ssh_keys_main(side, &name),
                    names::ssh_keys_source(side, &name),
                    names::ssh_keys_destination(side, &name),
                ]
            })
            .collect();
        prop_assert_eq!(secrets.len(), 6);
        let jobs: BTreeSet<_> = SIDES
            .into_iter()
            .flat_map(|side| [Mover::Rsync, Mover::RsyncTls, Mover::Rclone, Mover::Restic].map(|mover| (side, mover)))
            .map(|(side, mover)| names::job(mover, side, &name))
            .collect();
        prop_assert_eq!(jobs.len(), 8);
    }
}
