//! What devices do at random, and what the model makes of it.

use proptest::{prelude::*, sample::Index, strategy::BoxedStrategy};
use proptest_state_machine::ReferenceStateMachine;

use crate::reference::{
    Answer, DEVICES, EPOCH, Page, PullAnswer, RECORDS, Request, VaultModel, Write,
};

pub(crate) const USERS: usize = 2;

/// One request of a step, and the answer that the contract has for it.
#[derive(Clone, Debug)]
pub(crate) enum Expected {
    Push(Request, Answer),
    Pull { user: usize, device: usize, limit: usize, page: Page },
    PullIn { user: usize, cursor: Option<i64>, names_epoch: bool, answer: PullAnswer },
}

#[derive(Clone, Debug)]
pub(crate) struct State {
    now: i64,
    pub(crate) vaults: [VaultModel; USERS],
    /// What the last step asked, and what it must be answered.
    pub(crate) expected: Vec<Expected>,
}

/// Which base version a client sends, said by the record as it stands.
#[derive(Clone, Debug)]
pub(crate) enum Base {
    Null,
    /// This far from the current version, 0 for a record that is not there.
    Off(i64),
    Number(i64),
}

#[derive(Clone, Debug)]
pub(crate) struct Draft {
    record: usize,
    base: Base,
    ciphertext: Vec<u8>,
    deleted: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum KnownEpoch {
    None,
    Right,
    Wrong,
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Push {
        user: usize,
        drafts: Vec<Draft>,
        epoch: KnownEpoch,
        time: i64,
    },
    /// An earlier batch again, whatever became of it.
    Replay {
        user: usize,
        which: Index,
        epoch: KnownEpoch,
        time: i64,
    },
    /// Many pushes of one record, to come near the end of what is remembered.
    Rush {
        user: usize,
        pushes: usize,
    },
    Pull {
        user: usize,
        device: usize,
        limit: usize,
    },
    PullIn {
        user: usize,
        off: Option<i64>,
        names_epoch: bool,
    },
    Reopen,
}

fn drafts() -> impl Strategy<Value = Vec<Draft>> {
    let base = prop_oneof![
        3 => Just(Base::Null),
        6 => Just(Base::Off(0)),
        1 => (-2_i64..=2).prop_map(Base::Off),
        1 => (0_i64..4).prop_map(Base::Number),
    ];
    // Few different ciphertexts, so that two devices often write the same.
    let ciphertext = prop_oneof![Just(vec![1]), Just(vec![2; 5]), Just(vec![3; 11])];
    let draft = (base, ciphertext, prop::bool::weighted(0.2), any::<bool>());
    let records: Vec<_> = (0..RECORDS.len()).collect();
    let records = prop::sample::subsequence(records, 0..=RECORDS.len()).prop_shuffle();
    (records, prop::collection::vec(draft, RECORDS.len())).prop_map(|(records, drafts)| {
        let zipped = records.into_iter().zip(drafts);
        let draft = |(record, (base, ciphertext, deleted, empty)): (_, (_, Vec<u8>, _, bool))| {
            let ciphertext = if deleted && empty { Vec::new() } else { ciphertext };
            Draft { record, base, ciphertext, deleted }
        };
        zipped.map(draft).collect()
    })
}

pub(crate) struct Reference;

impl ReferenceStateMachine for Reference {
    type State = State;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<State> {
        let vaults = [VaultModel::default(), VaultModel::default()];
        Just(State { now: 1_705_314_600_000, vaults, expected: Vec::new() }).boxed()
    }

    fn transitions(_: &State) -> BoxedStrategy<Step> {
        let epoch = || {
            prop_oneof![
                6 => Just(KnownEpoch::None),
                3 => Just(KnownEpoch::Right),
                1 => Just(KnownEpoch::Wrong),
            ]
        };
        let time = || {
            prop_oneof![
                5 => Just(0),
                5 => 1_i64..20,
                1 => -3_600_000_i64..0,
                1 => 0_i64..3_600_000,
            ]
        };
        prop_oneof![
            10 => (0..USERS, drafts(), epoch(), time())
                .prop_map(|(user, drafts, epoch, time)| Step::Push { user, drafts, epoch, time }),
            5 => (0..USERS, any::<Index>(), epoch(), time())
                .prop_map(|(user, which, epoch, time)| Step::Replay { user, which, epoch, time }),
            1 => (0..USERS, 1_usize..34).prop_map(|(user, pushes)| Step::Rush { user, pushes }),
            5 => (0..USERS, 0..DEVICES, 1_usize..8)
                .prop_map(|(user, device, limit)| Step::Pull { user, device, limit }),
            1 => (0..USERS, prop::option::of(-8_i64..3), any::<bool>())
                .prop_map(|(user, off, names_epoch)| Step::PullIn { user, off, names_epoch }),
            1 => Just(Step::Reopen),
        ]
        .boxed()
    }

