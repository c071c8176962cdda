//! The demo's spare: waited for before the pull request is opened, and removed at the end, because the demo leaves nothing.

use super::drive::{Developer, PATIENCE};
use anyhow::{Result, ensure};
use api::{EnvironmentView, ProjectSparesView, SpareList};
use reqwest::Method;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// How long the next spare may take to be begun.
const SETTLES: Duration = Duration::from_secs(6);

impl Developer {
    async fn spares(&self) -> Result<Option<ProjectSparesView>> {
        let list: Option<SpareList> = self.call(Method::GET, "/spares", None).await?;
        Ok(list.and_then(|list| list.projects.into_iter().next()))
    }

    /// Waits until the engines of the shop wait for the pull request, unless there is a reason why they do not.
    pub(crate) async fn await_spare(&mut self) -> Result<()> {
        let since = Instant::now();
        let said = loop {
            let view = self.spares().await?;
            let Some(view) = view.filter(|view| view.wanted > 0) else {
                break "no spare is wanted".to_owned();
            };
            if let Some(spare) = view.spares.iter().find(|spare| spare.ready) {
                break format!("the engines of {} wait for the pull request", spare.label);
            }
            if let (Some(why), true) = (view.why_fewer, since.elapsed() > Duration::from_secs(10)) {
                break format!("there is no spare: {why}");
            }
            ensure!(since.elapsed() < PATIENCE, "no spare after {} s", PATIENCE.as_secs());
            sleep(Duration::from_millis(20)).await;
        };
        self.report.done("spare", since, [said]);
        Ok(())
    }

    /// Removes what waits for a next pull request, and sees each receipt. Deleted spares are not made again by themselves.
    pub(crate) async fn remove_spares(&mut self) -> Result<()> {
        let since = Instant::now();
        // The next one is made as soon as nothing else is on its way: it may be about to appear.
        while since.elapsed() < SETTLES
            && self
                .spares()
                .await?
                .is_some_and(|view| view.wanted > 0 && view.spares.is_empty())
        {
            sleep(Duration::from_millis(50)).await;
        }
        let mut removed = Vec::new();
        while let Some(spare) = self.spares().await?.and_then(|view| view.spares.into_iter().next()) {
            let path = format!("/environments/{}", spare.id);
            self.call::<EnvironmentView>(Method::DELETE, &path, None).await?;
            let receipt = self.receipt(spare.id.as_str()).await?;
            ensure!(
                receipt.entries.iter().all(|entry| entry.gone.is_some()),
                "the receipt of the spare lists something that is not gone"
            );
            removed.push(spare.id.to_string());
        }
        let said = match removed.len() {
            0 => "no spare was left".to_owned(),
            count => format!("removed: {count}; every entry of the receipts is gone"),
        };
        self.report.done("spares removed", since, [said]);
        self.report.spares = removed;
        Ok(())
    }
}
