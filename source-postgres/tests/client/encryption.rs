//! Placeholder until later.
