use std::collections::BTreeSet;
use std::time::Duration;

use clap::{CommandFactory, Parser};
use syncline_api::names::Mover;
use syncline_operator::options::{Movers, Options};

use super::options::{Surroundings, options};
use crate::args::{Cli, Command};
use crate::failure::Failure;

fn read(line: &str, surroundings: &Surroundings) -> Result<(Options, Vec<String>), Failure> {
    let words = std::iter::once("syncline").chain(line.split_whitespace());
    match Cli::try_parse_from(words).unwrap().command {
        Command::Operator(arguments) => options(&arguments, surroundings),
        other => panic!("{other:?}"),
    }
}

fn surroundings(variables: &[(&str, &str)]) -> Surroundings {
    Surroundings {
        variables: variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        host: "volsync-0".to_owned(),
        ..Surroundings::default()
    }
}

#[test]
fn the_arguments_of_volsyncs_own_chart_are_taken() {
    let line = "operator --health-probe-bind-address=:8081 --metrics-bind-address=:8443 --leader-elect \
        --rclone-container-image=q/v:1 --restic-container-image=q/v:1 --rsync-container-image=q/v:1 \
        --rsync-tls-container-image=q/v:1 --syncthing-container-image=q/v:1 --scc-name=volsync-privileged-mover \
        --mover-image-pull-secrets=one,two --metrics-require-rbac=false --enable-http2=false --zap-log-level=debug \
        --zap-encoder=json --zap-devel=false --zap-stacktrace-level=error --zap-time-encoding=iso8601";
    let (options, remarks) = read(
        line,
        &surroundings(&[("VOLSYNC_NAMESPACE", "volsync-system")]),
    )
    .unwrap();
    let metrics = options.metrics.unwrap();
    assert_eq!(metrics.address.to_string(), "0.0.0.0:8443");
    assert!(metrics.secure && !metrics.require_rbac && !metrics.http2);
    assert_eq!(options.health.unwrap().to_string(), "0.0.0.0:8081");
    assert_eq!(options.mover_pull_secrets, ["one", "two"]);
    assert_eq!(options.images.of(Mover::Rsync), "q/v:1");
    let election = options.election.unwrap();
    assert_eq!(
        (election.namespace.as_str(), election.name.as_str()),
        ("volsync-system", "b95b3104.backube")
    );
    assert!(election.identity.starts_with("volsync-0_"));
    assert_eq!(election.timing.lease, Duration::from_secs(137));
    for flag in [
        "--zap-stacktrace-level",
        "--zap-time-encoding",
        "--restic-container-image",
    ] {
        assert_eq!(
            remarks
                .iter()
                .filter(|remark| remark.contains(flag))
                .count(),
            1,
            "{flag}: {remarks:?}"
        );
    }
}

#[test]
fn without_flags_there_are_no_metrics_and_health_on_volsyncs_port() {
    let (options, remarks) = read("operator", &surroundings(&[])).unwrap();
    assert_eq!(options.metrics, None);
    assert_eq!(options.health.unwrap().port(), 8081);
    assert_eq!(options.election, None);
    assert_eq!(options.movers, Movers::All);
    assert!(options.images.rsync.ends_with(env!("CARGO_PKG_VERSION")));
    assert!(remarks.is_empty(), "{remarks:?}");
}

#[test]
fn a_movers_own_image_comes_before_the_one_for_all() {
    let (options, _) = read(
        "operator --mover-image all:1 --rsync-container-image rsync:1",
        &surroundings(&[]),
    )
    .unwrap();
    assert_eq!(
        (
            options.images.of(Mover::Rsync),
            options.images.of(Mover::Restic)
        ),
        ("rsync:1", "all:1")
    );
}

