//! What an environment becomes on a cluster, and what a cluster refuses.

mod fixture;
mod refused;

use super::{Built, Object, environment, job};
use crate::{Cluster, PodSecurity};
use fixture::{CANARY, OneSecret, cluster, named, of_kind, private_cluster, shop, small, stack_of};
use model::{Egress, EnvironmentSpec, Generation, Network, Origin, Value};
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};

fn built_on(cluster: &Cluster, spec: &EnvironmentSpec) -> Built {
    environment(cluster, spec, &OneSecret).unwrap_or_else(|refused| {
        panic!("{}", refused.0.iter().map(|f| format!("{f}\n")).collect::<String>());
    })
}

fn built(spec: &EnvironmentSpec) -> Built {
    built_on(&cluster(), spec)
}

fn all(built: Built) -> Vec<Object> {
    built.envelope.into_iter().chain(built.stack).collect()
}

/// Objects by kind and name; the two together are an object's own.
fn by_name(built: Built) -> BTreeMap<String, Json> {
    let mut found = BTreeMap::new();
    for object in all(built) {
        let shown = object.shown().unwrap();
        let name = format!("{} {}", shown["kind"], shown["metadata"]["name"]).replace('"', "");
        assert!(found.insert(name.clone(), shown).is_none(), "two objects are {name}");
    }
    found
}

macro_rules! snapshots {
    ($($test:ident: $($kind:literal),+;)*) => {
        $(#[test]
        fn $test() {
            let objects = all(built(&shop()));
            let shown: Vec<_> = [$($kind),+].iter().flat_map(|kind| of_kind(&objects, kind)).collect();
            insta::assert_yaml_snapshot!(stringify!($test), shown);
        })*
    };
}

snapshots! {
    namespace: "Namespace";
    limits: "LimitRange", "ResourceQuota";
    policies: "NetworkPolicy";
    account: "ServiceAccount";
    secrets: "Secret", "ConfigMap";
    data: "PersistentVolumeClaim", "StatefulSet";
    jobs: "Job";
    workloads: "Deployment";
    services: "Service";
}

#[test]
fn objects_come_in_the_order_in_which_they_are_needed() {
    let objects = all(built(&shop()));
    let mut kinds: Vec<String> = objects
        .iter()
        .map(|object| object.shown().unwrap()["kind"].as_str().unwrap().to_owned())
        .collect();
    kinds.dedup();
    assert_eq!(
        kinds.join(" "),
        "Namespace LimitRange ResourceQuota NetworkPolicy ServiceAccount Secret ConfigMap \
         PersistentVolumeClaim StatefulSet Job Deployment Service ConfigMap"
    );
}

/// The names of objects that are not the same in both.
fn changed(before: &EnvironmentSpec, after: &EnvironmentSpec) -> Vec<String> {
    let (before, after) = (by_name(built(before)), by_name(built(after)));
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let changed = names.into_iter().filter(|name| before.get(*name) != after.get(*name));
    changed.cloned().collect()
}

#[test]
fn a_push_changes_what_it_changes_and_nothing_else() {
    let mut next = shop();
    next.generation = Generation(13);
    let web = named(stack_of(&mut next), "web");
    web.workload.environment.insert("GREETING".to_owned(), "hello".into());
    // A job on start runs in every generation.
    let expected = ["ConfigMap marker", "Deployment web", "Job seed--g12", "Job seed--g13"];
    assert_eq!(changed(&shop(), &next), expected);
}

#[test]
fn a_service_that_comes_restarts_no_other() {
    let mut next = shop();
    let more = fixture::service(fixture::image("more"));
    stack_of(&mut next).services.insert("more".parse().unwrap(), more);
    let expected = [
        "ConfigMap marker",
        "Deployment more",
        "ResourceQuota quota",
        "Service more",
    ];
    assert_eq!(changed(&shop(), &next), expected);
}

#[test]
fn a_secret_with_a_new_value_restarts_whom_it_is_given_to() {
    let mut next = shop();
    next.secrets.values_mut().for_each(|version| *version = "v2".to_owned());
    let expected = ["ConfigMap marker", "Deployment web", "StatefulSet db"];
    assert_eq!(changed(&shop(), &next), expected);
}

#[test]
fn a_volume_of_another_incarnation_is_another_claim() {
    let mut next = shop();
    stack_of(&mut next)
        .volumes
        .values_mut()
        .for_each(|volume| volume.incarnation = Generation(12));
    let claims = |spec: &EnvironmentSpec| -> Vec<String> {
        let names = by_name(built(spec)).into_keys();
        names.filter(|name| name.starts_with("PersistentVolumeClaim")).collect()
    };
    assert_ne!(claims(&shop()), claims(&next));
}

