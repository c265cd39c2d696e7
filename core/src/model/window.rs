//! Windows: where recovery is possible without a gap.
