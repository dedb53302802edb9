//! Sending everything by rclone's own choice, where the Secret's keys choose among the files.

use std::ffi::OsStr;

use super::Source;
use super::send::Sent;
use crate::rclone::outcome::Setback;
use crate::rclone::passes;
use crate::rclone::program::Command;
use crate::report::reason;
use crate::tree::Scan;

impl Source<'_> {
    /// What VolSync's source calls, for settings of the user under which no file can be chosen by name. A marker that may lie
    /// beside the path unseen (`hides_marker`) goes first.
    pub(super) async fn sync_whole(
        &self,
        tree: &Scan,
        key: &str,
        hides_marker: bool,
    ) -> Result<Sent, Setback> {
        let (data, remote) = (&self.settings.places.data, self.rclone.remote().data());
        let features = self.rclone.features().await?;
        // What rclone passes over here it leaves there; all else that it does not find here goes.
        self.check_surplus(tree, &self.compare(tree).await?.extra, true)?;
        let remote = remote.to_string();
        let places = (data.as_os_str(), OsStr::new(&remote));
        let mut commands = vec![passes::whole("sync", places, key, features)];
        if self.rclone.has_hashless(key).await? {
            commands.push(passes::whole_by_time("sync", places, key, features));
        }
        if hides_marker {
            self.forget_hidden_marker().await;
        }
        self.has_begun.set(true);
        let mut is_unsettled = false;
        for command in commands {
            is_unsettled |= self
                .sync_once(command.expect(tree.files, tree.bytes))
                .await?;
        }
        self.send_permissions(tree, (None, false)).await?;
        Ok(Sent {
            changed: true,
            is_unsettled,
            ..Sent::default()
        })
    }

    /// Runs a transfer of everything; gives whether files changed in the middle of it.
    async fn sync_once(&self, command: Command) -> Result<bool, Setback> {
        let (stats, is_unsettled) = match self.rclone.run(command.clone(), self.console).await {
            Err(setback) if setback.fault.reason == reason::SOURCE_CHANGING => {
                self.console.say(&format!(
                    "{}: {}; files are sent as they are at some moment",
                    setback.fault.reason, setback.fault.message
                ));
                let command = passes::restless(command);
                (self.rclone.run(command, self.console).await?, true)
            }
            result => (result?, false),
        };
        *self.stats.borrow_mut() += stats;
        Ok(is_unsettled)
    }
}
