//! What a cluster is used for besides previews: one that carries production is no place for them unless its operator insists.

use crate::{
    api::{attempt, failed, told, unreachable},
    build::labels,
};
use k8s_openapi::api::{
    apps::v1::{DaemonSet, Deployment, StatefulSet},
    authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec},
    core::v1::Namespace,
};
use kube::{
    Api, Client,
    api::{ListParams, PostParams},
};
use runtime::Result;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// The label of a namespace that says that the cluster carries production, with any value but `no`.
pub const PRODUCTION: &str = "maquette/production";

/// Namespaces of the cluster itself.
const SYSTEM: [&str; 3] = ["kube-system", "kube-public", "kube-node-lease"];

/// How many objects one answer to a listing holds.
const PAGE: u32 = 500;

/// How many finds are told.
const TOLD: usize = 5;

/// How long an API server may take to say that it is there.
const ANSWER: Duration = Duration::from_secs(10);

/// All that is done on a cluster besides reading what was made: verb, API group, resource. `deploy/kubernetes` grants the same.
pub const RIGHTS: &[(&str, &str, &str)] = &[
    ("create", "", "namespaces"),
    ("patch", "", "namespaces"),
    ("delete", "", "namespaces"),
    ("watch", "", "namespaces"),
    ("patch", "", "configmaps"),
    ("patch", "", "limitranges"),
    ("patch", "", "resourcequotas"),
    ("patch", "", "serviceaccounts"),
    ("patch", "", "services"),
    ("patch", "", "persistentvolumeclaims"),
    ("patch", "", "secrets"),
    ("watch", "", "pods"),
    ("list", "", "events"),
    ("get", "", "pods/log"),
    ("create", "", "pods/exec"),
    ("create", "", "pods/portforward"),
    ("patch", "apps", "deployments"),
    ("patch", "apps", "statefulsets"),
    ("patch", "batch", "jobs"),
    ("patch", "networking.k8s.io", "networkpolicies"),
];

/// What of a cluster is looked at.
#[derive(Clone, Debug, Default)]
pub struct Neighbours {
    /// Namespaces whose workloads may be beside previews: what the cluster needs, such as an ingress or Argo CD.
    pub allowed: BTreeSet<String>,
    /// Whether the operator insists on a cluster that carries production.
    pub insists: bool,
}

/// What there is on a cluster that is not of previews: where, and how much. Empty is nothing.
///
/// # Errors
/// If the API server does not answer, or does not let us look.
pub async fn production(client: &Client, neighbours: &Neighbours) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut ours = BTreeSet::new();
    let action = "looking whether the cluster carries production";
    let namespaces: Api<Namespace> = Api::all(client.clone());
    for namespace in pages(action, &namespaces).await? {
        let name = namespace.name.clone().unwrap_or_default();
        if labels::label(&namespace, PRODUCTION).is_some_and(|word| word != "no") {
            found.push(format!("the namespace {name} has the label {PRODUCTION}"));
        }
        if labels::label(&namespace, labels::INSTANCE).is_some() {
            ours.insert(name);
        }
    }
    let mut workloads: BTreeMap<String, usize> = BTreeMap::new();
    let apis = [
        pages(action, &Api::<Deployment>::all(client.clone())).await?,
        pages(action, &Api::<StatefulSet>::all(client.clone())).await?,
        pages(action, &Api::<DaemonSet>::all(client.clone())).await?,
    ];
    for object in apis.into_iter().flatten() {
        let namespace = object.namespace.unwrap_or_default();
        let known = SYSTEM.contains(&namespace.as_str()) || neighbours.allowed.contains(&namespace);
        if !known && !ours.contains(&namespace) {
            *workloads.entry(namespace).or_default() += 1;
        }
    }
    found.extend(workloads.into_iter().map(|(namespace, count)| match count {
        1 => format!("the namespace {namespace} has a workload that is none of previews"),
        count => format!("the namespace {namespace} has {count} workloads that are none of previews"),
    }));
    Ok(found)
}

/// Finds in one sentence.
#[must_use]
pub fn told_together(found: &[String]) -> String {
    let more = found.len().saturating_sub(TOLD);
    let mut text = found.iter().take(TOLD).cloned().collect::<Vec<_>>().join("; ");
    if more > 0 {
        text = format!("{text}; and {more} more");
    }
    text
}

/// How an operator insists, or says that what was found is nothing to worry about.
pub const INSIST: &str = "use a cluster of its own for previews; or name those namespaces under `neighbours` of the cluster in \
                          maquette-server.yaml if they may be beside previews, or insist with `production: insist`";

/// The version of a cluster that answers.
///
/// # Errors
/// If it does not.
pub async fn version(client: &Client) -> Result<String> {
    let asked = tokio::time::timeout(ANSWER, client.apiserver_version()).await;
    let answer = asked.map_err(|_| unreachable(format!("no answer within {ANSWER:?}")))?;
    Ok(answer
        .map_err(|error| told("asking for its version", error))?
        .git_version)
}

/// What tells a cluster from every other: the id of its oldest namespace, which lives as long as the cluster.
///
/// # Errors
/// If the API server does not answer, or does not tell.
pub async fn identity(client: &Client) -> Result<String> {
    let action = "asking the cluster who it is";
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let found = attempt(action, || namespaces.get_metadata(SYSTEM[0])).await?;
    found
        .metadata
        .uid
        .ok_or_else(|| failed(action, "its first namespace has no id"))
}

/// Of what previews need, that which the account may not do.
///
/// # Errors
/// If the API server does not answer.
pub async fn lacking(client: &Client) -> Result<Vec<String>> {
    let api: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let mut lacking = Vec::new();
    for (verb, group, resource) in RIGHTS {
        let (resource, subresource) = match resource.split_once('/') {
            Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
            None => (*resource, None),
        };
        let review = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(ResourceAttributes {
                    verb: Some((*verb).to_owned()),
                    group: Some((*group).to_owned()),
                    resource: Some(resource.to_owned()),
                    subresource: subresource.clone(),
                    ..ResourceAttributes::default()
                }),
                ..SelfSubjectAccessReviewSpec::default()
            },
            ..SelfSubjectAccessReview::default()
        };
        let action = "asking what we may do";
        let how = PostParams::default();
        let answer = attempt(action, || api.create(&how, &review)).await?;
        let status = answer.status.ok_or_else(|| failed(action, "there is no answer"))?;
        if !status.allowed {
            let of = subresource.map_or_else(|| resource.to_owned(), |sub| format!("{resource}/{sub}"));
            lacking.push(format!("{verb} {of}"));
        }
    }
    Ok(lacking)
}

/// The metadata of all objects of a kind.
async fn pages<K>(action: &str, api: &Api<K>) -> Result<Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta>>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned + kube::Resource<DynamicType = ()>,
{
    let mut how = ListParams::default().limit(PAGE);
    let mut all = Vec::new();
    loop {
        let page = attempt(action, || api.list_metadata(&how)).await?;
        all.extend(page.items.into_iter().map(|object| object.metadata));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => how.continue_token = Some(token),
            None => return Ok(all),
        }
    }
}
