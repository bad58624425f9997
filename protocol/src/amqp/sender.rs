//! The task behind a [`Publisher`](super::Publisher): it owns the connection, and everything that
//! waits for a connection or for a confirm.
//!
//! ```text
//! connect ──> serve ──lost──> connect …        requests wait meanwhile, within a limit
//!               └─closed──> end
//! ```
//!
//! Whatever ends a channel ends the connection too: frames that lapin had queued for the dead
//! channel would go out under its number after it is gone.

use std::collections::VecDeque;
use std::pin::pin;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};

use super::connection::{Connection, ConnectionStatus};
use super::publisher::{PublisherOptions, PublisherStatus, Request};
use super::session::Session;

/// How many publishes may wait for their confirms; more wait before they are sent.
const MAX_IN_FLIGHT: usize = 20_000;
/// How many requests are taken at once.
const BATCH: usize = 256;
/// How exact the time limits are.
const TICK: Duration = Duration::from_millis(250);
/// A connection that lasted less than this is followed by a pause.
const SHORT_LIFE: Duration = Duration::from_secs(1);

type Requests = mpsc::UnboundedReceiver<Request>;
type Waiting = VecDeque<(Instant, Request)>;

enum End {
    Lost,
    Closed,
}

pub(super) async fn run(
    options: PublisherOptions,
    mut requests: Requests,
    status: watch::Sender<PublisherStatus>,
) {
    let mut waiting = Waiting::new();
    loop {
        let Some(connection) = connect(&options, &mut requests, &mut waiting).await else {
            return;
        };
        let opened_at = Instant::now();
        let end = serve(&connection, &options, &mut requests, &mut waiting, &status).await;
        status.send_replace(PublisherStatus::Down);
        match end {
            End::Closed => {
                connection.close().await;
                return;
            }
            End::Lost => tracing::warn!("publisher lost its connection"),
        }
        drop(connection);
        if opened_at.elapsed() < SHORT_LIFE {
            tokio::time::sleep(TICK).await;
        }
    }
}

/// Connects, however long it takes, and keeps what is asked meanwhile. `None`: nobody is left who
/// would publish, and nothing waits.
async fn connect(
    options: &PublisherOptions,
    requests: &mut Requests,
    waiting: &mut Waiting,
) -> Option<Connection> {
    let mut opening = pin!(Connection::open_with_backoff(&options.connect, None));
    let mut batch = Vec::new();
    let mut tick = ticks();
    let mut is_closed = false;
    loop {
        tokio::select! {
            opened = &mut opening => match opened {
                Ok(connection) => return Some(connection),
                // It never gives up without a limit; should it, it starts again.
                Err(_) => opening.set(Connection::open_with_backoff(&options.connect, None)),
            },
            count = requests.recv_many(&mut batch, BATCH), if !is_closed => {
                is_closed = count == 0;
                let now = Instant::now();
                for request in batch.drain(..) {
                    match request {
                        Request::Close => requests.close(),
                        Request::Publish(..) => waiting.push_back((now, request)),
                    }
                }
            }
            _ = tick.tick() => {
                // Dropping a request says `Unknown` to whoever waits for it.
                waiting.retain(|(asked_at, request)| {
                    asked_at.elapsed() < options.publish_limit && is_wanted(request)
                });
            }
        }
        if is_closed && waiting.is_empty() {
            return None;
        }
    }
}

fn is_wanted(request: &Request) -> bool {
    match request {
        Request::Publish(_, reply) => !reply.is_closed(),
        Request::Close => true,
    }
}

/// Publishes over one connection until it is lost or nothing is left to do.
async fn serve(
    connection: &Connection,
    options: &PublisherOptions,
    requests: &mut Requests,
    waiting: &mut Waiting,
    status: &watch::Sender<PublisherStatus>,
) -> End {
    let Ok(mut session) = Session::open(connection).await else {
        return End::Lost;
    };
    status.send_replace(PublisherStatus::Open);
    for (_, request) in waiting.drain(..) {
        take(&mut session, request, requests);
    }
    let mut connection_status = connection.status();
    let mut batch = Vec::with_capacity(BATCH);
    let mut tick = ticks();
    let mut ticked_at = Instant::now();
    let mut is_closed = false;
    loop {
        tokio::select! {
            biased;
            () = session.settle() => {}
            count = requests.recv_many(&mut batch, BATCH), if !is_closed && session.in_flight() < MAX_IN_FLIGHT => {
                is_closed = count == 0;
                for request in batch.drain(..) {
                    take(&mut session, request, requests);
                }
            }
            changed = connection_status.changed() => {
                let now = *connection_status.borrow_and_update();
                match (changed, now) {
                    (Err(_), _) | (Ok(()), ConnectionStatus::Closed) => return End::Lost,
                    (Ok(()), ConnectionStatus::Open) => status.send_replace(PublisherStatus::Open),
                    (Ok(()), ConnectionStatus::Blocked) => status.send_replace(PublisherStatus::Blocked),
                };
            }
            _ = tick.tick() => {
                let passed = std::mem::replace(&mut ticked_at, Instant::now()).elapsed();
                if *connection_status.borrow() == ConnectionStatus::Open {
                    session.pass_time(passed, options.confirm_limit);
                }
            }
        }
        if !session.is_usable() {
            return End::Lost;
        }
        if is_closed && session.in_flight() == 0 {
            return End::Closed;
        }
    }
}

fn take(session: &mut Session, request: Request, requests: &mut Requests) {
    match request {
        Request::Publish(message, reply) => session.send(*message, reply),
        Request::Close => requests.close(),
    }
}

fn ticks() -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
