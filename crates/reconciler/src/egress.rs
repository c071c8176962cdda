//! What an environment may reach outside of itself: what the policy says, for commits that are trusted.

use crate::{heads::PolicyHead, trust::Trust};
use model::Egress;

/// What the policy allows an environment at the commit that it has.
pub(crate) fn granted(trust: Trust, policy: &PolicyHead) -> Egress {
    match trust {
        Trust::Full => policy.policy.egress.clone(),
        Trust::Approved => Egress::default(),
    }
}
