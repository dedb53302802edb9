//! The store: objects, revisions and their history in an embedded database.