    fn apply(mut state: State, step: &Step) -> State {
        state.expected.clear();
        match step {
            Step::Reopen => {}
            Step::Push { user, drafts, epoch, time } => {
                state.now += time;
                let writes: Vec<_> =
                    drafts.iter().map(|draft| write(&state.vaults[*user], draft)).collect();
                state.vaults[*user].sent.push(writes.clone());
                state.push(*user, writes, epoch);
            }
            Step::Replay { user, which, epoch, time } => {
                state.now += time;
                let sent = &state.vaults[*user].sent;
                let writes = if sent.is_empty() { Vec::new() } else { which.get(sent).clone() };
                state.push(*user, writes, epoch);
            }
            Step::Rush { user, pushes } => {
                for _ in 0..*pushes {
                    let draft = Draft {
                        record: 0,
                        base: Base::Off(0),
                        ciphertext: vec![4],
                        deleted: false,
                    };
                    let writes = vec![write(&state.vaults[*user], &draft)];
                    state.push(*user, writes, &KnownEpoch::None);
                }
            }
            Step::Pull { user, device, limit } => {
                let vault = &mut state.vaults[*user];
                let page = vault.page(vault.cursors[*device], *limit);
                vault.cursors[*device] = page.next_cursor.or(vault.cursors[*device]);
                let (user, device, limit) = (*user, *device, *limit);
                state.expected.push(Expected::Pull { user, device, limit, page });
            }
            Step::PullIn { user, off, names_epoch } => {
                let (user, names_epoch) = (*user, *names_epoch);
                let vault = &state.vaults[user];
                let cursor = off.map(|off| vault.clock.unwrap_or(state.now) + off);
                let answer = match vault.clock {
                    Some(clock) if names_epoch && cursor.is_some_and(|cursor| cursor > clock) => {
                        PullAnswer::CursorAhead
                    }
                    Some(_) if names_epoch => PullAnswer::Page(vault.page(cursor, 100)),
                    _ => PullAnswer::EpochChanged,
                };
                state.expected.push(Expected::PullIn { user, cursor, names_epoch, answer });
            }
        }
        state
    }
}

impl State {
    fn push(&mut self, user: usize, writes: Vec<Write>, epoch: &KnownEpoch) {
        let (now, vault) = (self.now, &mut self.vaults[user]);
        let answer = match epoch {
            KnownEpoch::Wrong => Answer::EpochChanged,
            KnownEpoch::Right if vault.clock.is_none() => Answer::EpochChanged,
            KnownEpoch::Right => vault.push(&writes, true, now),
            KnownEpoch::None => vault.push(&writes, false, now),
        };
        let epoch = match epoch {
            KnownEpoch::None => None,
            KnownEpoch::Right => Some(EPOCH.to_string()),
            KnownEpoch::Wrong => Some("another".to_owned()),
        };
        self.expected.push(Expected::Push(Request { user, writes, epoch, now }, answer));
    }
}

/// What a client that knows this much of a vault sends.
fn write(vault: &VaultModel, draft: &Draft) -> Write {
    let id = RECORDS[draft.record];
    let current = vault.records.get(id).map_or(0, |record| record.version);
    let base = match draft.base {
        Base::Null => None,
        // A client that edits a record the server does not have says so by `null`.
        Base::Off(0) if current == 0 => None,
        Base::Off(off) => Some((current + off).max(0)),
        Base::Number(number) => Some(number),
    };
    Write { id: id.to_owned(), base, ciphertext: draft.ciphertext.clone(), deleted: draft.deleted }
}
