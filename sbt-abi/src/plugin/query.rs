//! The entry symbol of a plugin library.

use crate::raw;
use crate::types::Table;

/// Exports a table as the entry symbol `setpiece_sbt_query`. Once in a cdylib that contains nothing else: in an rlib the
/// symbols of two plugins would collide.
#[macro_export]
macro_rules! export_plugin {
    ($table:path) => {
        /// The entry point of this plugin, called by hosts that load it.
        ///
        /// # Safety
        /// `out` is null or points to a place for the address of the table.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn setpiece_sbt_query(
            host_major: u32,
            host_minor: u32,
            out: *mut *const $crate::raw::sbt_plugin,
        ) -> i32 {
            static TABLE: &$crate::Table = &$table;
            // SAFETY: the host passes what the header asks for.
            unsafe { $crate::plugin::answer_query(TABLE, host_major, host_minor, out) }
        }
    };
}

/// Answers the entry call: the table in any case, so that a host of another version can name ours, and whether the
/// versions fit.
///
/// # Safety
/// `out` is null or points to a place for the address of the table.
pub unsafe fn answer_query(
    table: &'static Table,
    host_major: u32,
    host_minor: u32,
    out: *mut *const raw::sbt_plugin,
) -> i32 {
    if out.is_null() {
        return raw::SBT_ERR_USAGE;
    }
    // SAFETY: the caller says so.
    unsafe { *out = table.raw() };
    let fits = host_major == u32::from(raw::SBT_ABI_MAJOR) && host_minor == u32::from(raw::SBT_ABI_MINOR);
    if fits { raw::SBT_OK } else { raw::SBT_ERR_ABI }
}
