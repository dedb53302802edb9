//! What the product does, in sentences.
