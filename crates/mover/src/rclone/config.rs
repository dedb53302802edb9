//! `rclone.conf` and the `RCLONE_*` keys beside it: read, checked, and kept out of everything that is said.

use std::path::Path;

use syncline_api::report::reason as api_reason;

use crate::rclone::settings::{Places, Remote};
use crate::report::{Fault, reason};

/// No configuration is larger, in bytes.
const LARGEST: u64 = 1024 * 1024;

/// How an encrypted configuration begins.
const ENCRYPTED: &str = "RCLONE_ENCRYPT_V";

/// Keys that would take rclone's output, or our own choice of what is read, written and deleted, away from us. They are
/// not handed on.
const OURS: &[&str] = &[
    // Without checksums a file that was rewritten with its old size and time is called the same; where a store has none, one
    // of the same size is.
    "RCLONE_CHECKSUM",
    "RCLONE_CONFIG",
    "RCLONE_CONFIG_SECTION",
    // With either, what is passed over or could not be listed would be deleted.
    "RCLONE_DELETE_EXCLUDED",
    "RCLONE_IGNORE_ERRORS",
    "RCLONE_DEST_PATH",
    "RCLONE_ASK_PASSWORD",
    "RCLONE_ERROR_ON_NO_TRANSFER",
    "RCLONE_LOG_FILE",
    "RCLONE_LOG_FILE_COMPRESS",
    "RCLONE_LOG_FILE_MAX_AGE",
    "RCLONE_LOG_FILE_MAX_BACKUPS",
    "RCLONE_LOG_FILE_MAX_SIZE",
    "RCLONE_LOG_FORMAT",
    "RCLONE_LOG_LEVEL",
    "RCLONE_LOG_SYSTEMD",
    // Within it, content of one size would be called the same; how coarse a store's times are rclone knows by itself.
    "RCLONE_MODIFY_WINDOW",
    "RCLONE_PROGRESS",
    "RCLONE_PROGRESS_TERMINAL_TITLE",
    "RCLONE_QUIET",
    // It would go before checksums and times, and content would be called the same that nobody compared.
    "RCLONE_SIZE_ONLY",
    "RCLONE_STATS",
    "RCLONE_STATS_FILE_NAME_LENGTH",
    "RCLONE_STATS_LOG_LEVEL",
    "RCLONE_STATS_ONE_LINE",
    "RCLONE_STATS_ONE_LINE_DATE",
    "RCLONE_STATS_ONE_LINE_DATE_FORMAT",
    "RCLONE_STATS_UNIT",
    "RCLONE_SYSLOG",
    "RCLONE_SYSLOG_FACILITY",
    "RCLONE_USE_JSON_LOG",
    "RCLONE_VERBOSE",
];

/// Those of them that are not handed on, and heeded all the same.
const HEEDED: &[&str] = &["RCLONE_LOG_LEVEL", "RCLONE_VERBOSE"];

/// Keys that open a server in the mover, or write files beside the volume.
const SIDE_DOORS: &[&str] = &[
    "RCLONE_RC",
    "RCLONE_METRICS_",
    "RCLONE_CPUPROFILE",
    "RCLONE_MEMPROFILE",
];

/// Keys under which nothing is copied at all.
const POINTLESS: &[&str] = &["RCLONE_DRY_RUN", "RCLONE_INTERACTIVE"];

/// Keys that make rclone pass over files, or store them under other names than they have.
const SELECTIVE: &[&str] = &[
    "RCLONE_BACKUP_DIR",
    "RCLONE_COMPARE_DEST",
    "RCLONE_COPY_DEST",
    "RCLONE_COPY_LINKS",
    "RCLONE_EXCLUDE",
    "RCLONE_EXCLUDE_FROM",
    "RCLONE_EXCLUDE_IF_PRESENT",
    "RCLONE_EXISTING",
    "RCLONE_FILES_FROM",
    "RCLONE_FILES_FROM0",
    "RCLONE_FILES_FROM_RAW",
    "RCLONE_FILTER",
    "RCLONE_FILTER_FROM",
    "RCLONE_HASH_FILTER",
    "RCLONE_IGNORE_CASE",
    "RCLONE_IGNORE_EXISTING",
    "RCLONE_IGNORE_SIZE",
    "RCLONE_IMMUTABLE",
    "RCLONE_INCLUDE",
    "RCLONE_INCLUDE_FROM",
    "RCLONE_LINKS",
    "RCLONE_LOCAL_COPY_LINKS",
    "RCLONE_LOCAL_LINKS",
    "RCLONE_MAX_AGE",
    "RCLONE_MAX_DEPTH",
    "RCLONE_MAX_SIZE",
    "RCLONE_METADATA_EXCLUDE",
    "RCLONE_METADATA_EXCLUDE_FROM",
    "RCLONE_METADATA_FILTER",
    "RCLONE_METADATA_FILTER_FROM",
    "RCLONE_METADATA_INCLUDE",
    "RCLONE_METADATA_INCLUDE_FROM",
    "RCLONE_MIN_AGE",
    "RCLONE_MIN_SIZE",
    "RCLONE_NAME_TRANSFORM",
    "RCLONE_SUFFIX",
    "RCLONE_UPDATE",
];

