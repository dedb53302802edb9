//! Cron (robfig v3 semantics) and triggers: when is the next run due. Pure.
