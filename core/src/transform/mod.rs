//! One frame in, one frame out: compress, seal, check; and the keys that this takes.
//!
//! Nothing here does I/O or starts a thread. Writers and readers own their compression contexts and ciphers and can be
//! moved between threads.

pub mod aead;
pub mod codec;
pub mod derive;
pub mod descriptor;
pub mod emit;
pub mod hash;
pub mod indexer;
pub mod meta;
pub mod parts;
pub mod reader;
pub mod rekey;
pub mod seal;
pub mod secret;
pub mod vault;
pub mod wrap;
pub mod writer;

pub use descriptor::SlotRequest;
pub use hash::page_hash;
pub use meta::{OpenedMeta, decode_meta, encode_meta, peek_keys, peek_meta};
pub use parts::PackedPart;
pub use reader::{FrameContent, PieceReader, WholeUnit, Workbench};
pub use rekey::{add_slot, dropped_by, new_descriptor, plain_descriptor, remove_slot, rotate};
pub use secret::{DataKey, Identity, KeyFile, Passphrase, Recipient, Secret};
pub use vault::Vault;
pub use writer::{PieceSpec, PieceWriter};
