//! Jobs. Those of a cluster can not be changed, so a name says what was run: the generation, or what the job was made for.

use super::{Object, Order, labels, pod};
use crate::{
    finding::{Decision, Findings, Place},
    names,
};
use k8s_openapi::{
    api::{
        batch::v1::{
            Job as KubernetesJob, JobSpec, PodFailurePolicy, PodFailurePolicyOnPodConditionsPattern,
            PodFailurePolicyRule,
        },
        core::v1::PodTemplateSpec,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use model::{Digest, Job, JobEvent};

/// How many digits of a digest tell one run from another that was made for something else.
const DIGITS: usize = 12;

/// How often something is started again that may be as often as it likes. The cluster's own default.
const RETRIES: u32 = 6;

/// The part of a name that says what something was made for.
pub(super) fn run_of(digest: Option<&Digest>) -> String {
    let digits = digest.map_or("", |digest| &digest.as_str()[..DIGITS]);
    format!("d{digits}")
}

/// A job, and what it is given.
pub(super) fn objects(order: &Order<'_>, job: &Job, findings: &mut Findings) -> Vec<Object> {
    let Job {
        name,
        workload,
        on,
        // The planner's: it asks for the job when they are ready.
        needs: _,
        timeout_ms,
        product,
        // Here nothing runs by the clock.
        schedule: _,
    } = job;
    let place = Place::Job(name.clone());
    findings.note_if(*on == JobEvent::Build, &place, Decision::BuildJob);
    findings.note_if(product.is_some(), &place, Decision::Product);
    let digest = order.spec.job_digest(name);
    let run = match on {
        // Once in a life: the same job has the same name in the next generation, and is not run again. Runs by hand differ by a
        // variable.
        JobEvent::Create | JobEvent::Hand => run_of(digest.as_ref()),
        JobEvent::Build | JobEvent::Start | JobEvent::Stop | JobEvent::Delete => format!("g{}", order.spec.generation),
    };
    let all: Vec<Option<&str>> = match order.stack.networks.is_empty() {
        true => vec![None],
        false => order.stack.networks.keys().map(|name| Some(name.as_str())).collect(),
    };
    let unit = pod::Unit {
        place: place.clone(),
        called: name.as_str(),
        kind: "job",
        workload,
        digest,
        networks: all.into_iter().map(labels::network).collect(),
        outside: !order.spec.egress.is_empty(),
        completed_before: Vec::new(),
    };
    let (template, mut made) = pod::template(order, &unit, findings);
    let deadline = pod::probes::seconds(&place, "timeout", *timeout_ms, findings);
    made.push(run_to_end(order, &unit, &run, template, Some(deadline.into()), None));
    made
}

/// Something that runs to its end. It is tried once, or as often again as `retries` says; a pod that the cluster took away for
/// reasons of its own does not count.
pub(super) fn run_to_end(
    order: &Order<'_>,
    unit: &pod::Unit<'_>,
    run: &str,
    mut template: PodTemplateSpec,
    deadline_seconds: Option<i64>,
    retries: Option<Option<u32>>,
) -> Object {
    let limit = retries.map_or(0, |limit| limit.unwrap_or(RETRIES));
    if let Some(spec) = &mut template.spec {
        spec.restart_policy = Some("Never".to_owned());
    }
    let taken_away = PodFailurePolicyRule {
        action: "Ignore".to_owned(),
        on_pod_conditions: Some(vec![PodFailurePolicyOnPodConditionsPattern {
            type_: "DisruptionTarget".to_owned(),
            status: Some("True".to_owned()),
        }]),
        on_exit_codes: None,
    };
    Object::Job(KubernetesJob {
        metadata: ObjectMeta {
            annotations: Some(unit.annotations()),
            ..labels::meta(order, &names::object(&[unit.called, run]))
        },
        spec: Some(JobSpec {
            active_deadline_seconds: deadline_seconds,
            backoff_limit: Some(i32::try_from(limit).unwrap_or(i32::MAX)),
            pod_failure_policy: Some(PodFailurePolicy {
                rules: vec![taken_away],
            }),
            template,
            ..JobSpec::default()
        }),
        status: None,
    })
}
