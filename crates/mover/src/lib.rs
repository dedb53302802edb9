//! The programs that run inside mover pods, their supervision and their report.
