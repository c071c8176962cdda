//! Secrets of a project: who may be given them, which versions a generation has, and their values at the moment of their use.

use crate::{context::Context, environment::execute::StepError, heads::PolicyHead, text::chain, trust::Trust};
use model::{EnvironmentSpec, ProjectName, SecretRef, ServiceStack};
use runtime::Secrets;
use secrets::{SecretName, SecretValue};
use std::collections::{BTreeMap, BTreeSet};
use store::Failure;

/// A shorter text would be masked wherever it happens to stand.
const MASKED_MIN: usize = 4;
/// A line of a longer value that is masked by itself has at least so many bytes.
const LINE_MIN: usize = 8;
/// Lines of one value that are masked by themselves.
const LINES_MAX: usize = 1000;
const MASK: &str = "***";

/// The secrets that have a value, with its version.
pub(crate) type Versions = BTreeMap<SecretRef, String>;

/// The secrets of a project that have a value.
pub(crate) fn available(context: &Context, project: &ProjectName) -> BTreeSet<String> {
    let entries = context.vault.list(project);
    entries.into_iter().map(|entry| entry.name.to_string()).collect()
}

/// The secrets that a commit may be given: those that the policy grants and that have a value, and none where the commit is not
/// trusted.
pub(crate) fn granted(context: &Context, project: &ProjectName, policy: &PolicyHead, trust: Trust) -> Versions {
    if trust != Trust::Full {
        return Versions::new();
    }
    let of_policy = |name: &str| policy.policy.secrets.iter().any(|granted| granted == name);
    let all = context.vault.list(project).into_iter();
    all.filter(|entry| of_policy(entry.name.as_str()))
        .map(|entry| (SecretRef(entry.name.to_string()), entry.version.as_str().to_owned()))
        .collect()
}

/// The versions of the secrets that a stack is given.
pub(crate) fn versions(context: &Context, project: &ProjectName, stack: &ServiceStack) -> Versions {
    let version = |name: &&SecretRef| {
        let entry = context.vault.entry(project, &name.0.parse().ok()?)?;
        Some(((*name).clone(), entry.version.as_str().to_owned()))
    };
    stack.secrets().iter().filter_map(version).collect()
}

/// What happened to the secrets of an environment from one generation to the next, in words.
pub(crate) fn changes(before: &Versions, after: &Versions) -> Vec<String> {
    let gone = before.keys().filter(|name| !after.contains_key(name));
    let gone = gone.map(|name| format!("the secret {} is not given any more", name.0));
    let others = after.iter().filter_map(|(name, version)| match before.get(name) {
        Some(old) if old == version => None,
        Some(_) => Some(format!("the secret {} has another value", name.0)),
        None => Some(format!("the secret {} is given", name.0)),
    });
    gone.chain(others).collect()
}

/// What of a stack lacks secrets that the policy grants: by secret, the services and jobs that name it.
pub(crate) fn lacking(whole: &ServiceStack, missing: &BTreeSet<String>) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let services = whole
        .services
        .iter()
        .map(|(name, service)| (name.as_str(), &service.workload));
    let jobs = whole.jobs.iter().map(|(name, job)| (name.as_str(), &job.workload));
    for (name, workload) in services.chain(jobs) {
        for secret in workload.secrets() {
            if missing.contains(&secret.0) {
                found.entry(secret.0.clone()).or_default().push(name.to_owned());
            }
        }
    }
    found
}

/// What people should know of secrets that are not there.
pub(crate) fn told(lacking: &BTreeMap<String, Vec<String>>, trust: Trust) -> Vec<String> {
    let told = lacking.iter().map(|(secret, users)| {
        let users = users.join(", ");
        match trust {
            Trust::Full => format!(
                "The secret {secret} of {users} has no value: it was removed, or never set. Set it with: maquette secret set {secret}"
            ),
            Trust::Approved => format!("The secret {secret} of {users} is not given: whoever pushed this commit may not push to the repository."),
        }
    });
    told.collect()
}

/// The values of some secrets, for one call. Nothing keeps them longer.
#[derive(Default)]
pub(crate) struct Values(BTreeMap<SecretRef, SecretValue>);

impl Secrets for Values {
    fn value(&self, secret: &SecretRef) -> Option<&[u8]> {
        self.0.get(secret).map(SecretValue::expose)
    }
}

