//! Manifests that come back as they were, and manifests that somebody meddled with.

use proptest::prelude::*;
use rstest::rstest;

use crate::tree::{Time, tests};

use super::*;

fn entry(path: &[u8], kind: Kind) -> Entry {
    Entry {
        mode: 0o755,
        uid: 1000,
        gid: 1000,
        mtime: Time { sec: -1, nanos: 2 },
        ctime: Time { sec: 3, nanos: 4 },
        inode: 5,
        ..tests::entry(path, kind)
    }
}

fn manifest(entries: Vec<Entry>) -> Manifest {
    Manifest {
        generation: 17,
        source: Source {
            uid: "u-1".to_owned(),
            namespace: "shop".to_owned(),
            cluster: String::new(),
            name: "db".to_owned(),
        },
        entries,
    }
}

fn written(manifest: &Manifest) -> (Vec<u8>, Seal) {
    let mut bytes = Vec::new();
    let seal = write(manifest, &mut bytes).unwrap();
    (bytes, seal)
}

fn seal_of(bytes: &[u8]) -> Seal {
    Seal {
        size: bytes.len() as u64,
        blake3: blake3::hash(bytes).to_hex().to_string(),
    }
}

/// Reads a manifest of these lines, sealed by whoever wrote them.
fn read_lines(lines: &str) -> Result<Manifest, ManifestError> {
    let bytes = zstd::encode_all(lines.as_bytes(), 1).unwrap();
    read(bytes.as_slice(), &seal_of(&bytes))
}

fn read_entries(entries: Vec<Entry>) -> Result<Manifest, ManifestError> {
    let (bytes, seal) = written(&manifest(entries));
    read(bytes.as_slice(), &seal)
}

fn root() -> Entry {
    entry(b"", Kind::Folder)
}

#[test]
fn a_manifest_is_lines_that_people_can_read() {
    let mut file = entry("größe".as_bytes(), Kind::File);
    file.size = 7;
    file.xattrs = vec![(b"user.a".to_vec(), b"\xff".to_vec())];
    let link = Kind::Link {
        target: b"\xff".to_vec(),
    };
    let (bytes, seal) = written(&manifest(vec![root(), file, entry(b"\xfe", link)]));
    assert_eq!(seal, seal_of(&bytes));
    let text = String::from_utf8(zstd::decode_all(bytes.as_slice()).unwrap()).unwrap();
    let expected = [
        r#"{"version":1,"generation":17,"source":{"uid":"u-1","namespace":"shop","name":"db"},"entries":3}"#,
        r#"{"p":"","k":"d","m":493,"u":1000,"g":1000,"t":[-1,2],"c":[3,4],"i":5}"#,
        r#"{"p":"größe","k":"f","m":493,"u":1000,"g":1000,"t":[-1,2],"c":[3,4],"i":5,"s":7,"x":[["user.a",["/w=="]]]}"#,
        r#"{"p":["/g=="],"k":{"l":{"t":["/w=="]}},"m":493,"u":1000,"g":1000,"t":[-1,2],"c":[3,4],"i":5}"#,
    ];
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn a_whole_tree_comes_back_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let owner = rustix::process::geteuid().as_raw();
    syncline_testkit::corpus::hostile(folder.path(), owner).unwrap();
    syncline_testkit::corpus::crowd(folder.path(), 100).unwrap();
    let before = manifest(crate::tree::scan(folder.path()).unwrap().entries);
    let (bytes, seal) = written(&before);
    let after = read(bytes.as_slice(), &seal).unwrap();
    assert_eq!(after, before);
}

#[test]
fn a_big_manifest_is_a_small_object() {
    let mut entries = vec![root()];
    for number in 0..10_000_u32 {
        let path = format!("file-{number:06}");
        let mut file = entry(path.as_bytes(), Kind::File);
        file.inode = 1_000_000 + u64::from(number);
        file.mtime.nanos = number.wrapping_mul(2_654_435_761) % 1_000_000_000;
        file.ctime.nanos = file.mtime.nanos;
        entries.push(file);
    }
    let (bytes, _) = written(&manifest(entries));
    assert!(bytes.len() < 400_000, "{} bytes", bytes.len());
}

#[rstest]
#[case::climbing(b"../etc/passwd")]
#[case::climbing_inside(b"a/../../b")]
#[case::absolute(b"/etc/passwd")]
#[case::zero(b"a\0b")]
#[case::empty_part(b"a//b")]
#[case::lost_and_found(b"lost+found")]
fn a_path_that_leads_elsewhere_is_refused(#[case] path: &[u8]) {
    let entries = vec![root(), entry(path, Kind::File)];
    let error = read_entries(entries).unwrap_err();
    assert!(matches!(error, ManifestError::Path { .. }), "{error}");
}

