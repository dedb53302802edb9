use jiff::Timestamp;
use jiff::tz::TimeZone;
use rstest::rstest;
use serde_json::{Value, json};
use syncline_api::{ReplicationDestination, ReplicationSource};

use super::*;

#[expect(
    clippy::needless_pass_by_value,
    reason = "`json!` at the place of the call reads best by value"
)]
fn source(spec: Value) -> Result<Validated, Refusal> {
    let source: ReplicationSource = serde_json::from_value(
        json!({"metadata": {"name": "db", "namespace": "ns"}, "spec": spec}),
    )
    .unwrap();
    validate(
        &Subject::of_source(&source),
        Timestamp::UNIX_EPOCH,
        &TimeZone::UTC,
    )
}

#[test]
fn none_is_an_old_word_for_direct() {
    for method in ["None", "Direct"] {
        let valid = source(json!({"sourcePVC": "data", "rsync": {"copyMethod": method}})).unwrap();
        let Volume::Source(volume) = valid.volume else {
            panic!("a source's volume")
        };
        assert_eq!(volume.method, PointInTime::Direct);
    }
}

#[test]
fn empty_texts_mean_the_same_as_absent_ones() {
    let valid = source(json!({"sourcePVC": "data", "rsync": {
        "copyMethod": "Clone", "sshKeys": "", "address": "", "serviceType": "", "port": 0, "moverServiceAccount": ""}}));
    assert_eq!(
        valid.unwrap().method,
        Method::Rsync(Rsync {
            service_type: "ClusterIP".into(),
            ..Rsync::default()
        })
    );
}

#[rstest]
#[case("10.0.0.7")]
#[case("my-host.example.com")]
#[case("fd00::1")]
#[case("[fd00::1]")]
#[case("fe80::1%eth0")]
fn host_names_and_addresses_of_both_families_are_accepted(#[case] address: &str) {
    assert!(
        source(json!({"sourcePVC": "data", "rsync": {"copyMethod": "Clone", "address": address}}))
            .is_ok()
    );
}

#[rstest]
#[case("127.96.240.210:2022")]
#[case("my-host.example.com:22")]
#[case("[fd00::1]:2022")]
fn a_port_in_an_address_is_sent_to_its_own_field(#[case] address: &str) {
    let refused =
        source(json!({"sourcePVC": "data", "rsync": {"copyMethod": "Clone", "address": address}}));
    let Err(Refusal::Invalid(invalid)) = refused else {
        panic!("{address} is accepted")
    };
    assert_eq!(
        invalid.to_string(),
        format!("spec.rsync.address {address:?} holds a port; write the port into spec.rsync.port")
    );
}

#[test]
fn a_name_that_leaves_no_room_for_its_secrets_is_refused_here_and_not_by_the_server() {
    let spec = json!({"rsync": {"copyMethod": "Snapshot", "capacity": "1Gi", "accessModes": ["ReadWriteOnce"]}});
    let with_name = |length: usize| {
        let object =
            json!({"metadata": {"name": "x".repeat(length), "namespace": "ns"}, "spec": spec});
        let destination: ReplicationDestination = serde_json::from_value(object).unwrap();
        validate(
            &Subject::of_destination(&destination),
            Timestamp::UNIX_EPOCH,
            &TimeZone::UTC,
        )
    };
    assert!(with_name(230).is_ok());
    let Err(Refusal::Invalid(Invalid::NameTooLong { length, .. })) = with_name(240) else {
        panic!("too long")
    };
    assert!(length > 253);
}