/// The values of all secrets that a generation has; one that was removed meanwhile is not among them.
pub(crate) async fn values(context: &Context, spec: &EnvironmentSpec) -> Result<Values, StepError> {
    if spec.secrets.is_empty() {
        return Ok(Values::default());
    }
    let (vault, project) = (std::sync::Arc::clone(&context.vault), spec.project.clone());
    let names: Vec<SecretRef> = spec.secrets.keys().cloned().collect();
    let read = tokio::task::spawn_blocking(move || {
        let mut values = BTreeMap::new();
        for name in names {
            let Ok(parsed) = name.0.parse::<SecretName>() else {
                continue;
            };
            match vault.value(&project, &parsed) {
                Ok(value) => drop(values.insert(name, value)),
                Err(secrets::Error::Unknown { .. }) => {}
                Err(error) => return Err(chain(&error)),
            }
        }
        Ok(Values(values))
    });
    let failed = |why: String| StepError::new(format!("the secrets can not be read: {why}"), true);
    read.await.map_err(|error| failed(error.to_string()))?.map_err(failed)
}

impl Values {
    /// The same failure without these values, should a program have printed one.
    pub(crate) fn mask(&self, failure: &mut Failure) {
        let mut found: Vec<&str> = self.0.values().flat_map(masked_parts).collect();
        // What is a part of another goes after it.
        found.sort_unstable_by_key(|part| std::cmp::Reverse(part.len()));
        let mask = |text: &mut String| {
            for part in &found {
                if text.contains(part) {
                    *text = text.replace(part, MASK);
                }
            }
        };
        mask(&mut failure.message);
        failure.hint.as_mut().into_iter().for_each(mask);
        failure.log.iter_mut().for_each(mask);
    }
}

/// The value as text, and its lines: logs come line by line.
fn masked_parts(value: &SecretValue) -> impl Iterator<Item = &str> {
    let text = std::str::from_utf8(value.expose()).unwrap_or_default().trim();
    let whole = (text.len() >= MASKED_MIN).then_some(text);
    let lines = text.lines().map(str::trim).filter(|line| line.len() >= LINE_MIN);
    whole.into_iter().chain(lines.take(LINES_MAX))
}

/// As [`Values::mask`], for whoever has not read the values. Without them nothing can be masked, and so nothing of a log is told.
pub(crate) async fn mask(context: &Context, spec: &EnvironmentSpec, failure: &mut Failure) {
    match values(context, spec).await {
        Ok(values) => values.mask(failure),
        Err(_) => failure.log = vec!["the log is not shown: it can not be told whether it holds secrets".to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(text: &str) -> Failure {
        Failure {
            step: "job:x".to_owned(),
            message: text.to_owned(),
            hint: Some(text.to_owned()),
            log: vec![text.to_owned(), "plain".to_owned()],
        }
    }

    #[test]
    fn values_are_masked_wherever_a_failure_repeats_them() {
        let value = |text: &str| SecretValue::new(text.as_bytes().to_vec()).unwrap();
        let name = |name: &str| SecretRef(name.to_owned());
        let values = Values(BTreeMap::from([
            (name("a"), value("hunter2\n")),
            (name("b"), value("hunter2-and-more")),
            (name("c"), value("-----BEGIN KEY-----\nMIIabcdefg\n-----END KEY-----")),
            (name("short"), value("on")),
        ]));
        let mut seen = failure("password hunter2, hunter2-and-more, MIIabcdefg; nothing on");
        values.mask(&mut seen);
        let wanted = "password ***, ***, ***; nothing on";
        assert_eq!(
            (seen.message.as_str(), seen.hint.as_deref(), seen.log[0].as_str()),
            (wanted, Some(wanted), wanted)
        );
        assert_eq!(seen.log[1], "plain");
    }

    #[test]
    fn what_became_of_secrets_is_told_by_name() {
        let of = |pairs: &[(&str, &str)]| -> Versions {
            let pair = |(name, version): &(&str, &str)| (SecretRef((*name).to_owned()), (*version).to_owned());
            pairs.iter().map(pair).collect()
        };
        assert_eq!(
            changes(
                &of(&[("A", "1"), ("B", "1"), ("C", "1")]),
                &of(&[("A", "1"), ("B", "2"), ("D", "1")])
            ),
            [
                "the secret C is not given any more",
                "the secret B has another value",
                "the secret D is given"
            ]
        );
    }
}
