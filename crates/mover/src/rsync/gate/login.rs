//! The login shell of whoever sshd lets in: this very program, so that the image needs no other.
//!
//! sshd gives the forced command of `authorized_keys` to the login shell as `-c COMMAND`. It is the line that the
//! destination wrote there itself, so nothing is interpreted: it is that line, or nothing is done.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The words between the program and the folder.
const WORDS: [&str; 3] = ["mover", "rsync", "gate"];

/// The forced command that starts the gate of the destination with this private folder. Any login shell understands it.
/// `None` when a path cannot be written so that all of them read it alike.
pub(crate) fn command(program: &Path, folder: &Path) -> Option<String> {
    let (program, folder) = (program.to_str()?, folder.to_str()?);
    let words = [program].into_iter().chain(WORDS).chain([folder]);
    let words: Vec<String> = words
        .map(|word| (!word.contains(['\'', '"', '\\', '\n'])).then(|| format!("'{word}'")))
        .collect::<Option<_>>()?;
    Some(words.join(" "))
}

/// The private folder that `line` names, if it is the forced command of a destination that runs `program`.
pub(super) fn folder(line: &str, program: &Path) -> Option<PathBuf> {
    let named = line.strip_suffix('\'')?.rsplit('\'').next()?;
    let folder = Path::new(named);
    (folder.is_absolute() && command(program, folder).as_deref() == Some(line))
        .then(|| folder.to_owned())
}

/// Whether a folder is nobody else's, as those are that a destination makes.
pub(super) fn is_private(folder: &Metadata, uid: u32) -> bool {
    folder.is_dir() && folder.uid() == uid && folder.mode() & 0o777 == 0o700
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use rstest::rstest;

    use super::*;
    use crate::rsync::keys::PrivateFolder;

    const PROGRAM: &str = "/syncline";

    #[test]
    fn the_line_of_authorized_keys_is_understood() {
        let line = command(Path::new(PROGRAM), Path::new("/tmp/slab12")).unwrap();
        assert_eq!(line, "'/syncline' 'mover' 'rsync' 'gate' '/tmp/slab12'");
        assert_eq!(
            folder(&line, Path::new(PROGRAM)),
            Some(PathBuf::from("/tmp/slab12"))
        );
    }

    #[rstest]
    #[case::nothing("")]
    #[case::a_quote("'")]
    #[case::another_program("'/bin/sh' 'mover' 'rsync' 'gate' '/tmp/slab12'")]
    #[case::another_role("'/syncline' 'mover' 'rsync' 'source' '/tmp/slab12'")]
    #[case::words_without_quotes("/syncline mover rsync gate /tmp/slab12")]
    #[case::a_further_word("'/syncline' 'mover' 'rsync' 'gate' '/tmp/slab12' 'x'")]
    #[case::a_further_command("'/syncline' 'mover' 'rsync' 'gate' '/tmp/slab12'; id")]
    #[case::a_command_within("'/syncline' 'mover' 'rsync' 'gate' '/tmp/$(id)\"'")]
    #[case::a_relative_folder("'/syncline' 'mover' 'rsync' 'gate' 'tmp'")]
    #[case::a_line_break("'/syncline' 'mover' 'rsync' 'gate' '/tmp/slab12'\n")]
    fn nothing_else_is(#[case] line: &str) {
        assert_eq!(folder(line, Path::new(PROGRAM)), None);
    }

    #[test]
    fn a_path_with_quotes_has_no_command() {
        assert_eq!(command(Path::new("/it's"), Path::new("/tmp")), None);
        assert_eq!(command(Path::new(PROGRAM), Path::new("/tmp/\"")), None);
    }

    #[test]
    fn the_folder_of_a_destination_is_private_until_others_may_enter_it() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = PrivateFolder::make(scratch.path()).unwrap();
        let uid = rustix::process::geteuid().as_raw();
        let is = |uid| is_private(&std::fs::metadata(folder.path()).unwrap(), uid);
        assert!(is(uid) && !is(uid + 1));
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        assert!(!is(uid));
    }
}
