//! To be filled by the first slice.