#[test]
fn images_come_from_volsyncs_variables_too() {
    let command = Cli::command();
    let operator = command.find_subcommand("operator").unwrap();
    for mover in Mover::ALL {
        let id = format!("{}_container_image", mover.as_str().replace('-', "_"));
        let argument = operator
            .get_arguments()
            .find(|argument| argument.get_id() == id.as_str())
            .unwrap();
        let name = mover.as_str().replace('-', "_").to_uppercase();
        let variable = format!("RELATED_IMAGE_{name}_CONTAINER");
        assert_eq!(
            argument.get_env().and_then(|name| name.to_str()),
            Some(variable.as_str())
        );
    }
}

#[test]
fn an_image_for_a_mover_that_is_not_built_is_remarked_upon_only_where_it_asks_for_something() {
    let remarks = |line| read(line, &surroundings(&[])).unwrap().1;
    assert_eq!(
        remarks("operator --mover-image all:1 --restic-container-image all:1"),
        [""; 0]
    );
    let other = remarks("operator --mover-image all:1 --restic-container-image other:1");
    assert!(
        other.concat().contains("--restic-container-image"),
        "{other:?}"
    );
}

#[test]
fn movers_are_named_as_in_specs_or_as_in_object_names() {
    for line in [
        "operator --movers rsync,rclone",
        "operator --movers Rclone,rsync",
    ] {
        let (options, _) = read(line, &surroundings(&[])).unwrap();
        let both = BTreeSet::from([Mover::Rsync, Mover::Rclone]);
        assert_eq!(options.movers, Movers::Only(both));
    }
    for (line, words) in [
        (
            "operator --movers restic",
            "this version cannot run mover \"restic\"",
        ),
        ("operator --movers rsync,scp", "there is no mover \"scp\""),
    ] {
        let failure = read(line, &surroundings(&[])).unwrap_err();
        assert!(
            failure.causes().concat().contains(words),
            "{:?}",
            failure.causes()
        );
        assert_eq!(failure.kind.exit_code(), 2);
    }
}

#[test]
fn the_movers_log_is_kept_as_the_environment_says() {
    let given = surroundings(&[
        ("MOVER_LOG_MAX_BYTES", "200"),
        ("MOVER_LOG_TAIL_LINES", "-1"),
        ("MOVER_LOG_DEBUG", "true"),
    ]);
    let (options, _) = read("operator", &given).unwrap();
    assert_eq!(
        (
            options.mover_log.max_bytes,
            options.mover_log.tail_lines,
            options.mover_log.debug
        ),
        (200, None, true)
    );
    let (options, remarks) = read(
        "operator",
        &surroundings(&[("MOVER_LOG_MAX_BYTES", "much")]),
    )
    .unwrap();
    assert_eq!(options.mover_log.max_bytes, 1024);
    assert!(remarks.concat().contains("MOVER_LOG_MAX_BYTES=much"));
}

#[test]
fn the_proxies_of_the_environment_are_for_movers_that_reach_out() {
    let given = surroundings(&[
        ("HTTPS_PROXY", "http://proxy:3128"),
        ("no_proxy", "10.0.0.0/8"),
    ]);
    let (options, remarks) = read("operator", &given).unwrap();
    let expected = [
        ("HTTPS_PROXY", "http://proxy:3128"),
        ("no_proxy", "10.0.0.0/8"),
    ];
    let proxies = options.proxies.iter();
    assert!(
        proxies
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .eq(expected)
    );
    assert_eq!(remarks, [""; 0]);
}

#[test]
fn an_election_needs_a_namespace_and_times_that_fit() {
    let failure = read("operator --leader-elect", &surroundings(&[])).unwrap_err();
    assert!(
        failure
            .hint_text()
            .is_some_and(|hint| hint.contains("VOLSYNC_NAMESPACE"))
    );
    let in_pod = Surroundings {
        pod_namespace: Some("syncline-system".to_owned()),
        ..surroundings(&[])
    };
    let (options, _) = read("operator --leader-elect=true", &in_pod).unwrap();
    assert_eq!(options.election.unwrap().namespace, "syncline-system");
    let failure = read(
        "operator --leader-elect --leader-elect-lease-duration 50s",
        &in_pod,
    )
    .unwrap_err();
    assert_eq!(failure.kind.exit_code(), 2);
}
