//! The metadata of a set that is not encrypted, whole; of one that is, as far as it goes without a key.
#![no_main]

use libfuzzer_sys::fuzz_target;
use setpiece_core::model::RepoId;
use setpiece_core::transform::{decode_meta, peek_keys, peek_meta, plain_descriptor};

fuzz_target!(|bytes: &[u8]| {
    let _header = peek_meta(bytes);
    let _keys = peek_keys(bytes);
    let (_, vault) = plain_descriptor(RepoId::default());
    let _meta = decode_meta(bytes, &vault, None);
});
