//! Every order in which two writers and a reader can meet, with crashes, lost answers and a clock that
//! steps, explored to the end.
//!
//! What becomes of a write is decided by the real [`judge`]; what is modelled is what a backend does
//! around it, one step at a time: lock, read the heads, judge, write, commit, answer. The model with
//! the protocol as it is has no state that breaks a promise, and each rule that is taken out of it is
//! missed.
//!
//! Not here: SQL and sockets; receipts, so that a push whose answer was lost may meet a conflict, and
//! is then made anew on top of it.

use std::collections::BTreeSet;

use stateright::{Checker as _, HasDiscoveries, Model, Property};
use vaultsync_protocol::{Ciphertext, Operation, RecordId, Version};
use vaultsync_store::{Head, Verdict, judge};

const WRITERS: usize = 2;
const RECORDS: usize = 2;

/// Times that the wall clock may show. Any order of them is possible.
const NOWS: [i64; 2] = [1, 4];

/// What the protocol says, or a mistake.
#[derive(Clone, Copy, Debug)]
struct Protocol {
    /// Whether a push takes the vault's lock before it reads.
    locks: bool,
    /// Whether a time is never at or before the vault's clock, whatever the wall clock says.
    clock_only_grows: bool,
    /// Whether the commit comes before the answer.
    commits_first: bool,
    /// Pushes that each writer makes.
    pushes: u8,
    crashes_max: u8,
    answers_lost_max: u8,
}

const PROTOCOL: Protocol = Protocol {
    locks: true,
    clock_only_grows: true,
    commits_first: true,
    pushes: 2,
    crashes_max: 1,
    answers_lost_max: 1,
};

/// A record as the database has it. What it holds is told by who wrote it, and as which push.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Row {
    version: i64,
    writer: usize,
    push: u8,
    at: i64,
}

/// What is durable.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
struct Vault {
    rows: [Option<Row>; RECORDS],
    clock: i64,
    /// How often each record was written, which no database knows.
    writes: [i64; RECORDS],
}

/// What a push does, once it was judged.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Judged {
    rows: [Option<Row>; RECORDS],
    clock: i64,
    /// What it is answered, for each record that it has.
    versions: [i64; RECORDS],
}

/// Where a push stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Stage {
    /// It is to be sent, or sent again.
    Idle,
    /// It has the lock, where there is one.
    Locked,
    /// It has read these rows, and the clock.
    Read(Vault),
    /// It was judged, and is to be committed.
    Written(Judged),
    /// It is committed, and its writer does not know yet.
    Committed(Judged),
    /// Its writer was told of a success, and it is to be committed: the mistake.
    Answered(Judged),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Writer {
    stage: Stage,
    /// Pushes that were acknowledged.
    done: u8,
    /// The versions that it knows of, and edits.
    known: [i64; RECORDS],
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
struct Reader {
    cursor: i64,
    held: [Option<Row>; RECORDS],
}

/// A write that was acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Acknowledged {
    record: usize,
    version: i64,
    writer: usize,
    push: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    vault: Vault,
    locked: bool,
    now: i64,
    crashes: u8,
    answers_lost: u8,
    writers: [Writer; WRITERS],
    reader: Reader,
    acknowledged: BTreeSet<Acknowledged>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// The push of that writer takes its next step.
    Step(usize),
    /// The answer to that writer is lost, so it sends the same push again.
    LoseAnswer(usize),
    Pull,
    SetClock(i64),
    Crash,
}

