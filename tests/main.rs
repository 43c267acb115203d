//! What the whole workspace promises, tested from outside: the program is run on real files, and what it leaves behind is
//! read by other programs.
#![expect(clippy::disallowed_methods, reason = "tests look at what the program left behind")]

mod cli;
mod fixtures;
mod gaps;
mod helpers;
mod kill;
mod lerobot;
mod outputs;
mod values;
