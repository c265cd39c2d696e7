//! The `setpiece` command. [`app`] reads the arguments and runs one verb of [`commands`].
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod app;
mod commands;
mod console;
mod demo;
mod documents;
mod keys;
mod options;
mod output;
mod reach;
mod rows;
mod text;
mod timeline;
mod tree;
mod watch;

fn main() -> std::process::ExitCode {
    app::main(std::env::args_os().collect())
}
