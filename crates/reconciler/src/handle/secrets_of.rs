//! What others ask about secrets, and what they tell of them.

use super::{Handle, Intent};
use model::{EnvironmentId, HostLabel, ProjectName};
use secrets::{SecretName, Vault};
use std::sync::Arc;

/// An environment that is given a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretUser {
    /// Its id.
    pub environment: EnvironmentId,
    /// Its label.
    pub label: HostLabel,
    /// The services, jobs and databases that are given it.
    pub services: Vec<String>,
}

impl Handle {
    /// The secrets of all projects. Whoever changes one tells so ([`Self::secrets_changed`]).
    #[must_use]
    pub fn vault(&self) -> &Arc<Vault> {
        &self.context.vault
    }

    /// Whether the policy grants a secret of that name; `None` if the policy branch has not been read.
    #[must_use]
    pub fn secret_granted(&self, project: &ProjectName, name: &SecretName) -> Option<bool> {
        let head = self.context.heads.get(project)?;
        Some(head.policy.secrets.iter().any(|granted| granted == name.as_str()))
    }

    /// The environments whose newest generation is given a secret.
    ///
    /// # Errors
    /// [`Intent`].
    pub async fn secret_users(&self, project: &ProjectName, name: &SecretName) -> Result<Vec<SecretUser>, Intent> {
        let store = &self.context.store;
        let mut users = Vec::new();
        for row in store.environment_list(Some(project), false).await? {
            let Some(newest) = store.generation_newest(&row.id).await?.filter(|_| row.wanted) else {
                continue;
            };
            let services = newest
                .spec
                .services()
                .map(|stack| users_in(stack, name))
                .unwrap_or_default();
            if !services.is_empty() {
                users.push(SecretUser {
                    environment: row.id,
                    label: row.label,
                    services,
                });
            }
        }
        Ok(users)
    }

    /// A secret of this project was set or removed: everything that may be given it is looked at anew.
    ///
    /// # Errors
    /// [`Intent`].
    pub async fn secrets_changed(&self, project: &ProjectName) -> Result<(), Intent> {
        self.nudge_project(project);
        for row in self.context.store.environment_list(Some(project), false).await? {
            self.nudge_environment(&row.id);
        }
        Ok(())
    }
}

fn users_in(stack: &model::ServiceStack, name: &SecretName) -> Vec<String> {
    let services = stack
        .services
        .iter()
        .map(|(name, service)| (name.as_str(), &service.workload));
    let jobs = stack.jobs.iter().map(|(name, job)| (name.as_str(), &job.workload));
    services
        .chain(jobs)
        .filter(|(_, workload)| workload.secrets().iter().any(|secret| secret.0 == name.as_str()))
        .map(|(user, _)| user.to_owned())
        .collect()
}
