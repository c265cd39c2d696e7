//! Threads, bounded queues, buffers and cancelling: moves opaque units, knows neither pages nor sets.

pub mod cancel;
pub mod run;
pub mod sink;
pub mod write_back;

pub use cancel::Cancel;
