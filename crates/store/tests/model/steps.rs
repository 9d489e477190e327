//! Random steps of devices, and the response that the model expects to each.

use std::collections::BTreeSet;

use proptest::{prelude::*, sample::Index, strategy::BoxedStrategy};
use proptest_state_machine::ReferenceStateMachine;
use vaultsync_store::Quotas;

use crate::{
    drafts::{
        Base, Context, DraftBatch, NamedEpoch, Since, another_version, base, context, deletion,
        draft_batch, rewrite, vault,
    },
    maintenance::{Gc, GcCounts},
    record::{DAY, MINUTE},
    reference::{
        Answer, Batch, EpochName, Limits, PullRequest, RECORDS, Request, Status, VaultModel,
    },
};

/// The user and the name of each vault.
pub(crate) const VAULTS: [(usize, Option<&str>); 4] =
    [(0, None), (0, Some("notes")), (0, Some("keys")), (1, None)];

/// One request of a step, and what the contract requires.
#[derive(Clone, Debug)]
pub(crate) enum Expected {
    Push(Request, Answer),
    /// A follower reads its next page.
    Follow {
        vault: usize,
        follower: usize,
        limit: usize,
    },
    Pull {
        vault: usize,
        request: PullRequest,
    },
    States {
        vault: usize,
        at: i64,
    },
    Gc(Gc, GcCounts),
    Erase {
        vault: usize,
        epoch: Option<EpochName>,
        is_erased: bool,
    },
    FinishErasures {
        finished: usize,
    },
}

#[derive(Clone, Debug)]
pub(crate) struct State {
    now: i64,
    pub(crate) quotas: Quotas,
    pub(crate) vaults: [VaultModel; VAULTS.len()],
    /// The requests of the last step.
    pub(crate) expected: Vec<Expected>,
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Push(Context, DraftBatch),
    /// Repeats one of the last batches, whatever its outcome was.
    Retry(Context, Index),
    /// Repeats the operations of an earlier batch with another guard.
    RetryGuarded(Context, Index, (usize, Base)),
    /// Pushes one record many times, so that receipts age out.
    PushMany {
        vault: usize,
        pushes: usize,
        apart: i64,
    },
    Follow {
        vault: usize,
        follower: usize,
        limit: usize,
    },
    /// Writes every record again, as a client does that changes its passphrase. Every other one may become a
    /// tombstone.
    Rewrite {
        vault: usize,
        bytes: usize,
        deletes: bool,
    },
    /// Pulls from near the newest purged tombstone, or the head.
    Pull(Context, Option<i64>),
    /// Reads the states near a time that a version has.
    States {
        vault: usize,
        near: Index,
        offset: i64,
    },
    Gc {
        history_days: i64,
        tombstone_days: i64,
        time: i64,
        dry_run: bool,
    },
    /// Deletes a record, and removes its tombstone two days later.
    DeleteAndPurge {
        vault: usize,
        record: usize,
    },
    Erase(Context),
    FinishErasures,
    /// The server is started again, maybe with other quotas.
    Reopen(Quotas),
}

fn quotas() -> impl Strategy<Value = Quotas> {
    prop_oneof![
        2 => Just(Quotas::default()),
        1 => (1_i64..6).prop_map(|records| Quotas { records: Some(records), bytes: None }),
        2 => (5_i64..40).prop_map(|bytes| Quotas { records: None, bytes: Some(bytes) }),
    ]
}

pub(crate) struct Reference;

impl ReferenceStateMachine for Reference {
    type State = State;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<State> {
        let state = |quotas| State {
            now: 1_705_314_600_000,
            quotas,
            vaults: Default::default(),
            expected: Vec::new(),
        };
        quotas().prop_map(state).boxed()
    }

