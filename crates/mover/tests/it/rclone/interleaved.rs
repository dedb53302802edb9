//! Sources and destinations that meet, and such as are killed: after each of their calls of rclone in turn something
//! happens, and what is called success afterwards is a whole version.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use syncline_api::report::Report;

use super::shop::{Kind, Shop, replace};
use super::stage::{At, Stage};
use crate::pair::run;
use crate::tree;

/// More than any run here has.
const MOST_CALLS: u32 = 60;

/// At this pace a run neither looks at its marker beside its other calls nor shows in it that it lives. So the same call has
/// the same number in each run, and of one that is killed no sign of life is still on its way.
const CALL_AFTER_CALL: (&str, &str) = ("SYNCLINE_WAIT_UNIT_MS", "60000");

/// A smaller tree than [`tree::fill`] makes, with what matters here.
pub(super) fn fill(root: &Path) {
    std::fs::create_dir_all(root.join("a/b")).unwrap();
    for number in 0..8 {
        std::fs::write(
            root.join(format!("a/b/{number}")),
            format!("first {number}"),
        )
        .unwrap();
    }
    std::fs::write(root.join("becomes a folder"), "file").unwrap();
    std::fs::create_dir(root.join("becomes a file")).unwrap();
    std::fs::write(root.join("becomes a file/inside"), "inside").unwrap();
    std::fs::hard_link(root.join("a/b/1"), root.join("another name of 1")).unwrap();
    std::os::unix::fs::symlink("a/b", root.join("link")).unwrap();
}

fn change(root: &Path) {
    for number in 0..4 {
        std::fs::write(
            root.join(format!("a/b/{number}")),
            format!("later {number}"),
        )
        .unwrap();
    }
    std::fs::write(root.join("a/b/new"), "new").unwrap();
    std::fs::remove_file(root.join("a/b/5")).unwrap();
    std::fs::remove_file(root.join("a/b/6")).unwrap();
    std::fs::remove_file(root.join("becomes a folder")).unwrap();
    std::fs::create_dir(root.join("becomes a folder")).unwrap();
    std::fs::write(root.join("becomes a folder/inside"), "inside").unwrap();
    std::fs::remove_dir_all(root.join("becomes a file")).unwrap();
    std::fs::write(root.join("becomes a file"), "file").unwrap();
    std::fs::remove_file(root.join("link")).unwrap();
    std::fs::create_dir(root.join("link")).unwrap();
    std::fs::write(root.join("link/inside"), "was a link").unwrap();
}

/// A store with the first version in it, a destination that has it, and the volume as it is later.
struct Scene {
    shop: Shop,
    first: String,
}

impl Scene {
    fn new() -> Self {
        let shop = Shop::new(Kind::Local);
        fill(&shop.src());
        let source = shop.source(&[]);
        source.succeeded();
        shop.destination(&[]).succeeded();
        for (from, to) in [
            ("src", "first"),
            ("store", "store-then"),
            ("dst", "dst-then"),
        ] {
            replace(&shop.path(from), &shop.path(to));
        }
        change(&shop.src());
        Self {
            first: source.report.generation.unwrap(),
            shop,
        }
    }

    /// Store and destination as they were after the first version.
    fn reset(&self) {
        for (from, to) in [("store-then", "store"), ("dst-then", "dst")] {
            replace(&self.shop.path(from), &self.shop.path(to));
        }
    }

    /// Whatever a destination calls success is one of the two versions, and the one it names.
    #[track_caller]
    fn check(&self, report: &Report, context: &str) {
        if report.reason.is_some() {
            return;
        }
        let is_first = report.generation.as_ref() == Some(&self.first);
        let expected = if is_first {
            self.shop.path("first")
        } else {
            self.shop.src()
        };
        let same = std::panic::catch_unwind(|| tree::assert_same(&expected, &self.shop.dst()));
        assert!(same.is_ok(), "{context}: neither version\n{report:?}");
    }

