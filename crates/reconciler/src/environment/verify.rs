//! The last step: every public service answers where its visitors will look for it.
//!
//! Any answer of the service counts, also one that says no: whether it is the right one is for its author and the smoke tests to
//! say. An answer of the gateway in its place does not.

use super::execute::StepError;
use crate::{
    context::Context,
    front::{Entrance, Front, FrontError, labels},
};
use model::{EnvironmentSpec, ServiceName};
use runtime::Target;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, sleep, timeout},
};

/// How long one public service may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long the gateway may take to learn of a new address.
const ROUTE: Duration = Duration::from_secs(5);
/// How long a gateway that is away is waited for before that is told.
const AWAY: Duration = Duration::from_secs(1);
/// Between two questions.
const PAUSE: Duration = Duration::from_millis(20);

/// Asks all public services at the same time.
pub(super) async fn verify(context: &Context, spec: &EnvironmentSpec) -> Result<(), StepError> {
    let Some(stack) = spec.services() else { return Ok(()) };
    let Some(row) = context.store.environment_get(&spec.environment).await? else {
        return Ok(());
    };
    let base = context.project(&spec.project).ok().map(|project| project.base.clone());
    let asked = labels(&row.label, stack).into_iter().map(|(service, port, label)| {
        let authority = base.as_ref().map(|base| base.authority(&label));
        async move {
            match (&context.settings.front.0, authority) {
                (Some(front), Some(authority)) => {
                    let entrance = Entrance {
                        authority,
                        environment: spec.environment.clone(),
                        service: service.clone(),
                        port,
                    };
                    through(context, &**front, &entrance).await
                }
                _ => dialled(context, spec, service, port).await,
            }
        }
    });
    futures::future::try_join_all(asked).await.map(drop)
}

async fn through(context: &Context, front: &dyn Front, entrance: &Entrance) -> Result<(), StepError> {
    let begun = Instant::now();
    let (service, address) = (&entrance.service, &entrance.authority);
    loop {
        let asked = timeout(TIMEOUT, front.ask(entrance)).await;
        let error = match asked {
            Ok(Ok(status)) => {
                if status >= 500 {
                    tracing::info!(environment = %entrance.environment, %service, status, "a public service answers with an error");
                }
                return Ok(());
            }
            Ok(Err(error)) => error,
            Err(_) => FrontError::Away(format!("the gateway did not answer within {} s", TIMEOUT.as_secs())),
        };
        let elapsed = begun.elapsed();
        return Err(match error {
            FrontError::NoRoute if elapsed < ROUTE => {
                sleep(PAUSE).await;
                continue;
            }
            FrontError::Away(_) | FrontError::Misdirected(_) if elapsed < AWAY => {
                sleep(PAUSE).await;
                continue;
            }
            FrontError::NoRoute => {
                let message = format!("{service} can not be reached at {address}: the gateway has no route to it");
                StepError::new(message, true).hint("the gateway's log may say why it does not get its routes")
            }
            FrontError::Away(why) => {
                let message = format!("{service} could not be asked through the gateway: {why}");
                let error = StepError::new(message, true)
                    .hint("nothing is wrong with the pull request: it goes on by itself when the gateway is there");
                StepError { waits: true, ..error }
            }
            FrontError::Misdirected(why) => {
                let message = format!("{service} could not be asked through the gateway: {why}");
                StepError::new(message, true).hint(
                    "the gateway runs with an older configuration: it has to be started again by whoever runs Maquette",
                )
            }
            FrontError::Silent(why) => {
                let message = format!("{service} does not answer at {address}: {why}");
                let log = super::execute::log_tail(context, &entrance.environment, service.as_str()).await;
                StepError::new(message, true).log(log)
            }
        });
    }
}

/// Without a gateway.
async fn dialled(context: &Context, spec: &EnvironmentSpec, service: &ServiceName, port: u16) -> Result<(), StepError> {
    let target = Target::Port(port);
    let connection = context.runtime.dial(&spec.environment, service, target).await?;
    let problem = match timeout(TIMEOUT, answers(connection)).await {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(error)) => format!("{service} does not answer HTTP on port {port}: {error}"),
        Err(_) => format!("{service} did not answer within {} s", TIMEOUT.as_secs()),
    };
    let log = super::execute::log_tail(context, &spec.environment, service.as_str()).await;
    Err(StepError::new(problem, true).log(log))
}

/// Sends one HTTP/1.1 request for `/` and reads the first line of the answer.
async fn answers(mut connection: runtime::Connection) -> std::io::Result<()> {
    let request =
        b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: Maquette\r\nAccept: */*\r\nConnection: close\r\n\r\n";
    connection.write_all(request).await?;
    let mut head = Vec::new();
    let mut buffer = [0; 256];
    while !head.contains(&b'\n') && head.len() < 4096 {
        match connection.read(&mut buffer).await? {
            0 => break,
            n => head.extend_from_slice(&buffer[..n]),
        }
    }
    let status = head.strip_prefix(b"HTTP/1.").and_then(|rest| rest.get(2..5));
    if status.is_some_and(|code| code.iter().all(u8::is_ascii_digit)) {
        Ok(())
    } else {
        let error = std::io::Error::new(std::io::ErrorKind::InvalidData, "the answer is not HTTP");
        Err(error)
    }
}
