//! Status: what both kinds' status have in common, and the patch that takes the old one to the new one.
//!
//! A status is written as a JSON merge patch with the resource version as its precondition, not by server-side apply:
//! after a takeover from `VolSync` its field manager co-owns the fields, so that an apply could not remove
//! `lastSyncStartTime`, and the run would never end.

mod memory;
mod patch;
#[cfg(test)]
mod tests;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::TypedLocalObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde::{Deserialize, Serialize};
use syncline_api::names::Mover;
use syncline_api::status::{
    MoverStatus, Progress, RcloneDestinationStatus, RcloneSourceStatus, Retry,
    RsyncDestinationStatus, RsyncSourceStatus,
};
use syncline_api::{GoDuration, ReplicationDestinationStatus, ReplicationSourceStatus};

pub use memory::{MEMORY, Memory, Writing, correction, writing};
pub use patch::{difference, document};

/// Either kind's status, as far as the operator reads and writes it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// When the last successful run ended.
    pub last_sync_time: Option<Timestamp>,
    /// When the running one began; none runs without it.
    pub last_sync_start_time: Option<Timestamp>,
    /// How long the last successful run took.
    pub last_sync_duration: Option<GoDuration>,
    /// When the next scheduled run is due.
    pub next_sync_time: Option<Timestamp>,
    /// The last manual tag that a run ended for.
    pub last_manual_sync: Option<String>,
    /// How the latest mover ended.
    pub latest_mover_status: Option<MoverStatus>,
    /// The newest complete copy, at a destination.
    pub latest_image: Option<TypedLocalObjectReference>,
    /// `Synchronizing` and `Reconciled`.
    pub conditions: Vec<Condition>,
    /// How far the running transfer has come.
    pub progress: Option<Progress>,
    /// Failures in a row, and the next attempt.
    pub retry: Option<Retry>,
    /// The rsync mover's own part.
    pub rsync: Option<RsyncState>,
    /// The rclone mover's own part.
    pub rclone: Option<RcloneState>,
}

/// The rsync mover's part of either kind's status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RsyncState {
    /// The Secret for the other side.
    pub ssh_keys: Option<String>,
    /// Where the other side connects to.
    pub address: Option<String>,
    /// The port of it.
    pub port: Option<i32>,
    /// Entries of the source at its last successful run.
    pub last_synced_entries: Option<i64>,
    /// The allowance for an empty source that was used up last.
    pub allowed_empty_source: Option<String>,
}

/// The rclone mover's part of either kind's status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RcloneState {
    /// The version of the data that the last successful run ended with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<String>,
    /// Which volume that was in, as a checksum.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume: Option<String>,
    /// Entries of the source at its last successful run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_synced_entries: Option<i64>,
    /// The allowance for an empty source that was used up last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_empty_source: Option<String>,
    /// The word to take a path over that was used up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub took_over: Option<String>,
    /// The last successful run of the source was not let see whose its path is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blind: Option<bool>,
    /// Successful runs since everything was last compared with the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runs_since_full_check: Option<i32>,
    /// The versions of the configuration that the last failed run was made with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tried_with: Option<String>,
}

/// Takes the fields that both kinds have under the same name from one struct to the other.
macro_rules! common_fields {
    (read $status:expr) => {
        State {
            last_sync_time: $status.last_sync_time.as_ref().map(|time| time.0),
            last_sync_start_time: $status.last_sync_start_time.as_ref().map(|time| time.0),
            last_sync_duration: $status.last_sync_duration.clone(),
            next_sync_time: $status.next_sync_time.as_ref().map(|time| time.0),
            last_manual_sync: $status.last_manual_sync.clone(),
            latest_mover_status: $status.latest_mover_status.clone(),
            latest_image: None,
            conditions: $status.conditions.clone(),
            progress: $status.progress.clone(),
            retry: $status.retry.clone(),
            rsync: None,
            rclone: None,
        }
    };
    (write $state:expr, $status:expr) => {
        $status.last_sync_time = $state.last_sync_time.map(Time);
        $status.last_sync_start_time = $state.last_sync_start_time.map(Time);
        $status.last_sync_duration = $state.last_sync_duration.clone();
        $status.next_sync_time = $state.next_sync_time.map(Time);
        $status.last_manual_sync = $state.last_manual_sync.clone();
        $status.latest_mover_status = $state.latest_mover_status.clone();
        $status.conditions = $state.conditions.clone();
        $status.progress = $state.progress.clone();
        $status.retry = $state.retry.clone();
    };
}