    /// Everything comes right by itself.
    #[track_caller]
    fn recovers(&self, context: &str) {
        let source = self.shop.source(&[("LAST_GENERATION", &self.first)]);
        assert_eq!(source.code, Some(0), "{context}\n{}", source.log);
        let destination = self.shop.destination(&[("LAST_GENERATION", &self.first)]);
        assert_eq!(destination.code, Some(0), "{context}\n{}", destination.log);
        assert_eq!(
            destination.report.generation, source.report.generation,
            "{context}"
        );
        let same =
            std::panic::catch_unwind(|| tree::assert_same(&self.shop.src(), &self.shop.dst()));
        assert!(same.is_ok(), "{context}\n{}", destination.log);
        let mut objects: Vec<_> = tree::manifest(&self.shop.objects()).into_keys().collect();
        objects.retain(|path| path != Path::new("permissions.facl"));
        let mut files: Vec<_> = tree::manifest(&self.shop.src()).into_keys().collect();
        files.retain(|path| !self.shop.src().join(path).is_symlink());
        assert_eq!(objects, files, "{context}");
        if self.shop.state_names().len() > 2 {
            // It died after all was in place; the next run that has to write removes what is left of it.
            std::fs::write(self.shop.src().join("a/b/new"), context).unwrap();
            self.shop.source(&[]).succeeded();
        }
        let names = self.shop.state_names();
        assert_eq!(names.len(), 2, "{context}: {names:?}");
    }
}

/// A call of rclone: its number in the run, and its words.
struct Call {
    number: u32,
    words: String,
}

impl Call {
    fn all(log: &str) -> Vec<Self> {
        let call = |line: &str| {
            let (number, words) = line.split_once(' ').unwrap();
            Self {
                number: number.parse().unwrap(),
                words: words.to_owned(),
            }
        };
        log.lines().map(call).collect()
    }

    fn verb(&self) -> &str {
        self.words.split(' ').next().unwrap()
    }

    /// Is it told names of files to move or remove?
    fn is_told_names(&self) -> bool {
        let is_ahead = self.words.contains("--cutoff-mode");
        self.words.contains("--files-from0=-") && !is_ahead && self.verb() != "cat"
    }

    /// Can the store be another after it? A source that dies after any other call leaves what the call before left.
    fn writes(&self) -> bool {
        match self.verb() {
            "copy" => !self.words.contains("--cutoff-mode"),
            "copyto" | "delete" | "mkdir" | "sync" => true,
            "deletefile" => !self.words.contains("--dry-run"),
            _ => false,
        }
    }
}

/// The calls of an undisturbed run of `role`.
fn calls_of(shop: &Shop, role: &str, variables: &[(&str, &str)]) -> Vec<Call> {
    let stage = Stage::new(shop, "undisturbed", At::DieAfter, MOST_CALLS, "");
    let volume = match role {
        "source" => shop.src(),
        _ => shop.dst(),
    };
    let path = stage.path();
    let variables = [&[("PATH", path.as_str()), CALL_AFTER_CALL], variables].concat();
    let mover = shop.mover(role, &volume, &variables);
    shop.start_command(mover, "undisturbed").end().succeeded();
    Call::all(&stage.log())
}

/// The numbers of the calls of a run of `role` at which `at` does something that has a meaning.
fn calls_that_matter(shop: &Shop, role: &str, at: At, first: &str) -> Vec<u32> {
    let calls = calls_of(shop, role, &[("LAST_GENERATION", first)]);
    let matters = |call: &&Call| match at {
        At::DieHalfway => call.is_told_names(),
        // A destination does much in its volume between its calls.
        _ => role == "destination" || call.number == 1 || call.writes(),
    };
    let matter = calls.iter().filter(matters);
    matter.map(|call| call.number).collect()
}

/// Kills a source at each call in turn at which that has a meaning.
fn source_dies(at: At) {
    let scene = Scene::new();
    scene.reset();
    let calls = calls_that_matter(&scene.shop, "source", at, &scene.first);
    let mut deaths = 0;
    for call in calls {
        scene.reset();
        let stage = Stage::new(&scene.shop, "stage", at, call, "");
        let command = scene.shop.mover(
            "source",
            &scene.shop.src(),
            &[
                ("PATH", &stage.path()),
                ("LAST_GENERATION", &scene.first),
                CALL_AFTER_CALL,
            ],
        );
        let (code, _, log) = scene.shop.start_command(command, "dying").end_somehow();
        let context = format!("{at:?} {call} of\n{}\n{log}", stage.log());
        assert_ne!(code, Some(0), "{context}");
        deaths += 1;
        let (code, report, log) = scene
            .shop
            .start(
                "destination",
                "dst",
                &[
                    ("LAST_GENERATION", &scene.first),
                    ("SYNCLINE_WAIT_UNIT_MS", "1"),
                ],
            )
            .end_somehow();
        let report = report.unwrap_or_else(|| panic!("{code:?} {context}\n{log}"));
        scene.check(&report, &context);
        scene.recovers(&context);
    }
    let least = if at == At::DieHalfway { 2 } else { 6 };
    assert!(deaths >= least, "too few to be true: {deaths}");
}

