//! All scenarios, one file each.

mod clock_steps;
mod cluster;
mod descriptors;
mod drain_delay;
mod kill_nodes;
mod kill_sqlite;
mod log_sinks;
mod lost_responses;
mod network_cut;
mod noisy_neighbour;
mod overload;
mod postgres_disk_full;
mod rolling_upgrade;
mod short_stall;
mod slow_clients;
mod slow_uplink;
mod soak;
mod sqlite_disk_full;
mod sqlite_file;
mod sqlite_io_errors;
mod sqlite_reader;
mod table_locked;
mod upgrade;
mod vanished_peer;

use crate::Scenario;

/// Every scenario, in the order in which they are run.
pub const ALL: &[Scenario] = &[
    sqlite_io_errors::SCENARIO,
    sqlite_disk_full::SCENARIO,
    sqlite_file::DELETED,
    sqlite_file::REPLACED,
    sqlite_file::LOG_DELETED,
    sqlite_file::DAMAGED,
    sqlite_reader::SCENARIO,
    postgres_disk_full::SCENARIO,
    kill_sqlite::SCENARIO,
    kill_nodes::NODES,
    kill_nodes::POSTGRES,
    cluster::ON_POSTGRES,
    cluster::ON_SQLITE,
    network_cut::SCENARIO,
    table_locked::SCENARIO,
    lost_responses::SCENARIO,
    clock_steps::SCENARIO,
    rolling_upgrade::SCENARIO,
    upgrade::ON_POSTGRES,
    upgrade::ON_SQLITE,
    drain_delay::SCENARIO,
    log_sinks::SCENARIO,
    descriptors::SCENARIO,
    overload::ON_POSTGRES,
    overload::ON_SQLITE,
    short_stall::ON_POSTGRES,
    short_stall::ON_SQLITE,
    noisy_neighbour::SCENARIO,
    slow_clients::SCENARIO,
    slow_uplink::SCENARIO,
    vanished_peer::SCENARIO,
    soak::SCENARIO,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::named;

    #[test]
    fn every_scenario_has_a_unique_name_by_which_it_is_found() {
        for all in [ALL, crate::deployments::ALL] {
            for scenario in all {
                let found = named(all, &[scenario.name.to_owned()]).expect("it exists");
                assert_eq!(found[0].shows, scenario.shows);
            }
            assert!(named(all, &["no-such".to_owned()]).is_err());
        }
    }
}
