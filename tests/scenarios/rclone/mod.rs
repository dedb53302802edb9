//! The rclone mover: one source, a store, any number of destinations.

mod config;
mod contested;
mod example;
mod faults;
mod secrets;
mod servers;
mod stock;
mod versions;
mod whole;
