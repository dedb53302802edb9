//! What the gate lets through and what it refuses.

use proptest::prelude::*;
use rstest::rstest;

use super::command::{Command, Receive, Refusal, parse};

fn receive(line: &str) -> Receive {
    match parse(line.as_bytes()) {
        Ok(Command::Receive(receive)) => receive,
        other => panic!("{line} should be a transfer, but is {other:?}"),
    }
}

/// Command lines as stock clients send them, with the path that they name.
#[rstest]
// VolSync's own flags, then with -X and --numeric-ids, as rsync 3.5 sends them.
#[case(
    "rsync --server -lHogDtpArxSze.iLsfxCIvu --log-format=%i --delete --info=MISC2,STATS2 . .",
    ""
)]
#[case(
    "rsync --server -lHogDtpAXrxSe.LsfxCIvu --log-format=%i --delete --numeric-ids --info=MISC2,STATS2 . .",
    ""
)]
#[case("rsync --server -logDtpre.iLsfxCIvu . /", "")]
#[case(
    "rsync --server -logDtpre.iLsfxCIvu --mkpath . ./sub/folder/",
    "sub/folder"
)]
#[case("rsync --server -logDtpre.iLsfxCIvu . /sub//./folder", "sub/folder")]
#[case("rsync --server -logDtpre.iLsfxCIvu . o\\ dd\\$\\(id\\)", "o dd$(id)")]
#[case(
    "rsync --server -lHogDtpAXrSe.iLsfxCIvu --delete-after --partial --numeric-ids --mkpath . a",
    "a"
)]
#[case(
    "rsync --server -lHogDtpAXrxSe.iLsfxCIvu --compress-choice=zstd . a",
    "a"
)]
#[case(
    "rsync --server -vvlogDtpre.iLsfxCIvu --timeout=30 --bwlimit=100 . a",
    "a"
)]
#[case("rsync --server -lDtpre.iLsfxCIvu . a", "a")]
#[case("rsync --server -lWogDtprSe.iLsfxCIvu --super . a", "a")]
#[case(
    "rsync --server -lHogDtpre.iLsfxCIvu --log-format=X --info=ALL . a",
    "a"
)]
#[case(
    "rsync --server -blWogDtprIe.iLsfxCIvu --suffix=~ --max-delete=5 --max-size=1073741824 --size-only --modify-window=1 --fsync --preallocate . a",
    "a"
)]
#[case("rsync --server -logDtpr . a", "a")]
#[case("rsync --server -logDtprze31.14iLsf . a", "a")]
#[case(
    "rsync --server -logDtpre.Lsf --usermap=\\*:nobody --groupmap=0-99:users . a",
    "a"
)]
#[case("rsync --server -nlogDtpre.iLsfxCIvu . a", "a")]
#[case(
    "rsync --server -logDtprcB4096 --inplace --append --append --checksum-seed=1 . a",
    "a"
)]
fn stock_clients_may_send(#[case] line: &str, #[case] path: &str) {
    let receive = receive(line);
    let shown: Vec<_> = receive
        .components
        .iter()
        .map(|name| name.to_string_lossy())
        .collect();
    assert_eq!(shown.join("/"), path);
    assert_eq!(receive.is_folder, line.ends_with('/'));
}

#[test]
fn names_that_are_not_text_are_kept_as_they_are() {
    let Ok(Command::Receive(receive)) = parse(b"rsync --server -logDtpr . a\xff\xfe") else {
        panic!("refused")
    };
    assert_eq!(
        receive.components.first().unwrap().as_encoded_bytes(),
        b"a\xff\xfe"
    );
}

#[test]
fn a_dry_run_and_mkpath_are_noticed() {
    assert!(receive("rsync --server -nlogDtpre.iLsfxCIvu . a").dry_run);
    assert!(!receive("rsync --server -logDtpre.iLsfxCInvu . a").dry_run);
    assert!(receive("rsync --server -logDtpr --mkpath . a").make_path);
}

