//! The baseline: the environment of the base branch, which shows that the blueprint works on its own.

use super::{
    New,
    branches::branch_twice,
    create, end, is_suppressed,
    siblings::{self, Sight, Wish},
};
use crate::{
    context::{Context, Trouble},
    project::{Project, Source},
};
use blueprint::Baseline;
use forge::BranchFact;
use model::{Origin, Power};
use serde_json::{Value, json};
use store::{EnvironmentPatch, EnvironmentRow};

/// The key in the overrides of a baseline that the policy made; its value is what the policy said then. A baseline that somebody
/// asked for is left to them.
pub(crate) const BY_POLICY: &str = "baseline";

/// What stands there of one that was found after the store was lost: if the policy wants none, somebody had asked for it.
pub(crate) const FOUND: &str = "found";

/// Sees to it that there is a baseline if the policy wants one, asleep or awake as it says.
pub(super) async fn look(
    context: &Context,
    project: &Project,
    source: &Source,
    sight: &mut Sight,
) -> Result<(), Trouble> {
    // A policy that can not be read makes nothing and ends nothing.
    let Some(head) = context.heads.get(&project.name).filter(|head| head.readable) else {
        return Ok(());
    };
    let wanted = head.policy.baseline;
    let origin = Origin::Baseline {
        branch: source.base_branch.clone(),
    };
    let mut present = false;
    for row in context.store.environment_list(Some(&project.name), false).await? {
        present |= row.origin == origin;
        if row.wanted && by_policy(&row).is_some() {
            adjust(context, &row, &origin, wanted).await?;
        }
    }
    if present || wanted == Baseline::None {
        return Ok(());
    }
    let BranchFact::At(commit) = branch_twice(source, &source.base_branch).await? else {
        return Ok(());
    };
    if is_suppressed(context, project, &origin, source, &commit).await? {
        return Ok(());
    }
    let via = format!("refs/heads/{}", source.base_branch);
    context
        .repositories
        .ensure(&project.name, source, &commit, Some(&via))
        .await?;
    let wish = Wish::of(project, &origin, None);
    let new = New {
        origin,
        head: Some((&source.name, &commit)),
        found: siblings::find(context, project, &wish, sight).await?,
        approved: Some(&commit),
        power: power(wanted),
        reason: &format!("the baseline: branch {}", source.base_branch),
        overrides: json!({ BY_POLICY: wanted.word() }),
    };
    create(context, project, new).await
}

/// What the policy said when it made this baseline or changed it last.
fn by_policy(row: &EnvironmentRow) -> Option<&str> {
    row.overrides.get(BY_POLICY).and_then(Value::as_str)
}

async fn adjust(context: &Context, row: &EnvironmentRow, origin: &Origin, wanted: Baseline) -> Result<(), Trouble> {
    if row.origin != *origin {
        return end(context, row, "another branch is the base branch now", None).await;
    }
    if wanted == Baseline::None {
        if by_policy(row) == Some(FOUND) {
            return Ok(());
        }
        return end(context, row, "the policy wants no baseline any more", None).await;
    }
    if by_policy(row) == Some(wanted.word()) {
        return Ok(());
    }
    let mut overrides = row.overrides.clone();
    if let Some(fields) = overrides.as_object_mut() {
        fields.insert(BY_POLICY.to_owned(), json!(wanted.word()));
    }
    let patch = EnvironmentPatch {
        power: Some(power(wanted)),
        overrides: Some(overrides),
        ..EnvironmentPatch::default()
    };
    context.store.environment_update(&row.id, &patch).await?;
    context.nudges.environment(&row.id);
    Ok(())
}

/// A baseline that somebody woke goes back to sleep after the next push: that commit, too, has to be seen live only once.
pub(super) fn power_after_push(row: &EnvironmentRow) -> Option<Power> {
    (by_policy(row) == Some(Baseline::Asleep.word())).then_some(Power::Stopped)
}

fn power(wanted: Baseline) -> Power {
    match wanted {
        Baseline::Awake => Power::Running,
        Baseline::Asleep | Baseline::None => Power::Stopped,
    }
}
