//! The ledger, and the receipt that it becomes.

use crate::{app::App, problem::Answer};
use api::{LedgerEntryView, LedgerView};
use model::{EnvironmentId, HostLabel};

/// The receipt, or the ledger as it stands.
pub(crate) async fn ledger(app: &App, id: &EnvironmentId, label: Option<&HostLabel>) -> Answer<LedgerView> {
    let receipt = app.store.receipt_get(id).await?;
    let entries = match &receipt {
        Some(receipt) => receipt.entries.clone(),
        None => app.store.ledger_list(id).await?,
    };
    let left = entries.iter().filter(|entry| entry.gone.is_none()).count();
    Ok(LedgerView {
        environment: id.clone(),
        label: label.cloned(),
        complete: receipt.is_some() && left == 0,
        reason: receipt.as_ref().map(|receipt| receipt.reason.clone()),
        began: receipt.as_ref().map(|receipt| receipt.began),
        completed: receipt.as_ref().map(|receipt| receipt.completed),
        left: left as u64,
        entries: entries.iter().map(LedgerEntryView::from).collect(),
    })
}
