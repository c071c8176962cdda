//! Jobs: commands that run to an end, from `stack.jobs`.

use crate::{
    assemble::Assembly,
    escape::quoted,
    explain::{Explanation, Place},
    problem::At,
    settings, suggest, units,
};
use model::{Job, JobEvent, Limits, Mount, MountKind, Root, ServiceName, ServiceStack, Workload};

/// Where a job without a service finds the checkout.
const CHECKOUT: &str = "/checkout";

/// Makes the jobs, once the services are made.
pub(crate) fn read(assembly: &Assembly<'_>, stack: &mut ServiceStack, explanation: &mut Explanation) {
    for said in &assembly.stack.jobs {
        let place = Place::at(assembly.settings, said.at);
        if let Some(out) = left_out(assembly, said) {
            explanation.set(
                format!("stack.jobs.{}", said.name),
                format!("left out with {out}"),
                place,
            );
            continue;
        }
        if assembly.body_of(said.name.as_str()).is_some() {
            // Logs are asked for by one name.
            let message = format!("job `{}` has the name of a service", said.name);
            let hint = "give it a name of its own: logs and runs are asked for by name";
            assembly.settings.error_hint(said.at, message, hint);
            continue;
        }
        let Some(job) = make(assembly, stack, said) else {
            continue;
        };
        let value = format!("{}, at most {}", when(&job), units::show_ms(job.timeout_ms));
        explanation.set(format!("stack.jobs.{}", job.name), value, place);
        stack.jobs.insert(job.name.clone(), job);
    }
}

/// The service that is left out and without which the job can not run.
fn left_out<'a>(assembly: &Assembly<'_>, job: &'a settings::Job) -> Option<&'a str> {
    let named = job.service.iter().chain(job.needs.iter().flatten());
    named
        .map(|(_, name)| name.as_str())
        .find(|name| assembly.file.leaves_out(name))
}

fn when(job: &Job) -> String {
    if let Some(schedule) = &job.schedule {
        return format!("by hand (never at {schedule})");
    }
    let event = match job.on {
        JobEvent::Build => "build",
        JobEvent::Create => "create",
        JobEvent::Start => "start",
        JobEvent::Stop => "stop",
        JobEvent::Delete => "delete",
        JobEvent::Hand => return "by hand".to_owned(),
    };
    format!("on {event}")
}

fn make(assembly: &Assembly<'_>, stack: &ServiceStack, job: &settings::Job) -> Option<Job> {
    let mut workload = match &job.service {
        Some((at, name)) => of_service(assembly, stack, job, *at, name)?,
        None => of_host(assembly, job)?,
    };
    workload.command = Some(job.run.clone());
    let own = assembly.environment(&job.name, job.at, &job.environment, true);
    // What the job says wins over what its service says, which wins over the documented values.
    for (name, value) in own {
        if job.environment.contains_key(&name) || !workload.environment.contains_key(&name) {
            workload.environment.insert(name, value);
        }
    }
    Some(Job {
        name: job.name.clone(),
        workload,
        on: job.on,
        needs: needs(assembly, stack, job),
        timeout_ms: job.timeout_ms,
        product: None,
        schedule: job.schedule.clone(),
    })
}

fn unknown(assembly: &Assembly<'_>, at: At, name: &str) {
    let names: Vec<&str> = assembly
        .file
        .services
        .iter()
        .map(|service| service.name.as_str())
        .collect();
    let message = format!("there is no service {} in {}", quoted(name), assembly.compose.file);
    assembly.settings.error_hint(at, message, suggest::hint(name, &names));
}

fn of_service(
    assembly: &Assembly<'_>,
    stack: &ServiceStack,
    job: &settings::Job,
    at: At,
    name: &str,
) -> Option<Workload> {
    if assembly.body_of(name).is_none() {
        unknown(assembly, at, name);
        return None;
    }
    let service = stack.services.get(&name.parse::<ServiceName>().ok()?)?;
    if matches!(service.workload.root, Root::Engine(_)) {
        let message = format!(
            "job `{}` can not run in service `{name}`, which is a data engine",
            job.name
        );
        assembly
            .settings
            .error_hint(at, message, "name the engine under `needs` and run in another service");
        return None;
    }
    Some(service.workload.clone())
}

fn of_host(assembly: &Assembly<'_>, job: &settings::Job) -> Option<Workload> {
    if !assembly.capabilities.host_roots {
        let runtime = &assembly.capabilities.runtime;
        let message = format!(
            "job `{}` has no `service`, and the runtime `{runtime}` runs nothing from the host",
            job.name
        );
        assembly
            .settings
            .error_hint(job.at, message, "name the service whose image it needs");
        return None;
    }
    let kind = MountKind::Source {
        source: assembly.source.clone(),
        subpath: String::new(),
    };
    Some(Workload {
        root: Root::Host,
        entrypoint: None,
        command: None,
        environment: assembly.environment(&job.name, job.at, &job.environment, true),
        working_dir: Some(CHECKOUT.to_owned()),
        mounts: vec![Mount {
            target: CHECKOUT.to_owned(),
            kind,
            read_only: false,
        }],
        limits: Limits::default(),
        read_only: true,
        options: model::Options::default(),
    })
}

/// What must be ready first: what the job says, else the engines that its service depends on.
fn needs(assembly: &Assembly<'_>, stack: &ServiceStack, job: &settings::Job) -> Vec<ServiceName> {
    let is_engine = |name: &ServiceName| {
        stack
            .services
            .get(name)
            .is_some_and(|service| matches!(service.workload.root, Root::Engine(_)))
    };
    let Some(said) = &job.needs else {
        let service = job
            .service
            .as_ref()
            .and_then(|(_, name)| stack.services.get(&name.parse::<ServiceName>().ok()?));
        let needs = service
            .map(|service| service.depends_on.keys().cloned().collect::<Vec<_>>())
            .unwrap_or_default();
        return needs.into_iter().filter(is_engine).collect();
    };
    let mut needs = Vec::new();
    for (at, name) in said {
        match name.parse::<ServiceName>() {
            Ok(service) if assembly.body_of(name).is_some() => needs.push(service),
            _ => unknown(assembly, *at, name),
        }
    }
    needs
}
