//! The binary as a process: start, service, stop and `kill -9`.

mod cluster;
mod kill;
mod nodes;
mod serve;
mod support;
