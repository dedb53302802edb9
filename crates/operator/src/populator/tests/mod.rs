//! Plans, checked against a model of a cluster: it applies them, interrupts them after any write, and does by itself what
//! Kubernetes' own controllers do.

mod cases;
mod model;
mod properties;
