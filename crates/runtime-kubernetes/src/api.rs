//! Requests to the API server: each bounded, tried again where that can help, and its refusals told in its own words.

use crate::{Kind, build::Object};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    Api, Client, Error,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, Preconditions, PropagationPolicy},
};
use runtime::{Result, RuntimeError};
use serde_json::Value;
use std::time::Duration;

/// Our name among those who write fields of an object.
pub(crate) const MANAGER: &str = "maquette";

/// The name of this runtime, for messages.
pub(crate) const RUNTIME: &str = "kubernetes";

/// How long one request may take. Streams are not requests.
const REQUEST: Duration = Duration::from_secs(20);

/// How often something is asked, and the first pause in between, which doubles. Together about six seconds.
const ATTEMPTS: u32 = 6;
const PAUSE: Duration = Duration::from_millis(200);

/// How many objects one answer to a listing holds.
const PAGE: u32 = 500;

/// Runs a request until it succeeds, is refused for good, or has failed [`ATTEMPTS`] times.
///
/// # Errors
/// What the API server said last.
pub(crate) async fn attempt<T, F>(action: &str, mut request: impl FnMut() -> F + Send) -> Result<T>
where
    F: Future<Output = kube::Result<T>> + Send,
{
    let mut pause = PAUSE;
    for last in (0..ATTEMPTS).rev() {
        let error = match tokio::time::timeout(REQUEST, request()).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) if last == 0 || !may_help(&error) => return Err(told(action, error)),
            Ok(Err(error)) => error.to_string(),
            Err(_) if last == 0 => return Err(unreachable(format!("{action}: no answer within {REQUEST:?}"))),
            Err(_) => format!("no answer within {REQUEST:?}"),
        };
        tracing::debug!(action, error, "asking the API server again");
        tokio::time::sleep(jittered(pause)).await;
        pause *= 2;
    }
    Err(unreachable(format!("{action}: no answer")))
}

/// Between half and all of a pause: many who failed together do not ask together again.
pub(crate) fn jittered(pause: Duration) -> Duration {
    let mut byte = [0];
    // Without randomness the whole pause will do.
    if getrandom::fill(&mut byte).is_err() {
        return pause;
    }
    pause / 2 + pause / 2 * u32::from(byte[0]) / 255
}

/// Whether asking again can help: the API server is busy or away, or somebody else changed the object meanwhile.
fn may_help(error: &Error) -> bool {
    match error {
        Error::Api(status) => match status.code {
            409 => status.reason != "AlreadyExists",
            429 | 500 | 502 | 503 | 504 => true,
            // A namespace that was just made has no quota in the cache of the API server yet.
            403 => status.message.contains("status unknown for quota"),
            _ => false,
        },
        Error::HyperError(_) | Error::Service(_) | Error::ReadEvents(_) => true,
        _ => false,
    }
}

/// An error of the API server as one of the port.
pub(crate) fn told(action: &str, error: Error) -> RuntimeError {
    let Error::Api(status) = error else {
        return unreachable(format!("{action}: {}", with_causes(&error)));
    };
    let reason = shortened(&status.message);
    match status.code {
        400 | 422 => RuntimeError::Invalid {
            what: action.to_owned(),
            reason,
        },
        429 | 502 | 503 | 504 => unreachable(format!("{action}: {reason}")),
        _ => told_in_words(action, reason),
    }
}

/// A refusal of which only the words are known.
pub(crate) fn told_in_words(action: &str, reason: String) -> RuntimeError {
    let what = action.to_owned();
    if reason.contains("exceeded quota") {
        return RuntimeError::Full { what, reason };
    }
    let refused = ["admission webhook", "violates PodSecurity", " is invalid: "];
    if refused.iter().any(|words| reason.contains(words)) {
        return RuntimeError::Invalid { what, reason };
    }
    failed(action, reason)
}

/// An error with all that caused it: the outermost of a client says little.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    shortened(&text)
}

/// At most 1000 characters: what a webhook says is somebody else's text.
pub(crate) fn shortened(text: &str) -> String {
    text.chars().take(1000).collect()
}

/// The cluster does not answer.
pub(crate) fn unreachable(reason: String) -> RuntimeError {
    RuntimeError::Unreachable {
        runtime: RUNTIME.to_owned(),
        reason,
    }
}

/// What an operation that takes time says when its time is over.
pub(crate) fn failed(action: &str, reason: impl Into<String>) -> RuntimeError {
    RuntimeError::Failed {
        action: action.to_owned(),
        reason: reason.into(),
    }
}

/// Objects of any kind.
#[derive(Clone)]
pub(crate) struct Objects {
    client: Client,
}

impl Objects {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    fn of(&self, kind: Kind, namespace: &str) -> Api<DynamicObject> {
        match kind {
            Kind::Namespace => Api::all_with(self.client.clone(), &kind.resource()),
            _ => Api::namespaced_with(self.client.clone(), namespace, &kind.resource()),
        }
    }

