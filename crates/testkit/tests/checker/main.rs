//! The checker of histories, held to histories written by hand.

mod broken;
mod kept;
mod lines;
mod reading;
