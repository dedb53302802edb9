//! For tests only: fixtures, tree comparison, faults, clusters.
