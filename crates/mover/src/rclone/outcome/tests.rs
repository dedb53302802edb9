//! Words that rclone 1.75.2 printed, and what is made of them.

use super::words::LINES_KEPT;
use super::*;
use proptest::prelude::*;
use rstest::rstest;

fn outcome(role: Role, code: i32, lines: &[&str]) -> Setback {
    let mut words = LastWords::default();
    for line in lines {
        words.hear(line);
    }
    let scene = Scene {
        role,
        store: "s3:bucket/db/",
        folder: None,
    };
    of_rclone(Some(code), &words, scene)
}

/// Words that rclone 1.75.2 printed, on real file systems and against servers that answered so.
#[rstest]
#[case(
    1,
    "Failed to create file system for \"x:/tmp\": didn't find section in config file (\"x\")",
    "SectionMissing"
)]
#[case(
    1,
    "Failed to load config file \"/tmp/bad.conf\": could not parse line: bad [line",
    "ConfigInvalid"
)]
#[case(
    1,
    "Failed to load config file \"/tmp/enc.conf\": configuration data too short",
    "ConfigInvalid"
)]
#[case(
    1,
    "Failed to create file system for \"x:a\": didn't find backend called \"nonsense\"",
    "ConfigInvalid"
)]
#[case(
    1,
    "Failed to create file system for \"cc:a\": failed to decrypt password: base64 decode failed when revealing password - is it obscured?: illegal base64 data at input byte 0",
    "ConfigInvalid"
)]
#[case(2, "Fatal error: unknown flag: --files-from0", "PodIncomplete")]
#[case(
    1,
    "Failed to read --ca-cert file \"nofile\" : open nofile: no such file or directory",
    "CertificateRefused"
)]
#[case(
    1,
    "Failed to add certificates from --ca-cert file \"l3\"",
    "CertificateRefused"
)]
#[case(
    1,
    "error listing: operation error S3: ListObjects, exceeded maximum number of attempts, 2, https response error StatusCode: 0, RequestID: , HostID: , request send failed, Get \"https://127.0.0.1:1/b\": tls: failed to verify certificate: x509: certificate signed by unknown authority",
    "CertificateRefused"
)]
#[case(
    1,
    "operation error S3: ListObjects, exceeded maximum number of attempts, 2, Probable clock skew error: https response error StatusCode: 403, RequestID: 1, HostID: , api error RequestTimeTooSkewed: said",
    "ClockSkewed"
)]
#[case(
    1,
    "operation error S3: ListObjects, https response error StatusCode: 400, RequestID: 1, HostID: , api error ExpiredToken: said",
    "CredentialsExpired"
)]
#[case(
    1,
    "operation error S3: ListObjects, https response error StatusCode: 400, RequestID: 1, HostID: , api error InvalidToken: said",
    "StoreRefused"
)]
#[case(
    1,
    "operation error S3: ListObjects, https response error StatusCode: 403, RequestID: 1, HostID: , api error AccessDenied: said",
    "StoreRefused"
)]
#[case(
    1,
    "operation error S3: HeadObject, https response error StatusCode: 403, RequestID: , HostID: , api error Forbidden: Forbidden",
    "StoreRefused"
)]
#[case(
    1,
    "operation error S3: HeadObject, https response error StatusCode: 400, RequestID: 1, HostID: , api error BadRequest: Bad Request",
    "ConfigInvalid"
)]
#[case(
    1,
    "operation error S3: ListObjectsV2, https response error StatusCode: 400, RequestID: 1, HostID: , api error AuthorizationHeaderMalformed: The authorization header is malformed; the region 'a' is wrong; expecting 'b'",
    "ConfigInvalid"
)]
#[case(
    1,
    "operation error S3: ListObjects, https response error StatusCode: 403, RequestID: 1, HostID: , api error QuotaExceeded: said",
    "DestinationFull"
)]
#[case(
    1,
    "operation error S3: PutObject, https response error StatusCode: 404, RequestID: 1, HostID: , api error NoSuchBucket: said",
    "BucketMissing"
)]
#[case(
    1,
    "failed to prepare upload: operation error S3: CreateBucket, https response error StatusCode: 403, RequestID: 1, HostID: , api error AccessDenied: said",
    "BucketMissing"
)]
#[case(
    1,
    "operation error S3: ListObjects, exceeded maximum number of attempts, 2, https response error StatusCode: 503, RequestID: 1, HostID: , api error SlowDown: said",
    "StoreOverloaded"
)]
#[case(
    5,
    "operation error S3: ListObjects, https response error StatusCode: 0, RequestID: , HostID: , request send failed, Get \"http://127.0.0.1:1/bkt\": dial tcp 127.0.0.1:1: connect: connection refused",
    "StoreUnreachable"
)]
#[case(
    1,
    "request send failed, Get \"http://no.such.host.invalid/bkt\": dial tcp: lookup no.such.host.invalid on 10.0.0.1:53: no such host",
    "StoreUnreachable"
)]
#[case(
    1,
    "Failed to create file system for \"sftp:x\": NewFs: couldn't connect SSH: dial tcp 127.0.0.1:1: connect: connection refused",
    "StoreUnreachable"
)]
#[case(
    1,
    "Failed to create file system for \"n:/tmp\": NewFs: couldn't connect SSH: ssh: handshake failed: ssh: unexpected message type 51 (expected 60)",
    "StoreRefused"
)]
#[case(
    1,
    "Failed to create file system for \"k:/tmp\": NewFs: couldn't connect SSH: ssh: handshake failed: knownhosts: key mismatch",
    "HostKeyMismatch"
)]
#[case(
    8,
    "max transfer limit reached as set by --max-transfer",
    "TransferFailed"
)]
#[case(9, "words of tomorrow", "TransferFailed")]
fn words_of_rclone_are_told_apart(#[case] code: i32, #[case] line: &str, #[case] reason: &str) {
    for role in [Role::Source, Role::Destination] {
        let setback = outcome(role, code, &[line, "Failed to sync"]);
        assert_eq!(setback.fault.reason, reason, "{}", setback.fault.message);
        assert!(
            setback.fault.message.contains("s3:bucket/db/"),
            "{}",
            setback.fault.message
        );
    }
}

