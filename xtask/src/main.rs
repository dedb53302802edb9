//! Tasks of the house with logic in them: CRDs, layer check.

fn main() {}