#[test]
fn a_source_that_dies_after_any_of_its_calls_leaves_a_whole_version_or_none() {
    source_dies(At::DieAfter);
}

#[test]
fn a_source_that_dies_halfway_through_a_transfer_leaves_a_whole_version_or_none() {
    source_dies(At::DieHalfway);
}

#[test]
fn a_first_run_that_dies_after_any_of_its_calls_is_taken_up_by_the_next() {
    let shop = Shop::new(Kind::Local);
    fill(&shop.src());
    let calls = calls_of(&shop, "source", &[]);
    let writing: Vec<&Call> = calls.iter().filter(|call| call.writes()).collect();
    assert!(writing.len() >= 5, "too few to be true: {}", writing.len());
    for call in writing {
        for name in ["store", "dst"] {
            let _ = std::fs::remove_dir_all(shop.path(name));
            std::fs::create_dir(shop.path(name)).unwrap();
        }
        let stage = Stage::new(&shop, "stage", At::DieAfter, call.number, "");
        let variables = [("PATH", &*stage.path()), CALL_AFTER_CALL];
        let command = shop.mover("source", &shop.src(), &variables);
        let (code, _, log) = shop.start_command(command, "dying").end_somehow();
        let context = format!("after {} of\n{}\n{log}", call.words, stage.log());
        assert_ne!(code, Some(0), "{context}");
        let (_, report, log) = shop
            .start("destination", "dst", &[("SYNCLINE_WAIT_UNIT_MS", "1")])
            .end_somehow();
        if report.unwrap().reason.is_none() {
            let same = std::panic::catch_unwind(|| tree::assert_same(&shop.src(), &shop.dst()));
            assert!(same.is_ok(), "{context}\n{log}");
        }
        shop.source(&[]).succeeded();
        shop.destination(&[]).succeeded();
        tree::assert_same(&shop.src(), &shop.dst());
    }
}

/// Kills a destination at each call in turn at which that has a meaning.
fn destination_dies(at: At) {
    let scene = Scene::new();
    scene.shop.source(&[]).succeeded();
    let calls = calls_that_matter(&scene.shop, "destination", at, &scene.first);
    assert!(!calls.is_empty());
    for call in calls {
        replace(&scene.shop.path("dst-then"), &scene.shop.dst());
        let stage = Stage::new(&scene.shop, "stage", at, call, "");
        let command = scene.shop.mover(
            "destination",
            &scene.shop.dst(),
            &[("PATH", &stage.path()), ("LAST_GENERATION", &scene.first)],
        );
        let (code, _, log) = scene.shop.start_command(command, "dying").end_somehow();
        let context = format!("{at:?} {call} of\n{}\n{log}", stage.log());
        assert_ne!(code, Some(0), "{context}");
        scene.recovers(&context);
    }
}

#[test]
fn a_destination_that_dies_after_any_of_its_calls_is_made_whole_by_the_next_run() {
    destination_dies(At::DieAfter);
}

#[test]
fn a_destination_that_dies_halfway_through_a_transfer_is_made_whole_by_the_next_run() {
    destination_dies(At::DieHalfway);
}

/// A line of shell that runs a mover without the stage.
fn line(command: &Command) -> String {
    let mut line = String::from("env");
    for (name, value) in command.get_envs() {
        write!(
            line,
            " {}=\"{}\"",
            name.to_str().unwrap(),
            value.unwrap().to_str().unwrap()
        )
        .unwrap();
    }
    write!(line, " {}", command.get_program().to_str().unwrap()).unwrap();
    for word in command.get_args() {
        write!(line, " {}", word.to_str().unwrap()).unwrap();
    }
    line
}

