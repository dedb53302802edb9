//! Names that rclone writes otherwise.

use super::*;

/// Names that file systems have and lists of names may stumble over.
const ODD_NAMES: &[&[u8]] = &[
    b"plain",
    b"#hash",
    b";semicolon",
    b" lead",
    b"trail ",
    b"trail.",
    b"new\nline",
    b"return\r",
    b"tab\t",
    b"-dash",
    b"*star*",
    b"[br]{a,b}",
    b"back\\slash",
    b"co:lon",
    b"caf\xc3\xa9",
    b"cafe\xcc\x81",
    b"del\x7f",
    b"esc\x1b[31m",
    b"...",
    b"x\xe2\x90\x8ay",
    b"\xe2\x90\x80",
    b"full\xef\xbc\x8fslash",
    b"\xef\xbc\x8e",
    b"bad\xff\xfe",
    b"perc%41",
    b"deep/new\n/file",
    b"\xf0\x9f\x98\x80",
];

#[rstest]
#[case::local("[x]\ntype = local\n", "DIR/store/db")]
#[case::crypt(
    "[x]\ntype = crypt\nremote = DIR/store\npassword = DjoRUZL-gGI-U4PItEcvNA_8\n",
    "db"
)]
#[tokio::test]
async fn a_list_of_odd_names_makes_the_objects_of_a_full_sync_and_brings_them_back(
    #[case] conf: &str,
    #[case] path: &str,
) {
    use std::os::unix::ffi::OsStrExt as _;
    let bench = Bench::new(conf, &[], path).unwrap();
    let mut list = Vec::new();
    for name in ODD_NAMES {
        let file = bench.path("volume").join(OsStr::from_bytes(name));
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, name).unwrap();
        list.extend(crate::rclone::names::for_list(name));
        list.push(0);
    }
    bench
        .rclone
        .run(bench.copy(), &bench.console)
        .await
        .unwrap();
    let whole = bench.names().await;
    let mut expected: Vec<_> = ODD_NAMES
        .iter()
        .map(|name| crate::rclone::names::listed(name))
        .collect();
    expected.sort();
    assert_eq!(
        whole
            .iter()
            .map(|listed| listed.name.clone())
            .collect::<Vec<_>>(),
        expected
    );
    let again = bench
        .copy()
        .args(["--no-traverse", "--ignore-times"])
        .names(list.clone());
    let stats = bench.rclone.run(again, &bench.console).await.unwrap();
    assert_eq!(stats.files, ODD_NAMES.len() as u64);
    assert_eq!(bench.names().await, whole, "a list adds no second object");
    let fetch = Command::new("copy")
        .arg(bench.rclone.remote().data())
        .arg(bench.path("restored"))
        .names(list);
    bench.rclone.run(fetch, &bench.console).await.unwrap();
    for name in ODD_NAMES {
        let file = bench.path("restored").join(OsStr::from_bytes(name));
        assert_eq!(std::fs::read(file).unwrap(), *name);
    }
}

#[tokio::test]
async fn a_name_with_rclones_quote_travels_raw() {
    let bench = Bench::local();
    std::fs::create_dir(bench.path("volume")).unwrap();
    std::fs::write(bench.path("volume/q‛q"), "x").unwrap();
    let fault = bench
        .rclone
        .run(bench.copy(), &bench.console)
        .await
        .unwrap_err()
        .fault;
    assert!(fault.message.contains("lstat"), "{}", fault.message);
    let files = ["q‛q", "in‛ner/．．", "in‛ner/／"];
    for name in &files[1..] {
        let file = bench.path("volume").join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, name).unwrap();
    }
    let (mut listed, mut list) = (Vec::new(), Vec::new());
    for name in files {
        listed.push(crate::rclone::names::listed(name.as_bytes()));
        list.extend(crate::rclone::names::for_list(name.as_bytes()));
        list.push(0);
    }
    let volume = format!(":local,encoding=Raw:{}", bench.path("volume").display());
    let raw = Command::new("copy")
        .args(["--no-traverse", "--ignore-times"])
        .arg(volume)
        .arg(bench.rclone.remote().data());
    bench
        .rclone
        .run(raw.names(list.clone()), &bench.console)
        .await
        .unwrap();
    listed.sort();
    let names: Vec<_> = bench
        .names()
        .await
        .into_iter()
        .map(|one| one.name)
        .collect();
    assert_eq!(names, listed);
    let place = format!(":local,encoding=Raw:{}", bench.path("restored").display());
    let back = Command::new("copy")
        .arg(bench.rclone.remote().data())
        .arg(place);
    bench
        .rclone
        .run(back.names(list), &bench.console)
        .await
        .unwrap();
    for name in files {
        assert!(bench.path("restored").join(name).exists(), "{name}");
    }
}
