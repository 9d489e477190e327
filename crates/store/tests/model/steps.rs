//! Random steps of devices, and the response that the model expects to each.

use proptest::{prelude::*, sample::Index, strategy::BoxedStrategy};
use proptest_state_machine::ReferenceStateMachine;

use crate::reference::{
    Answer, DEVICES, EPOCH, Page, PullAnswer, RECORDS, Request, VaultModel, Write,
};

pub(crate) const USERS: usize = 2;

/// One request of a step, and the response that the contract requires.
#[derive(Clone, Debug)]
pub(crate) enum Expected {
    Push(Request, Answer),
    Pull { user: usize, device: usize, limit: usize, page: Page },
    PullWithEpoch { user: usize, cursor: Option<i64>, names_epoch: bool, answer: PullAnswer },
}

#[derive(Clone, Debug)]
pub(crate) struct State {
    now: i64,
    pub(crate) vaults: [VaultModel; USERS],
    /// The requests of the last step.
    pub(crate) expected: Vec<Expected>,
}

/// The base version that a client sends.
#[derive(Clone, Debug)]
pub(crate) enum Base {
    Null,
    /// Relative to the current version, which is 0 for a record that does not exist.
    Relative(i64),
    Absolute(i64),
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
    /// Repeats an earlier batch, whatever its outcome was.
    Retry {
        user: usize,
        which: Index,
        epoch: KnownEpoch,
        time: i64,
    },
    /// Pushes one record many times, so that receipts age out.
    PushMany {
        user: usize,
        pushes: usize,
    },
    Pull {
        user: usize,
        device: usize,
        limit: usize,
    },
    PullWithEpoch {
        user: usize,
        offset: Option<i64>,
        names_epoch: bool,
    },
    Reopen,
}

fn drafts() -> impl Strategy<Value = Vec<Draft>> {
    let base = prop_oneof![
        3 => Just(Base::Null),
        6 => Just(Base::Relative(0)),
        1 => (-2_i64..=2).prop_map(Base::Relative),
        1 => (0_i64..4).prop_map(Base::Absolute),
    ];
    // Few different ciphertexts, so that two devices often write the same one.
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
                .prop_map(|(user, which, epoch, time)| Step::Retry { user, which, epoch, time }),
            1 => (0..USERS, 1_usize..34).prop_map(|(user, pushes)| Step::PushMany { user, pushes }),
            5 => (0..USERS, 0..DEVICES, 1_usize..8)
                .prop_map(|(user, device, limit)| Step::Pull { user, device, limit }),
            1 => (0..USERS, prop::option::of(-8_i64..3), any::<bool>())
                .prop_map(|(user, offset, names_epoch)| Step::PullWithEpoch { user, offset, names_epoch }),
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
            Step::Retry { user, which, epoch, time } => {
                state.now += time;
                let sent = &state.vaults[*user].sent;
                let writes = if sent.is_empty() { Vec::new() } else { which.get(sent).clone() };
                state.push(*user, writes, epoch);
            }
            Step::PushMany { user, pushes } => {
                for _ in 0..*pushes {
                    let draft = Draft {
                        record: 0,
                        base: Base::Relative(0),
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
            Step::PullWithEpoch { user, offset, names_epoch } => {
                let (user, names_epoch) = (*user, *names_epoch);
                let vault = &state.vaults[user];
                let cursor = offset.map(|offset| vault.clock.unwrap_or(state.now) + offset);
                let answer = match vault.clock {
                    Some(clock) if names_epoch && cursor.is_some_and(|cursor| cursor > clock) => {
                        PullAnswer::CursorAhead
                    }
                    Some(_) if names_epoch => PullAnswer::Page(vault.page(cursor, 100)),
                    _ => PullAnswer::EpochChanged,
                };
                state.expected.push(Expected::PullWithEpoch { user, cursor, names_epoch, answer });
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

/// The operation that a client sends which knows the vault's current versions.
fn write(vault: &VaultModel, draft: &Draft) -> Write {
    let id = RECORDS[draft.record];
    let current = vault.records.get(id).map_or(0, |record| record.version);
    let base = match draft.base {
        Base::Null => None,
        // For a record that the server does not have, a client sends `null`.
        Base::Relative(0) if current == 0 => None,
        Base::Relative(offset) => Some((current + offset).max(0)),
        Base::Absolute(version) => Some(version),
    };
    Write { id: id.to_owned(), base, ciphertext: draft.ciphertext.clone(), deleted: draft.deleted }
}