    /// Brings an object to what it should be, by server-side apply, and returns its metadata. Fields that others have written and we
    /// write too become ours.
    pub(crate) async fn apply(&self, namespace: &str, object: &Object) -> Result<ObjectMeta> {
        let (kind, name) = (object.kind(), object.name());
        let action = format!("applying {} {name} in {namespace}", kind.word());
        let content = object.expose().map_err(|error| failed(&action, error.to_string()))?;
        let content = with_type(kind, content);
        let api = self.of(kind, namespace);
        let how = PatchParams::apply(MANAGER).force();
        let patch = Patch::Apply(content);
        let made = attempt(&action, || api.patch(name, &how, &patch)).await?;
        Ok(made.metadata)
    }

    /// Changes some fields of an object that is there; `None` if it is not.
    pub(crate) async fn merge(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
        change: Value,
    ) -> Result<Option<ObjectMeta>> {
        let action = format!("changing {} {name} in {namespace}", kind.word());
        let api = self.of(kind, namespace);
        let how = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let patch = Patch::Merge(change);
        let changed = attempt(&action, || async { absent(api.patch(name, &how, &patch).await) }).await?;
        Ok(changed.map(|object| object.metadata))
    }

    /// What there is of an object; `None` if it does not exist.
    pub(crate) async fn get(&self, kind: Kind, namespace: &str, name: &str) -> Result<Option<DynamicObject>> {
        let action = format!("reading {} {name} in {namespace}", kind.word());
        let api = self.of(kind, namespace);
        attempt(&action, || api.get_opt(name)).await
    }

    /// Begins to delete an object, and what it owns. `uid` keeps a namesake that was made meanwhile. Whether there was one.
    pub(crate) async fn delete(&self, kind: Kind, namespace: &str, name: &str, uid: Option<String>) -> Result<bool> {
        let action = format!("deleting {} {name} in {namespace}", kind.word());
        let api = self.of(kind, namespace);
        let how = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Background),
            preconditions: uid.map(|uid| Preconditions {
                uid: Some(uid),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        let deleted = attempt(&action, || async { absent(api.delete(name, &how).await) }).await?;
        Ok(deleted.is_some())
    }

    /// The metadata of all objects of a kind with these labels, in one namespace or in all.
    pub(crate) async fn list(&self, kind: Kind, namespace: Option<&str>, labels: &str) -> Result<Vec<ObjectMeta>> {
        let api = match namespace {
            Some(namespace) => self.of(kind, namespace),
            None => Api::all_with(self.client.clone(), &kind.resource()),
        };
        let action = format!("listing objects of the kind {}", kind.word());
        let mut how = ListParams::default().labels(labels).limit(PAGE);
        let mut found = Vec::new();
        loop {
            let page = attempt(&action, || api.list_metadata(&how)).await?;
            found.extend(page.items.into_iter().map(|object| object.metadata));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => how.continue_token = Some(token),
                None => return Ok(found),
            }
        }
    }
}

/// What is not there is no error.
fn absent<T>(answer: kube::Result<T>) -> kube::Result<Option<T>> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(error),
    }
}

/// Server-side apply wants to be told what the object is, also where its type says it.
pub(crate) fn with_type(kind: Kind, mut content: Value) -> Value {
    let resource = kind.resource();
    if let Some(fields) = content.as_object_mut() {
        fields.insert("apiVersion".to_owned(), resource.api_version.into());
        fields.insert("kind".to_owned(), resource.kind.into());
    }
    content
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(code: u16, reason: &str, message: &str) -> Error {
        Error::Api(Box::new(kube::core::Status {
            status: None,
            code,
            message: message.to_owned(),
            metadata: None,
            reason: reason.to_owned(),
            details: None,
        }))
    }

    #[test]
    fn refusals_are_told_in_the_api_servers_own_words() {
        let quota = told(
            "applying pod web",
            refusal(403, "Forbidden", "pods \"web\" is forbidden: exceeded quota: quota"),
        );
        assert!(matches!(&quota, RuntimeError::Full { reason, .. } if reason.contains("exceeded quota: quota")));
        let webhook = "admission webhook \"policy.example.com\" denied the request: no latest tags";
        let denied = told("applying deployment web", refusal(403, "Forbidden", webhook));
        assert!(!denied.is_transient() && denied.to_string().contains("no latest tags"));
        let rights = told(
            "deleting service web",
            refusal(403, "Forbidden", "services \"web\" is forbidden"),
        );
        assert!(rights.is_transient(), "an operator can give the right at any time");
        let busy = told("listing", refusal(503, "ServiceUnavailable", "starting"));
        assert!(matches!(busy, RuntimeError::Unreachable { .. }));
    }

    #[test]
    fn what_somebody_changed_meanwhile_is_tried_again() {
        assert!(may_help(&refusal(409, "Conflict", "the object has been modified")));
        assert!(!may_help(&refusal(409, "AlreadyExists", "exists")));
        assert!(may_help(&refusal(500, "InternalError", "failed calling webhook")));
        assert!(!may_help(&refusal(422, "Invalid", "must be positive")));
    }

    #[test]
    fn pauses_differ_and_are_bounded() {
        for _ in 0..100 {
            let pause = jittered(PAUSE);
            assert!(pause >= PAUSE / 2 && pause <= PAUSE, "{pause:?}");
        }
    }
}
