//! Waiting for an environment to become what was asked for.

use super::{Session, path};
use crate::{exit::Failure, render, screen};
use api::{EnvironmentView, LedgerView, ServiceStateView, StepStateView, WhyView};
use model::Phase;
use std::time::Duration;
use tokio::time::sleep;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(250);
/// How long a phase that was there before the change may be shown after it.
const SETTLE: u32 = 8;

/// Until the newest generation is live. Tells each step as it is done.
pub(super) async fn until_live(session: &Session, view: EnvironmentView) -> Result<EnvironmentView, Failure> {
    let path = path(view.id.as_str());
    let before = (view.newest, view.phase);
    let mut told = Vec::new();
    let mut looks = 0;
    let what = format!("waiting for {}", view.label);
    screen::while_doing(&what, async {
        loop {
            let view: EnvironmentView = session.api.get(&path).await?;
            tell_steps(session, &path, &mut told).await?;
            // The generation that was asked for may not be made yet; what was live or had failed before does not count.
            let stale = (view.newest, view.phase) == before && looks < SETTLE && !is_wanted_live(&view);
            looks += 1;
            match view.phase {
                Phase::Live if is_wanted_live(&view) && !is_waking(&view) => return Ok(view),
                Phase::Sleeping if is_wanted_live(&view) => return Ok(view),
                Phase::Failed | Phase::LiveOlder if !stale => return Err(failed(&view)),
                Phase::NeedsApproval | Phase::LiveUnapproved if !stale => {
                    let hint = format!("`maquette why {}` names the commit to approve", view.label);
                    return Err(Failure::new(6, render::stands(&view)).hint(hint));
                }
                Phase::Ending | Phase::Ended => return Err(Failure::new(6, format!("{} has ended", view.label))),
                _ => sleep(PAUSE).await,
            }
        }
    })
    .await
}

fn is_wanted_live(view: &EnvironmentView) -> bool {
    view.commits.values().all(|commit| commit.live == commit.wanted)
}

/// What was asleep is live again only when its services are.
fn is_waking(view: &EnvironmentView) -> bool {
    let on_its_way = |state| matches!(state, ServiceStateView::Stopped | ServiceStateView::Starting);
    view.services.iter().any(|service| on_its_way(service.state))
}

fn failed(view: &EnvironmentView) -> Failure {
    let why = view.failure.as_ref().map_or_else(String::new, |failure| {
        format!(": {}: {}", failure.step, failure.message)
    });
    Failure::new(1, format!("{}{why}", render::stands(view))).hint(format!("`maquette why {}` says more", view.label))
}

async fn tell_steps(session: &Session, path: &str, told: &mut Vec<String>) -> Result<(), Failure> {
    let why: WhyView = session.api.get(&format!("{path}/why")).await?;
    for step in why.steps {
        if step.state == StepStateView::Done && step.took_ms.is_some_and(|ms| ms >= 1_000) && !told.contains(&step.id) {
            screen::tell(&format!("  {} ({} ms)", step.title, step.took_ms.unwrap_or_default()));
            told.push(step.id);
        }
    }
    Ok(())
}

/// Until the receipt is complete.
pub(super) async fn until_gone(session: &Session, id: &str) -> Result<LedgerView, Failure> {
    let path = format!("{}/receipt", path(id));
    screen::while_doing("removing everything", async {
        loop {
            let ledger: LedgerView = session.api.get(&path).await?;
            if ledger.complete {
                return Ok(ledger);
            }
            sleep(PAUSE).await;
        }
    })
    .await
}