    fn transitions(_: &State) -> BoxedStrategy<Step> {
        let apart = prop_oneof![Just(0), Just(MINUTE), Just(13 * MINUTE)];
        let erase = (context(), prop::bool::weighted(0.7)).prop_map(|(context, is_current)| {
            let current = Context { epoch: NamedEpoch::Current, ..context };
            Step::Erase(if is_current { current } else { context })
        });
        let gc =
            (prop_oneof![Just(3_i64), Just(30)], 0_i64..3, 0..9 * DAY, prop::bool::weighted(0.2));
        prop_oneof![
            12 => (context(), draft_batch()).prop_map(|(context, batch)| Step::Push(context, batch)),
            4 => (context(), any::<Index>()).prop_map(|(context, which)| Step::Retry(context, which)),
            1 => (context(), any::<Index>(), (0..RECORDS.len(), base())).prop_map(
                |(context, which, guard)| Step::RetryGuarded(context, which, guard)
            ),
            1 => (vault(), 1_usize..34, apart)
                .prop_map(|(vault, pushes, apart)| Step::PushMany { vault, pushes, apart }),
            2 => (vault(), 1_usize..12, any::<bool>())
                .prop_map(|(vault, bytes, deletes)| Step::Rewrite { vault, bytes, deletes }),
            8 => (vault(), 0_usize..2, 1_usize..4)
                .prop_map(|(vault, follower, limit)| Step::Follow { vault, follower, limit }),
            3 => (vault(), 0..RECORDS.len())
                .prop_map(|(vault, record)| Step::DeleteAndPurge { vault, record }),
            4 => (context(), prop::option::of(-3_i64..4))
                .prop_map(|(context, offset)| Step::Pull(context, offset)),
            2 => (vault(), any::<Index>(), -1_i64..=1)
                .prop_map(|(vault, near, offset)| Step::States { vault, near, offset }),
            4 => gc.prop_map(|(history_days, tombstone_days, time, dry_run)| {
                Step::Gc { history_days, tombstone_days, time, dry_run }
            }),
            2 => erase,
            4 => Just(Step::FinishErasures),
            3 => quotas().prop_map(Step::Reopen),
        ]
        .boxed()
    }

    fn apply(mut state: State, step: &Step) -> State {
        state.expected.clear();
        match step {
            Step::Reopen(quotas) => state.quotas = *quotas,
            Step::Push(context, drafts) => {
                let vault = &mut state.vaults[context.vault];
                let batch = vault.batch(drafts);
                vault.sent.push(batch.clone());
                state.push(*context, batch);
            }
            Step::Retry(context, which) => {
                let sent = &state.vaults[context.vault].sent;
                let last = &sent[sent.len().saturating_sub(3)..];
                let batch =
                    if last.is_empty() { Batch::default() } else { which.get(last).clone() };
                state.push(*context, batch);
            }
            Step::RetryGuarded(context, which, (record, version)) => {
                let vault = &state.vaults[context.vault];
                if !vault.sent.is_empty() {
                    let guard = vault.guard(*record, *version);
                    let mut batch = which.get(&vault.sent).clone();
                    // A record has a write or a guard, and a push without operations has no guards.
                    if batch.writes.iter().any(|write| write.id != guard.0) {
                        batch.writes.retain(|write| write.id != guard.0);
                        batch.guards = vec![guard];
                    }
                    state.push(*context, batch);
                }
            }
            &Step::PushMany { vault, pushes, apart } => {
                let (epoch, since) = (NamedEpoch::None, Since::None);
                for _ in 0..pushes {
                    let context = Context { vault, epoch, since, time: apart };
                    let batch = state.vaults[vault].batch(&another_version());
                    state.push(context, batch);
                }
            }
            &Step::Follow { vault, follower, limit } => {
                state.expected.push(Expected::Follow { vault, follower, limit });
            }
            Step::Pull(context, offset) => {
                state.now += context.time;
                let vault = &state.vaults[context.vault];
                let near = vault.purged_at.or(vault.clock).unwrap_or(state.now);
                let cursor = offset.map(|offset| near + offset);
                let request = PullRequest {
                    cursor,
                    limit: 100,
                    epoch: state.epoch(*context),
                    since: vault.since(context.since),
                };
                state.expected.push(Expected::Pull { vault: context.vault, request });
            }
            Step::States { vault, near, offset } => {
                let records = state.vaults[*vault].records.values();
                let versions = records.flat_map(|record| &record.versions);
                let times: Vec<_> = versions.map(|version| version.updated_at).collect();
                let at = if times.is_empty() { state.now } else { *near.get(&times) + offset };
                state.expected.push(Expected::States { vault: *vault, at });
            }
            &Step::Gc { history_days, tombstone_days, time, dry_run } => {
                state.now += time;
                state.gc(Gc { history_days, tombstone_days, now: state.now, dry_run });
            }
            &Step::Rewrite { vault, bytes, deletes } => {
                let (epoch, since) = (NamedEpoch::None, Since::None);
                let model = &state.vaults[vault];
                let batch = model.batch(&rewrite(model, bytes, deletes));
                state.push(Context { vault, epoch, since, time: 0 }, batch);
            }
            &Step::DeleteAndPurge { vault, record } => {
                let (epoch, since) = (NamedEpoch::None, Since::None);
                let batch = state.vaults[vault].batch(&deletion(record));
                state.push(Context { vault, epoch, since, time: 0 }, batch);
                state.now += 2 * DAY;
                let (history_days, tombstone_days, now) = (30, 1, state.now);
                state.gc(Gc { history_days, tombstone_days, now, dry_run: false });
            }
            Step::Erase(context) => {
                let (vault, epoch) = (context.vault, state.epoch(*context));
                let is_erased = match epoch {
                    Some(EpochName::Own(epoch)) => state.vaults[vault].erase(epoch),
                    _ => false,
                };
                state.expected.push(Expected::Erase { vault, epoch, is_erased });
            }
            Step::FinishErasures => {
                let vaults = state.vaults.iter_mut();
                let finished = vaults.map(VaultModel::finish_erasure).filter(|is| *is).count();
                state.expected.push(Expected::FinishErasures { finished });
            }
        }
        state
    }
}

