//! Tests of the history checker with short histories written by hand.

mod builder;
mod malformed;
mod valid;
mod vaults;
mod violations;
