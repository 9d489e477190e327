//! What can happen next, in any state.

use std::collections::BTreeSet;

use stateright::{Model, Property};

use crate::{
    promises::promises,
    push::Protocol,
    state::{RECORDS, Reader, Stage, State, Vault, WRITERS, Writer},
};

/// Times that the wall clock may show. Any order of them is possible.
const NOWS: [i64; 2] = [1, 4];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// The push of that writer takes its next step.
    Step(usize),
    /// The answer to that writer is lost, so it sends the same push again.
    LoseAnswer(usize),
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
        promises()
    }
}
