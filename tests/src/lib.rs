//! What the product does, in sentences, run against a cluster.
