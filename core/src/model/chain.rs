//! Chains of sets and the choice of a base.
