//! The actions that are possible in a state.

use std::collections::BTreeSet;

use stateright::{Model, Property};

use crate::{
    invariants::invariants,
    push::Protocol,
    state::{RECORDS, Reader, Stage, State, Vault, WRITERS, Writer},
};

/// The times of the wall clock. It may jump between them in any order.
const NOWS: [i64; 2] = [1, 4];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// A writer's push takes its next step.
    Step(usize),
    /// The response to a writer is lost, so it sends the same push again.
    LoseResponse(usize),
    Pull,
    SetClock(i64),
    Crash,
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
            responses_lost: 0,
            writers: [writer.clone(), writer],
            reader: Reader::default(),
            acknowledged: BTreeSet::new(),
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        actions.extend((0..WRITERS).map(Action::Step));
        actions.extend((0..WRITERS).map(Action::LoseResponse));
        actions.push(Action::Pull);
        actions.extend(NOWS.into_iter().filter(|now| *now != state.now).map(Action::SetClock));
        actions.push(Action::Crash);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Step(writer) => return self.step(state, writer),
            Action::LoseResponse(writer) => {
                let is_committed = matches!(state.writers[writer].stage, Stage::Committed(_));
                if !is_committed || state.responses_lost == self.responses_lost_max {
                    return None;
                }
                state.responses_lost += 1;
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
        invariants()
    }
}
