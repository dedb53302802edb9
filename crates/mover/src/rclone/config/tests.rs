use super::*;
use proptest::prelude::*;
use std::path::PathBuf;

fn places(folder: &Path) -> Places {
    Places {
        data: PathBuf::from("/data"),
        config: folder.join("rclone.conf"),
        custom_ca: None,
        scratch: PathBuf::from("/tmp"),
        report: PathBuf::from("/dev/null"),
    }
}

fn remote(section: &str) -> Remote {
    Remote {
        section: section.to_owned(),
        path: "p".to_owned(),
        state_path: None,
    }
}

fn secret(files: &[(&str, &str)]) -> Result<Config, Fault> {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    Config::read(&places(folder.path()))
}

const CONF: &str = "# made by hand\n[s3]\ntype = s3\nprovider=Other\nchunk_size = 16M\nsecret_access_key = abc=def\n\n\
                    ; another\n[plain one]\ntype = local\n[bare]\n";

#[test]
fn sections_and_keys_are_found() {
    let config = secret(&[("rclone.conf", CONF)]).unwrap();
    assert_eq!(config.sections.len(), 3);
    config.check(&remote("s3")).unwrap();
    config.check(&remote("plain one")).unwrap();
    assert_eq!(config.sections[0].get("secret_access_key"), Some("abc=def"));
}

#[test]
fn a_missing_file_section_or_type_is_told_apart() {
    assert_eq!(secret(&[]).err().unwrap().reason, reason::KEY_MISSING);
    let config = secret(&[("rclone.conf", CONF)]).unwrap();
    let fault = config.check(&remote("S3")).unwrap_err();
    assert_eq!(fault.reason, reason::SECTION_MISSING);
    assert!(
        fault.message.contains("it has: s3, plain one, bare"),
        "{}",
        fault.message
    );
    let fault = config.check(&remote("bare")).unwrap_err();
    assert_eq!(fault.reason, reason::CONFIG_INVALID);
    let empty = secret(&[("rclone.conf", "")]).unwrap();
    assert!(
        empty
            .check(&remote("s3"))
            .unwrap_err()
            .message
            .contains("it has none")
    );
}

#[test]
fn options_for_all_that_rclone_does_are_refused_where_they_would_change_what_is_compared() {
    for option in [
        "global.checksum",
        "global.size_only",
        "global.ignore-existing",
        "global.modify_window",
        "global.log_file",
    ] {
        let conf = format!("[s3]\ntype = s3\n[other]\ntype = s3\n{option} = true\n");
        let config = secret(&[("rclone.conf", &conf)]).unwrap();
        let fault = config.check(&remote("s3")).unwrap_err();
        assert_eq!(fault.reason, reason::CONFIG_INVALID);
        assert!(fault.message.contains(option), "{}", fault.message);
    }
    let harmless = "[s3]\ntype = s3\nglobal.transfers = 2\n";
    let config = secret(&[("rclone.conf", harmless)]).unwrap();
    config.check(&remote("s3")).unwrap();
}

#[test]
fn a_line_that_is_none_is_told_by_its_number_and_not_by_its_words() {
    let fault = secret(&[("rclone.conf", "[s3]\ntype = s3\nCANARY\n")])
        .err()
        .unwrap();
    assert_eq!(fault.reason, reason::CONFIG_INVALID);
    assert!(fault.message.contains("line 3") && !fault.message.contains("CANARY"));
}

#[test]
fn values_may_go_on_in_further_lines() {
    let text = "[s]\ntype = sftp\nkey_pem = `one\ntwo\nthree`\nuser = a\\\nb\nhost = h\n";
    let config = Config::parse(text).unwrap();
    let section = &config.sections[0];
    assert_eq!(section.get("key_pem"), Some("`one\ntwo\nthree`"));
    assert_eq!(section.get("host"), Some("h"));
    assert_eq!(section.entries.len(), 4);
}

#[test]
fn a_section_may_come_from_the_keys_or_from_an_encrypted_file() {
    let config = secret(&[("rclone.conf", ""), ("RCLONE_CONFIG_MY-S3_TYPE", "s3\n")]).unwrap();
    config.check(&remote("my-s3")).unwrap();
    let config = secret(&[("rclone.conf", "# Encrypted\n\nRCLONE_ENCRYPT_V0:\nAAAA\n")]).unwrap();
    config.check(&remote("anything")).unwrap();
}

#[test]
fn keys_become_the_childs_environment_but_for_ours() {
    let config = secret(&[
        ("rclone.conf", CONF),
        ("RCLONE_BWLIMIT", "10M\n"),
        ("RCLONE_CHECKSUM", "false"),
        ("RCLONE_LOG_FILE", "/data/log"),
        ("RCLONE_MODIFY_WINDOW", "1h"),
        ("RCLONE_RC_ADDR", ":5572"),
        ("RCLONE_VERBOSE", "2"),
        ("id_rsa", "key"),
    ])
    .unwrap();
    assert_eq!(
        config.environment,
        [("RCLONE_BWLIMIT".to_owned(), "10M".to_owned())]
    );
    assert_eq!(config.log_level(), "DEBUG");
    assert_eq!(config.selective(), None);
}

#[test]
fn keys_that_pass_over_files_are_named_and_those_that_copy_nothing_are_refused() {
    let config = secret(&[("rclone.conf", CONF), ("RCLONE_EXCLUDE", "*.tmp")]).unwrap();
    assert_eq!(config.selective(), Some("RCLONE_EXCLUDE"));
    let config = secret(&[("rclone.conf", CONF), ("RCLONE_UPDATE", "false")]).unwrap();
    assert_eq!(config.selective(), None);
    let fault = secret(&[("rclone.conf", CONF), ("RCLONE_DRY_RUN", "true")])
        .err()
        .unwrap();
    assert_eq!(fault.reason, api_reason::INVALID_SETTINGS);
    secret(&[("rclone.conf", CONF), ("RCLONE_DRY_RUN", "false")]).unwrap();
}

#[test]
fn what_the_secret_decides_is_not_tuned() {
    let config = secret(&[("rclone.conf", CONF), ("RCLONE_TRANSFERS", "3")]).unwrap();
    assert!(config.decides("RCLONE_TRANSFERS"));
    assert!(config.decides("RCLONE_S3_CHUNK_SIZE"));
    assert!(!config.decides("RCLONE_S3_NO_HEAD"));
    assert!(!config.decides("RCLONE_CHECKERS"));
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC{0,200}", lines in "(\\[[a-z]*\\]?\n|[a-z ]*=?[a-z]*\n){0,12}") {
        let _ = Config::parse(&text);
        let _ = Config::parse(&lines);
    }
}
