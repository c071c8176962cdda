//! What runs to its end: services whose end others wait for, and jobs before a stop and before the removal.

use super::*;

/// The same, with `once` that needs the database, and services that wait for its end. `code` is what `once` runs.
fn with_once(mut spec: EnvironmentSpec, code: &str) -> EnvironmentSpec {
    let Stack::Services(stack) = &mut spec.stack else {
        unreachable!()
    };
    let mut once = service(Root::Host, code, &["db"]);
    once.restart = Restart::Never;
    stack.services.insert(ONCE.parse().unwrap(), once);
    for (name, service) in &mut stack.services {
        if name.as_str().starts_with('s') {
            service.depends_on.insert(ONCE.parse().unwrap(), Condition::Completed);
        }
    }
    spec
}

/// The same, with a job on stop and one on delete. `stop` tells one stop from the next.
fn with_end(mut spec: EnvironmentSpec, stop: &str) -> EnvironmentSpec {
    let Stack::Services(stack) = &mut spec.stack else {
        unreachable!()
    };
    for (name, on, command) in [("halt", JobEvent::Stop, stop), ("bye", JobEvent::Delete, "bye")] {
        let job = Job {
            name: name.parse().unwrap(),
            on,
            workload: workload(Root::Host, command),
            ..stack.jobs.values().next().unwrap().clone()
        };
        stack.jobs.insert(job.name.clone(), job);
    }
    spec
}

proptest! {
    #[test]
    fn nothing_starts_before_what_must_have_completed(
        line in 1usize..4,
        choices in prop::collection::vec(0usize..7, 1..40),
        changed in any::<bool>(),
        clone_anew in any::<bool>(),
    ) {
        let staging = Staging::Levels;
        let mut world = World::default();
        world.observed.unused = true;
        let mut choices = Choices(choices, 0);
        let first = with_once(spec(1, line, "one", &["1"], 1), "migrate");
        world.settle(&Desired::Present { spec: &first, power: Power::Running }, &first, staging, &mut choices);
        let once: ServiceName = ONCE.parse().unwrap();
        prop_assert!(world.has_completed(&first, &once));
        let code = if changed { "migrate more" } else { "migrate" };
        let second = with_once(spec(2, line, "two", &["1"], if clone_anew { 2 } else { 1 }), code);
        let same = first.service_digest(&once) == second.service_digest(&once);
        prop_assert_eq!(same, !changed && !clone_anew, "what it did is gone with the data, or is to be done anew");
        let since = world.observed.runtime.as_ref().unwrap().services[&once].since;
        world.settle(&Desired::Present { spec: &second, power: Power::Running }, &second, staging, &mut choices);
        let again = world.observed.runtime.as_ref().unwrap().services[&once].since != since;
        prop_assert_eq!(again, !same, "it runs again if there is something to do, and only then");
    }

    #[test]
    fn jobs_on_stop_run_before_every_stop_and_jobs_on_delete_before_the_end(
        choices in prop::collection::vec(0usize..7, 1..40),
        before in prop_oneof![Just(Power::Running), Just(Power::Frozen), Just(Power::Stopped)],
    ) {
        let staging = Staging::Levels;
        let mut world = World::default();
        let mut choices = Choices(choices, 0);
        let one = with_end(spec(1, 1, "one", &["1"], 1), "stop 1");
        let two = with_end(one.clone(), "stop 2");
        let ran = |world: &World, spec: &EnvironmentSpec, job: &str| {
            let name = job.parse().unwrap();
            let runtime = world.observed.runtime.as_ref().unwrap();
            runtime.jobs.get(&name).is_some_and(|fact| Some(&fact.digest) == spec.job_digest(&name).as_ref())
        };
        world.settle(&Desired::Present { spec: &one, power: Power::Running }, &one, staging, &mut choices);
        prop_assert!(!ran(&world, &one, "halt"));
        world.settle(&Desired::Present { spec: &one, power: Power::Frozen }, &one, staging, &mut choices);
        prop_assert!(!ran(&world, &one, "halt"), "what freezes does not stop");
        world.settle(&Desired::Present { spec: &one, power: Power::Stopped }, &one, staging, &mut choices);
        prop_assert!(ran(&world, &one, "halt"));
        world.settle(&Desired::Present { spec: &two, power: Power::Running }, &two, staging, &mut choices);
        prop_assert!(!ran(&world, &two, "halt"));
        world.settle(&Desired::Present { spec: &two, power: before }, &two, staging, &mut choices);
        prop_assert_eq!(ran(&world, &two, "halt"), before == Power::Stopped);
        let gone = Desired::Absent { last: Some(&two), generation: Generation(3) };
        let (mut halted, mut bye) = (false, false);
        for _ in 0..50 {
            let now = plan(&gone, &world.observed, &capabilities(staging), world.now);
            if world.observed.runtime.is_some() {
                halted |= ran(&world, &two, "halt");
                bye |= ran(&world, &two, "bye");
            }
            let Some(step) = now.ready().next() else { break };
            let action = step.action.clone();
            world.carry_out(&two, &action);
        }
        prop_assert!(halted && bye && world.observed.receipted);
    }
}

