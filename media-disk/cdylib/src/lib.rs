//! The disk medium as a library that hosts load: `libsbt_disk.so`. Nothing but the entry symbol.

setpiece_sbt_abi::export_plugin!(setpiece_media_disk::PLUGIN);
