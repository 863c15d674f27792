//! The thread that owns the spool. Everyone's rows of a moment go into one commit, so many pumps
//! share one disk sync; an answer comes only after it.
//!
//! A failed commit is final: the thread answers every request from then on with the failure, so
//! that nothing is acknowledged to any pump, and the journals of the pumps hold.

use protocol::topics::EventRow;
use record::Spool;
use record::spool::Outcome;
use record::store::StoredRow;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// The most rows of one commit.
pub const GROUP_MAX: usize = 4_096;
/// Requests that may wait; who comes then waits too, and so does its pump.
const QUEUE: usize = 1_024;

/// A request to the store.
enum Request {
    Append {
        trial: String,
        rows: Vec<EventRow>,
        reply: SyncSender<Result<Vec<Outcome>, Failed>>,
    },
    With(Box<dyn FnOnce(&mut Spool) + Send>),
    Stop,
}

/// The store failed, and stays failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Failed(pub String);

/// A way to the store's thread. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    requests: SyncSender<Request>,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Append { .. } => "Append",
            Self::With(_) => "With",
            Self::Stop => "Stop",
        })
    }
}

impl Store {
    /// Starts the thread over an open spool.
    ///
    /// # Errors
    /// Where the system has no thread left.
    pub fn start(spool: Spool) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (requests, inbox) = sync_channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || run(spool, &inbox))?;
        Ok((Self { requests }, thread))
    }

    /// Makes rows of a trial durable. Blocks until they are.
    ///
    /// # Errors
    /// Where the store failed: then nothing may be acknowledged.
    pub fn append(&self, trial: &str, rows: Vec<EventRow>) -> Result<Vec<Outcome>, Failed> {
        let (reply, answer) = sync_channel(1);
        let request = Request::Append {
            trial: trial.into(),
            rows,
            reply,
        };
        self.requests.send(request).map_err(|_| stopped())?;
        answer.recv().map_err(|_| stopped())?
    }

    /// Runs something else on the spool, in the store's thread. Blocks until it is done.
    ///
    /// # Errors
    /// Where the store has stopped.
    pub fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Spool) -> T + Send + 'static,
    ) -> Result<T, Failed> {
        let (reply, answer) = sync_channel(1);
        let boxed = Box::new(move |spool: &mut Spool| {
            let _ = reply.send(work(spool));
        });
        self.requests
            .send(Request::With(boxed))
            .map_err(|_| stopped())?;
        answer.recv().map_err(|_| stopped())
    }

    /// Rows of a source after a seq.
    ///
    /// # Errors
    /// Where the store failed.
    pub fn rows_after(
        &self,
        trial: &str,
        source: &str,
        after: u64,
        limit: usize,
    ) -> Result<Vec<StoredRow>, Failed> {
        let (trial, source) = (trial.to_owned(), source.to_owned());
        self.with(move |spool| spool.rows_after(&trial, &source, after, limit))?
            .map_err(|e| Failed(e.to_string()))
    }

    /// Commits what came before, then ends the thread.
    pub fn stop(&self) {
        let _ = self.requests.send(Request::Stop);
    }
}

fn stopped() -> Failed {
    Failed("the store has stopped".into())
}

type Waiting = (usize, SyncSender<Result<Vec<Outcome>, Failed>>);

fn run(mut spool: Spool, inbox: &Receiver<Request>) {
    let mut failed: Option<Failed> = None;
    let mut rows: Vec<(String, EventRow)> = Vec::new();
    let mut waiting: Vec<Waiting> = Vec::new();
    while let Ok(first) = inbox.recv() {
        let mut next = Some(first);
        let mut other = None;
        while let Some(request) = next.take() {
            match request {
                Request::Append {
                    trial,
                    rows: more,
                    reply,
                } => {
                    waiting.push((more.len(), reply));
                    rows.extend(more.into_iter().map(|row| (trial.clone(), row)));
                    next = (rows.len() < GROUP_MAX)
                        .then(|| inbox.try_recv().ok())
                        .flatten();
                }
                Request::With(_) | Request::Stop => other = Some(request),
            }
        }
        commit(&mut spool, &mut rows, &mut waiting, &mut failed);
        match other {
            Some(Request::With(work)) => work(&mut spool),
            Some(Request::Stop) => return,
            Some(Request::Append { .. }) | None => {}
        }
    }
}

fn commit(
    spool: &mut Spool,
    rows: &mut Vec<(String, EventRow)>,
    waiting: &mut Vec<Waiting>,
    failed: &mut Option<Failed>,
) {
    if waiting.is_empty() {
        return;
    }
    let result = match failed.clone() {
        Some(failure) => Err(failure),
        None => spool
            .append(rows.iter().map(|(trial, row)| (trial.as_str(), row)))
            .map_err(|e| Failed(e.to_string())),
    };
    rows.clear();
    match result {
        Ok(outcomes) => {
            let mut outcomes = outcomes.into_iter();
            for (count, reply) in waiting.drain(..) {
                let _ = reply.send(Ok(outcomes.by_ref().take(count).collect()));
            }
        }
        Err(failure) => {
            for (_, reply) in waiting.drain(..) {
                let _ = reply.send(Err(failure.clone()));
            }
            *failed = Some(failure);
        }
    }
}
