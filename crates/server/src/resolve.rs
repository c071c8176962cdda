//! From what people call an environment to the environment: its id, its label, or the number of its pull request.

use crate::{
    app::App,
    problem::{Answer, Problem},
};
use api::ProblemCode;
use model::{EnvironmentId, HostLabel, Origin};
use store::EnvironmentRow;

/// Finds the environment. One that has ended is found by its id, and by label or number when no other answers to them.
pub(crate) async fn environment(app: &App, name: &str) -> Answer<EnvironmentRow> {
    if let Ok(id) = name.parse::<EnvironmentId>()
        && let Some(row) = app.store.environment_get(&id).await?
    {
        return Ok(row);
    }
    if let Ok(label) = name.parse::<HostLabel>()
        && let Some(row) = app.store.environment_find_label(&label).await?
    {
        return Ok(row);
    }
    let rows = app.store.environment_list(None, true).await?;
    let number = name.strip_prefix('#').unwrap_or(name).parse::<u64>().ok();
    let answers = |row: &&EnvironmentRow| match (&row.origin, number) {
        (Origin::PullRequest { number } | Origin::FurtherPullRequest { number, .. }, Some(given)) => *number == given,
        (Origin::PullRequests { .. }, Some(given)) => reconciler::is_member(row, given),
        _ => row.label.as_str() == name,
    };
    let (there, ended): (Vec<_>, Vec<_>) = rows.iter().filter(answers).partition(|row| row.ended.is_none());
    match (there.as_slice(), ended.last()) {
        ([one], _) => Ok((*one).clone()),
        ([], Some(last)) => Ok((*last).clone()),
        ([], None) => Err(not_found(name)),
        (several, _) => {
            let labels: Vec<&str> = several.iter().map(|row| row.label.as_str()).collect();
            Err(Problem::new(
                ProblemCode::Ambiguous,
                format!("{} environments answer to that number", several.len()),
            )
            .hint(format!("say which: {}", labels.join(", "))))
        }
    }
}

fn not_found(name: &str) -> Problem {
    let shown: String = name.chars().take(80).flat_map(char::escape_debug).collect();
    Problem::new(ProblemCode::NotFound, format!("there is no environment `{shown}`"))
        .hint("`maquette list` shows those that there are")
}