/// Writer 0 writes both records in each push, writer 1 the second one only.
fn records_of(writer: usize) -> std::ops::Range<usize> {
    writer..RECORDS
}

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
    fn judge(self, read: &Vault, writer: usize, state: &State) -> Option<Judged> {
        let Writer { done: push, known, .. } = state.writers[writer];
        let mut judged =
            Judged { rows: [None; RECORDS], clock: read.clock, versions: [0; RECORDS] };
        let mut next =
            if self.clock_only_grows { state.now.max(read.clock + 1) } else { state.now };
        for record in records_of(writer) {
            let found = read.rows[record];
            let head = found.map(|row| Head {
                version: Version::new(row.version).expect("a version"),
                deleted: false,
            });
            let holds = || found.is_some_and(|row| (row.writer, row.push) == (writer, push));
            let operation = operation(record, known[record], writer, push);
            let version = match judge(&operation, head, false, holds) {
                Verdict::Conflict => return None,
                Verdict::Held(version) => version,
                Verdict::Write(version) => {
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
    fn step(self, mut state: State, number: usize) -> Option<State> {
        let next = match state.writers[number].stage.clone() {
            Stage::Idle if state.writers[number].done == self.pushes => return None,
            Stage::Idle if !self.locks => Stage::Locked,
            Stage::Idle if state.locked => return None,
            Stage::Idle => {
                state.locked = true;
                Stage::Locked
            }
            Stage::Locked => Stage::Read(state.vault.clone()),
            Stage::Read(read) => match self.judge(&read, number, &state) {
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

impl State {
    fn commit(&mut self, judged: &Judged) {
        for (record, row) in judged.rows.iter().enumerate() {
            if row.is_some() {
                self.vault.rows[record] = *row;
                self.vault.writes[record] += 1;
            }
        }
        self.vault.clock = judged.clock;
        self.locked = false;
    }

    fn acknowledge(&mut self, number: usize, judged: &Judged) {
        let writer = &mut self.writers[number];
        for record in records_of(number) {
            let version = judged.versions[record];
            writer.known[record] = version;
            let (writer, push) = (number, writer.done);
            self.acknowledged.insert(Acknowledged { record, version, writer, push });
        }
        writer.done += 1;
    }

    /// Every push that was under way is cut off; its writer sends it again.
    fn crash(&mut self) {
        self.crashes += 1;
        self.locked = false;
        for writer in &mut self.writers {
            writer.stage = Stage::Idle;
        }
    }

    /// One page; `None` where it is empty.
    fn pull(&mut self) -> Option<()> {
        let later = |row: &Row| row.at > self.reader.cursor;
        let rows = self.vault.rows.iter().enumerate();
        let rows = rows.filter_map(|(record, row)| row.filter(later).map(|row| (record, row)));
        // A page holds one record, so that every push of two is cut by its end.
        let (record, row) = rows.min_by_key(|(_, row)| row.at)?;
        self.reader.held[record] = Some(row);
        self.reader.cursor = row.at;
        Some(())
    }

    fn is_at_rest(&self) -> bool {
        self.writers.iter().all(|writer| writer.stage == Stage::Idle)
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let writer = Writer { stage: Stage::Idle, done: 0, known: [0; RECORDS] };
        vec![State {
            vault: Vault::default(),
            locked: false,
            now: NOWS[0],
            crashes: 0,
            answers_lost: 0,
            writers: [writer.clone(), writer],
            reader: Reader::default(),
            acknowledged: BTreeSet::new(),
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        actions.extend((0..WRITERS).map(Action::Step));
        actions.extend((0..WRITERS).map(Action::LoseAnswer));
        actions.push(Action::Pull);
        actions.extend(NOWS.into_iter().filter(|now| *now != state.now).map(Action::SetClock));
        actions.push(Action::Crash);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Step(writer) => return self.step(state, writer),
            Action::LoseAnswer(writer) => {
                let is_sent = matches!(state.writers[writer].stage, Stage::Committed(_));
                if !is_sent || state.answers_lost == self.answers_lost_max {
                    return None;
                }
                state.answers_lost += 1;
                state.writers[writer].stage = Stage::Idle;
            }
            Action::Pull => state.pull()?,
            Action::SetClock(now) => state.now = now,
            Action::Crash if state.crashes == self.crashes_max => return None,
            Action::Crash => state.crash(),
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ACKNOWLEDGED_IS_THERE, |_, state: &State| {
                let is_under_way = |writer: &Writer| matches!(writer.stage, Stage::Answered(_));
                state.writers.iter().any(is_under_way)
                    || state.acknowledged.iter().all(|one| {
                        let row = state.vault.rows[one.record];
                        row.is_some_and(|row| match row.version - one.version {
                            0 => (row.writer, row.push) == (one.writer, one.push),
                            later => later > 0,
                        })
                    })
            }),
            Property::always(EACH_VERSION_IS_ONE_WRITE, |_, state: &State| {
                // In the order of the set, those of one version stand side by side.
                let all: Vec<_> = state.acknowledged.iter().collect();
                all.windows(2).all(|pair| {
                    (pair[0].record, pair[0].version) != (pair[1].record, pair[1].version)
                })
            }),
            Property::always(NO_UPDATE_IS_LOST, |_, state: &State| {
                let rows = state.vault.rows.iter().zip(state.vault.writes);
                rows.into_iter().all(|(row, writes)| row.map_or(0, |row| row.version) == writes)
            }),
            Property::always(NO_READER_SKIPS, |_, state: &State| {
                let rows = state.vault.rows.iter().zip(&state.reader.held);
                rows.into_iter().all(|(row, held)| {
                    row.is_none_or(|row| row.at > state.reader.cursor) || row == held
                })
            }),
            Property::always(TIMES_ARE_UNIQUE, |_, state: &State| {
                let mut times = state.vault.rows.iter().flatten().map(|row| row.at);
                let mut seen = BTreeSet::new();
                times.all(|at| seen.insert(at))
            }),
            Property::sometimes(ALL_COMES_TO_AN_END, |model, state: &State| {
                state.is_at_rest()
                    && state.writers.iter().all(|writer| writer.done == model.pushes)
                    && (state.crashes, state.answers_lost)
                        == (model.crashes_max, model.answers_lost_max)
                    && state.reader.held == state.vault.rows
            }),
        ]
    }
}

const ACKNOWLEDGED_IS_THERE: &str = "what was acknowledged is there or was superseded";
const EACH_VERSION_IS_ONE_WRITE: &str = "no version is acknowledged for two writes";
const NO_UPDATE_IS_LOST: &str = "a record's version counts its writes";
const NO_READER_SKIPS: &str = "a reader holds all up to its cursor";
const TIMES_ARE_UNIQUE: &str = "no two records share a time";
const ALL_COMES_TO_AN_END: &str = "all are done, after a crash and a lost answer";

/// Each of these promises is broken by the mistake.
fn breaks(mistake: Protocol, promises: &[&'static str]) {
    let found = HasDiscoveries::AllOf(promises.iter().copied().collect());
    let checker = mistake.checker().finish_when(found).spawn_bfs().join();
    for promise in promises {
        let path = checker.discovery(promise);
        assert!(path.is_some(), "{mistake:?} never breaks this: {promise}");
    }
}

/// With two writers of two pushes each, a reader, a crash, a lost answer and a clock that steps to
/// and fro there are 591,166 states. The count is asserted, so that a change that cuts the model
/// short shows.
#[test]
fn no_interleaving_breaks_a_promise() {
    let checker = PROTOCOL.checker().threads(2).spawn_bfs().join();
    checker.assert_properties();
    assert_eq!(checker.unique_state_count(), 591_166);
}

/// Small models: what breaks in them breaks in larger ones too.
const SMALL: Protocol = Protocol { pushes: 1, crashes_max: 0, answers_lost_max: 0, ..PROTOCOL };

#[test]
fn without_the_lock_updates_are_lost() {
    let mistake = Protocol { locks: false, ..SMALL };
    breaks(mistake, &[NO_UPDATE_IS_LOST, EACH_VERSION_IS_ONE_WRITE, NO_READER_SKIPS]);
}

#[test]
fn without_a_clock_that_only_grows_readers_skip() {
    let mistake = Protocol { clock_only_grows: false, ..SMALL };
    breaks(mistake, &[NO_READER_SKIPS, TIMES_ARE_UNIQUE]);
}

#[test]
fn with_an_answer_before_the_commit_a_crash_loses_what_was_acknowledged() {
    let mistake = Protocol { commits_first: false, crashes_max: 1, ..SMALL };
    breaks(mistake, &[ACKNOWLEDGED_IS_THERE]);
}

#[test]
fn a_small_model_without_a_mistake_breaks_nothing() {
    Protocol { crashes_max: 1, ..SMALL }.checker().spawn_bfs().join().assert_properties();
}
