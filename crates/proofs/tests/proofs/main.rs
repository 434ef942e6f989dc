//! What can't be written at all, which crate may know which, and the rules of the house that no compiler holds.

mod compile;
mod floors;
mod tidy;