#[test]
fn a_path_through_a_link_or_a_file_or_nothing_is_refused() {
    let link = Kind::Link {
        target: b"/etc".to_vec(),
    };
    for folder in [
        vec![entry(b"a", link)],
        vec![entry(b"a", Kind::File)],
        Vec::new(),
    ] {
        let entries = [vec![root()], folder, vec![entry(b"a/passwd", Kind::File)]].concat();
        let error = read_entries(entries).unwrap_err();
        assert!(
            matches!(&error, ManifestError::NoFolder { path } if path == "a/passwd"),
            "{error}"
        );
    }
}

#[test]
fn the_folder_of_an_entry_may_lie_far_before_it() {
    let folder = |path: &[u8]| entry(path, Kind::Folder);
    let file = |path: &[u8]| entry(path, Kind::File);
    // "-" comes before "/".
    let entries = vec![
        root(),
        folder(b"a"),
        folder(b"a-b"),
        file(b"a-b/c"),
        file(b"a/b"),
    ];
    assert_eq!(read_entries(entries.clone()).unwrap().entries, entries);
}

#[test]
fn entries_out_of_order_or_twice_are_refused() {
    for second in [&b"a"[..], b"b"] {
        let entries = vec![root(), entry(b"b", Kind::File), entry(second, Kind::File)];
        let error = read_entries(entries).unwrap_err();
        assert!(matches!(error, ManifestError::Order { .. }), "{error}");
    }
}

#[test]
fn a_manifest_begins_with_the_root() {
    for entries in [
        Vec::new(),
        vec![entry(b"a", Kind::File)],
        vec![entry(b"", Kind::File)],
    ] {
        let error = read_entries(entries).unwrap_err();
        assert!(matches!(error, ManifestError::NoRoot), "{error}");
    }
}

#[test]
fn what_no_file_system_can_hold_is_refused() {
    let link = |target: &[u8]| Kind::Link {
        target: target.to_vec(),
    };
    let file = || entry(b"a", Kind::File);
    let bad = [
        Entry {
            mode: 0o10_000,
            ..file()
        },
        Entry {
            mtime: Time {
                sec: 0,
                nanos: 1_000_000_000,
            },
            ..file()
        },
        Entry {
            uid: u32::MAX,
            ..file()
        },
        Entry {
            gid: u32::MAX,
            ..file()
        },
        Entry {
            size: u64::MAX,
            ..file()
        },
        Entry {
            size: 1,
            ..entry(b"a", Kind::Pipe)
        },
        entry(b"a", link(b"")),
        entry(b"a", link(b"x\0y")),
        entry(b"a", link(&[b'x'; 5000])),
        Entry {
            xattrs: vec![(vec![b'n'; 256], Vec::new())],
            ..file()
        },
        Entry {
            xattrs: vec![(b"user.a".to_vec(), vec![0; 65_537])],
            ..file()
        },
    ];
    for entry in bad {
        let shown = format!("{entry:?}");
        let error = read_entries(vec![root(), entry]).unwrap_err();
        assert!(
            matches!(error, ManifestError::Impossible { .. }),
            "{error}: {shown}"
        );
    }
}

#[test]
fn other_bytes_than_the_marker_names_are_refused() {
    let (bytes, seal) = written(&manifest(vec![root(), entry(b"a", Kind::File)]));
    let mut damaged = bytes.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    let longer = [bytes.as_slice(), b"more"].concat();
    let endless = bytes.iter().copied().chain(std::iter::repeat(0));
    let endless: Vec<u8> = endless.take(1 << 20).collect();
    let shorter = &bytes[..bytes.len() - 3];
    for other in [damaged.as_slice(), &longer, &endless, shorter, b""] {
        let error = read(other, &seal).unwrap_err();
        assert!(matches!(error, ManifestError::OtherSeal { .. }), "{error}");
    }
    assert!(read(bytes.as_slice(), &seal).is_ok());
}

#[test]
fn a_count_that_is_not_kept_is_refused() {
    let (bytes, _) = written(&manifest(vec![root(), entry(b"a", Kind::File)]));
    let text = String::from_utf8(zstd::decode_all(bytes.as_slice()).unwrap()).unwrap();
    for announced in [1, 3, u64::MAX] {
        let lines = text.replace("\"entries\":2", &format!("\"entries\":{announced}"));
        let error = read_lines(&lines).unwrap_err();
        // So many that no memory holds them are refused sooner.
        let (ManifestError::OtherCount {
            announced: found, ..
        }
        | ManifestError::TooMany {
            announced: found, ..
        }) = error
        else {
            panic!("{error}");
        };
        assert_eq!(found, announced);
    }
}