#[test]
fn values_of_secrets_are_in_what_is_delivered_and_in_nothing_that_is_shown() {
    let built = built_on(&private_cluster(), &shop());
    assert!(!format!("{built:?}").contains(CANARY));
    let objects = all(built);
    for object in &objects {
        let shown = object.shown().unwrap().to_string();
        let encoded = "Y2FuYXJ5LTMxNDE";
        assert!(!shown.contains(CANARY) && !shown.contains(encoded), "{shown}");
    }
    let secrets = objects.iter().filter_map(|object| match object {
        Object::Secret(secret) => Some(secret.expose()),
        _ => None,
    });
    let values: Vec<String> = secrets
        .flat_map(|secret| secret.data.unwrap_or_default().into_values())
        .map(|value| String::from_utf8(value.0).unwrap())
        .collect();
    let url = format!("postgres://app:{CANARY}@db/app");
    assert!(
        values.contains(&CANARY.to_owned()) && values.contains(&url),
        "{values:?}"
    );
    assert_eq!(
        values.len(),
        4,
        "the database, the page's variable and file, and what fetches images"
    );
}

#[test]
fn what_an_author_calls_things_becomes_no_label() {
    let mut spec = shop();
    spec.origin = Origin::Branch {
        branch: "fix/$(reboot) größe".replace(' ', "-").parse().unwrap(),
    };
    for (name, object) in by_name(built(&spec)) {
        let labels = object["metadata"]["labels"].as_object().unwrap();
        for (key, value) in labels {
            let value = value.as_str().unwrap();
            let fits = value
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
            assert!(fits && value.len() <= 63, "{name}: {key}: {value}");
        }
    }
}

/// A list that is empty is taken for a change by every server-side apply.
#[test]
fn no_list_is_empty() {
    fn check(value: &Json, path: &str) {
        match value {
            Json::Array(items) => {
                assert!(!items.is_empty(), "{path}");
                items.iter().for_each(|item| check(item, path));
            }
            Json::Object(fields) => fields
                .iter()
                .for_each(|(key, value)| check(value, &format!("{path}.{key}"))),
            _ => {}
        }
    }
    for spec in [shop(), small()] {
        for (name, object) in by_name(built(&spec)) {
            check(&object, &name);
        }
    }
}

#[test]
fn networks_of_a_stack_are_kept_apart() {
    let mut spec = shop();
    let stack = stack_of(&mut spec);
    let internal = |internal| Network { internal };
    stack.networks = BTreeMap::from([
        ("back".parse().unwrap(), internal(true)),
        ("Front_1".parse().unwrap(), internal(false)),
    ]);
    let join = |stack: &mut model::ServiceStack, service: &str, networks: &[&str]| {
        let service = named(stack, service);
        service.networks = networks
            .iter()
            .map(|name| (name.parse().unwrap(), Vec::new()))
            .collect();
    };
    join(stack, "db", &["back"]);
    join(stack, "web", &["back", "Front_1"]);
    join(stack, "worker", &["Front_1"]);
    named(stack, "migrate").net = model::NetworkMode::None;
    let public = "api.example.com".parse().unwrap();
    spec.egress.hosts.insert(public, BTreeSet::from([443]));
    let addresses = ["10.0.0.5:9200".parse().unwrap(), "[fd00::5]:9200".parse().unwrap()];
    spec.egress
        .private
        .insert("search.example.com".parse().unwrap(), addresses.into());

    let built = built(&spec);
    let warned: Vec<String> = built.warnings.iter().map(ToString::to_string).collect();
    let objects = all(built);
    let pods: BTreeMap<String, Json> = ["StatefulSet", "Deployment", "Job"]
        .iter()
        .flat_map(|kind| of_kind(&objects, kind))
        .map(|object| {
            let labels = object["spec"]["template"]["metadata"]["labels"]
                .as_object()
                .unwrap()
                .clone();
            let ours = labels.into_iter().filter(|(_, value)| value == "yes");
            (
                object["metadata"]["name"].as_str().unwrap().to_owned(),
                Json::Object(ours.collect()),
            )
        })
        .collect();
    insta::assert_yaml_snapshot!("networks", (warned, pods, of_kind(&objects, "NetworkPolicy")));
}