impl State {
    fn gc(&mut self, gc: Gc) {
        let mut counts = GcCounts::default();
        for vault in &mut self.vaults {
            vault.gc(gc, &mut counts);
        }
        self.expected.push(Expected::Gc(gc, counts));
    }

    fn push(&mut self, context: Context, batch: Batch) {
        self.now += context.time;
        let Context { vault, since, .. } = context;
        let (epoch, now, limits) = (self.epoch(context), self.now, self.limits(vault));
        let model = &mut self.vaults[vault];
        let request = Request { vault, batch, epoch, since: model.since(since), now };
        let answer = model.push(&request, limits);
        self.expected.push(Expected::Push(request, answer));
    }

    /// The vaults that the last step may have changed.
    pub(crate) fn changed(&self) -> BTreeSet<usize> {
        let of = |expected: &Expected| match expected {
            Expected::Push(request, _) => request.vault..request.vault + 1,
            Expected::Erase { vault, .. } => *vault..*vault + 1,
            Expected::Gc(..) | Expected::FinishErasures { .. } => 0..VAULTS.len(),
            Expected::Follow { .. } | Expected::Pull { .. } | Expected::States { .. } => 0..0,
        };
        self.expected.iter().flat_map(of).collect()
    }

    /// What decides about a push to a vault besides the vault.
    fn limits(&self, vault: usize) -> Limits {
        let (user, name) = VAULTS[vault];
        let others = VAULTS.iter().zip(&self.vaults).enumerate().filter(|(other, (of, model))| {
            let exists = matches!(model.status, Status::Live | Status::Erasing);
            *other != vault && of.0 == user && of.1.is_some() && exists
        });
        let other_named_vaults = name.map(|_| others.count());
        Limits { quotas: self.quotas, other_named_vaults }
    }

    /// The epoch that a request names.
    fn epoch(&self, context: Context) -> Option<EpochName> {
        let vault = &self.vaults[context.vault];
        let number = |back: usize| vault.epochs.checked_sub(back).map(EpochName::Own);
        let name = match context.epoch {
            NamedEpoch::None => return None,
            NamedEpoch::Unknown => None,
            NamedEpoch::Current => number(1),
            NamedEpoch::Older => number(2),
            NamedEpoch::OfAnotherVault => {
                let mut others = self.vaults.iter().enumerate();
                let other = others.find(|(other, of)| *other != context.vault && of.epochs > 0);
                other.map(|(vault, of)| EpochName::Of { vault, epoch: of.epochs - 1 })
            }
        };
        Some(name.unwrap_or(EpochName::Unknown))
    }
}
