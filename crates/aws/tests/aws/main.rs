//! AWS through the real SDK, against an emulator on loopback.

mod bed;
mod key_wrap;
mod kms;
mod output;
mod parameters;
