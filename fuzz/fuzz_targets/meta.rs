//! The metadata of a set that is not encrypted, whole; of one that is, as far as it goes without a key; and its record
//! without what is around it, for hardly any random bytes have right checksums.
#![no_main]

use libfuzzer_sys::fuzz_target;
use setpiece_core::format::{SetMeta, cbor};
use setpiece_core::model::RepoId;
use setpiece_core::transform::{decode_meta, encode_meta, peek_keys, peek_meta, plain_descriptor};

fuzz_target!(|bytes: &[u8]| {
    let _header = peek_meta(bytes);
    let _keys = peek_keys(bytes);
    let (_, vault) = plain_descriptor(RepoId::default());
    let _meta = decode_meta(bytes, &vault, None);
    let Ok(meta) = cbor::from_slice::<SetMeta>(bytes, "metadata") else { return };
    if meta.validate().is_ok() {
        let object = encode_meta(&meta, None).expect("what is valid can be written");
        assert!(decode_meta(&object, &vault, None).expect("what was written can be read").meta == meta);
    }
});