/// Lines with names in which a cause seems to stand: what they are about, what they say, and what a source makes of that.
#[rstest]
#[case(
    "CRITICAL: ",
    "Failed to create file system for \"s3:nosuchbucket/x509: db\": NewFs: couldn't connect SSH: dial tcp 127.0.0.1:1: connect: connection refused",
    "StoreUnreachable"
)]
#[case(
    "ERROR: S3 bucket nosuchbucket path expiredtoken: ",
    "error reading destination root directory: operation error S3: ListObjectsV2, exceeded maximum number of attempts, 2, https response error StatusCode: 0, RequestID: , HostID: , request send failed, Get \"http://127.0.0.1:1/nosuchbucket?delimiter=%2F&prefix=x509:/expiredtoken/\": dial tcp 127.0.0.1:1: connect: connection refused",
    "StoreUnreachable"
)]
#[case(
    "",
    "request send failed, Get \"http://nosuchbucket.host.invalid/?prefix=db\": dial tcp: lookup nosuchbucket.host.invalid on 10.0.0.1:53: no such host",
    "StoreUnreachable"
)]
#[case(
    "ERROR: x509: list: ",
    "Failed to copy: operation error S3: PutObject, https response error StatusCode: 503, RequestID: 1, HostID: , api error SlowDown: said",
    "StoreOverloaded"
)]
#[case(
    "ERROR: webdav root 'expiredtoken': ",
    "error listing \"x509: list\": Propfind \"https://host:1/expiredtoken/\": read tcp 127.0.0.1:2->127.0.0.1:1: i/o timeout",
    "StoreUnreachable"
)]
#[case(
    "ERROR: x509: f: ",
    "Failed to copy: failed to open source object: open /data/expired token/x509: f: no such file or directory",
    "TransferFailed"
)]
#[case(
    "",
    "Failed to move: rename /mnt/x509: a /mnt/x509: b: permission denied",
    "StoreRefused"
)]
#[case(
    "ERROR: a: ",
    "corrupted on transfer: md5 hashes differ src(Local file system at /data) \"1\" vs dst(S3 bucket nosuchbucket path db) \"2\"",
    "SourceChanging"
)]
fn names_are_not_taken_for_causes(#[case] subject: &str, #[case] said: &str, #[case] reason: &str) {
    let mut words = LastWords::default();
    words.hear_of(subject.len(), &format!("{subject}{said}"));
    let scene = Scene {
        role: Role::Source,
        store: "s3:nosuchbucket/db/",
        folder: None,
    };
    let fault = of_rclone(Some(1), &words, scene).fault;
    assert_eq!(fault.reason, reason, "{}", fault.message);
    // They stand in the message all the same.
    assert!(fault.message.contains(subject), "{}", fault.message);
}

