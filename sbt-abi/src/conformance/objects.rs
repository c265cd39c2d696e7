//! Objects: what is written comes back, whatever its length and whatever the portions.

use super::bench::{Bench, content, expect, get, put, same};
use super::{CheckFn, Verdict, ensure};

pub(super) const CHECKS: &[(&str, CheckFn)] = &[
    ("an object of 0 bytes comes back", |bench| round_trip(bench, 0)),
    ("an object of 1 byte comes back", |bench| round_trip(bench, 1)),
    ("an object of 70,001 bytes comes back", |bench| round_trip(bench, 70_001)),
    ("an object of 9 MiB and 3 bytes comes back", |bench| round_trip(bench, (9 << 20) + 3)),
    ("portions of odd lengths are put together", odd_portions),
    ("portions of odd lengths are read", odd_reads),
    ("reading begins at the offset asked for", offsets),
    ("the end of an object stays the end", end_stays),
    ("info tells the length, and a time that can be", info),
    ("an object that is removed while it is read does not turn into another", removed_while_read),
];

fn round_trip(bench: &Bench<'_>, len: usize) -> Verdict {
    let name = bench.name(&format!("trip/{len}"));
    let session = put(bench.session()?, &name, len)?;
    expect(session, &name, len)?.close()?;
    Ok(())
}

fn odd_portions(bench: &Bench<'_>) -> Verdict {
    let name = bench.name("portions");
    let bytes = content(&name, 300_007);
    let mut writer = bench.session()?.create(&name)?;
    let mut rest = bytes.as_slice();
    for len in [1, 0, 2, 3, 511, 512, 513, 4095, 65_537].into_iter().cycle() {
        let (portion, behind) = rest.split_at(len.min(rest.len()));
        writer.write(portion)?;
        rest = behind;
        if rest.is_empty() {
            break;
        }
    }
    let (_, session) = writer.finish()?;
    expect(session, &name, bytes.len())?;
    Ok(())
}

fn odd_reads(bench: &Bench<'_>) -> Verdict {
    let name = bench.name("reads");
    let mut session = put(bench.session()?, &name, 10_007)?;
    for portion in [1, 7, 511, 4096, 1 << 20] {
        let (found, back) = get(session, &name, 0, portion)?;
        same(&name, &found, &content(&name, 10_007))?;
        session = back;
    }
    Ok(())
}

fn offsets(bench: &Bench<'_>) -> Verdict {
    let (name, len) = (bench.name("offsets"), 100_003_usize);
    let bytes = content(&name, len);
    let mut session = put(bench.session()?, &name, len)?;
    for offset in [1, 4095, 4096, 65_537, len - 1, len, len + 1, len + 100_000] {
        let (found, back) = get(session, &name, offset as u64, 9999)?;
        same(&format!("{name} from {offset} on"), &found, bytes.get(offset..).unwrap_or_default())?;
        session = back;
    }
    let (found, _) = get(session, &name, u64::MAX, 1)?;
    same(&format!("{name} from the largest offset on"), &found, &[])
}

fn end_stays(bench: &Bench<'_>) -> Verdict {
    let name = bench.name("end");
    let session = put(bench.session()?, &name, 5)?;
    let mut reader = session.open_at(&name, 0)?;
    let mut room = [0u8; 64];
    let mut read = 0;
    for _ in 0..8 {
        read += reader.read(&mut room)?;
    }
    ensure(read == 5, || format!("{read} bytes came out of an object of 5"))
}

fn info(bench: &Bench<'_>) -> Verdict {
    /// 2000-01-01 and 2200-01-01: clocks may be wrong, units may not.
    const BELIEVABLE: std::ops::Range<i64> = 946_684_800_000_000..7_258_118_400_000_000;
    let name = bench.name("info");
    let mut session = put(bench.session()?, &name, 12_345)?;
    let (first, second) = (session.info(&name)?, session.info(&name)?);
    ensure(first.len == 12_345, || format!("it says {} bytes of 12345", first.len))?;
    ensure(first == second, || format!("it says {first:?} and then {second:?} of an object that never changes"))?;
    let fine = first.created_us.is_none_or(|at| BELIEVABLE.contains(&at));
    ensure(fine, || format!("it was finished at {:?} microseconds, which cannot be", first.created_us))
}

fn removed_while_read(bench: &Bench<'_>) -> Verdict {
    bench.need_several()?;
    let (name, len) = (bench.name("vanishes"), 3 << 20);
    let bytes = content(&name, len);
    let session = put(bench.session()?, &name, len)?;
    let mut reader = session.open_at(&name, 0)?;
    let mut part = vec![0u8; 1 << 20];
    let mut found = Vec::new();
    let mut removed = false;
    // An error is as good as the bytes; an early end or other bytes are not.
    while let Ok(got) = reader.read(&mut part) {
        if got == 0 {
            return same(&name, &found, &bytes);
        }
        found.extend_from_slice(part.get(..got).unwrap_or_default());
        if !removed {
            bench.session()?.remove(&name)?;
            removed = true;
        }
    }
    same(&name, &found, bytes.get(..found.len()).unwrap_or_default())
}
