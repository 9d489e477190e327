//! Clients that write, and clients that follow, for as long as a scenario breaks things.
//!
//! Not here: whether what they were told is right, which is judged when all is over.

mod follower;
mod session;
mod tally;
mod writer;

use std::{ffi::OsString, path::Path, process::Command, sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use vaultsync_testkit::history::Recorder;

use self::{follower::Follower, writer::Writer};
pub use self::{
    session::{Batch, Change, Position, Session, Told},
    tally::Tally,
};
use crate::judge::Case;

/// How long followers may take to the end of what was written, on a busy machine.
const CATCH_UP_MAX: Duration = Duration::from_secs(120);

/// How many clients, and what they write.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Vaults.
    pub users: usize,
    /// Writers of each vault.
    pub writers: usize,
    /// Followers of each vault.
    pub followers: usize,
    /// Records of a vault: few, where writers are to get in each other's way.
    pub records: usize,
    /// The most writes of a push.
    pub batch_max: usize,
    /// The most bytes of a ciphertext.
    pub bytes_max: usize,
    /// How long a writer rests after each push.
    pub rest: Duration,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            users: 2,
            writers: 3,
            followers: 1,
            records: 60,
            batch_max: 6,
            bytes_max: 1500,
            rest: Duration::ZERO,
        }
    }
}

/// The servers' addresses, as clients know them.
pub type Addresses = Arc<[String]>;

/// Users, the tokens that servers know them by, and what their clients write down.
#[derive(Clone, Debug)]
pub struct Crowd {
    /// What is judged in the end.
    pub case: Case,
    /// What clients count.
    pub tally: Arc<Tally>,
    tokens: Vec<String>,
    /// How often the clients were replaced by others.
    generation: usize,
}

impl Crowd {
    /// Users of the servers whose data's folder this is.
    pub fn new(program: &Path, data_dir: &Path, users: usize) -> anyhow::Result<Self> {
        let users: Vec<Arc<str>> = (0..users).map(|user| format!("user-{user}").into()).collect();
        let case = Case { recorder: Recorder::default(), users };
        let mut crowd = Self { case, tally: Arc::default(), tokens: Vec::new(), generation: 0 };
        crowd.sign_in(program, data_dir, &[])?;
        Ok(crowd)
    }

    /// Lets other clients of the same users come, with new tokens made under these variables.
    pub fn sign_in(
        &mut self,
        program: &Path,
        data_dir: &Path,
        variables: &[(&'static str, OsString)],
    ) -> anyhow::Result<()> {
        let made = self.case.users.iter().map(|user| token(program, data_dir, user, variables));
        self.tokens = made.collect::<anyhow::Result<_>>()?;
        self.generation += 1;
        Ok(())
    }

    /// The same users with an empty history.
    #[must_use]
    pub fn anew(&self) -> Self {
        let case = Case { recorder: Recorder::default(), users: self.case.users.clone() };
        Self {
            case,
            tally: Arc::default(),
            tokens: self.tokens.clone(),
            generation: self.generation,
        }
    }

    /// What servers know a user by.
    pub fn token(&self, user: usize) -> &str {
        &self.tokens[user]
    }

    /// A client of that user's.
    pub fn session(&self, user: usize, device: &str) -> Session {
        let (case, name) = (&self.case, Arc::clone(&self.case.users[user]));
        let token = self.tokens[user].clone();
        Session::new(case.recorder.clone(), name, device, token, Arc::clone(&self.tally))
    }
}

/// A load on its way.
#[derive(Debug)]
pub struct Load {
    stop: CancellationToken,
    written: CancellationToken,
    writers: Vec<JoinHandle<()>>,
    followers: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts all clients at once.
    pub fn start(crowd: &Crowd, addresses: &Addresses, plan: Plan) -> Self {
        let (stop, written) = (CancellationToken::new(), CancellationToken::new());
        let (mut writers, mut followers) = (Vec::new(), Vec::new());
        let generation = crowd.generation;
        for user in 0..crowd.case.users.len() {
            for number in 0..plan.writers {
                let session = crowd.session(user, &format!("writer-{user}-{number}-{generation}"));
                let writer = Writer::new(session, Arc::clone(addresses), plan, number);
                writers.push(tokio::spawn(writer.run(stop.clone())));
            }
            for number in 0..plan.followers {
                let session =
                    crowd.session(user, &format!("follower-{user}-{number}-{generation}"));
                let follower = Follower::new(session, Arc::clone(addresses), number);
                followers.push(tokio::spawn(follower.run(written.clone())));
            }
        }
        Self { stop, written, writers, followers }
    }

    /// Lets writers see through what they have sent, and followers go to the end of it.
    pub async fn finish(self) -> anyhow::Result<()> {
        self.stop.cancel();
        for writer in self.writers {
            writer.await.context("a writer panicked")?;
        }
        self.written.cancel();
        let to_the_end = async {
            for follower in self.followers {
                follower.await.context("a follower panicked")?;
            }
            Ok(())
        };
        let caught_up = tokio::time::timeout(CATCH_UP_MAX, to_the_end).await;
        caught_up.context("followers do not come to the end of what was written")?
    }
}

/// A token of the local issuer whose key is in that folder.
fn token(
    program: &Path,
    data_dir: &Path,
    user: &str,
    variables: &[(&'static str, OsString)],
) -> anyhow::Result<String> {
    let made = Command::new(program)
        .args(["token", "--ttl", "1d", "--user", user, "--data-dir"])
        .arg(data_dir)
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .output()
        .with_context(|| format!("{} cannot be run", program.display()))?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    Ok(String::from_utf8(made.stdout)?.trim().to_owned())
}
