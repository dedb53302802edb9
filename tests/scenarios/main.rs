//! What the product does, in sentences. Each scenario has namespaces of its own on some cluster; most share one.

mod bad_input;
mod commands;
mod copy_methods;
mod failover;
mod faults;
mod flow;
mod keys;
mod lifecycle;
mod parts;
mod triggers;
