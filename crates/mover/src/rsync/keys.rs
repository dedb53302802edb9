//! The keys of one relationship, as files that ssh accepts.
//!
//! Kubernetes mounts Secrets readable for groups when a pod has an `fsGroup`, and people paste keys without their last
//! line break; ssh refuses both. So every key is copied to a private folder that goes with the mover.

use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

pub(crate) use crate::fs::PrivateFolder;
use crate::fs::write_private;
use crate::report::{Fault, reason};

/// Copies the private key `name` of the Secret to the private folder and gives the copy's path.
pub(crate) fn private_key(
    keys: &Path,
    name: &str,
    folder: &PrivateFolder,
) -> Result<PathBuf, Fault> {
    let text = read(keys, name)?;
    let text: String = text
        .trim()
        .lines()
        .flat_map(|line| [line.trim_end(), "\n"])
        .collect();
    if !(text.starts_with("-----BEGIN ") && text.contains("PRIVATE KEY-----")) {
        return Err(invalid(
            name,
            "it is not a private key in OpenSSH's or PEM form",
        ));
    }
    let copy = folder.file(name);
    write_private(&copy, text.as_bytes()).map_err(|error| unwritable(&copy, &error))?;
    Ok(copy)
}

/// A public key as ssh's files want it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PublicKey {
    kind: &'static str,
    encoded: String,
}

/// Kinds of keys that are admitted, with the signatures that they can make, best first; SHA-1 is not among them.
const KINDS: &[(&str, &str)] = &[
    ("ssh-ed25519", "ssh-ed25519"),
    ("ssh-rsa", "rsa-sha2-512,rsa-sha2-256"),
    ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256"),
    ("ecdsa-sha2-nistp384", "ecdsa-sha2-nistp384"),
    ("ecdsa-sha2-nistp521", "ecdsa-sha2-nistp521"),
];

impl PublicKey {
    /// The key in one line, without options and comment.
    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.kind, self.encoded)
    }

    /// ssh's names of the signature algorithms that this key can make.
    pub(crate) fn signatures(&self) -> &'static str {
        KINDS
            .iter()
            .find(|(kind, _)| *kind == self.kind)
            .map_or(self.kind, |(_, signatures)| signatures)
    }

    /// Reads a line as `ssh-keygen` writes it.
    fn parse(text: &str) -> Result<Self, String> {
        let mut lines = text.lines().filter(|line| !line.trim().is_empty());
        let (Some(line), None) = (lines.next(), lines.next()) else {
            return Err("it is not one line".to_owned());
        };
        let mut words = line.split_ascii_whitespace();
        let (Some(kind), Some(encoded)) = (words.next(), words.next()) else {
            return Err("it is not a kind and a key".to_owned());
        };
        let Some((kind, _)) = KINDS.iter().find(|(known, _)| *known == kind) else {
            return Err(
                "its kind is none of ssh-ed25519, ssh-rsa and ecdsa-sha2-nistp*".to_owned(),
            );
        };
        let blob = STANDARD
            .decode(encoded)
            .map_err(|error| format!("its key is not base64 ({error})"))?;
        // The key repeats its kind, behind the kind's length.
        let length = u32::try_from(kind.len()).unwrap_or_default().to_be_bytes();
        let rest = blob
            .strip_prefix(&length)
            .and_then(|rest| rest.strip_prefix(kind.as_bytes()));
        match rest {
            Some(key) if key.len() >= 32 => Ok(Self {
                kind,
                encoded: encoded.to_owned(),
            }),
            _ => Err("its key is not of the kind that it says".to_owned()),
        }
    }
}

/// Reads the public key `name` of the Secret.
pub(crate) fn public_key(keys: &Path, name: &str) -> Result<PublicKey, Fault> {
    PublicKey::parse(&read(keys, name)?).map_err(|why| invalid(name, &why))
}

fn read(keys: &Path, name: &str) -> Result<String, Fault> {
    let path = keys.join(name);
    match std::fs::read_to_string(&path) {
        Ok(text) if !text.trim().is_empty() => Ok(text),
        Ok(_) => Err(invalid(name, "it is empty")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Fault::new(
            reason::KEY_MISSING,
            format!(
                "the Secret named by spec.rsync.sshKeys has no key `{name}`; add it, or leave sshKeys out to have keys made"
            ),
        )),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(invalid(name, "it is not text"))
        }
        Err(error) => Err(Fault::new(
            reason::KEY_MISSING,
            format!("{} cannot be read: {error}", path.display()),
        )),
    }
}

fn invalid(name: &str, why: &str) -> Fault {
    Fault::new(
        reason::KEY_INVALID,
        format!(
            "`{name}` of the Secret named by spec.rsync.sshKeys is of no use: {why}; make keys with ssh-keygen"
        ),
    )
}

fn unwritable(path: &Path, error: &io::Error) -> Fault {
    Fault::new(
        reason::POD_INCOMPLETE,
        format!("{} cannot be written: {error}", path.display()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    const PUBLIC: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti user@example.com";

    #[test]
    fn a_private_key_is_copied_private_and_complete() {
        let keys = tempfile::tempdir().unwrap();
        let scratch = tempfile::tempdir().unwrap();
        let text =
            "-----BEGIN OPENSSH PRIVATE KEY-----\r\nAAAA\r\n-----END OPENSSH PRIVATE KEY-----";
        std::fs::write(keys.path().join("source"), text).unwrap();
        let folder = PrivateFolder::make(scratch.path()).unwrap();
        let copy = private_key(keys.path(), "source", &folder).unwrap();
        assert_eq!(
            std::fs::metadata(&copy).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert!(
            std::fs::read_to_string(&copy)
                .unwrap()
                .ends_with("AAAA\n-----END OPENSSH PRIVATE KEY-----\n")
        );
    }

    #[test]
    fn a_public_key_loses_its_comment() {
        let keys = tempfile::tempdir().unwrap();
        std::fs::write(keys.path().join("source.pub"), format!("{PUBLIC}\n")).unwrap();
        let key = public_key(keys.path(), "source.pub").unwrap();
        assert_eq!(key.line(), PUBLIC.rsplit_once(' ').unwrap().0);
        assert_eq!(key.signatures(), "ssh-ed25519");
    }

    #[test]
    fn what_is_no_key_is_named_without_being_shown() {
        let keys = tempfile::tempdir().unwrap();
        let folder = PrivateFolder::make(keys.path()).unwrap();
        assert_eq!(
            private_key(keys.path(), "source", &folder)
                .unwrap_err()
                .reason,
            reason::KEY_MISSING
        );
        std::fs::write(keys.path().join("source"), "hunter2").unwrap();
        let fault = private_key(keys.path(), "source", &folder).unwrap_err();
        assert_eq!(fault.reason, reason::KEY_INVALID);
        assert!(!fault.message.contains("hunter2"));
        for text in [
            "",
            "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti",
            "command=\"id\" ssh-ed25519 AAAA",
            &format!("{PUBLIC}\n{PUBLIC}"),
        ] {
            std::fs::write(keys.path().join("source.pub"), text).unwrap();
            assert_eq!(
                public_key(keys.path(), "source.pub").unwrap_err().reason,
                reason::KEY_INVALID,
                "{text}"
            );
        }
    }
}
