//! The file behind the store: two redb tables.

use std::{collections::BTreeMap, fs::File, sync::Arc};

use redb::{
    Database, ReadableDatabase as _, ReadableTable as _, StorageBackend, TableDefinition,
    backends::FileBackend,
};
use serde_json::Value;

use super::{Key, OpenError, Stored};

const OBJECTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("objects");
const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");
const REVISION: &str = "revision";

/// Every object by its key.
pub(super) type Objects = BTreeMap<Key, Arc<Stored>>;

pub(super) struct ObjectDatabase {
    database: Database,
}

impl ObjectDatabase {
    pub(super) fn from_file(file: File) -> Result<Self, OpenError> {
        Self::from_backend(FileBackend::new(file).map_err(unreadable)?)
    }

    pub(super) fn from_backend(backend: impl StorageBackend) -> Result<Self, OpenError> {
        let database = Database::builder()
            .create_with_backend(backend)
            .map_err(unreadable)?;
        Ok(Self { database })
    }

    /// The last revision given, and all objects.
    pub(super) fn load(&self) -> Result<(u64, Objects), OpenError> {
        // Opening a table in a write transaction makes it, so that the first start reads empty tables.
        let transaction = self.database.begin_write().map_err(unreadable)?;
        transaction.open_table(OBJECTS).map_err(unreadable)?;
        transaction.open_table(NUMBERS).map_err(unreadable)?;
        transaction.commit().map_err(unreadable)?;

        let transaction = self.database.begin_read().map_err(unreadable)?;
        let numbers = transaction.open_table(NUMBERS).map_err(unreadable)?;
        let revision = numbers
            .get(REVISION)
            .map_err(unreadable)?
            .map_or(1, |number| number.value());
        let mut objects = Objects::new();
        for entry in transaction
            .open_table(OBJECTS)
            .map_err(unreadable)?
            .iter()
            .map_err(unreadable)?
        {
            let (key, bytes) = entry.map_err(unreadable)?;
            let stored = read_object(key.value(), bytes.value())?;
            objects.insert(stored.key.clone(), Arc::new(stored));
        }
        Ok((revision, objects))
    }

    /// Writes all of it in one durable transaction, or nothing.
    pub(super) fn commit<'a>(
        &self,
        revision: u64,
        changes: impl Iterator<Item = (&'a Key, Option<&'a Stored>)>,
    ) -> Result<(), redb::Error> {
        let transaction = self.database.begin_write()?;
        {
            let mut objects = transaction.open_table(OBJECTS)?;
            for (key, stored) in changes {
                let key = key.to_string();
                match stored {
                    Some(stored) => {
                        objects.insert(key.as_str(), stored.object.to_string().as_bytes())?
                    }
                    None => objects.remove(key.as_str())?,
                };
            }
            transaction
                .open_table(NUMBERS)?
                .insert(REVISION, revision)?;
        }
        transaction.commit()?;
        Ok(())
    }
}

fn unreadable(error: impl std::fmt::Display) -> OpenError {
    OpenError::Database(error.to_string())
}

fn read_object(key: &str, bytes: &[u8]) -> Result<Stored, OpenError> {
    let fault = |cause: &str| OpenError::Object {
        key: key.to_owned(),
        cause: cause.to_owned(),
    };
    let object: Value = serde_json::from_slice(bytes).map_err(|error| fault(&error.to_string()))?;
    let revision = object
        .pointer("/metadata/resourceVersion")
        .and_then(Value::as_str)
        .and_then(|version| version.parse().ok())
        .ok_or_else(|| fault("it has no resourceVersion"))?;
    let mut parts = key.splitn(4, '/');
    let (Some(group), Some(plural), Some(namespace), Some(name)) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(fault("its key has not four parts"));
    };
    Ok(Stored {
        key: Key::new(group, plural, namespace, name),
        revision,
        object,
    })
}