impl State {
    /// Reads a source's status.
    pub fn of_source(status: &ReplicationSourceStatus) -> Self {
        let rsync = status.rsync.as_ref().map(|rsync| RsyncState {
            ssh_keys: rsync.ssh_keys.clone(),
            address: rsync.address.clone(),
            port: rsync.port,
            last_synced_entries: rsync.last_synced_entries,
            allowed_empty_source: rsync.allowed_empty_source.clone(),
        });
        let rclone = status.rclone.as_ref().map(|rclone| RcloneState {
            generation: rclone.generation.clone(),
            volume: rclone.volume.clone(),
            last_synced_entries: rclone.last_synced_entries,
            allowed_empty_source: rclone.allowed_empty_source.clone(),
            took_over: rclone.took_over.clone(),
            blind: rclone.blind,
            runs_since_full_check: rclone.runs_since_full_check,
            tried_with: rclone.tried_with.clone(),
        });
        Self {
            rsync,
            rclone,
            ..common_fields!(read status)
        }
    }

    /// Reads a destination's status.
    pub fn of_destination(status: &ReplicationDestinationStatus) -> Self {
        let rsync = status.rsync.as_ref().map(|rsync| RsyncState {
            ssh_keys: rsync.ssh_keys.clone(),
            address: rsync.address.clone(),
            port: rsync.port,
            ..RsyncState::default()
        });
        let rclone = status.rclone.as_ref().map(|rclone| RcloneState {
            generation: rclone.generation.clone(),
            volume: rclone.volume.clone(),
            tried_with: rclone.tried_with.clone(),
            ..RcloneState::default()
        });
        Self {
            rsync,
            rclone,
            latest_image: status.latest_image.clone(),
            ..common_fields!(read status)
        }
    }

    /// Writes itself over a source's status; fields it knows nothing of stay.
    pub fn write_source(&self, status: &mut ReplicationSourceStatus) {
        common_fields!(write self, status);
        status.rsync = self.rsync.clone().map(|rsync| RsyncSourceStatus {
            ssh_keys: rsync.ssh_keys,
            address: rsync.address,
            port: rsync.port,
            last_synced_entries: rsync.last_synced_entries,
            allowed_empty_source: rsync.allowed_empty_source,
        });
        status.rclone = self.rclone.clone().map(|rclone| RcloneSourceStatus {
            generation: rclone.generation,
            volume: rclone.volume,
            last_synced_entries: rclone.last_synced_entries,
            allowed_empty_source: rclone.allowed_empty_source,
            took_over: rclone.took_over,
            blind: rclone.blind,
            runs_since_full_check: rclone.runs_since_full_check,
            tried_with: rclone.tried_with,
        });
    }

    /// Writes itself over a destination's status; fields it knows nothing of stay.
    pub fn write_destination(&self, status: &mut ReplicationDestinationStatus) {
        common_fields!(write self, status);
        status.latest_image.clone_from(&self.latest_image);
        status.rsync = self.rsync.clone().map(|rsync| RsyncDestinationStatus {
            ssh_keys: rsync.ssh_keys,
            address: rsync.address,
            port: rsync.port,
        });
        status.rclone = self.rclone.clone().map(|rclone| RcloneDestinationStatus {
            generation: rclone.generation,
            volume: rclone.volume,
            tried_with: rclone.tried_with,
        });
    }

    /// Entries of the source at its last successful run with this mover.
    pub fn last_synced_entries(&self, mover: Mover) -> Option<i64> {
        match mover {
            Mover::Rclone => self.rclone.as_ref()?.last_synced_entries,
            _ => self.rsync.as_ref()?.last_synced_entries,
        }
    }

    /// The allowance for an empty source that was used up last with this mover.
    pub fn allowed_empty_source(&self, mover: Mover) -> Option<&String> {
        match mover {
            Mover::Rclone => self.rclone.as_ref()?.allowed_empty_source.as_ref(),
            _ => self.rsync.as_ref()?.allowed_empty_source.as_ref(),
        }
    }

    /// The condition of type `kind`.
    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        self.conditions
            .iter()
            .find(|condition| condition.type_ == kind)
    }

    /// How many times in a row a run has failed, and why it did the last time, if that still says something.
    pub fn failed_before(&self) -> Option<(u32, &str)> {
        let cause = self.retry.as_ref()?.cause.as_deref()?;
        Some((self.failures(), cause)).filter(|(failures, _)| *failures > 0)
    }

    /// How many times in a row a run has failed.
    pub fn failures(&self) -> u32 {
        self.retry
            .as_ref()
            .and_then(|retry| retry.failures)
            .and_then(|count| u32::try_from(count).ok())
            .unwrap_or(0)
    }
}
