//! Jobs on stop run once for each time that an environment stops. What tells one stop from the next is when the environment was woken
//! last in the generation: it is part of the job's digest, so that a runtime does not take the end of an earlier run for that of
//! this one.

use crate::context::{Context, Trouble};
use model::{JobEvent, RUN_VARIABLE, ServiceStack, Stack, Value};
use store::GenerationRow;

/// The same generation, whose jobs on stop are those of the next stop.
pub(crate) async fn numbered(context: &Context, mut row: GenerationRow) -> Result<GenerationRow, Trouble> {
    let stops = |stack: &ServiceStack| stack.jobs.values().any(|job| job.on == JobEvent::Stop);
    if !row.spec.services().is_some_and(stops) {
        return Ok(row);
    }
    let generation = row.generation;
    let steps = context.store.step_list(&row.environment, generation).await?;
    let woken = steps.iter().find(|step| step.step == "wake");
    let number = match woken {
        Some(step) => format!("{generation}-{}", step.began.0),
        None => generation.to_string(),
    };
    if let Stack::Services(stack) = &mut row.spec.stack {
        for job in stack.jobs.values_mut().filter(|job| job.on == JobEvent::Stop) {
            let environment = &mut job.workload.environment;
            environment.insert(RUN_VARIABLE.to_owned(), Value::Plain(number.clone()));
        }
    }
    Ok(row)
}