/// Those among them under which a transfer does not carry just what a listing shows, under the names that it shows.
const MORE_THAN_FILTERS: &[&str] = &[
    "RCLONE_BACKUP_DIR",
    "RCLONE_COMPARE_DEST",
    "RCLONE_COPY_DEST",
    "RCLONE_COPY_LINKS",
    "RCLONE_EXISTING",
    "RCLONE_IGNORE_EXISTING",
    "RCLONE_IGNORE_SIZE",
    "RCLONE_IMMUTABLE",
    "RCLONE_LINKS",
    "RCLONE_LOCAL_COPY_LINKS",
    "RCLONE_LOCAL_LINKS",
    "RCLONE_NAME_TRANSFORM",
    "RCLONE_SUFFIX",
    "RCLONE_UPDATE",
];

/// One section of `rclone.conf`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Section {
    pub(crate) name: String,
    pub(crate) entries: Vec<(String, String)>,
}

impl Section {
    fn get(&self, key: &str) -> Option<&str> {
        self.entries
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.as_str())
    }
}

/// What the Secret holds.
#[derive(Clone, Default)]
pub(crate) struct Config {
    /// `rclone.conf`, as it is.
    pub(crate) text: String,
    pub(crate) sections: Vec<Section>,
    /// The configuration is encrypted: its sections are rclone's to read.
    pub(crate) is_encrypted: bool,
    /// The `RCLONE_*` keys that rclone gets.
    pub(crate) environment: Vec<(String, String)>,
    /// All `RCLONE_*` keys, for the redactor.
    pub(crate) keys: Vec<(String, String)>,
}

impl Config {
    /// Reads the Secret's files.
    pub(crate) fn read(places: &Places) -> Result<Self, Fault> {
        let text = read_text(&places.config)?;
        let mut config = Self::parse(&text)?;
        if let Some(folder) = places.config.parent() {
            config.keys = read_keys(folder)?;
        }
        if let Some((name, _)) = config
            .keys
            .iter()
            .find(|(name, value)| POINTLESS.contains(&name.as_str()) && is_on(value))
        {
            return Err(Fault::new(
                api_reason::INVALID_SETTINGS,
                format!(
                    "the key {name} of the Secret lets rclone copy nothing; remove it, or set it to false"
                ),
            ));
        }
        config.environment = config
            .keys
            .iter()
            .filter(|(name, _)| is_handed_on(name))
            .cloned()
            .collect();
        Ok(config)
    }

    /// Reads the text of an `rclone.conf`.
    pub(super) fn parse(text: &str) -> Result<Self, Fault> {
        let mut config = Self {
            text: text.to_owned(),
            ..Self::default()
        };
        let mut open = None;
        for (number, line) in (1_u32..).zip(text.trim_start_matches('\u{feff}').lines()) {
            let line = line.trim();
            if let Some(end) = open {
                config.go_on_with(line);
                open = if end == CONTINUED {
                    continued(line)
                } else {
                    (!line.contains(end)).then_some(end)
                };
                continue;
            }
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if line.starts_with(ENCRYPTED) {
                config.is_encrypted = true;
                return Ok(config);
            }
            if let Some(name) = line
                .strip_prefix('[')
                .and_then(|rest| rest.strip_suffix(']'))
            {
                config.sections.push(Section {
                    name: name.trim().to_owned(),
                    entries: Vec::new(),
                });
                continue;
            }
            // The line itself may hold a secret, so only its number is told.
            let entry = line
                .split_once(['=', ':'])
                .filter(|(key, _)| !key.trim().is_empty() && !key.starts_with('['));
            let Some((key, value)) = entry else {
                return Err(unreadable(&format!(
                    "its line {number} is neither `[section]` nor `key = value`"
                )));
            };
            open = left_open(value.trim());
            if let Some(section) = config.sections.last_mut() {
                let entry = (key.trim().to_lowercase(), value.trim().to_owned());
                section.entries.push(entry);
            }
        }
        Ok(config)
    }

