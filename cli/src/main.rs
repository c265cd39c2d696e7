//! The `setpiece` command.
fn main() {}
