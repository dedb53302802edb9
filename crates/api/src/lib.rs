//! Syncline's API: custom resources, status, conditions, labels, derived names and the movers' report. Data and pure functions only.