    /// What a section has for an option. The Secret's key for it goes before; rclone looks for the section's name as it is,
    /// in capitals.
    pub(crate) fn option(&self, section: &str, option: &str) -> Option<&str> {
        let key = format!("RCLONE_CONFIG_{section}_{option}").to_uppercase();
        let of_key = self.environment.iter().find(|(name, _)| *name == key);
        let section = self.sections.iter().find(|known| known.name == section);
        of_key
            .map(|(_, value)| value.as_str())
            .or_else(|| section?.get(option))
    }

    /// Adds a line to the value that was read last.
    fn go_on_with(&mut self, line: &str) {
        let entry = self
            .sections
            .last_mut()
            .and_then(|section| section.entries.last_mut());
        if let Some((_, value)) = entry {
            value.push('\n');
            value.push_str(line);
        }
    }

    /// Checks that the configuration knows the remote's section.
    pub(crate) fn check(&self, remote: &Remote) -> Result<(), Fault> {
        self.check_globals()?;
        let name = &remote.section;
        // rclone looks for the name as it is, in capitals.
        let variable = format!("RCLONE_CONFIG_{}_TYPE", name.to_uppercase());
        let is_in_environment = self.environment.iter().any(|(key, _)| *key == variable);
        if self.is_encrypted || is_in_environment {
            return Ok(());
        }
        let Some(section) = self.sections.iter().find(|section| section.name == *name) else {
            let mut known: Vec<&str> = self
                .sections
                .iter()
                .map(|section| section.name.as_str())
                .collect();
            known.truncate(8);
            let known = if known.is_empty() {
                "it has none".to_owned()
            } else {
                format!("it has: {}", known.join(", "))
            };
            return Err(Fault::new(
                reason::SECTION_MISSING,
                format!(
                    "rclone.conf in the Secret has no section `{name}` ({known}); add it, or correct \
                     spec.rclone.rcloneConfigSection"
                ),
            ));
        };
        if section.get("type").is_none_or(str::is_empty) {
            return Err(Fault::new(
                reason::CONFIG_INVALID,
                format!(
                    "the section `{name}` of rclone.conf in the Secret has no `type`; add the type of the store"
                ),
            ));
        }
        Ok(())
    }

    /// Refuses options of a section that hold for all that rclone does (`global.…`) where they would change what is compared,
    /// chosen or deleted: as keys of the Secret they are told from others.
    fn check_globals(&self) -> Result<(), Fault> {
        for section in &self.sections {
            for (option, _) in &section.entries {
                let Some(global) = option.trim().strip_prefix("global.") else {
                    continue;
                };
                let key = format!("RCLONE_{}", global.to_uppercase().replace('-', "_"));
                if !is_handed_on(&key) || SELECTIVE.contains(&key.as_str()) {
                    let name = &section.name;
                    return Err(Fault::new(
                        reason::CONFIG_INVALID,
                        format!(
                            "the section `{name}` of rclone.conf in the Secret has `{option}`, which would hold for all that is \
                             compared, chosen and deleted; remove it, or give the Secret the key {key} instead"
                        ),
                    ));
                }
            }
        }
        Ok(())
    }

    /// The first key that makes rclone pass over files.
    pub(crate) fn selective(&self) -> Option<&str> {
        self.environment
            .iter()
            .find(|(name, value)| SELECTIVE.contains(&name.as_str()) && !is_off(value))
            .map(|(name, _)| name.as_str())
    }

    /// Keys of the Secret that nobody heeds.
    pub(crate) fn passed_over(&self) -> impl Iterator<Item = &str> {
        let names = self.keys.iter().map(|(name, _)| name.as_str());
        names.filter(|name| {
            !is_handed_on(name) && !POINTLESS.contains(name) && !HEEDED.contains(name)
        })
    }

    /// Do the keys that choose among files do no more than that?
    pub(crate) fn only_filters(&self) -> bool {
        !self
            .environment
            .iter()
            .any(|(name, value)| MORE_THAN_FILTERS.contains(&name.as_str()) && !is_off(value))
    }

    /// The Secret's keys as a child's environment, with or without those that choose among files.
    pub(crate) fn environment_of(
        &self,
        obeys_choice: bool,
    ) -> impl Iterator<Item = (String, String)> {
        self.environment
            .iter()
            .filter(move |(name, _)| obeys_choice || !SELECTIVE.contains(&name.as_str()))
            .cloned()
    }