#[rstest]
#[case("shutdown 0", 0)]
#[case("shutdown 1", 1)]
#[case(" shutdown  255 ", 255)]
fn an_exit_code_may_be_told(#[case] line: &str, #[case] code: u8) {
    assert_eq!(parse(line.as_bytes()), Ok(Command::Shutdown(code)));
}

#[rstest]
#[case("", Refusal::Interactive)]
#[case("   ", Refusal::Interactive)]
#[case("sh", Refusal::Unknown("sh".into()))]
#[case("/bin/sh -i", Refusal::Unknown("/bin/sh".into()))]
#[case("scp -t /data", Refusal::Unknown("scp".into()))]
#[case("/usr/lib/openssh/sftp-server", Refusal::Unknown("/usr/lib/openssh/sftp-server".into()))]
#[case("sftp", Refusal::Unknown("sftp".into()))]
#[case("RSYNC --server -r . a", Refusal::Unknown("RSYNC".into()))]
#[case("/usr/bin/rsync --server -r . a", Refusal::Unknown("/usr/bin/rsync".into()))]
#[case("env rsync --server -r . a", Refusal::Unknown("env".into()))]
#[case("diskrsync --target /dev/block", Refusal::Diskrsync)]
#[case("syncline receive --proto 1", Refusal::Native)]
#[case("shutdown", Refusal::ExitCode)]
#[case("shutdown -1", Refusal::ExitCode)]
#[case("shutdown +1", Refusal::ExitCode)]
#[case("shutdown 256", Refusal::ExitCode)]
#[case("shutdown 99999999999", Refusal::ExitCode)]
#[case("shutdown 0 0", Refusal::ExitCode)]
#[case("shutdown 0x1", Refusal::ExitCode)]
#[case("shutdown 0; id", Refusal::ShellCharacter(';'))]
#[case("shutdown 0 && id", Refusal::ShellCharacter('&'))]
#[case("shutdown 0\nid", Refusal::ControlCharacter)]
#[case("shutdown $(id)", Refusal::ShellCharacter('$'))]
#[case("rsync", Refusal::NotAServer)]
#[case("rsync --daemon", Refusal::NotAServer)]
#[case("rsync -a /etc/ /data/", Refusal::NotAServer)]
#[case("rsync -e sh --server . a", Refusal::NotAServer)]
#[case("rsync --server --daemon . .", Refusal::Option("--daemon".into()))]
#[case("rsync --server --config=/data/evil --daemon .", Refusal::Option("--config".into()))]
#[case("rsync --server --sender -logDtpre.iLsfxCIvu . /etc", Refusal::Pull)]
#[case("rsync --server -logDtpre.iLsfxCIvu --sender . /etc", Refusal::Pull)]
#[case("rsync --server -slogDtpre.iLsfxCIvu", Refusal::SecludedArguments)]
#[case("rsync --server -logDtprs . a", Refusal::SecludedArguments)]
#[case("rsync --server -logDtpr", Refusal::Paths)]
#[case("rsync --server -logDtpr .", Refusal::Paths)]
#[case("rsync --server -logDtpr . a b", Refusal::Paths)]
#[case("rsync --server -logDtpr . a .", Refusal::Paths)]
#[case("rsync --server -logDtpr a b", Refusal::UnexpectedWord("a".into()))]
#[case("rsync --server - . a", Refusal::UnexpectedWord("-".into()))]
#[case("rsync --server -logDtpr . ..", Refusal::ParentInPath)]
#[case("rsync --server -logDtpr . /../etc", Refusal::ParentInPath)]
#[case("rsync --server -logDtpr . a/../../etc", Refusal::ParentInPath)]
#[case("rsync --server -logDtpr . \\.\\./etc", Refusal::ParentInPath)]
#[case("rsync --server -logDtpr --log-file=/etc/cron.d/x . a", Refusal::Option("--log-file".into()))]
#[case("rsync --server -logDtpr --partial-dir /tmp/foo . a", Refusal::Option("--partial-dir".into()))]
#[case("rsync --server -logDtpr --partial-dir=/tmp/foo . a", Refusal::Option("--partial-dir".into()))]
#[case("rsync --server -logDtpr --temp-dir /tmp . a", Refusal::Option("--temp-dir".into()))]
#[case("rsync --server -logDtprT/tmp . a", Refusal::Option("-T".into()))]
#[case("rsync --server -blogDtpr --backup-dir foo . a", Refusal::Option("--backup-dir".into()))]
#[case("rsync --server -logDtpr --link-dest /etc . a", Refusal::Option("--link-dest".into()))]
#[case("rsync --server -logDtpr --copy-dest=/etc . a", Refusal::Option("--copy-dest".into()))]
#[case("rsync --server -logDtpr --compare-dest=/etc . a", Refusal::Option("--compare-dest".into()))]
#[case("rsync --server -logDtpr --files-from=/etc/shadow . a", Refusal::Option("--files-from".into()))]
#[case("rsync --server -logDtpr --rsync-path=/bin/sh . a", Refusal::Option("--rsync-path".into()))]
#[case("rsync --server -logDtpr --rsh=sh . a", Refusal::Option("--rsh".into()))]
#[case("rsync --server -logDtpr --write-devices . a", Refusal::Option("--write-devices".into()))]
#[case("rsync --server -logDtpr --insecure-links . a", Refusal::Option("--insecure-links".into()))]
#[case("rsync --server -logDtpr --confine-root=/ . a", Refusal::Option("--confine-root".into()))]
#[case("rsync --server -logDtpr --no-munge-links . a", Refusal::Option("--no-munge-links".into()))]
#[case("rsync --server -logDtpr --write-batch=/etc/x . a", Refusal::Option("--write-batch".into()))]
#[case("rsync --server -logDtpr --early-input=/etc/x . a", Refusal::Option("--early-input".into()))]
#[case("rsync --server -logDtpr --debug=ALL . a", Refusal::Option("--debug".into()))]
#[case("rsync --server -logDtpr --copy-as=root . a", Refusal::Option("--copy-as".into()))]
#[case("rsync --server -logDtpr -- . a", Refusal::Option("--".into()))]
#[case("rsync --server -logDtpr --Delete . a", Refusal::Option("--Delete".into()))]
#[case("rsync --server -logDtprK . a", Refusal::Option("-K".into()))]
#[case("rsync --server -logDtprR . a", Refusal::Option("-R".into()))]
#[case("rsync --server -logDtprL . a", Refusal::Option("-L".into()))]
#[case("rsync --server -logDtprk . a", Refusal::Option("-k".into()))]
#[case("rsync --server -M--log-file=/x . a", Refusal::Option("-M".into()))]
#[case("rsync --server -logDtpre.iLs/bin/sh . a", Refusal::Value("-e".into()))]
#[case("rsync --server -logDtpre sh . a", Refusal::Value("-e".into()))]
#[case("rsync --server -logDtpresh . a", Refusal::Value("-e".into()))]
#[case("rsync --server -e.iLsfxCIvu=x . a", Refusal::Value("-e".into()))]
#[case("rsync --server -logDtprB . a", Refusal::Value("-B".into()))]
#[case("rsync --server -logDtpr --timeout . a", Refusal::Value("--timeout".into()))]
#[case("rsync --server -logDtpr --timeout=x . a", Refusal::Value("--timeout".into()))]
#[case("rsync --server -logDtpr --delete=1 . a", Refusal::Value("--delete".into()))]
#[case("rsync --server -logDtpr --suffix=/../x . a", Refusal::Value("--suffix".into()))]
#[case("rsync --server -logDtpr --log-format=%f%n . a", Refusal::Value("--log-format".into()))]
#[case("rsync --server -logDtpr --iconv=/tmp/x . a", Refusal::Value("--iconv".into()))]
#[case("rsync --server -logDtpr . 'a'", Refusal::ShellCharacter('\''))]
#[case("rsync --server -logDtpr . \"a\"", Refusal::ShellCharacter('"'))]
#[case("rsync --server -logDtpr . `id`", Refusal::ShellCharacter('`'))]
#[case("rsync --server -logDtpr . $HOME", Refusal::ShellCharacter('$'))]
#[case("rsync --server -logDtpr . ~/x", Refusal::ShellCharacter('~'))]
#[case("rsync --server -logDtpr . a|b", Refusal::ShellCharacter('|'))]
#[case("rsync --server -logDtpr . a>b", Refusal::ShellCharacter('>'))]
#[case("rsync --server -logDtpr . {a,b}", Refusal::ShellCharacter('{'))]
#[case("rsync --server -logDtpr . a*", Refusal::ShellCharacter('*'))]
#[case("rsync --server -logDtpr . a\\", Refusal::DanglingBackslash)]
#[case("rsync --server -logDtpr . a\x1b[2J", Refusal::ControlCharacter)]
#[case("rsync --server -logDtpr . a\\\nb", Refusal::ControlCharacter)]
#[case("rsync --server -logDtpr . a\tb", Refusal::ControlCharacter)]
#[case("rsync\0--server", Refusal::ControlCharacter)]
fn everything_else_is_refused(#[case] line: &str, #[case] refusal: Refusal) {
    assert_eq!(parse(line.as_bytes()), Err(refusal));
}

