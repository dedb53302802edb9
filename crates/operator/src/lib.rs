//! The operator: observe, validate, plan, apply, status.
