//! Directories as volumes: create, snapshot, clone, restore; says of each copy how consistent it is.