#[test]
fn long_lines_and_long_names_are_refused() {
    assert_eq!(parse(&vec![b'a'; 100_000]), Err(Refusal::TooLong));
    let name = format!("rsync --server -r . {}", "a".repeat(300));
    assert_eq!(parse(name.as_bytes()), Err(Refusal::LongPath));
    let deep = format!("rsync --server -r . {}", "a/".repeat(200));
    assert_eq!(parse(deep.as_bytes()), Err(Refusal::LongPath));
}

#[test]
fn a_refusal_repeats_no_more_than_a_glimpse_of_what_was_sent() {
    let line = format!("{} x", "\u{9b}".repeat(1000));
    let Err(refusal) = parse(line.as_bytes()) else {
        panic!("accepted")
    };
    let text = refusal.to_string();
    assert!(text.len() < 500);
    assert!(text.chars().all(|character| !character.is_control()));
}

/// Words that a hostile client would combine.
fn words() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "rsync",
        "--server",
        "--sender",
        "shutdown",
        "0",
        ".",
        "..",
        "/",
        "~",
        "-logDtpre.iLsfxCIvu",
        "--delete",
        "--mkpath",
        "--log-file=/x",
        "-e",
        "\\.\\.",
        "a/../b",
        "./..",
        "-n",
        "--suffix=..",
        "-s",
        "--",
        "",
    ])
    .prop_map(str::to_owned);
    let any = "[ -~]{0,12}";
    prop::collection::vec(prop_oneof![4 => known, 1 => any], 0..9).prop_map(|words| words.join(" "))
}

fn holds(line: &[u8]) {
    let Ok(Command::Receive(receive)) = parse(line) else {
        return;
    };
    for name in &receive.components {
        let name = name.as_encoded_bytes();
        assert!(
            !name.is_empty()
                && name != b"."
                && name != b".."
                && !name.contains(&b'/')
                && !name.contains(&0)
        );
    }
    for option in &receive.options {
        let option = option.as_encoded_bytes();
        assert!(option.len() > 1 && option.starts_with(b"-"));
        assert!(!option.windows(3).any(|part| part == b"../"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn no_line_of_known_words_leads_out_of_the_volume(line in words()) {
        holds(line.as_bytes());
    }

    #[test]
    fn no_path_behind_a_true_command_leads_out_of_the_volume(path in "[a-z./\\\\ ~$*-]{0,24}") {
        holds(format!("rsync --server -logDtpre.iLsfxCIvu --delete . {path}").as_bytes());
    }

    #[test]
    fn no_bytes_make_it_panic(line in prop::collection::vec(any::<u8>(), 0..200)) {
        holds(&line);
    }
}