#[test]
fn a_one_shot_that_fails_keeps_others_from_starting_and_says_so() {
    let spec = with_once(spec(1, 1, "one", &[], 1), "migrate");
    let desired = Desired::Present {
        spec: &spec,
        power: Power::Running,
    };
    let mut world = World::default();
    let once: ServiceName = ONCE.parse().unwrap();
    let look = |world: &World| plan(&desired, &world.observed, &capabilities(Staging::Levels), world.now);
    for _ in 0..40 {
        let now = look(&world);
        let ready: Vec<Action> = now.ready().map(|step| step.action.clone()).collect();
        if ready.is_empty() && world.observed.runtime.as_ref().unwrap().services.contains_key(&once) {
            break;
        }
        if ready.is_empty() {
            world.everything_started_gets_ready();
        }
        for action in ready {
            world.carry_out(&spec, &action);
        }
    }
    let set = |world: &mut World, state| {
        let fact = world.observed.runtime.as_mut().unwrap().services.get_mut(&once);
        fact.unwrap().state = state;
    };
    let state = |world: &World, id: &str| look(world).steps.into_iter().find(|s| s.id == id).unwrap().state;
    set(&mut world, ServiceState::Ready);
    let StepState::InProgress { waiting_for, .. } = state(&world, "service:once") else {
        panic!("{:?}", state(&world, "service:once"))
    };
    assert_eq!(waiting_for, "once to run to its end");
    let by = vec!["service:once".to_owned()];
    assert_eq!(state(&world, "service:s0"), StepState::Blocked { by });
    set(&mut world, ServiceState::Exited { code: 3 });
    world.observed.carried_out.insert("service:once".to_owned());
    let failed = look(&world).failed().cloned().unwrap();
    assert_eq!(failed.id, "service:once");
    let failure = "once ended with status 3; s0 waits for it to complete".to_owned();
    assert_eq!(failed.state, StepState::Failed { failure });
    assert!(matches!(state(&world, "service:s0"), StepState::Blocked { .. }));

    // What the runtime says is added if it is more than that.
    for (message, added) in [
        ("ended with status 3", ""),
        ("over its memory limit", " (over its memory limit)"),
    ] {
        let fact = world.observed.runtime.as_mut().unwrap().services.get_mut(&once);
        fact.unwrap().message = Some(message.to_owned());
        let failure = format!("once ended with status 3{added}; s0 waits for it to complete");
        assert_eq!(state(&world, "service:once"), StepState::Failed { failure });
    }
}

#[test]
fn a_job_on_stop_that_is_given_up_keeps_nothing_awake() {
    let spec = with_end(spec(1, 1, "one", &[], 1), "stop");
    let mut world = World::default();
    let mut choices = Choices(vec![0], 0);
    let running = Desired::Present {
        spec: &spec,
        power: Power::Running,
    };
    world.settle(&running, &spec, Staging::Levels, &mut choices);
    let stopping = Desired::Present {
        spec: &spec,
        power: Power::Stopped,
    };
    let ready = |world: &World| {
        let now = plan(&stopping, &world.observed, &capabilities(Staging::Levels), world.now);
        now.ready().map(|step| step.id.clone()).collect::<Vec<_>>()
    };
    assert_eq!(ready(&world), ["job:halt"], "the services stop beside it");
    let attempt = Attempt {
        count: planner::ATTEMPTS_MAX,
        next: Some(Timestamp(0)),
        failure: "the job halt failed".into(),
        waits: false,
    };
    world.observed.attempts.insert("job:halt".into(), attempt);
    assert_eq!(ready(&world), ["power"]);
}
