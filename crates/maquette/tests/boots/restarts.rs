//! What people notice while a unit is restarted: nothing, or that open connections end.

use crate::{developer::Developer, machine, visitor::Visitor};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Visitors wait for a cell host that is away for longer than this. On a machine that stalls it may be away longer still.
const QUICK: Duration = Duration::from_secs(15);

/// Restarts a unit while somebody visits. Only the gateway's own restart may be noticed, and the same processes go on.
pub(crate) async fn survived(developer: &Developer, visitor: &Arc<Visitor>, unit: &str, how: fn(&str)) {
    let born = visitor.born().await;
    let orders = visitor.orders().await;
    let (stop, watched) = (CancellationToken::new(), Arc::clone(visitor));
    let visits = tokio::spawn({
        let stop = stop.clone();
        async move {
            let (mut visits, mut bad) = (0, Vec::new());
            while !stop.is_cancelled() {
                match watched.try_get("/").await {
                    Ok((200, _)) => visits += 1,
                    other => bad.push(other),
                }
                sleep(Duration::from_millis(50)).await;
            }
            (visits, bad)
        }
    });
    let before = machine::main_pid(unit);
    let since = Instant::now();
    how(unit);
    machine::runs_anew(unit, before).await;
    developer.answers().await;
    assert_eq!(visitor.born().await, born, "{unit}: services were started again");
    assert_eq!(visitor.orders().await, orders, "{unit}");
    let was_quick = since.elapsed() < QUICK;
    stop.cancel();
    let (visits, bad) = visits.await.unwrap();
    eprintln!("{unit}: {visits} visits meanwhile, {} without an answer", bad.len());
    let may_be_noticed = unit == "maquette-gateway" || !was_quick;
    assert!(may_be_noticed || bad.is_empty(), "{unit}: {bad:?}");
}
