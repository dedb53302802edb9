//! An encrypted configuration, which only rclone can read.

use super::*;

#[test]
fn secrets_of_an_encrypted_configuration_are_hidden_and_its_settings_known() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("rclone.conf");
    let plain = "[x]\ntype = s3\nsecret_access_key = CANARY-OF-X\nchunk_size = 16Mi\n";
    std::fs::write(&file, plain).unwrap();
    let encrypted = std::process::Command::new(stock())
        .args(["config", "encryption", "set"])
        .args(["--password-command", "echo words"])
        .env("RCLONE_CONFIG", &file)
        .output()
        .unwrap();
    assert!(encrypted.status.success(), "{encrypted:?}");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("RCLONE_ENCRYPT_V") && !text.contains("CANARY"));
    let keys = [("RCLONE_CONFIG_PASS", "words")];
    let bench = Bench::new(&text, &keys, "bucket/db").unwrap();
    let said = bench.rclone.redactor.redact("it is CANARY-OF-X");
    assert_eq!(said, "it is [hidden]");
    assert!(bench.rclone.config.decides("RCLONE_S3_CHUNK_SIZE"));
    // Without the password rclone's first run says what is wrong.
    Bench::new(&text, &[], "bucket/db").unwrap();
}
