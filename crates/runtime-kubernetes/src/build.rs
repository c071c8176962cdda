//! From one generation to the objects that it is made of, in the order in which they have to be there. Pure.

mod account;
mod data;
pub(crate) mod jobs;
pub(crate) mod labels;
mod limits;
pub(crate) mod marker;
mod namespace;
mod object;
mod pod;
mod policies;
mod secrets;
mod services;
mod workloads;

use crate::{
    Cluster, Finding, Place, Severity,
    finding::{Decision, Findings},
};
pub use limits::quota_is_enforced;
use model::{Egress, EnvironmentSpec, JobEvent, ServiceStack, Stack};
pub use object::Object;
use runtime::Secrets;
pub(crate) use secrets::PULL;
pub use secrets::SecretObject;

/// The objects of one generation.
#[derive(Debug)]
pub struct Built {
    /// What surrounds everything: namespace, limits, policies, account. The quota has to be in force
    /// ([`quota_is_enforced`]) before any pod is made: until then pods get in without bound.
    pub envelope: Vec<Object>,
    /// Secrets, data, jobs, workloads, services, and the marker at the end.
    pub stack: Vec<Object>,
    /// What is done otherwise than the stack says.
    pub warnings: Vec<Finding>,
}

/// A generation that a cluster can not run. Nothing of it is made.
#[derive(Debug, thiserror::Error)]
#[error("{} can not run on a cluster", if .0.len() == 1 { "one thing" } else { "several things" })]
pub struct Refused(
    /// Everything that was found, what is refused first; at least one is.
    pub Vec<Finding>,
);

/// All that objects are made from.
pub(crate) struct Order<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) spec: &'a EnvironmentSpec,
    pub(crate) stack: &'a ServiceStack,
    pub(crate) secrets: &'a dyn Secrets,
}

/// The objects of a generation on a cluster. Jobs on other events than create and start are made when these happen ([`job`]).
///
/// # Errors
/// [`Refused`], with everything that the cluster can not do.
pub fn environment(cluster: &Cluster, spec: &EnvironmentSpec, secrets: &dyn Secrets) -> Result<Built, Refused> {
    let (built, findings) = with_order(cluster, spec, secrets, |order, findings| {
        whole(order, findings);
        let envelope = envelope(order);
        let mut stack = pull_secrets(order);
        stack.extend(data::claims(order, findings));
        for (name, service) in &order.stack.services {
            stack.extend(workloads::objects(order, name, service, findings));
        }
        stack.extend(services::objects(order, findings));
        for job in order.stack.jobs.values() {
            let objects = jobs::objects(order, job, findings);
            if matches!(job.on, JobEvent::Create | JobEvent::Start) {
                stack.extend(objects);
            }
        }
        stack.push(marker::object(order));
        stack.sort_by_key(Object::rank);
        (envelope, stack)
    })?;
    let (envelope, stack) = built;
    Ok(Built {
        envelope,
        stack,
        warnings: findings,
    })
}

/// The objects of one service: what it is given, what runs it, and the names under which it is found. Nothing for a service that the
/// generation does not have.
///
/// # Errors
/// [`Refused`], with everything of the service that the cluster can not do.
pub fn service(
    cluster: &Cluster,
    spec: &EnvironmentSpec,
    secrets: &dyn Secrets,
    name: &model::ServiceName,
) -> Result<Vec<Object>, Refused> {
    let made = with_order(cluster, spec, secrets, |order, findings| {
        let Some(service) = order.stack.services.get(name) else {
            return Vec::new();
        };
        let mut made = workloads::objects(order, name, service, findings);
        // Whose names clash was found out when the whole was looked at.
        let names = services::objects(order, &mut Findings::default());
        made.extend(
            names
                .into_iter()
                .filter(|object| labels::called(object.metadata()) == Some(name.as_str())),
        );
        made
    });
    made.map(|(objects, _)| objects)
}

/// The objects of one job, whatever its event. Nothing for a job that the generation does not have.
///
/// # Errors
/// [`Refused`], with everything of the job that the cluster can not do.
pub fn job(
    cluster: &Cluster,
    spec: &EnvironmentSpec,
    secrets: &dyn Secrets,
    name: &model::JobName,
) -> Result<Vec<Object>, Refused> {
    let made = with_order(cluster, spec, secrets, |order, findings| {
        let job = order.stack.jobs.get(name);
        job.map_or_else(Vec::new, |job| jobs::objects(order, job, findings))
    });
    made.map(|(objects, _)| objects)
}

/// What `make` makes, and what it warns of; nothing at all if it refuses anything.
fn with_order<T>(
    cluster: &Cluster,
    spec: &EnvironmentSpec,
    secrets: &dyn Secrets,
    make: impl FnOnce(&Order<'_>, &mut Findings) -> T,
) -> Result<(T, Vec<Finding>), Refused> {
    let mut findings = Findings::default();
    let stack = match &spec.stack {
        Stack::Services(stack) => stack,
        Stack::Objects(_) => {
            findings.note(&Place::Environment, Decision::Objects, "");
            return Err(Refused(findings.sorted()));
        }
    };
    let order = Order {
        cluster,
        spec,
        stack,
        secrets,
    };
    let made = make(&order, &mut findings);
    let findings = findings.sorted();
    let refused = findings.iter().any(|f| f.decision.severity() == Severity::Refused);
    if refused {
        Err(Refused(findings))
    } else {
        Ok((made, findings))
    }
}

fn envelope(order: &Order<'_>) -> Vec<Object> {
    let mut objects = vec![namespace::object(order)];
    objects.extend(limits::objects(order));
    objects.extend(policies::objects(order));
    objects.extend(account::objects(order));
    objects
}

fn pull_secrets(order: &Order<'_>) -> Vec<Object> {
    let pull = order.cluster.pull_secret.as_ref();
    pull.into_iter()
        .map(|config| Object::Secret(secrets::pull(order, config)))
        .collect()
}

/// What is said of the environment as a whole. Taken apart by name, so that a new field does not compile until it is decided.
fn whole(order: &Order<'_>, findings: &mut Findings) {
    let EnvironmentSpec {
        // In labels and names.
        environment: _,
        generation: _,
        project: _,
        origin: _,
        // Commits are in the digests of services; their files are refused where they are mounted.
        sources: _,
        stack: _,
        // In the quota, but for one.
        limits,
        egress,
        // Versions are in the digests, values come from `Secrets`.
        secrets: _,
    } = order.spec;
    let ServiceStack {
        services: _,
        jobs: _,
        volumes: _,
        data,
        networks,
        // They are looked at where images are built.
        bases: _,
    } = order.stack;
    findings.note_if(limits.pids.is_some(), &Place::Environment, Decision::AllPids);
    findings.note_if(!limits::Shares::of(order).fit, &Place::Environment, Decision::NoRoom);
    let Egress {
        hosts,
        private,
        endpoints,
    } = egress;
    let outside = !hosts.is_empty() || !private.is_empty() || !endpoints.is_empty();
    findings.note_if(outside, &Place::Environment, Decision::Egress);
    for engine in data.keys() {
        findings.note(&Place::Service(engine.clone()), Decision::Data, "");
    }
    findings.note_if(networks.len() > 1, &Place::Environment, Decision::NetworkNames);
}

#[cfg(test)]
mod tests;
