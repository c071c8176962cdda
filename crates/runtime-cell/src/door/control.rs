//! The door's end of the connection to the cell host: orders in, what happened out.

use super::{
    Door,
    environment::Environment,
    wire::{Held, Numbered, Order, Report, Word, receive, send},
};
use model::EnvironmentId;
use std::{collections::BTreeMap, io, os::fd::OwnedFd, sync::Arc, time::Duration};
use tokio::{
    net::{UnixStream, unix::UCred},
    sync::Mutex,
    task::AbortHandle,
    time::sleep,
};

/// Between two attempts to find a cell host.
const PAUSE: Duration = Duration::from_millis(50);
/// Reports are gathered for so long.
const GATHERED: Duration = Duration::from_millis(100);

/// Carries out what the cell host wants, and looks for the next one when it has ended. Never returns.
pub(crate) async fn follow(door: &Arc<Door>) {
    let mut told = false;
    loop {
        match UnixStream::connect(&door.socket).await {
            Ok(stream) if is_root(stream.peer_cred()) => {
                told = false;
                tracing::info!("the door serves");
                if let Err(error) = converse(door, stream).await {
                    tracing::warn!(%error, "the cell host has hung up");
                }
            }
            Ok(_) => tracing::warn!("who listens for the door is no cell host"),
            Err(error) if !told => {
                tracing::info!(path = %door.socket.display(), %error, "there is no cell host yet");
                told = true;
            }
            Err(_) => {}
        }
        sleep(PAUSE).await;
    }
}

fn is_root(credentials: io::Result<UCred>) -> bool {
    credentials.is_ok_and(|credentials| credentials.uid() == 0)
}

async fn converse(door: &Arc<Door>, stream: UnixStream) -> io::Result<()> {
    let held: BTreeMap<EnvironmentId, Held> = door
        .environments()
        .iter()
        .map(|(id, environment)| (id.clone(), environment.held()))
        .collect();
    send(&stream, &Word::Hello(held), None).await?;
    // Answers and reports take turns.
    let turn = Mutex::new(());
    tokio::select! {
        ended = obey(door, &stream, &turn) => ended,
        ended = report(door, &stream, &turn) => ended,
    }
}

async fn obey(door: &Arc<Door>, stream: &UnixStream, turn: &Mutex<()>) -> io::Result<()> {
    while let Some((Numbered { number, order }, socket)) = receive::<Numbered>(stream).await? {
        let ending = carry_out(door, order, socket);
        // What was told to end has ended when the cell host hears that this is done.
        while ending.iter().any(|task| !task.is_finished()) {
            tokio::task::yield_now().await;
        }
        let _turn = turn.lock().await;
        send(stream, &Word::Done(number), None).await?;
    }
    Ok(())
}

async fn report(door: &Door, stream: &UnixStream, turn: &Mutex<()>) -> io::Result<()> {
    loop {
        door.news.notified().await;
        sleep(GATHERED).await;
        let all: Vec<Arc<Environment>> = door.environments().values().cloned().collect();
        for environment in all {
            let tallies = environment.tallies();
            if tallies.is_empty() {
                continue;
            }
            let report = Report {
                environment: environment.id.clone(),
                tallies: tallies.clone(),
            };
            let _turn = turn.lock().await;
            if let Err(error) = send(stream, &Word::Report(report), None).await {
                environment.counts.give_back(tallies);
                door.news.notify_one();
                return Err(error);
            }
        }
    }
}

/// Returns what was told to end.
fn carry_out(door: &Arc<Door>, order: Order, socket: Option<OwnedFd>) -> Vec<AbortHandle> {
    match order {
        Order::Allow {
            environment,
            network,
            table,
        } => {
            let mut ending = Vec::new();
            let mut environments = door.environments();
            let known = environments.get(&environment).filter(|known| known.network == network);
            let known = match known {
                Some(known) => Arc::clone(known),
                None => {
                    let made = Arc::new(Environment::new(environment.clone(), network, door.bounds));
                    if let Some(old) = environments.insert(environment, Arc::clone(&made)) {
                        ending = old.close();
                    }
                    made
                }
            };
            ending.extend(known.allow(table));
            ending
        }
        Order::Add {
            environment,
            address,
            entry,
        } => {
            if let Some(known) = door.environments().get(&environment) {
                known.add(address, entry);
            }
            Vec::new()
        }
        Order::Listen {
            environment,
            network,
            port,
        } => {
            let known = door.environments().get(&environment).cloned();
            let known = known.filter(|known| known.network == network);
            let (Some(known), Some(socket)) = (known, socket) else {
                tracing::warn!(%environment, port, "a listener came without its environment");
                return Vec::new();
            };
            if let Err(error) = known.listen(door, port, socket) {
                tracing::warn!(%environment, port, %error, "a listener can not be used");
            }
            Vec::new()
        }
        Order::Close { environment } => {
            let known = door.environments().remove(&environment);
            known.map_or_else(Vec::new, |known| known.close())
        }
    }
}
