//! What is particular to the rclone mover: the store, and what its annotations say of it.

use syncline_api::movers::CustomCa;
use syncline_api::{GoDuration, labels};

use super::Invalid;
use crate::subject::Subject;

/// The longest time between two looks of a destination that waits for a new version, in seconds, unless told otherwise.
const POLL_LIMIT: u64 = 300;
/// Everything is compared after so many runs, unless told otherwise.
const FULL_CHECK_EVERY: u32 = 10;

/// What the rclone mover is to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rclone {
    /// The Secret with `rclone.conf`.
    pub config: String,
    /// The section of `rclone.conf` that names the store.
    pub section: String,
    /// The path in the store.
    pub path: String,
    /// Where the certificate of the store's authority is.
    pub certificate: Option<Certificate>,
    /// The path in the store for what Syncline notes, where it is not the sibling of `path`.
    pub state_path: Option<String>,
    /// The longest time between two looks of a waiting destination, in seconds.
    pub poll_limit: u64,
    /// After how many runs a source compares everything with the store; 0 for never by number.
    pub full_check_every: u32,
    /// The uid of the source whose path this one is to take over.
    pub take_over: Option<String>,
    /// Whether a source is the only one that writes to the path, whatever the store does not show of what is noted there.
    pub sole_writer: bool,
}

/// Where the certificate of an authority is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// What kind of object holds it.
    pub holder: Holder,
    /// The object's name.
    pub name: String,
    /// The key in it.
    pub key: String,
}

/// What may hold a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A Secret.
    Secret,
    /// A `ConfigMap`.
    ConfigMap,
}

impl Holder {
    /// The kind's name.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Secret => "Secret",
            Self::ConfigMap => "ConfigMap",
        }
    }
}

impl Certificate {
    /// What `customCA` means. As with `VolSync`, the Secret goes before the `ConfigMap`, and without a key, or without a
    /// name, nothing is meant.
    pub fn of(given: &CustomCa) -> Option<Self> {
        let some = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let secret = some(&given.secret_name).map(|name| (Holder::Secret, name));
        let map = || some(&given.config_map_name).map(|name| (Holder::ConfigMap, name));
        let (holder, name) = secret.or_else(map)?;
        Some(Self {
            holder,
            name,
            key: some(&given.key)?,
        })
    }
}

pub(super) fn read(subject: &Subject) -> Result<Rclone, Invalid> {
    let remote = subject.spec.remote().cloned().unwrap_or_default();
    let needed = |field: &str, purpose, value: Option<String>| {
        let given = value.filter(|text| !text.trim().is_empty());
        given.ok_or_else(|| Invalid::Missing {
            field: format!("spec.rclone.{field}"),
            purpose,
        })
    };
    let rclone = Rclone {
        config: needed(
            "rcloneConfig",
            "it names the Secret that holds rclone.conf",
            remote.rclone_config,
        )?,
        section: needed(
            "rcloneConfigSection",
            "it names the section of rclone.conf that describes the store",
            remote.rclone_config_section,
        )?,
        path: needed(
            "rcloneDestPath",
            "it names the bucket, or the path, that the volume lies under in the store",
            remote.rclone_dest_path,
        )?,
        certificate: remote.custom_ca.as_ref().and_then(Certificate::of),
        state_path: noted(subject, labels::RCLONE_STATE_PATH).map(str::to_owned),
        poll_limit: poll_limit(subject)?,
        full_check_every: full_check_every(subject)?,
        take_over: noted(subject, labels::RCLONE_TAKE_OVER).map(str::to_owned),
        sole_writer: sole_writer(subject)?,
    };
    check(&rclone)?;
    Ok(rclone)
}

fn noted<'a>(subject: &'a Subject, annotation: &str) -> Option<&'a str> {
    let text = subject.annotations.get(annotation)?.trim();
    (!text.is_empty()).then_some(text)
}