#[test]
fn a_destination_that_runs_between_any_two_calls_of_a_source_gets_a_whole_version_or_fails() {
    let scene = Scene::new();
    scene.reset();
    let calls = calls_of(&scene.shop, "source", &[]);
    // Before the first call, and after each that writes; before any other the store is as it was before the one before.
    let after_writing = calls.iter().filter(|call| call.writes());
    let moments = std::iter::once(1).chain(after_writing.map(|call| call.number + 1));
    let (mut firsts, mut laters) = (0, 0);
    for call in moments.filter(|moment| *moment as usize <= calls.len()) {
        scene.reset();
        let report = scene.shop.path("between.report");
        let _ = std::fs::remove_file(&report);
        let mut destination = scene.shop.mover(
            "destination",
            &scene.shop.dst(),
            &[
                ("SYNCLINE_WAIT_UNIT_MS", "1"),
                ("LAST_GENERATION", &scene.first),
            ],
        );
        destination.env("TERMINATION_LOG", &report);
        let stage = Stage::new(
            &scene.shop,
            "stage",
            At::HookBefore,
            call,
            &line(&destination),
        );
        // A destination that ran before a look at the marker, beside the other calls, would not be waited for.
        let source = scene.shop.mover(
            "source",
            &scene.shop.src(),
            &[("PATH", &stage.path()), CALL_AFTER_CALL],
        );
        scene.shop.start_command(source, "source").end().succeeded();
        let context = format!("before call {call} of\n{}", stage.log());
        let text = std::fs::read_to_string(&report).unwrap_or_else(|error| {
            let log = std::fs::read_to_string(stage.folder.join("hook.log")).unwrap_or_default();
            panic!("{error}: {context}\n{log}")
        });
        let report = Report::parse(&text).unwrap();
        scene.check(&report, &context);
        firsts += u32::from(report.generation.as_ref() == Some(&scene.first));
        laters += u32::from(
            report.generation.is_some() && report.generation.as_ref() != Some(&scene.first),
        );
    }
    assert!(firsts > 2 && laters > 0, "{firsts} {laters}");
}

#[test]
fn a_source_that_runs_between_any_two_calls_of_a_destination_leaves_it_a_whole_version() {
    let scene = Scene::new();
    for call in 1..MOST_CALLS {
        scene.reset();
        let mut source = scene.shop.mover("source", &scene.shop.src(), &[]);
        source.env("TERMINATION_LOG", scene.shop.path("between.report"));
        let stage = Stage::new(&scene.shop, "stage", At::HookBefore, call, &line(&source));
        let destination = scene.shop.mover(
            "destination",
            &scene.shop.dst(),
            &[("PATH", &stage.path()), ("LAST_GENERATION", &scene.first)],
        );
        let ended = scene.shop.start_command(destination, "destination").end();
        let context = format!("before call {call} of\n{}\n{}", stage.log(), ended.log);
        ended.succeeded();
        scene.check(&ended.report, &context);
        if stage.calls() < call {
            return;
        }
        assert_eq!(scene.shop.marker()["state"], "complete", "{context}");
    }
    panic!("a run has no end");
}

#[test]
fn a_stock_writer_between_any_two_calls_of_a_destination_mixes_nothing_into_a_version() {
    let scene = Scene::new();
    scene.shop.source(&[]).succeeded();
    let later = scene.shop.marker();
    // All objects at once get another content of the same size, as a stock sync in one blow would leave them.
    let (objects, other) = (scene.shop.objects(), scene.shop.path("other"));
    replace(&objects, &other);
    let script = format!(
        "cd {} && find . -type f ! -name permissions.facl -exec sed -i s/./X/g {{}} +",
        other.display()
    );
    run(Command::new("bash").args(["-c", &script]));
    replace(&scene.shop.path("store"), &scene.shop.path("store-later"));
    for call in 1..MOST_CALLS {
        replace(&scene.shop.path("store-later"), &scene.shop.path("store"));
        replace(&scene.shop.path("dst-then"), &scene.shop.dst());
        let hook = format!(
            "cp -a --remove-destination {}/. {}/",
            other.display(),
            objects.display()
        );
        let stage = Stage::new(&scene.shop, "stage", At::HookBefore, call, &hook);
        let destination = scene.shop.mover(
            "destination",
            &scene.shop.dst(),
            &[("PATH", &stage.path()), ("LAST_GENERATION", &scene.first)],
        );
        let ended = scene.shop.start_command(destination, "destination").end();
        let context = format!("before call {call} of\n{}\n{}", stage.log(), ended.log);
        ended.succeeded();
        let label = format!(
            "{}-{}",
            later["generation"],
            later["lineage"].as_str().unwrap()
        );
        let content = |path: &str| std::fs::read(scene.shop.dst().join(path)).unwrap();
        if ended.report.generation.as_deref() == Some(label.as_str()) {
            let same = std::panic::catch_unwind(|| {
                tree::assert_same(&scene.shop.src(), &scene.shop.dst());
            });
            assert!(same.is_ok(), "{context}");
        } else {
            for path in ["a/b/1", "a/b/4", "a/b/new"] {
                assert!(
                    content(path).iter().all(|byte| *byte == b'X'),
                    "{path} {context}"
                );
            }
        }
        if stage.calls() < call {
            return;
        }
    }
    panic!("a run has no end");
}

