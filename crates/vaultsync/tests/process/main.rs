//! The built program as a process: how it starts, serves, stops and is killed.

mod cluster;
mod kill;
mod nodes;
mod serve;
mod support;
