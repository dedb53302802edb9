//! Controllers over the real API server, in process.
