//! The command line as a whole: what is accepted, what is refused, what help says.

use clap::{CommandFactory, Parser};

use crate::args::{Cli, Command};

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split(' '))
}

#[test]
fn the_arguments_are_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn the_documented_commands_are_accepted() {
    for line in [
        "syncline up",
        "syncline up --data /tmp/x -f deploy/samples -f more.yaml",
        "syncline apply -f -",
        "syncline apply -n east -f a.yaml -f b",
        "syncline get replicationsource",
        "syncline get replicationsource,pvc -A -o wide",
        "syncline get pod x -n east -o yaml",
        "syncline get pod/x job/y -w",
        "syncline delete replicationsource database -n east",
        "syncline delete -f deploy/samples --ignore-not-found",
        "syncline logs ReplicationSource/database -f",
        "syncline logs some-pod --tail 10",
        "syncline status -n east",
        "syncline --kubeconfig k status",
        "syncline volume add photos /srv/photos -n east",
        "syncline volume list -A",
        "syncline volume remove photos",
        "syncline operator --mover-image registry/syncline:1",
        "syncline operator --movers rsync --leader-elect",
        "syncline plan --all",
        "syncline plan --all -n east -o json --movers rsync",
        "syncline plan source/db destination/db -n east",
        "syncline completions bash",
        "syncline version",
    ] {
        assert!(parse(line).is_ok(), "{line}: {}", parse(line).unwrap_err());
    }
}

#[test]
fn what_makes_no_sense_is_refused_as_wrong_usage() {
    for line in [
        "syncline",
        "syncline fly",
        "syncline apply",
        "syncline get pods -n a -A",
        "syncline get pods -o xml",
        "syncline delete",
        "syncline delete pod x -f file",
        "syncline logs",
        "syncline volume add photos",
        "syncline plan",
        "syncline plan source/db --all",
        "syncline operator --zap-log-level loud",
    ] {
        assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
    }
}

#[test]
fn a_movers_own_words_are_left_alone() {
    let Command::Mover(arguments) = parse("syncline mover rsync gate --server -vlogDtpr --help")
        .unwrap()
        .command
    else {
        panic!("this is no mover");
    };
    assert!(format!("{arguments:?}").contains("\"--help\""));
}

#[test]
fn help_tells_what_there_is() {
    insta::assert_snapshot!(Cli::command().term_width(100).render_help().to_string());
}

#[test]
fn hidden_commands_stay_out_of_help() {
    let help = Cli::command().render_long_help().to_string();
    assert!(!help.contains("pod-launcher") && !help.contains("mover pod"));
}
