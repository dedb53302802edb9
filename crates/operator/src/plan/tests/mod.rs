//! Plans, tried on a model of the cluster: what a plan says is done to the model, the model's controllers answer, and the
//! next plan is made. Each step checks the laws that no plan may break.

#![expect(
    clippy::needless_pass_by_value,
    reason = "`json!` at the place of the call reads best by value"
)]

mod block;
mod complaints;
mod crowd;
mod destination;
mod early;
mod faults;
mod job;
mod measures;
mod model;
mod pods;
mod properties;
mod pull;
mod rclone;
mod rclone_corrected;
mod rclone_faults;
mod rclone_place;
mod rclone_waits;
mod retries;
mod source;
mod stuck;
mod trigger;
mod volsync;
