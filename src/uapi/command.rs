//! The commands of the family, by their numbers: [`enum` in `ip_vs.h`][ip_vs.h].
//!
//! [ip_vs.h]: https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/ip_vs.h
#![allow(missing_docs)] // The names are the kernel's own.

/// Writes the commands once: an enum, and the list of all by their numbers.
macro_rules! commands {
    ($($name:ident)*) => {
        /// The family's commands.
        ///
        /// The answer to a `Get…` carries the number of the command that sets the same thing;
        /// [`SetInfo`](Self::SetInfo) is an answer only.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        #[non_exhaustive]
        pub enum Command {
            $($name),*
        }

        impl Command {
            /// All commands, by their numbers, which begin at 1.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];
        }
    };
}

commands! {
    NewService SetService DelService GetService
    NewDest SetDest DelDest GetDest
    NewDaemon DelDaemon GetDaemon
    SetConfig GetConfig SetInfo GetInfo
    Zero Flush
}

impl Command {
    /// The command's number.
    pub const fn number(self) -> u8 {
        self as u8 + 1
    }

    /// The command with this number, if the family has one.
    #[inline]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number).checked_sub(1)?).copied()
    }
}
