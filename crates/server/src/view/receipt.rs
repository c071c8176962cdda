//! The ledger, and the receipt that it becomes.

use crate::{app::App, problem::Answer};
use api::{LedgerEntryView, LedgerView};
use store::EnvironmentRow;

/// The receipt, or the ledger as it stands.
pub(crate) async fn ledger(app: &App, row: &EnvironmentRow) -> Answer<LedgerView> {
    let receipt = app.store.receipt_get(&row.id).await?;
    let entries = match &receipt {
        Some(receipt) => receipt.entries.clone(),
        None => app.store.ledger_list(&row.id).await?,
    };
    let left = entries.iter().filter(|entry| entry.gone.is_none()).count();
    Ok(LedgerView {
        environment: row.id.clone(),
        label: Some(row.label.clone()),
        complete: receipt.is_some() && left == 0,
        reason: receipt.as_ref().map(|receipt| receipt.reason.clone()),
        began: receipt.as_ref().map(|receipt| receipt.began),
        completed: receipt.as_ref().map(|receipt| receipt.completed),
        left: left as u64,
        entries: entries.iter().map(LedgerEntryView::from).collect(),
    })
}
