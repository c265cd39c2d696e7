//! The error codes of the ABI as an enum, made from the numbers in [`crate::raw`].

use crate::raw;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:ident, $text:literal;)*) => {
        /// What kind of failure it is. The numbers are the ABI's and never change their meaning.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            /// Every code, in the order of the table.
            pub const ALL: &'static [Code] = &[$(Code::$name,)*];

            /// The number in the ABI.
            #[must_use]
            pub const fn number(self) -> i32 { match self { $(Code::$name => raw::$number,)* } }

            /// The code of a number; `None` when the table has no such number.
            #[must_use]
            pub const fn from_number(number: i32) -> Option<Code> {
                match number { $(raw::$number => Some(Code::$name),)* _ => None }
            }

            /// A few words for messages.
            #[must_use]
            pub const fn text(self) -> &'static str { match self { $(Code::$name => $text,)* } }
        }
    };
}

codes! {
    /// Wrong argument, wrong order of calls, unknown parameter.
    Usage = SBT_ERR_USAGE, "wrong use";
    /// There is no such object or place.
    NotFound = SBT_ERR_NOT_FOUND, "not found";
    /// There is an object of that name.
    Exists = SBT_ERR_EXISTS, "exists already";
    /// No room.
    Full = SBT_ERR_FULL, "no room";
    /// The device or the operating system failed.
    Io = SBT_ERR_IO, "input or output failed";
    /// Not permitted.
    Access = SBT_ERR_ACCESS, "not permitted";
    /// Another one holds the lock.
    Locked = SBT_ERR_LOCKED, "locked";
    /// The plugin does not do that.
    Unsupported = SBT_ERR_UNSUPPORTED, "not supported";
    /// Protected against removal.
    Retention = SBT_ERR_RETENTION, "protected against removal";
    /// What was stored is damaged.
    Damaged = SBT_ERR_DAMAGED, "damaged";
    /// The device or the server does not answer.
    Unreachable = SBT_ERR_UNREACHABLE, "does not answer";
    /// A human must do something first.
    Operator = SBT_ERR_OPERATOR, "needs an operator";
    /// The caller's callback asked to stop.
    Stopped = SBT_ERR_STOPPED, "stopped by the caller";
    /// An earlier call on the handle failed.
    Poisoned = SBT_ERR_POISONED, "an earlier call failed";
    /// The plugin panicked.
    Panic = SBT_ERR_PANIC, "panicked";
    /// Host and plugin are of different versions of the ABI.
    Abi = SBT_ERR_ABI, "other version of the interface";
    /// A defect in the plugin.
    Internal = SBT_ERR_INTERNAL, "defect";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_down_from_minus_one_and_come_back() {
        for (index, code) in Code::ALL.iter().enumerate() {
            let number = -(i32::try_from(index).unwrap_or(i32::MAX)) - 1;
            assert_eq!((code.number(), Code::from_number(number)), (number, Some(*code)));
        }
        assert_eq!(Code::from_number(0), None);
        assert_eq!(Code::from_number(-18), None);
    }
}
