//! Descriptors and objects of keys.
#![no_main]

use libfuzzer_sys::fuzz_target;
use setpiece_core::format::{RepoDescriptor, SetKeys};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(descriptor) = RepoDescriptor::decode(bytes) {
        assert!(descriptor.encode().is_ok());
    }
    let _keys = SetKeys::decode(bytes);
});