#[test]
fn baseline_is_for_images_that_change_their_user_themselves() {
    let mut spec = small();
    let web = named(stack_of(&mut spec), "web");
    web.workload.options.user = None;
    web.workload.options.add_capabilities = vec!["CHOWN".to_owned()];
    let refused = environment(&cluster(), &spec, &OneSecret).unwrap_err();
    assert_eq!(refused.0.len(), 2, "{refused:?}");
    let baseline = Cluster {
        pod_security: PodSecurity::Baseline,
        ..cluster()
    };
    let objects = by_name(built_on(&baseline, &spec));
    let pod = &objects["Deployment web"]["spec"]["template"]["spec"];
    assert_eq!(pod["hostUsers"], false);
    assert_eq!(pod["securityContext"]["runAsNonRoot"], Json::Null);
    assert_eq!(
        pod["containers"][0]["securityContext"]["capabilities"]["add"][0],
        "CHOWN"
    );
    let namespace = &objects["Namespace maquette-a1b2c3-e123456789"]["metadata"]["labels"];
    assert_eq!(namespace["pod-security.kubernetes.io/enforce"], "baseline");
}

/// A quota adds limits up, and refuses the pod that is one too many.
#[test]
fn all_pods_fit_into_the_quota_at_once() {
    for mut spec in [shop(), small()] {
        spec.limits.cpu_millis = Some(900);
        let objects = all(built(&spec));
        let quota = &of_kind(&objects, "ResourceQuota")[0]["spec"]["hard"];
        let pods = ["StatefulSet", "Deployment", "Job"]
            .iter()
            .flat_map(|kind| of_kind(&objects, kind));
        let limits: Vec<Json> = pods
            .map(|pod| pod["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"].clone())
            .collect();
        for what in ["cpu", "memory"] {
            let worth = |text: &Json| {
                let text = text.as_str().unwrap().to_owned();
                crate::quantity::worth(&k8s_openapi::apimachinery::pkg::api::resource::Quantity(text)).unwrap()
            };
            let together: i128 = limits.iter().map(|limits| worth(&limits[what])).sum();
            assert!(
                together > 0 && together <= worth(&quota[format!("limits.{what}")]),
                "{what}: {together}"
            );
        }
    }
}

#[test]
fn a_job_on_delete_is_made_when_it_is_asked_for() {
    let spec = shop();
    let objects = job(&cluster(), &spec, &OneSecret, &"bye".parse().unwrap()).unwrap();
    let names: Vec<Json> = of_kind(&objects, "Job")
        .into_iter()
        .map(|job| job["metadata"]["name"].clone())
        .collect();
    assert_eq!(names, ["bye--g12"]);
    assert!(!by_name(built(&spec)).contains_key("Job bye--g12"));
    let none = job(&cluster(), &spec, &OneSecret, &"other".parse().unwrap()).unwrap();
    assert!(none.is_empty());
}

#[test]
fn services_and_jobs_of_the_same_name_are_given_their_own() {
    let mut spec = small();
    let stack = stack_of(&mut spec);
    let given = |name: &str| BTreeMap::from([("A".to_owned(), Value::from(name)), ("K".to_owned(), fixture::secret())]);
    named(stack, "web").workload.environment = given("service");
    let mut job = fixture::job("web", model::JobEvent::Start);
    job.workload.environment = given("job");
    stack.jobs.insert(job.name.clone(), job);
    let objects = by_name(built(&spec));
    assert!(objects.contains_key("Secret web--service") && objects.contains_key("Secret web--job"));
}

/// The cluster makes labels from names of workloads, with something behind them.
#[test]
fn a_service_with_the_longest_name_is_found_and_fits_into_labels() {
    let long = "d".repeat(63);
    let mut spec = small();
    let mut engine = fixture::service(fixture::engine("redis", "7"));
    engine.ports = vec![6379];
    stack_of(&mut spec).services.insert(long.parse().unwrap(), engine);
    let objects = by_name(built(&spec));
    let (name, set) = objects
        .iter()
        .find(|(name, _)| name.starts_with("StatefulSet"))
        .unwrap();
    assert!(name.len() <= "StatefulSet ".len() + 52, "{name}");
    let service = &objects[&format!("Service {long}")]["spec"];
    let labels = &set["spec"]["template"]["metadata"]["labels"];
    assert_eq!(service["selector"]["maquette/service"], labels["maquette/service"]);
}

#[test]
fn nothing_outside_is_opened_without_a_list() {
    let mut spec = shop();
    assert!(!by_name(built(&spec)).contains_key("NetworkPolicy to-door"));
    spec.egress = Egress {
        hosts: BTreeMap::from([("*.example.com".parse().unwrap(), BTreeSet::from([443]))]),
        ..Egress::default()
    };
    assert!(by_name(built(&spec)).contains_key("NetworkPolicy to-door"));
}
