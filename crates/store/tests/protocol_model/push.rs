//! The steps of a push, with the real rule for what becomes of each write.

use vaultsync_protocol::{Ciphertext, Operation, RecordId, Version};
use vaultsync_store::{RecordState, WriteDecision, check_version};

use crate::state::{Judged, RECORDS, Row, Stage, State, Vault, Writer, records_of};

/// What the protocol says, or a mistake.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Protocol {
    /// Whether a push takes the vault's lock before it reads.
    pub(crate) locks: bool,
    /// Whether a time is never at or before the vault's clock, whatever the wall clock says.
    pub(crate) clock_only_grows: bool,
    /// Whether the commit comes before the answer.
    pub(crate) commits_first: bool,
    /// Pushes that each writer makes.
    pub(crate) pushes: u8,
    pub(crate) crashes_max: u8,
    pub(crate) answers_lost_max: u8,
}

pub(crate) const PROTOCOL: Protocol = Protocol {
    locks: true,
    clock_only_grows: true,
    commits_first: true,
    pushes: 2,
    crashes_max: 1,
    answers_lost_max: 1,
};

fn operation(record: usize, base: i64, writer: usize, push: u8) -> Operation {
    let version = |number| Version::new(number).expect("a version");
    Operation {
        record_id: RecordId::new(&record.to_string()).expect("an id"),
        base_version: (base > 0).then(|| version(base)),
        ciphertext: Ciphertext::from_bytes(vec![u8::try_from(writer).expect("few"), push]),
        deleted: false,
    }
}

impl Protocol {
    /// Judges a push against what it has read, and gives each write its place in the vault's order;
    /// `None` where something stands in the way.
    fn decide(self, read: &Vault, writer: usize, state: &State) -> Option<Judged> {
        let Writer { done: push, known, .. } = state.writers[writer];
        let mut judged =
            Judged { rows: [None; RECORDS], clock: read.clock, versions: [0; RECORDS] };
        let mut next =
            if self.clock_only_grows { state.now.max(read.clock + 1) } else { state.now };
        for record in records_of(writer) {
            let found = read.rows[record];
            let head = found.map(|row| RecordState {
                version: Version::new(row.version).expect("a version"),
                deleted: false,
            });
            let holds = || found.is_some_and(|row| (row.writer, row.push) == (writer, push));
            let operation = operation(record, known[record], writer, push);
            let version = match check_version(&operation, head, false, holds) {
                WriteDecision::Conflict => return None,
                WriteDecision::AlreadyApplied(version) => version,
                WriteDecision::Apply(version) => {
                    let row = Row { version: version.get(), writer, push, at: next };
                    judged.rows[record] = Some(row);
                    judged.clock = next;
                    next += 1;
                    version
                }
            };
            judged.versions[record] = version.get();
        }
        Some(judged)
    }

    /// The next step of a writer's push; `None` where it has to wait, or has nothing left to do.
    pub(crate) fn step(self, mut state: State, number: usize) -> Option<State> {
        let next = match state.writers[number].stage.clone() {
            Stage::Idle if state.writers[number].done == self.pushes => return None,
            Stage::Idle if !self.locks => Stage::Locked,
            Stage::Idle if state.locked => return None,
            Stage::Idle => {
                state.locked = true;
                Stage::Locked
            }
            Stage::Locked => Stage::Read(state.vault.clone()),
            Stage::Read(read) => match self.decide(&read, number, &state) {
                Some(judged) if self.commits_first => Stage::Written(judged),
                Some(judged) => {
                    state.acknowledge(number, &judged);
                    Stage::Answered(judged)
                }
                None => {
                    for record in records_of(number) {
                        let shown = read.rows[record].map_or(0, |row| row.version);
                        state.writers[number].known[record] = shown;
                    }
                    state.locked = false;
                    Stage::Idle
                }
            },
            Stage::Written(judged) => {
                state.commit(&judged);
                Stage::Committed(judged)
            }
            Stage::Committed(judged) => {
                state.acknowledge(number, &judged);
                Stage::Idle
            }
            Stage::Answered(judged) => {
                state.commit(&judged);
                Stage::Idle
            }
        };
        state.writers[number].stage = next;
        Some(state)
    }
}
