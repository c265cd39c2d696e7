//! One frame in, one frame out: compress, seal, check; and the keys that this takes.
//!
//! Nothing here does I/O or starts a thread. Writers and readers own their compression contexts and ciphers and can be
//! moved between threads.

pub mod aead;
pub mod codec;
pub mod derive;
pub mod hash;
pub mod meta;
pub mod opener;
pub mod reader;
pub mod secret;
pub mod vault;
pub mod wrap;
pub mod writer;

pub use hash::page_hash;
pub use meta::{OpenedMeta, decode_meta, encode_meta, peek_keys, peek_meta};
pub use reader::{FrameContent, PieceReader, WholeUnit};
pub use secret::{DataKey, Identity, KeyFile, Passphrase, Recipient, Secret};
pub use vault::{SlotRequest, Vault, add_slot, new_descriptor, remove_slot, rotate};
pub use writer::{PieceSpec, PieceWriter};
