//! The rclone mover with the real rclone: sources, destinations, and what may happen between them.

mod cloud;
mod faults;
mod interleaved;
mod marker;
mod notes;
mod pages;
mod restless;
mod rights;
mod servers;
mod shared;
mod shop;
mod sources;
mod stage;
mod stock;
mod whole;
