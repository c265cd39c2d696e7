//! Descriptors and objects of keys, and their records without what is around them, for hardly any random bytes have right
//! checksums.
#![no_main]

use libfuzzer_sys::fuzz_target;
use setpiece_core::format::envelope::{Envelope, KEYS_MAGIC, REPO_MAGIC};
use setpiece_core::format::{RepoDescriptor, SetKeys};
use setpiece_core::model::Uuid;
use setpiece_core::transform::Vault;

fuzz_target!(|bytes: &[u8]| {
    check(bytes, bytes);
    let Some((id, rest)) = bytes.split_first_chunk::<16>() else { return };
    let Some((generation, body)) = rest.split_first_chunk::<4>() else { return };
    let envelope = Envelope { id: Uuid(*id), generation: u32::from_le_bytes(*generation), body };
    if let (Ok(descriptor), Ok(keys)) = (envelope.encode(&REPO_MAGIC), envelope.encode(&KEYS_MAGIC)) {
        check(&descriptor, &keys);
    }
});

fn check(descriptor: &[u8], keys: &[u8]) {
    let keys = SetKeys::decode(keys);
    if let Ok(keys) = &keys {
        let object = keys.encode().expect("what is valid can be written");
        assert!(SetKeys::decode(&object).expect("what was written can be read") == *keys);
    }
    let Ok(descriptor) = RepoDescriptor::decode(descriptor) else { return };
    let object = descriptor.encode().expect("what is valid can be written");
    assert!(RepoDescriptor::decode(&object).expect("what was written can be read") == descriptor);
    if let (Ok(vault), Ok(keys)) = (Vault::open(&descriptor, &[]), &keys) {
        let _key = vault.open_set(keys.set, keys);
    }
}
