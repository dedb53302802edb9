//! OpenAPI documents of the kinds served.