#[rstest]
#[case(
    "Failed to copy: operation error S3: PutObject, https response error StatusCode: 404, RequestID: 1, HostID: a/b=, api error NoSuchBucket: said",
    "BucketMissing"
)]
#[case(
    "Failed to create file system for \"drive:\": couldn't fetch token: oauth2: \"invalid_grant\" \"Token has been expired or revoked.\"",
    "CredentialsExpired"
)]
#[case(
    "error listing: Get \"https://host/nosuchbucket\": oauth2: cannot fetch token: 400 Bad Request\nResponse: {\"error\":\"invalid_grant\",\"error_uri\":\"https://host/\"}",
    "CredentialsExpired"
)]
#[case(
    "Failed to copy: Update MkParentDir failed: mkdir \"nosuchbucket\" failed: sftp: \"Permission denied\" (SSH_FX_PERMISSION_DENIED)",
    "StoreRefused"
)]
#[case(
    "Failed to copy: write /mnt/store/nosuchbucket: input/output error",
    "StoreRefused"
)]
fn causes_in_quotes_and_with_slashes_are_none_the_less_causes(
    #[case] line: &str,
    #[case] reason: &str,
) {
    let fault = outcome(Role::Source, 1, &[line]).fault;
    assert_eq!(fault.reason, reason, "{}", fault.message);
}

#[test]
fn no_word_for_a_cause_is_taken_for_a_name() {
    for word in KINDS.iter().flat_map(|kind| kind.words) {
        let mut words = LastWords::default();
        words.hear(&format!("Failed to sync: {word}: said"));
        let told = words.told("s3:bucket/db/");
        assert!(line_with(&told, &[word]).is_some(), "{word}");
    }
}

#[test]
fn only_a_source_says_that_a_bucket_could_not_be_made() {
    let line = "operation error S3: ListObjects, https response error StatusCode: 404, api error NoSuchBucket: said";
    for (role, says_so) in [(Role::Source, true), (Role::Destination, false)] {
        let fault = outcome(role, 1, &[line]).fault;
        assert_eq!(fault.reason, "BucketMissing");
        assert_eq!(fault.message.contains("can be made"), says_so);
        assert!(
            fault.message.contains("rcloneDestPath"),
            "{}",
            fault.message
        );
    }
}

#[rstest]
#[case(Role::Source, "BucketMissing")]
#[case(Role::Destination, "NothingAtPath")]
fn what_is_not_there_is_a_bucket_to_one_and_the_data_to_the_other(
    #[case] role: Role,
    #[case] reason: &str,
) {
    let line = "error reading source root directory: directory not found";
    let setback = outcome(role, 3, &[line]);
    assert_eq!(setback.fault.reason, reason, "{}", setback.fault.message);
    assert!(setback.fault.message.contains("rcloneDestPath"));
}

#[rstest]
#[case(
    Role::Source,
    "Failed to copy: failed to open source object: open /data/f: permission denied",
    "SourceUnreadable"
)]
#[case(
    Role::Source,
    "failed to open directory \"\": open /data: permission denied",
    "SourceUnreadable"
)]
#[case(
    Role::Source,
    "Failed to copy: mkdir /mnt/x: permission denied",
    "StoreRefused"
)]
#[case(
    Role::Source,
    "Failed to copy: mkdir /mnt/x: read-only file system",
    "StoreRefused"
)]
#[case(
    Role::Destination,
    "Failed to copy: failed to open source object: open /mnt/f: permission denied",
    "StoreRefused"
)]
#[case(
    Role::Destination,
    "Failed to copy: mkdir /data/x: permission denied",
    "DestinationUnwritable"
)]
#[case(
    Role::Destination,
    "Failed to copy: mkdir /data/x: read-only file system",
    "DestinationUnwritable"
)]
#[case(
    Role::Destination,
    "Failed to copy: preallocate: file too big for remaining disk space",
    "DestinationFull"
)]
#[case(
    Role::Source,
    "Failed to copy: write /mnt/x: no space left on device",
    "DestinationFull"
)]
#[case(
    Role::Source,
    "can't copy - source file is being updated (size changed from 1 to 2)",
    "SourceChanging"
)]
fn the_side_decides_whose_volume_it_was(
    #[case] role: Role,
    #[case] line: &str,
    #[case] reason: &str,
) {
    assert_eq!(outcome(role, 1, &[line]).fault.reason, reason);
}