fn poll_limit(subject: &Subject) -> Result<u64, Invalid> {
    let annotation = labels::RCLONE_POLL_LIMIT;
    let Some(text) = noted(subject, annotation) else {
        return Ok(POLL_LIMIT);
    };
    let refused = |expected: String| Invalid::Note {
        annotation,
        value: text.to_owned(),
        expected,
    };
    let limit: GoDuration = text
        .parse()
        .map_err(|_| refused("write a duration as in 90s, 5m or 1h30m".to_owned()))?;
    match limit.to_std().as_secs() {
        0 => Err(refused("a second is the least, as in 1s".to_owned())),
        seconds => Ok(seconds),
    }
}

fn full_check_every(subject: &Subject) -> Result<u32, Invalid> {
    let annotation = labels::RCLONE_FULL_CHECK_EVERY;
    let Some(text) = noted(subject, annotation) else {
        return Ok(FULL_CHECK_EVERY);
    };
    text.parse().map_err(|_| Invalid::Note {
        annotation,
        value: text.to_owned(),
        expected: "write a number of runs such as 10, or 0 for never by number".to_owned(),
    })
}

fn sole_writer(subject: &Subject) -> Result<bool, Invalid> {
    let annotation = labels::RCLONE_SOLE_WRITER;
    match noted(subject, annotation) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(other) => Err(Invalid::Note {
            annotation,
            value: other.to_owned(),
            expected: "write \"true\" if nobody else writes to the path in the store, or remove it"
                .to_owned(),
        }),
    }
}

fn check(rclone: &Rclone) -> Result<(), Invalid> {
    if !is_section(&rclone.section) {
        return Err(Invalid::Field {
            field: "spec.rclone.rcloneConfigSection".to_owned(),
            value: rclone.section.clone(),
            expected: "the name of a section has letters, digits, blanks and `_-.+@`, and begins with neither `-` nor a blank",
        });
    }
    if rclone.path.chars().any(char::is_control) {
        return Err(Invalid::Field {
            field: "spec.rclone.rcloneDestPath".to_owned(),
            value: rclone.path.clone(),
            expected: "write the path without control characters",
        });
    }
    let Some(state) = &rclone.state_path else {
        return Ok(());
    };
    let refused = |expected: String| {
        Err(Invalid::Note {
            annotation: labels::RCLONE_STATE_PATH,
            value: state.clone(),
            expected,
        })
    };
    if state.chars().any(char::is_control) {
        return refused("write the path without control characters".to_owned());
    }
    if is_within(state, &rclone.path) {
        return refused(format!(
            "it leads into the data ({}), where other programs would take what is Syncline's for files of the volume; \
             name a path beside it",
            rclone.path
        ));
    }
    Ok(())
}

/// A name that rclone cannot read as an option, a path, or a remote made up on the spot.
fn is_section(name: &str) -> bool {
    let admitted = |letter: char| letter.is_alphanumeric() || "_-.+@ ".contains(letter);
    name.chars().all(admitted) && !name.starts_with(['-', ' ']) && !name.ends_with(' ')
}

