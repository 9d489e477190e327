//! Invariants of every state, and the final state that must be reachable.

use std::collections::BTreeSet;

use stateright::Property;

use crate::{
    push::Protocol,
    state::{Stage, State, Writer},
};

pub(crate) const ACKNOWLEDGED_IS_DURABLE: &str = "an acknowledged write is stored or superseded";
pub(crate) const EACH_VERSION_IS_ONE_WRITE: &str = "no version is acknowledged for two writes";
pub(crate) const NO_UPDATE_IS_LOST: &str = "a record's version counts its writes";
pub(crate) const NO_READER_SKIPS: &str = "a reader has every record up to its cursor";
pub(crate) const TIMES_ARE_UNIQUE: &str = "no two records share a time";
pub(crate) const ALL_COMPLETE: &str = "all pushes complete, after a crash and a lost response";

pub(crate) fn invariants() -> Vec<Property<Protocol>> {
    vec![
        Property::always(ACKNOWLEDGED_IS_DURABLE, |_, state: &State| {
            let is_uncommitted = |writer: &Writer| matches!(writer.stage, Stage::Acknowledged(_));
            state.writers.iter().any(is_uncommitted)
                || state.acknowledged.iter().all(|one| {
                    let row = state.vault.rows[one.record];
                    row.is_some_and(|row| match row.version - one.version {
                        0 => (row.writer, row.push) == (one.writer, one.push),
                        later => later > 0,
                    })
                })
        }),
        Property::always(EACH_VERSION_IS_ONE_WRITE, |_, state: &State| {
            // The set is ordered, so writes of one version are adjacent.
            let all: Vec<_> = state.acknowledged.iter().collect();
            all.windows(2)
                .all(|pair| (pair[0].record, pair[0].version) != (pair[1].record, pair[1].version))
        }),
        Property::always(NO_UPDATE_IS_LOST, |_, state: &State| {
            let rows = state.vault.rows.iter().zip(state.vault.writes);
            rows.into_iter().all(|(row, writes)| row.map_or(0, |row| row.version) == writes)
        }),
        Property::always(NO_READER_SKIPS, |_, state: &State| {
            let rows = state.vault.rows.iter().zip(&state.reader.rows);
            rows.into_iter().all(|(row, read)| {
                row.is_none_or(|row| row.at > state.reader.cursor) || row == read
            })
        }),
        Property::always(TIMES_ARE_UNIQUE, |_, state: &State| {
            let mut times = state.vault.rows.iter().flatten().map(|row| row.at);
            let mut seen = BTreeSet::new();
            times.all(|at| seen.insert(at))
        }),
        Property::sometimes(ALL_COMPLETE, |model: &Protocol, state: &State| {
            state.is_idle()
                && state.writers.iter().all(|writer| writer.done == model.pushes)
                && (state.crashes, state.responses_lost)
                    == (model.crashes_max, model.responses_lost_max)
                && state.reader.rows == state.vault.rows
        }),
    ]
}