    /// Whether the Secret decides what the variable `name` would: by the same key, or in a section of the backend that the
    /// variable is for.
    pub(crate) fn decides(&self, name: &str) -> bool {
        let in_section = |section: &Section| {
            let kind = section.get("type").unwrap_or_default();
            let prefix = format!("RCLONE_{}_", variable_part(kind));
            name.strip_prefix(&prefix)
                .is_some_and(|option| section.get(&option.to_lowercase()).is_some())
        };
        self.environment.iter().any(|(key, _)| key == name) || self.sections.iter().any(in_section)
    }

    /// The level of log that the Secret asks for, when it is more than the usual.
    pub(crate) fn log_level(&self) -> &'static str {
        let value = |name: &str| {
            self.keys
                .iter()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.to_uppercase())
        };
        match (
            value("RCLONE_LOG_LEVEL").as_deref(),
            value("RCLONE_VERBOSE").as_deref(),
        ) {
            (Some("DEBUG"), _) | (_, Some("2" | "3")) => "DEBUG",
            (Some("INFO"), _) | (_, Some("1")) => "INFO",
            _ => "NOTICE",
        }
    }
}

/// The end of a line that goes on in the next one.
const CONTINUED: &str = "\\";

fn continued(line: &str) -> Option<&'static str> {
    line.ends_with(CONTINUED).then_some(CONTINUED)
}

/// What ends a value that begins so and goes on in the next line.
fn left_open(value: &str) -> Option<&'static str> {
    let quoted = ["\"\"\"", "`"].into_iter().find(|quote| {
        value
            .strip_prefix(quote)
            .is_some_and(|rest| !rest.contains(quote))
    });
    quoted.or_else(|| continued(value))
}

/// A kind of store as a part of rclone's variables.
fn variable_part(kind: &str) -> String {
    kind.to_uppercase().replace(['-', ' '], "_")
}

fn is_on(value: &str) -> bool {
    !is_off(value)
}

fn is_off(value: &str) -> bool {
    matches!(value.to_lowercase().as_str(), "" | "0" | "f" | "false")
}

fn is_handed_on(name: &str) -> bool {
    !OURS.contains(&name)
        && !POINTLESS.contains(&name)
        && !SIDE_DOORS.iter().any(|start| name.starts_with(start))
}

fn read_text(path: &Path) -> Result<String, Fault> {
    match std::fs::metadata(path) {
        Ok(found) if found.len() > LARGEST => return Err(unreadable("it is larger than 1 MiB")),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Fault::new(
                reason::KEY_MISSING,
                "the Secret that spec.rclone.rcloneConfig names has no key `rclone.conf`; add rclone's configuration under \
                 that name",
            ));
        }
        Err(error) => return Err(unreadable(&error.to_string())),
    }
    let bytes = std::fs::read(path).map_err(|error| unreadable(&error.to_string()))?;
    String::from_utf8(bytes).map_err(|_| unreadable("it is no text in UTF-8"))
}

/// The `RCLONE_*` keys of the Secret, which are files in `folder`.
fn read_keys(folder: &Path) -> Result<Vec<(String, String)>, Fault> {
    let listing = std::fs::read_dir(folder).map_err(|error| unreadable(&error.to_string()))?;
    let mut keys = Vec::new();
    for entry in listing {
        let entry = entry.map_err(|error| unreadable(&error.to_string()))?;
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| is_variable(name)) else {
            continue;
        };
        let failed = |error: &dyn std::fmt::Display| {
            Fault::new(
                reason::CONFIG_INVALID,
                format!("the key {name} of the Secret cannot be used: {error}"),
            )
        };
        if std::fs::metadata(entry.path()).is_ok_and(|found| found.len() > LARGEST) {
            return Err(failed(&"it is larger than 1 MiB"));
        }
        let bytes = std::fs::read(entry.path()).map_err(|error| failed(&error))?;
        let value = String::from_utf8(bytes).map_err(|_| failed(&"it is no text in UTF-8"))?;
        if value.contains('\0') {
            return Err(failed(&"it contains a zero byte"));
        }
        // A line break at the end comes from whoever made the Secret from a file.
        keys.push((
            name.to_owned(),
            value.trim_end_matches(['\r', '\n']).to_owned(),
        ));
    }
    keys.sort();
    Ok(keys)
}

fn is_variable(name: &str) -> bool {
    name.starts_with("RCLONE_")
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

fn unreadable(why: &str) -> Fault {
    Fault::new(
        reason::CONFIG_INVALID,
        format!(
            "rclone.conf in the Secret cannot be used: {why}; write it as `rclone config` does"
        ),
    )
}

#[cfg(test)]
mod tests;
