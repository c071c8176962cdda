//! The port that knows who may come in.

use crate::secret::{Secret, TokenHash};
use async_trait::async_trait;
use model::ProjectName;
use std::{collections::BTreeSet, sync::Arc, time::Duration};

/// Who is allowed in cannot be known at the moment, for example because the control plane restarts.
#[derive(Debug, thiserror::Error)]
#[error("sign-in cannot be checked at the moment")]
pub struct AuthUnavailable {
    /// Why.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// The projects whose environments a visitor may see.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Projects {
    /// Every project.
    All,
    /// These and no others.
    Only(BTreeSet<ProjectName>),
}

/// Somebody, or some program, that has signed in.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Visitor {
    /// Who: an account, `guest:<label of the link>` or `token:<its name>`. Written to the log, never to the application.
    #[serde(with = "super::shared_text")]
    pub subject: Arc<str>,
    /// What they may see.
    pub may_see: Projects,
}

impl Visitor {
    /// Whether environments of the project exist for this visitor.
    #[must_use]
    pub fn may_see(&self, project: &ProjectName) -> bool {
        match &self.may_see {
            Projects::All => true,
            Projects::Only(some) => some.contains(project),
        }
    }
}

/// A session that has just begun.
#[derive(Debug)]
pub struct Session {
    /// Goes into the cookie of the host where the session began, and nowhere else. The owner keeps its hash only.
    pub secret: Secret,
    /// How long the browser shall keep the cookie.
    pub lifetime: Duration,
    /// Who signed in.
    pub visitor: Visitor,
}

/// Sessions, sign-in links and automation tokens. Secrets arrive as hashes; an implementation keeps hashes, compares them
/// with `==` of [`TokenHash`] (constant time) and answers from a cache when it has to ask another process.
///
/// No method may depend on which environments exist: the gateway asks before it looks up any route.
#[async_trait]
pub trait AuthState: Send + Sync + 'static {
    /// Turns the token of a sign-in link into a session for `host` (a name without port). `None` when the link is
    /// unknown, has expired or was revoked.
    ///
    /// # Errors
    /// [`AuthUnavailable`] when nobody can tell.
    async fn exchange(&self, link: &TokenHash, host: &str) -> Result<Option<Session>, AuthUnavailable>;

    /// Whose session this is. A session is valid on the host where it began only.
    ///
    /// # Errors
    /// [`AuthUnavailable`] when nobody can tell.
    async fn session(&self, session: &TokenHash, host: &str) -> Result<Option<Visitor>, AuthUnavailable>;

    /// Whose automation token this is.
    ///
    /// # Errors
    /// [`AuthUnavailable`] when nobody can tell.
    async fn automation(&self, token: &TokenHash) -> Result<Option<Visitor>, AuthUnavailable>;

    /// Whether this is the word of the control plane, by which it asks whether services answer. Answered from memory.
    fn is_control_plane(&self, word: &TokenHash) -> bool;

    /// Ends a session. Ending one that does not exist is no error.
    ///
    /// # Errors
    /// [`AuthUnavailable`] when it could not be ended.
    async fn revoke(&self, session: &TokenHash) -> Result<(), AuthUnavailable>;
}
