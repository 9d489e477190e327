//! The steps of a push, with the real version check.

use vaultsync_protocol::{Ciphertext, Operation, RecordId, Version};
use vaultsync_store::{RecordState, WriteDecision, check_version};

use crate::state::{Decided, RECORDS, Row, Stage, State, Vault, Writer, records_of};

/// The rules of the protocol. A rule that is off is a mistake.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Protocol {
    /// Whether a push takes the vault's lock before it reads.
    pub(crate) locks: bool,
    /// Whether each time is later than the vault's head, whatever the wall clock says.
    pub(crate) head_only_increases: bool,
    /// Whether the commit comes before the response.
    pub(crate) commits_before_response: bool,
    /// The number of pushes of each writer.
    pub(crate) pushes: u8,
    pub(crate) crashes_max: u8,
    pub(crate) responses_lost_max: u8,
}

pub(crate) const PROTOCOL: Protocol = Protocol {
    locks: true,
    head_only_increases: true,
    commits_before_response: true,
    pushes: 2,
    crashes_max: 1,
    responses_lost_max: 1,
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
    /// Decides a push by the vault that it has read, and assigns each write its time. `None` if a record
    /// conflicts.
    fn decide(self, read: &Vault, writer: usize, state: &State) -> Option<Decided> {
        let Writer { done: push, known, .. } = state.writers[writer];
        let mut decided =
            Decided { rows: [None; RECORDS], head: read.head, versions: [0; RECORDS] };
        let mut next =
            if self.head_only_increases { state.now.max(read.head + 1) } else { state.now };
        for record in records_of(writer) {
            let found = read.rows[record];
            let current = found.map(|row| RecordState {
                version: Version::new(row.version).expect("a version"),
                deleted: false,
            });
            let has_same_ciphertext =
                || found.is_some_and(|row| (row.writer, row.push) == (writer, push));
            let operation = operation(record, known[record], writer, push);
            let version = match check_version(&operation, current, false, has_same_ciphertext) {
                WriteDecision::Conflict => return None,
                WriteDecision::AlreadyApplied(version) => version,
                WriteDecision::Apply(version) => {
                    let row = Row { version: version.get(), writer, push, at: next };
                    decided.rows[record] = Some(row);
                    decided.head = next;
                    next += 1;
                    version
                }
            };
            decided.versions[record] = version.get();
        }
        Some(decided)
    }

    /// The next step of a writer's push. `None` if it has to wait, or has nothing left to do.
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
                Some(decided) if self.commits_before_response => Stage::Written(decided),
                Some(decided) => {
                    state.acknowledge(number, &decided);
                    Stage::Acknowledged(decided)
                }
                None => {
                    for record in records_of(number) {
                        let current = read.rows[record].map_or(0, |row| row.version);
                        state.writers[number].known[record] = current;
                    }
                    state.locked = false;
                    Stage::Idle
                }
            },
            Stage::Written(decided) => {
                state.commit(&decided);
                Stage::Committed(decided)
            }
            Stage::Committed(decided) => {
                state.acknowledge(number, &decided);
                Stage::Idle
            }
            Stage::Acknowledged(decided) => {
                state.commit(&decided);
                Stage::Idle
            }
        };
        state.writers[number].stage = next;
        Some(state)
    }
}
