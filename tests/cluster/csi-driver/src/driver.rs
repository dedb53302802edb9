//! What all services share: volumes, records, faults; and the way every call takes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use syncline_volumes::{Options, Volumes};
use tonic::{Code, Response, Status};

use crate::busy::Busy;
use crate::error::Fault;
use crate::faults::{Effects, Faults, Subject};
use crate::records::{self, Kind, Record as _, Records};
use crate::{loops, server};

/// The driver's name, as storage classes and the kubelet know it.
pub(crate) const NAME: &str = "csi.test.syncline.dev";
/// The key of a node's name in topologies.
pub(crate) const TOPOLOGY: &str = "topology.csi.test.syncline.dev/node";

/// The state of the driver; all of it but what is under way now lies on disk.
pub(crate) struct Driver {
    pub(crate) volumes: Volumes,
    pub(crate) records: Records,
    pub(crate) faults: Faults,
    pub(crate) node: String,
    /// What marks the loop devices of this data folder.
    pub(crate) label: String,
    busy: Busy,
}

/// One call, for the faults, the log, and the lock.
pub(crate) struct Call {
    /// As CSI names it.
    pub(crate) name: &'static str,
    pub(crate) subject: Subject,
    /// What no other call may work on meanwhile.
    pub(crate) key: String,
}

impl Driver {
    /// Opens the data folder and clears away what an interrupted call left.
    pub(crate) fn open(data: &Path, node: String, faults: Option<PathBuf>) -> Result<Self, Fault> {
        let options = Options {
            // The cluster's folder goes with the cluster, and waiting for the disk would only slow tests down.
            durable: false,
            ..Options::default()
        };
        let driver = Self {
            volumes: Volumes::open_with(data, options)?,
            records: Records::open(&data.join("records"))?,
            faults: Faults::new(faults),
            node,
            label: loops::label(data),
            busy: Busy::default(),
        };
        driver.sweep()?;
        Ok(driver)
    }

    /// Removes data without a record: nobody was told of it, or it is being deleted.
    fn sweep(&self) -> Result<(), Fault> {
        for id in self.volumes.volumes()? {
            if self.records.find::<records::Volume>(&id)?.is_none() {
                server::say(&format!("removing the volume {id}, which has no record"));
                self.volumes.delete(&id)?;
            }
        }
        for id in self.volumes.images()? {
            if self.records.find::<records::Snapshot>(&id)?.is_none() {
                server::say(&format!("removing the snapshot {id}, which has no record"));
                self.volumes.delete_image(&id)?;
            }
        }
        Ok(())
    }

    /// A volume that must exist.
    pub(crate) fn volume(&self, id: &str) -> Result<records::Volume, Fault> {
        if id.is_empty() {
            return Err(Fault::Invalid("the volume id is missing".to_owned()));
        }
        let found = self.records.find(id)?;
        found.ok_or_else(|| Fault::missing("volume", id))
    }

    /// A snapshot that must exist.
    pub(crate) fn snapshot(&self, id: &str) -> Result<records::Snapshot, Fault> {
        let found = self.records.find(id)?;
        found.ok_or_else(|| Fault::missing("snapshot", id))
    }

    /// Where a volume's data lies.
    pub(crate) fn place(&self, volume: &records::Volume) -> PathBuf {
        match volume.kind {
            Kind::Directory => self.volumes.volume_path(volume.id()),
            Kind::Disk => self.volumes.disk_path(volume.id()),
        }
    }

    /// A call about a volume that may or may not exist.
    pub(crate) fn about_volume(&self, name: &'static str, id: &str) -> Call {
        let known = self.records.find::<records::Volume>(id).ok().flatten();
        Call {
            name,
            subject: Subject {
                owner: known.map(|volume| volume.owner).unwrap_or_default(),
                id: id.to_owned(),
            },
            key: format!("volume {id}"),
        }
    }

    /// Does what a call asks for: meets the faults, locks the object, works on a thread that may block. The work goes
    /// on when the caller gives up, and the object stays locked until then.
    pub(crate) async fn run<T, Work>(
        self: &Arc<Self>,
        call: Call,
        work: Work,
    ) -> Result<Response<T>, Status>
    where
        T: Send + 'static,
        Work: FnOnce(&Self, Effects) -> Result<T, Fault> + Send + 'static,
    {
        let start = Instant::now();
        let driver = Arc::clone(self);
        let outcome = async {
            let effects = self.faults.meet(call.name, &call.subject).await?;
            let key = call.key.clone();
            let done = tokio::task::spawn_blocking(move || {
                let _held = driver.busy.take(&key)?;
                work(&driver, effects)
            });
            done.await.unwrap_or_else(|error| {
                Err(Fault::Injected(Status::internal(format!(
                    "the driver is at fault: {error}"
                ))))
            })
        }
        .await
        .map_err(Status::from);
        let code = outcome.as_ref().err().map_or(Code::Ok, Status::code);
        let detail = outcome.as_ref().err().map_or("", Status::message);
        server::say(&format!(
            "{} {} {code:?} {} ms {detail}",
            call.name,
            call.key,
            start.elapsed().as_millis()
        ));
        outcome.map(Response::new)
    }
}
