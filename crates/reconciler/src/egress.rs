//! What an environment may reach outside of itself: what the policy says, for commits that are trusted.

use crate::{
    context::{Context, Trouble},
    heads::PolicyHead,
};
use model::{Egress, Origin};
use store::EnvironmentRow;

/// What the policy allows this environment at the commit that it has.
pub(crate) async fn granted(
    context: &Context,
    environment: &EnvironmentRow,
    policy: &PolicyHead,
) -> Result<Egress, Trouble> {
    let egress = &policy.policy.egress;
    if egress.is_empty() || !is_trusted(context, environment).await? {
        return Ok(Egress::default());
    }
    Ok(egress.clone())
}

/// Whether the commit was pushed to the base repository by somebody who may push there. An approval lets a commit run; it does not
/// let it speak with anybody outside.
async fn is_trusted(context: &Context, environment: &EnvironmentRow) -> Result<bool, Trouble> {
    let project = context.project(&environment.project)?;
    let Some(source) = project.primary() else {
        return Ok(false);
    };
    match &environment.origin {
        Origin::PullRequest { number } => {
            let known = context
                .store
                .pull_request_get(&project.name, &source.name, *number)
                .await?;
            let head = environment.head.get(&source.name);
            Ok(known.is_some_and(|pull| pull.trusted && Some(&pull.head) == head))
        }
        Origin::Branch { .. } | Origin::Baseline { .. } => Ok(true),
        // Engines need nobody, and what a copy is made from may have been a stranger's.
        Origin::Clone { .. } | Origin::Golden | Origin::Spare => Ok(false),
    }
}