/// The calls that write a marker, by their numbers.
fn markers(log: &str) -> Vec<u32> {
    let calls = (1..).zip(log.lines());
    calls
        .filter(|(_, line)| line.contains(" copyto ") && line.ends_with("/generation.json"))
        .map(|(number, _)| number)
        .collect()
}

#[test]
fn a_run_that_finds_its_path_taken_over_stops_and_leaves_no_word_of_success() {
    let scene = Scene::new();
    // Another run of the same source writes its marker while this one uploads.
    let marker = scene.shop.state().join("generation.json");
    let hook = format!(
        "sed -i \"s/\\\"run\\\": \\\".*\\\"/\\\"run\\\": \\\"another\\\"/\" {}",
        marker.display()
    );
    let run = |call: u32| {
        scene.reset();
        let stage = Stage::new(&scene.shop, "stage", At::HookBefore, call, &hook);
        // The other run would wait until a sign of life of this one, if one is on its way, has come. This hook does not;
        // at this pace there is none, and looks at the marker there are.
        let variables = [
            ("PATH", stage.path()),
            ("SYNCLINE_WAIT_UNIT_MS", "100".to_owned()),
        ];
        let variables = variables
            .each_ref()
            .map(|(name, value)| (*name, value.as_str()));
        let source = scene.shop.mover("source", &scene.shop.src(), &variables);
        let ended = scene.shop.start_command(source, "source").end();
        (ended, stage.log())
    };
    let (undisturbed, log) = run(MOST_CALLS);
    undisturbed.succeeded();
    // What comes before the announcement changes nothing yet, so that a version which another run ended until then is none
    // of this test's.
    let announcement = markers(&log)[0];
    for call in announcement + 1..MOST_CALLS {
        let (ended, log) = run(call);
        let markers = markers(&log);
        assert_eq!(markers[0], announcement, "{log}");
        if ended.code == Some(0) {
            // Only what comes after the last look can be too late.
            assert!(
                markers[1] <= call && call > announcement + 8,
                "{call} {log}"
            );
            return;
        }
        ended.failed("PathInUse");
        assert_eq!(markers.len(), 1, "{log}");
        assert_eq!(scene.shop.marker()["run"], "another", "{log}");
        assert_eq!(scene.shop.marker()["state"], "uploading", "{log}");
    }
    panic!("a run has no end");
}

#[test]
fn a_try_that_fails_after_a_run_that_died_skips_no_check() {
    let scene = Scene::new();
    let shop = &scene.shop;
    scene.reset();
    let calls = calls_of(shop, "source", &[("LAST_GENERATION", &scene.first)]);
    let sends = |call: &&Call| call.verb() == "copy" && call.is_told_names();
    let [copy] = calls.iter().filter(sends).collect::<Vec<_>>()[..] else {
        panic!("one call of rclone sends files");
    };
    // A run dies in the middle of the second version, and then the volume is what it was before, but for its inodes.
    scene.reset();
    let stage = Stage::new(shop, "stage", At::DieHalfway, copy.number, "");
    let dying = shop.mover(
        "source",
        &shop.src(),
        &[
            ("PATH", &stage.path()),
            CALL_AFTER_CALL,
            ("LAST_GENERATION", &scene.first),
        ],
    );
    shop.start_command(dying, "dying").end_somehow();
    replace(&shop.path("store"), &shop.path("store-dead"));
    for call in 1..MOST_CALLS {
        replace(&shop.path("store-dead"), &shop.path("store"));
        let stage = Stage::new(shop, "stage", At::Fail, call, "");
        let failing = shop.mover("source", &shop.path("first"), &[("PATH", &stage.path())]);
        let ended = shop.start_command(failing, "failing").end();
        let context = format!("call {call} fails of\n{}\n{}", stage.log(), ended.log);
        assert_eq!(ended.code, Some(0), "{context}");
        replace(&shop.path("dst-then"), &shop.dst());
        shop.destination(&[("LAST_GENERATION", &scene.first)])
            .succeeded();
        let same = std::panic::catch_unwind(|| tree::assert_same(&shop.path("first"), &shop.dst()));
        assert!(same.is_ok(), "{context}");
        if stage.calls() < call {
            return;
        }
    }
    panic!("a run has no end");
}
