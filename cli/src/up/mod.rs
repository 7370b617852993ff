//! `countersign up`: a whole mesh on this machine.
//!
//! Everything that can be wrong is looked for before anything is started ([`prepare`]). Then the parts
//! start in the order of their dependence: CA, control plane, sidecars, workloads ([`run_mesh`]), and stop
//! in the opposite one. Every child runs behind a guard ([`crate::guard`]), so that none outlives this
//! process, however it ends.

mod addresses;
mod board;
mod configs;
mod decisions;
mod event;
mod issuer;
mod join_token;
mod layout;
mod lines;
mod mesh;
mod policy_check;
mod prepare;
mod process;
pub(crate) mod programs;
mod screen;
mod supervise;
mod topology;
mod units;
mod watch;

use std::io;
use std::sync::Arc;
use std::time::Instant;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::event::{Event, Events};
use self::join_token::TokenSource;
use self::prepare::Prepared;
use self::screen::Screen;
use self::supervise::{Context, Stage, StartError};
use crate::args::UpArguments;
use crate::output::{Answer, Output};

pub(crate) use self::prepare::PrepareError;

/// Why a mesh is not up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpError {
    #[error("nothing was started:\n{0}")]
    Prepare(#[from] PrepareError),
    #[error("cannot start")]
    Runtime(#[source] io::Error),
    #[error("the mesh is down again, because one part did not start: {0}")]
    Start(#[from] StartError),
    #[error("cannot show what happens; the mesh is down again")]
    Show(#[source] io::Error),
}

/// Runs a mesh until it is told to stop.
pub(crate) fn run(arguments: &UpArguments, output: &Output) -> Result<Answer, UpError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(UpError::Runtime)?;
    runtime.block_on(async {
        let prepared = prepare::prepare(&arguments.mesh, arguments.state.as_deref()).await?;
        let mut requests = StopRequests::listen().map_err(UpError::Runtime)?;
        run_mesh(prepared, *output, &mut requests).await
    })
}

/// Starts everything, stays until a request to stop, stops everything.
async fn run_mesh(
    prepared: Prepared,
    output: Output,
    requests: &mut StopRequests,
) -> Result<Answer, UpError> {
    let Prepared {
        mesh,
        topology,
        layout,
        programs,
        commands,
        issuers,
        issuer_listener,
        _claim,
    } = prepared;
    let (events, receiver) = Events::channel();
    let screen = Screen::new(output, mesh.trust_domain.to_string(), &topology.instances);
    let hurry = CancellationToken::new();
    let context = Context {
        events: events.clone(),
        tokens: Arc::new(TokenSource {
            ca: programs.ca.clone(),
            ca_config: layout.ca_config(),
        }),
        hurry: hurry.clone(),
    };

    let mut helpers = JoinSet::new();
    helpers.spawn(issuer::serve(issuer_listener, issuers));
    helpers.spawn(watch::policy(topology.control.ops, events.clone()));
    if screen.is_table() {
        for instance in &topology.instances {
            let addresses = &instance.addresses;
            let watch = watch::svid(
                addresses.name.clone(),
                addresses.sidecar_ops,
                events.clone(),
            );
            helpers.spawn(watch);
        }
    }
    let mut showing = tokio::spawn(screen.show(receiver));

    let plan = units::plan(&mesh, &topology, &layout, &programs, &commands);
    let mut stages = Vec::new();
    let outcome = tokio::select! {
        outcome = stay_up(plan, &mut stages, &context) => outcome.map_err(UpError::from),
        () = requests.next() => Ok(Answer::Yes),
        shown = &mut showing => Err(UpError::Show(shown_error(shown))),
    };

    events.tell(Event::Stopping);
    helpers.shutdown().await;
    let stopping = async {
        while let Some(stage) = stages.pop() {
            Stage::stop(stage).await;
        }
    };
    tokio::pin!(stopping);
    tokio::select! {
        () = &mut stopping => {}
        () = requests.next() => {
            hurry.cancel();
            stopping.await;
        }
    }
    drop((events, context));
    if !showing.is_finished() {
        showing
            .await
            .map_err(io::Error::other)
            .flatten()
            .map_err(UpError::Show)?;
    }
    outcome
}

/// Starts stage after stage and then stays. Ends only if a stage does not start.
async fn stay_up(
    plan: Vec<Vec<supervise::Unit>>,
    stages: &mut Vec<Stage>,
    context: &Context,
) -> Result<Answer, StartError> {
    let started = Instant::now();
    let mut workloads = 0;
    for units in plan {
        workloads = units.len();
        stages.push(Stage::start(units, context));
        if let Some(stage) = stages.last_mut() {
            stage.ready().await?;
        }
    }
    context.events.tell(Event::Up {
        workloads,
        took: started.elapsed(),
    });
    std::future::pending().await
}

/// Why the screen ended although nobody asked it to.
fn shown_error(shown: Result<io::Result<()>, tokio::task::JoinError>) -> io::Error {
    match shown {
        Ok(Ok(())) => io::ErrorKind::UnexpectedEof.into(),
        Ok(Err(error)) => error,
        Err(error) => io::Error::other(error),
    }
}

/// Ctrl-C, `kill`, and the terminal's end.
struct StopRequests {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl StopRequests {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next request.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}