/// What is said of a store that is a folder in a volume, if that is `in_volume`.
fn at_folder(role: Role, in_volume: bool, line: &str) -> Fault {
    let volume = in_volume.then(|| "/mnt/store".into());
    let folder = Folder {
        path: "/mnt/store/db".into(),
        volume,
    };
    let mut words = LastWords::default();
    words.hear(line);
    let scene = Scene {
        role,
        store: "here:/mnt/store/db/",
        folder: Some(&folder),
    };
    of_rclone(Some(1), &words, scene).fault
}

#[rstest]
#[case(
    Role::Source,
    "Failed to copy: mkdir /mnt/store/db: permission denied",
    "may not write to"
)]
#[case(
    Role::Source,
    "error reading destination root directory: failed to open directory \"\": open /mnt/store/db: permission denied",
    "may not read"
)]
#[case(
    Role::Destination,
    "Failed to copy: failed to open source object: open /mnt/store/db/f: permission denied",
    "may not read"
)]
#[case(
    Role::Destination,
    "Failed to lsjson: open /mnt/store/db-syncline: permission denied",
    "may not read"
)]
#[case(
    Role::Source,
    "Failed to copy: mkdir /mnt/store/db: read-only file system",
    "fails or may only be read"
)]
fn a_folder_that_is_the_store_is_told_with_its_volume_or_that_it_is_in_none(
    #[case] role: Role,
    #[case] line: &str,
    #[case] what: &str,
) {
    let within = at_folder(role, true, line);
    let cure = match what {
        "fails or may only be read" => "check how it is mounted",
        _ => "chown",
    };
    let parts = ["`here:/mnt/store/db/`", "volume at /mnt/store", what, cure];
    for part in parts {
        assert!(within.message.contains(part), "{}", within.message);
    }
    let none = at_folder(role, false, line);
    for part in ["spec.rclone.moverVolumes", "/mnt/<mountPath>/"] {
        assert!(none.message.contains(part), "{}", none.message);
    }
    for fault in [within, none] {
        assert_eq!(fault.reason, "StoreRefused", "{}", fault.message);
        assert!(!fault.message.contains("login"), "{}", fault.message);
    }
}

#[test]
fn a_store_that_is_a_folder_is_told_from_the_volume_by_its_path() {
    for (role, line, reason) in [
        (
            Role::Source,
            "failed to open directory \"\": open /data: permission denied",
            "SourceUnreadable",
        ),
        (
            Role::Destination,
            "Failed to copy: mkdir /data/x: permission denied",
            "DestinationUnwritable",
        ),
    ] {
        assert_eq!(at_folder(role, true, line).reason, reason);
    }
}

#[rstest]
#[case(
    Role::Source,
    "corrupted on transfer: md5 hashes differ src(Local file system at /data) \"a\" vs dst(S3 bucket bucket path db) \"b\"",
    "SourceChanging",
    &["copyMethod", OF_KEY_SERVICE]
)]
#[case(
    Role::Source,
    "corrupted on transfer: sizes differ src(Local file system at /data) 1 vs dst(S3 bucket bucket path db) 2",
    "SourceChanging",
    &["copyMethod"]
)]
#[case(
    Role::Source,
    "db/big: Failed to copy: multipart upload corrupted: Etag differ: expecting \"a-3\" but got \"b-3\"",
    "SourceChanging",
    &["copyMethod", OF_KEY_SERVICE]
)]
#[case(
    Role::Source,
    "operation error S3: PutObject, https response error StatusCode: 400, RequestID: 1, HostID: , api error BadDigest: said",
    "SourceChanging",
    &["copyMethod"]
)]
#[case(
    Role::Destination,
    "corrupted on transfer: md5 hashes differ src(S3 bucket bucket) \"a\" vs dst(Local file system at /data) \"b\"",
    "TransferFailed",
    &["rclone-full-check-every", OF_KEY_SERVICE]
)]
fn content_that_does_not_fit_has_a_cure_at_either_side(
    #[case] role: Role,
    #[case] line: &str,
    #[case] reason: &str,
    #[case] cures: &[&str],
) {
    let setback = outcome(role, 1, &[line]);
    assert_eq!((setback.fault.reason, setback.next), (reason, Next::Wait));
    let message = setback.fault.message;
    let has_all = cures.iter().all(|cure| message.contains(cure));
    assert!(has_all, "{message}");
    let tells_of_key_service = message.contains(OF_KEY_SERVICE);
    assert_eq!(tells_of_key_service, cures.contains(&OF_KEY_SERVICE));
}

