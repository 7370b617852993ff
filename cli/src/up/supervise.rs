//! Starts children, waits until they are ready, starts them again when they die, stops them in order.

mod ready;
mod start_error;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign_identity::SpiffeId;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub(crate) use self::ready::ReadyWhen;
pub(crate) use self::start_error::{StartError, StartProblem};

use self::ready::{Outcome, wait_until_ready};
use super::decisions;
use super::event::{Event, Events, Role, Who};
use super::join_token::TokenSource;
use super::process::{Ending, Launch, Process};

/// The pause before a child that died is started again; it doubles with every death.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// A child that ran for so long has recovered: its next death is its first again.
const RECOVERED: Duration = Duration::from_secs(60);

/// A child to be kept running.
#[derive(Clone, Debug)]
pub(crate) struct Unit {
    pub(crate) who: Who,
    pub(crate) launch: Launch,
    pub(crate) ready: ReadyWhen,
    /// How long it may take to get ready.
    pub(crate) limit: Duration,
    /// How long it may take to end when it is asked to.
    pub(crate) grace: Duration,
    /// The join token that it needs at every start.
    pub(crate) token: Option<JoinToken>,
}

/// Whom a join token is for, and where it is put.
#[derive(Clone, Debug)]
pub(crate) struct JoinToken {
    pub(crate) spiffe_id: SpiffeId,
    pub(crate) file: PathBuf,
}

/// What all children share.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) events: Events,
    pub(crate) tokens: Arc<TokenSource>,
    /// Stop without grace: somebody is in a hurry.
    pub(crate) hurry: CancellationToken,
}

/// Children that are started together, and stopped together.
pub(crate) struct Stage {
    stop: CancellationToken,
    units: JoinSet<()>,
    first: Vec<oneshot::Receiver<Result<(), StartError>>>,
}

impl Stage {
    /// Starts children, without waiting for them.
    pub(crate) fn start(units: Vec<Unit>, context: &Context) -> Self {
        let mut stage = Self {
            stop: CancellationToken::new(),
            units: JoinSet::new(),
            first: Vec::new(),
        };
        for unit in units {
            let (first, outcome) = oneshot::channel();
            let keeper = Keeper {
                unit,
                context: context.clone(),
                stop: stage.stop.clone(),
                first: Some(first),
                pause: FIRST_PAUSE,
            };
            stage.units.spawn(keeper.keep());
            stage.first.push(outcome);
        }
        stage
    }

    /// Waits until every child has been ready once.
    ///
    /// # Errors
    /// The first child that will not be.
    pub(crate) async fn ready(&mut self) -> Result<(), StartError> {
        for outcome in self.first.drain(..) {
            // A keeper that was stopped reports nothing.
            if let Ok(outcome) = outcome.await {
                outcome?;
            }
        }
        Ok(())
    }

    /// Stops every child and waits for their end.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        while self.units.join_next().await.is_some() {}
    }
}

/// Keeps one child running until it is told to stop.
struct Keeper {
    unit: Unit,
    context: Context,
    stop: CancellationToken,
    /// Told once: whether the first start succeeded.
    first: Option<oneshot::Sender<Result<(), StartError>>>,
    pause: Duration,
}

/// How one run of a child ended.
enum Run {
    Stopped,
    Died { ending: Ending, lived: Duration },
    Failed(StartProblem),
}

impl Keeper {
    async fn keep(mut self) {
        loop {
            let again_in = match self.run().await {
                Run::Stopped => return,
                Run::Died { ending, lived } => {
                    if lived >= RECOVERED {
                        self.pause = FIRST_PAUSE;
                    }
                    if self.give_up(|| StartProblem::Ended(ending.clone())) {
                        return;
                    }
                    let (who, again_in) = (self.unit.who.clone(), self.pause);
                    self.tell(Event::Died {
                        who,
                        ending,
                        again_in,
                    });
                    again_in
                }
                Run::Failed(problem) => {
                    let text = problem.to_string();
                    if self.give_up(|| problem) {
                        return;
                    }
                    let (who, again_in) = (self.unit.who.clone(), self.pause);
                    self.tell(Event::CannotStart {
                        who,
                        problem: text,
                        again_in,
                    });
                    again_in
                }
            };
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
            tokio::select! {
                () = tokio::time::sleep(again_in) => {}
                () = self.stop.cancelled() => return,
            }
        }
    }

    /// A program of this project that fails at its first start will not do better at the second. A
    /// workload may: people are working on it, and the mesh is of use without it.
    fn give_up(&mut self, problem: impl FnOnce() -> StartProblem) -> bool {
        let Some(first) = self.first.take() else {
            return false;
        };
        if self.unit.who.role == Role::Workload {
            let _ = first.send(Ok(()));
            return false;
        }
        let _ = first.send(Err(StartError {
            who: self.unit.who.clone(),
            log: self.unit.launch.log.clone(),
            problem: problem(),
        }));
        true
    }

    /// Starts the child and stays with it to its end.
    async fn run(&mut self) -> Run {
        self.tell(Event::Starting(self.unit.who.clone()));
        let mut process = match self.launch().await {
            Ok(process) => process,
            Err(problem) => return Run::Failed(problem),
        };
        let started = Instant::now();
        let outcome = tokio::select! {
            outcome = wait_until_ready(&mut process, &self.unit.ready, self.unit.limit) => outcome,
            () = self.stop.cancelled() => return self.stop(process).await,
        };
        match outcome {
            Outcome::Ready => {
                self.tell(Event::Ready(self.unit.who.clone()));
                if let Some(first) = self.first.take() {
                    let _ = first.send(Ok(()));
                }
            }
            Outcome::Ended(ending) => {
                return Run::Died {
                    ending,
                    lived: started.elapsed(),
                };
            }
            Outcome::Late { missing } if self.unit.who.role == Role::Workload => {
                let (who, limit) = (self.unit.who.clone(), self.unit.limit);
                self.tell(Event::Late {
                    who,
                    limit,
                    missing,
                });
                if let Some(first) = self.first.take() {
                    let _ = first.send(Ok(()));
                }
            }
            Outcome::Late { missing } => {
                let last_lines = process.last_lines();
                process.stop(self.unit.grace).await;
                let limit = self.unit.limit;
                return Run::Failed(StartProblem::Late {
                    limit,
                    missing,
                    last_lines,
                });
            }
        }
        tokio::select! {
            ending = process.ended() => Run::Died { ending, lived: started.elapsed() },
            () = self.stop.cancelled() => self.stop(process).await,
        }
    }

    async fn launch(&self) -> Result<Process, StartProblem> {
        if let Some(token) = &self.unit.token {
            self.context
                .tokens
                .put(&token.spiffe_id, &token.file)
                .await?;
        }
        let lines = (self.unit.who.role == Role::Sidecar).then(|| {
            let (lines, receiver) = mpsc::unbounded_channel();
            let (workload, events) = (self.unit.who.name.clone(), self.context.events.clone());
            tokio::spawn(decisions::follow(workload, receiver, events));
            lines
        });
        self.unit
            .launch
            .start(lines)
            .map_err(StartProblem::CannotRun)
    }

    async fn stop(&self, mut process: Process) -> Run {
        let hurry = &self.context.hurry;
        let ending = tokio::select! {
            ending = process.stop(self.unit.grace) => ending,
            () = hurry.cancelled() => process.stop(Duration::ZERO).await,
        };
        self.tell(Event::Stopped {
            who: self.unit.who.clone(),
            how: ending.how,
        });
        Run::Stopped
    }

    fn tell(&self, event: Event) {
        self.context.events.tell(event);
    }
}
