//! Writes an object of the given number of MiB into a directory, in writes of 1 MiB, through the plugin's table, and
//! says how long it took: `cargo run --release -p setpiece-media-disk --example write -- DIR 1024`.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::time::Instant;

use setpiece_sbt_abi::host::{OpenParams, Plugin};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(dir), Some(count)) = (args.next(), args.next()) else {
        return Err("usage: write DIR MIB".into());
    };
    let count: u32 = count.parse()?;
    let plugin = Plugin::from_static(&setpiece_media_disk::PLUGIN)?;
    let session = plugin.open(&OpenParams { location: &dir, ..OpenParams::default() })?;
    let bytes = vec![0x5a_u8; 1 << 20];
    let begin = Instant::now();
    let mut writer = session.create("measured/object")?;
    for _ in 0..count {
        writer.write(&bytes)?;
    }
    let written = begin.elapsed();
    let (_, mut session) = writer.finish()?;
    let all = begin.elapsed();
    let rate = f64::from(count) / all.as_secs_f64();
    println!("{rate:.0} MiB/s, {:.3} s, of which finish {:.3} s", all.as_secs_f64(), (all - written).as_secs_f64());
    session.remove("measured/object")?;
    Ok(())
}
