//! The API server: one tower service over a store and a clock.