/// Whether `inner` is `outer` or below it.
fn is_within(inner: &str, outer: &str) -> bool {
    let parts = |path: &str| -> Vec<String> {
        let parts = path.split('/').filter(|part| !matches!(*part, "" | "."));
        parts.map(str::to_owned).collect()
    };
    inner.starts_with('/') == outer.starts_with('/') && parts(inner).starts_with(&parts(outer))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};
    use syncline_api::ReplicationDestination;

    use super::*;

    fn read_with(remote: &Value, annotations: &Value) -> Result<Rclone, Invalid> {
        let destination: ReplicationDestination = serde_json::from_value(json!({
            "metadata": {"name": "db", "namespace": "ns", "annotations": annotations},
            "spec": {"rclone": remote}}))
        .unwrap();
        read(&Subject::of_destination(&destination))
    }

    fn remote() -> Value {
        json!({"rcloneConfig": "store", "rcloneConfigSection": "s3", "rcloneDestPath": "bucket/db"})
    }

    #[test]
    fn what_is_not_said_has_defaults() {
        let read = read_with(&remote(), &json!({})).unwrap();
        let expected = Rclone {
            config: "store".into(),
            section: "s3".into(),
            path: "bucket/db".into(),
            poll_limit: 300,
            full_check_every: 10,
            ..Rclone::default()
        };
        assert_eq!(read, expected);
    }

    #[rstest]
    #[case("rcloneConfig", "it names the Secret that holds rclone.conf")]
    #[case("rcloneConfigSection", "it names the section of rclone.conf")]
    #[case("rcloneDestPath", "it names the bucket, or the path")]
    fn each_of_the_three_fields_is_needed(#[case] field: &str, #[case] words: &str) {
        for empty in [json!(null), json!(""), json!("  ")] {
            let mut without = remote();
            without[field] = empty;
            let error = read_with(&without, &json!({})).unwrap_err().to_string();
            let expected = format!("spec.rclone.{field} must be provided: {words}");
            assert!(error.starts_with(&expected), "{error}");
        }
    }

    #[rstest]
    #[case("rcloneConfigSection", "-config")]
    #[case("rcloneConfigSection", "s3,secret_access_key=x")]
    #[case("rcloneConfigSection", ":local")]
    #[case("rcloneConfigSection", "a/b")]
    #[case("rcloneDestPath", "a\nb")]
    fn what_rclone_could_misread_is_refused(#[case] field: &str, #[case] value: &str) {
        let mut spoilt = remote();
        spoilt[field] = json!(value);
        let error = read_with(&spoilt, &json!({})).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("spec.rclone.{field}")),
            "{error}"
        );
    }

    #[test]
    fn annotations_say_where_notes_are_kept_and_how_often_is_looked() {
        let annotations = json!({"syncline.dev/rclone-state-path": " elsewhere/notes ",
            "syncline.dev/rclone-poll-limit": "1m30s", "syncline.dev/rclone-full-check-every": "0"});
        let read = read_with(&remote(), &annotations).unwrap();
        assert_eq!(read.state_path.as_deref(), Some("elsewhere/notes"));
        assert_eq!((read.poll_limit, read.full_check_every), (90, 0));
    }

    #[rstest]
    #[case("syncline.dev/rclone-state-path", "bucket/db", "leads into the data")]
    #[case(
        "syncline.dev/rclone-state-path",
        "./bucket//db/x",
        "leads into the data"
    )]
    #[case("syncline.dev/rclone-poll-limit", "5", "write a duration")]
    #[case("syncline.dev/rclone-poll-limit", "10ms", "a second is the least")]
    #[case("syncline.dev/rclone-poll-limit", "-5m", "a second is the least")]
    #[case("syncline.dev/rclone-full-check-every", "-1", "write a number of runs")]
    fn an_annotation_that_cannot_be_meant_is_named(
        #[case] annotation: &str,
        #[case] value: &str,
        #[case] words: &str,
    ) {
        let error = read_with(&remote(), &json!({annotation: value}))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(annotation) && error.contains(words),
            "{error}"
        );
    }

    #[rstest]
    #[case(json!({"secretName": "a", "configMapName": "b", "key": "k"}), Some((Holder::Secret, "a")))]
    #[case(json!({"configMapName": "b", "key": "k"}), Some((Holder::ConfigMap, "b")))]
    #[case(json!({"secretName": "", "configMapName": "b", "key": "k"}), Some((Holder::ConfigMap, "b")))]
    #[case(json!({"secretName": "a"}), None)]
    #[case(json!({"key": "k"}), None)]
    fn a_certificate_is_meant_by_name_and_key_and_the_secret_goes_first(
        #[case] given: Value,
        #[case] expected: Option<(Holder, &str)>,
    ) {
        let mut with = remote();
        with["customCA"] = given;
        let read = read_with(&with, &json!({})).unwrap().certificate;
        let found = read
            .as_ref()
            .map(|found| (found.holder, found.name.as_str()));
        assert_eq!(found, expected);
    }
}