#[rstest]
#[case(
    "ERROR: generation.json: --files-from failed to read file: operation error S3: HeadObject, exceeded maximum number of attempts, 3, https response error StatusCode: 0, RequestID: , HostID: , request send failed, Head \"http://127.0.0.1:9/b/db\": dial tcp 127.0.0.1:9: connect: connection refused",
    "the store cannot be reached, or the connection broke: dial tcp 127.0.0.1:9: connect: connection refused (`s3:bucket/db/`: ERROR: generation.json"
)]
#[case(
    "operation error S3: ListObjects, https response error StatusCode: 403, RequestID: 1, HostID: , api error AccessDenied: said",
    "the store refuses the keys of the Secret, or what is asked with them: api error AccessDenied: said (`s3:bucket/db/`: operation error"
)]
#[case(
    "Failed to create file system for \"sftp:x\": NewFs: couldn't connect SSH: dial tcp 127.0.0.1:1: connect: connection refused",
    "the connection broke: dial tcp 127.0.0.1:1: connect: connection refused (`s3:bucket/db/`: Failed to create"
)]
fn the_last_cause_of_a_chain_comes_first(#[case] line: &str, #[case] words: &str) {
    let message = outcome(Role::Source, 1, &[line]).fault.message;
    assert!(message.contains(words), "{message}");
}

#[test]
fn an_answer_of_s3_without_words_is_told_with_what_it_may_mean_and_not_asked_for_again() {
    let line = "operation error S3: HeadObject, https response error StatusCode: 400, RequestID: 1, HostID: , api error BadRequest: Bad Request";
    for role in [Role::Source, Role::Destination] {
        let setback = outcome(role, 1, &[line]);
        assert_eq!(setback.next, Next::GiveUp);
        for setting in ["access_key_id", "session_token", "region", "endpoint"] {
            let message = &setback.fault.message;
            assert!(message.contains(setting), "{message}");
        }
    }
    // What the store says in words goes before.
    let words = "https response error StatusCode: 400, RequestID: 1, HostID: , api error InvalidToken: said";
    let fault = outcome(Role::Source, 1, &[line, words]).fault;
    assert_eq!(fault.reason, "StoreRefused", "{}", fault.message);
}

#[test]
fn a_destination_is_not_told_to_let_its_keys_write() {
    let line = "https response error StatusCode: 403, api error AccessDenied: said";
    for (role, cure) in [
        (Role::Source, "let them list, read, write and delete there"),
        (Role::Destination, "let them list and read there"),
    ] {
        let message = outcome(role, 1, &[line]).fault.message;
        assert!(message.ends_with(cure), "{message}");
    }
}

#[rstest]
#[case("mkdir /data/x: permission denied", "privileged-movers")]
#[case("mkdir /data/x: read-only file system", "how it is mounted")]
fn what_a_volume_refuses_has_its_cure_last(#[case] line: &str, #[case] cure: &str) {
    let message = outcome(Role::Destination, 1, &[line]).fault.message;
    let begin = format!("the destination's volume cannot be written to ({line}); ");
    let rest = message.strip_prefix(&begin);
    assert!(rest.is_some_and(|rest| rest.contains(cure)), "{message}");
}

#[test]
fn words_that_nobody_knows_come_with_a_cure_too() {
    let setback = outcome(Role::Source, 9, &["words of tomorrow"]);
    assert!(
        setback.fault.message.contains("RCLONE_LOG_LEVEL"),
        "{}",
        setback.fault.message
    );
}

#[test]
fn the_first_errors_are_kept_when_many_follow() {
    let mut words = LastWords::default();
    words.hear("api error ExpiredToken: said");
    for number in 0..10_000 {
        words.hear(&format!("not deleting {number}"));
    }
    let told = words.told("s3:bucket/db/");
    assert_eq!(told.len(), LINES_KEPT);
    assert!(line_with(&told, &["expiredtoken"]).is_some());
    assert_eq!(words.last(), Some("not deleting 9999"));
}

#[test]
fn a_killed_rclone_is_told_with_a_cure() {
    let scene = Scene {
        role: Role::Source,
        store: "s3:b/",
        folder: None,
    };
    let setback = of_rclone(None, &LastWords::default(), scene);
    assert!(
        setback.fault.message.contains("memory limit"),
        "{}",
        setback.fault.message
    );
    assert_eq!(setback.next, Next::Wait);
    assert!(!setback.fault.message.contains('('), "nothing was said");
}

proptest! {
    #[test]
    fn no_words_make_it_panic(line in "\\PC{0,400}", code in 0..12) {
        let _ = outcome(Role::Source, code, &[&line]);
    }
}