#[test]
fn another_version_is_told_from_damage() {
    let header =
        r#"{"version":2,"generation":1,"source":{"uid":"","namespace":"","name":""},"entries":0}"#;
    let error = read_lines(header).unwrap_err();
    assert!(
        matches!(error, ManifestError::OtherVersion { found: 2 }),
        "{error}"
    );
    let error = read_lines("no manifest\n").unwrap_err();
    assert!(
        matches!(error, ManifestError::Line { line: 1, .. }),
        "{error}"
    );
}

#[test]
fn a_line_without_an_end_takes_no_more_memory_than_the_longest() {
    let bomb = vec![b' '; 64 << 20];
    let bytes = zstd::encode_all(bomb.as_slice(), 1).unwrap();
    assert!(bytes.len() < 100_000);
    let error = read(bytes.as_slice(), &seal_of(&bytes)).unwrap_err();
    assert!(
        matches!(error, ManifestError::LongLine { line: 1 }),
        "{error}"
    );
}

#[test]
fn a_manifest_that_wants_a_huge_window_is_refused() {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 19).unwrap();
    encoder.window_log(27).unwrap();
    encoder.write_all(&vec![7; 16 << 20]).unwrap();
    let bytes = encoder.finish().unwrap();
    let error = read(bytes.as_slice(), &seal_of(&bytes)).unwrap_err();
    assert!(matches!(error, ManifestError::Read(_)), "{error}");
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![
        Just(Kind::File),
        Just(Kind::Folder),
        Just(Kind::Pipe),
        Just(Kind::Socket),
        "[^\0]{1,20}".prop_map(|target| Kind::Link {
            target: target.into_bytes()
        }),
        (any::<bool>(), any::<u32>(), any::<u32>()).prop_map(|(block, major, minor)| {
            Kind::Device {
                block,
                major,
                minor,
            }
        }),
    ]
}

fn entries() -> impl Strategy<Value = Entry> {
    let names = proptest::collection::vec(1_u8..=255, 1..40).prop_map(|mut name| {
        name.retain(|byte| *byte != b'/');
        name.push(b'n');
        name
    });
    let numbers = (0_u32..0o10_000, 0..u32::MAX, 0..u32::MAX, any::<u32>());
    let times = (any::<i64>(), 0_u32..1_000_000_000);
    let attributes = proptest::collection::vec(
        (
            "user\\.[a-z]{1,9}",
            proptest::collection::vec(any::<u8>(), 0..30),
        ),
        0..4,
    );
    (
        names,
        kinds(),
        numbers,
        times,
        any::<(u64, u32, bool)>(),
        attributes,
    )
        .prop_map(
            |(path, kind, (mode, uid, gid, links), time, (inode, size, sparse), attributes)| {
                Entry {
                    path,
                    mode,
                    uid,
                    gid,
                    mtime: time.into(),
                    ctime: time.into(),
                    inode,
                    device_links: links,
                    size: if kind == Kind::File { size.into() } else { 0 },
                    sparse,
                    sent: inode / 3,
                    xattrs: attributes
                        .into_iter()
                        .map(|(name, value)| (name.into_bytes(), value))
                        .collect(),
                    kind,
                }
            },
        )
}

#[test]
fn what_the_pods_memory_cannot_hold_is_not_read() {
    let (bytes, seal) = written(&manifest(vec![root(), entry(b"a", Kind::File)]));
    let within = |memory| read_within(bytes.as_slice(), &seal, Limit::of(memory));
    assert!(matches!(
        within("399\n").unwrap_err(),
        ManifestError::TooMany {
            announced: 2,
            most: 1
        }
    ));
    assert!(within("4096\n").is_ok());
    assert!(within("max\n").is_ok());
    // A name of a megabyte in few bytes, under an honest number of entries.
    let long = "x".repeat(1 << 20);
    let header =
        r#"{"version":1,"generation":1,"source":{"uid":"","namespace":"","name":""},"entries":9}"#;
    let packed = zstd::encode_all(format!("{header}\n\"{long}").as_bytes(), 1).unwrap();
    let error = read_within(packed.as_slice(), &seal_of(&packed), Limit::of("65536")).unwrap_err();
    assert!(
        matches!(error, ManifestError::TooLarge | ManifestError::Line { .. }),
        "{error}"
    );
}

proptest! {
    #[test]
    fn every_entry_survives(mut found in proptest::collection::vec(entries(), 0..20)) {
        found.push(root());
        found.sort_by(|one, other| one.path.cmp(&other.path));
        found.dedup_by(|one, other| one.path == other.path);
        let before = manifest(found);
        let (bytes, seal) = written(&before);
        prop_assert_eq!(read(bytes.as_slice(), &seal).unwrap(), before);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes: Vec<u8>) {
        prop_assert!(read(bytes.as_slice(), &seal_of(&bytes)).is_err());
    }
}
