//! Watches one container for its whole life: ready, ended, started again, stopped. One task per container, woken by events.

use super::{
    Host, chain,
    environment::{Environment, Stop, Watcher},
    launch::Cell,
    now, probe,
    record::{Underway, UnitRecord},
};
use crate::{
    names::UnitName,
    sandbox::conmon::{Container, Running},
    sys,
};
use futures::{FutureExt as _, future::join_all};
use model::{Power, Restart, ServiceState};
use rustix::process::Signal;
use std::{
    os::fd::OwnedFd,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::unix::AsyncFd,
    sync::watch,
    time::{sleep, timeout},
};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A container that ran so long is not failing at its start: the pauses begin anew.
const SETTLED: Duration = Duration::from_secs(60);
/// The status of what was killed, also of a container whose monitor was killed and took the status with it.
pub(crate) const KILLED: i32 = 137;
/// The status of a container that could not be started again.
const NOT_STARTED: i32 = 127;

/// After so many panics nobody watches a container any longer.
const PANICS_MAX: u32 = 3;

/// What a watcher finds when it begins.
#[derive(Debug)]
pub(crate) enum Found {
    /// The container runs.
    Running(Running),
    /// It has ended, with this status if its monitor recorded one, and what was left of it is gone.
    Ended(Option<i32>),
    /// It was about to be started again, and what was left of that is gone.
    ToStart,
}

/// Begins to watch a container.
pub(crate) fn watch(
    host: &Arc<Host>,
    environment: &Arc<Environment>,
    cell: Cell,
    found: Found,
    stop: Option<Stop>,
) -> Watcher {
    let (stop, stop_asked) = watch::channel(stop);
    let (done_set, done) = watch::channel(false);
    let supervisor = Supervisor {
        host: Arc::clone(host),
        environment: Arc::clone(environment),
        cell,
        stop: stop_asked,
    };
    tokio::spawn(async move {
        let mut found = Some(found);
        let watched = guarded(|| supervisor.clone().watch(found.take())).await;
        if let Err(panic) = watched {
            supervisor.gives_up(&panic).await;
        }
        let _ = done_set.send(true);
    });
    Watcher { stop, done }
}

/// Does something that may panic, and does it again after a while if it did: a fault of ours must not leave a container without
/// anybody who watches it.
///
/// # Errors
/// What the last of [`PANICS_MAX`] panics said.
async fn guarded<F: Future<Output = ()>>(mut attempt: impl FnMut() -> F) -> Result<(), String> {
    let mut pause = FIRST_PAUSE;
    for panics in 1.. {
        let Err(panic) = AssertUnwindSafe(attempt()).catch_unwind().await else {
            return Ok(());
        };
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_default();
        tracing::error!(panics, panic = text, "whoever watches a container panicked");
        if panics >= PANICS_MAX {
            return Err(text);
        }
        sleep(pause).await;
        pause *= 2;
    }
    Ok(())
}

#[derive(Clone)]
struct Supervisor {
    host: Arc<Host>,
    environment: Arc<Environment>,
    cell: Cell,
    stop: watch::Receiver<Option<Stop>>,
}

/// Why a run of the container ended.
enum End {
    ByItself(i32),
    Asked(i32),
    TimeOver,
}

/// How often a container has ended in a row without having settled in between.
#[derive(Debug, Default)]
struct Ends(u32);

impl Ends {
    /// It ended once more, after it had run for so long.
    fn count(&mut self, ran: Duration) {
        self.0 = if ran > SETTLED { 1 } else { self.0.saturating_add(1) };
    }

    /// How often it was started again since it ended for the first of these times.
    fn restarts(&self) -> u32 {
        self.0.saturating_sub(1)
    }

    /// What is waited for before it is started again: each time twice as long.
    fn pause(&self) -> Duration {
        (FIRST_PAUSE * 2u32.pow(self.restarts().min(15))).min(LONGEST_PAUSE)
    }
}

impl Supervisor {
    /// Watches from what is there, or looks what there is.
    async fn watch(self, found: Option<Found>) {
        let found = match found {
            Some(found) => found,
            None => match self.host.find_again(&self.environment, &self.cell).await {
                Ok(found) => found,
                Err(error) => return self.gives_up(&chain(&error)).await,
            },
        };
        self.run(found).await;
    }

    /// Ends what nobody watches, and says why.
    async fn gives_up(&self, why: &str) {
        if let Err(error) = self.host.end_in(&self.environment, &self.cell).await {
            tracing::warn!(
                unit = self.cell.unit.as_str(),
                error = chain(&error),
                "a container goes on that nobody watches"
            );
        }
        let message = format!("it was ended because it could not be watched any longer: {why}");
        self.host.lose(&self.environment, &self.cell.unit, &message);
    }

    async fn run(mut self, mut found: Found) {
        let mut ends = Ends::default();
        loop {
            let began = Instant::now();
            let (end, message) = match found {
                Found::Running(run) => self.until_end(run).await,
                Found::Ended(status) => self.ended_unseen(status),
                Found::ToStart => match self.start_again().await {
                    Ok(run) => self.until_end(run).await,
                    Err(message) => (End::ByItself(NOT_STARTED), Some(message)),
                },
            };
            let code = match end {
                End::ByItself(code) => code,
                End::Asked(code) => return self.finished(code, true, message),
                End::TimeOver => return self.time_over(),
            };
            let policy = self.cell.manner.restart;
            if policy == Restart::Never || (policy == Restart::OnFailure && code == 0) || self.asked().is_some() {
                return self.finished(code, self.asked().is_some(), message);
            }
            ends.count(began.elapsed());
            if self
                .cell
                .manner
                .restart_limit
                .is_some_and(|limit| ends.restarts() >= limit)
            {
                let message = message.unwrap_or_else(|| format!("ended with status {code}"));
                let message = format!("{message}, and was started again {} times", ends.restarts());
                return self.finished(code, false, Some(message));
            }
            let pause = ends.pause();
            let message = message.unwrap_or_else(|| format!("ended with status {code}"));
            self.host.set_state(
                &self.environment,
                &self.cell.unit,
                ServiceState::BackingOff {
                    code,
                    until: now().plus(pause),
                },
                Some(message),
            );
            if self.paused(pause).await {
                return self.finished(code, true, None);
            }
            found = Found::ToStart;
        }
    }

    /// What ended while no host was there: its monitor stayed and recorded how, unless it was killed as well.
    fn ended_unseen(&self, status: Option<i32>) -> (End, Option<String>) {
        let code = status.unwrap_or(KILLED);
        let message = status
            .is_none()
            .then(|| "it ended together with its monitor, so its status is not known".to_owned());
        match self.asked() {
            Some(_) => (End::Asked(code), message),
            None => (End::ByItself(code), message),
        }
    }

    fn asked(&self) -> Option<Stop> {
        *self.stop.borrow()
    }

    /// Waits; tells whether it was asked to stop meanwhile. A frozen group starts nothing.
    async fn paused(&mut self, pause: Duration) -> bool {
        let environment = Arc::clone(&self.environment);
        let quiet = async {
            sleep(pause).await;
            environment.until(|record| record.power != Power::Frozen).await;
        };
        tokio::select! {
            () = quiet => false,
            _ = asked(&mut self.stop) => true,
        }
    }

    /// Starts it again, or tells why that was not possible.
    async fn start_again(&self) -> Result<Running, String> {
        let unit = &self.cell.unit;
        self.host
            .update_unit(&self.environment, unit, |record| record.begins(Underway::Start));
        let cell = self.cell.clone();
        let launched = move |host: &Host| {
            // What could not be removed behind the last run, or was left by a start that failed.
            host.end_unit(&cell)?;
            host.launch(&cell)
        };
        let result = self.host.block(launched).await;
        let result = result.map_err(|error| chain(&error));
        self.host.update_unit(&self.environment, unit, |record| {
            record.completes(Underway::Start);
            record.restarts = record.restarts.saturating_add(1);
            record.state = ServiceState::Starting;
            record.since = now();
            record.started = record.since;
            if let Err(message) = &result {
                record.message = Some(message.clone());
            }
        });
        result
    }

    /// Watches one run to its end and cleans up behind it.
    async fn until_end(&mut self, run: Running) -> (End, Option<String>) {
        let container = self.host.container(&self.cell.environment, &self.cell.unit);
        let end = self.watch_run(&run, &container).await;
        let memory = self.memory_message();
        if let Err(error) = self.host.end_in(&self.environment, &self.cell).await {
            tracing::warn!(
                container = container.id,
                error = chain(&error),
                "the remains of a container stay until the next start"
            );
        }
        (end, memory)
    }

    async fn watch_run(&mut self, run: &Running, container: &Container) -> End {
        let monitor = match run.monitor.try_clone().and_then(sys::watch_readable) {
            Ok(monitor) => monitor,
            Err(error) => {
                tracing::error!(container = container.id, %error, "a container can not be watched");
                return End::ByItself(KILLED);
            }
        };
        let time_left = self.time_left();
        let ready = probe::follow(&self.host, &self.environment, &self.cell);
        let mut stop = self.stop.clone();
        tokio::select! {
            () = ended(&monitor) => End::ByItself(container.exit_status().unwrap_or(KILLED)),
            kind = asked(&mut stop) => {
                self.end_run(kind, run, &monitor).await;
                End::Asked(container.exit_status().unwrap_or(KILLED))
            }
            () = time_over(time_left) => {
                self.end_run(Stop::Gently, run, &monitor).await;
                End::TimeOver
            }
            // Never ends: a ready container is watched like any other.
            () = ready => End::ByItself(KILLED),
        }
    }

    fn time_left(&self) -> Option<Duration> {
        let limit = Duration::from_millis(self.cell.manner.timeout_ms?);
        let started = self.environment.unit(&self.cell.unit)?.started;
        Some(limit.saturating_sub(now().since(started)))
    }

    /// Asks a container to end, and waits; who then is still there is killed by the cleaning up.
    async fn end_run(&self, kind: Stop, run: &Running, monitor: &AsyncFd<OwnedFd>) {
        let manner = &self.cell.manner;
        let Some(wanted) = Signal::from_named_raw(manner.stop_signal) else {
            return;
        };
        // Held since its start: its number may be another's by now.
        let Some(process) = run.process.as_ref().filter(|_| kind == Stop::Gently) else {
            return;
        };
        if process.handles(wanted) && process.signal(wanted).is_ok() {
            let _ = timeout(Duration::from_millis(manner.stop_grace_ms), ended(monitor)).await;
        }
    }

    fn memory_message(&self) -> Option<String> {
        let environment = self.cell.environment.as_str();
        let kills = self.host.groups.memory_kills(environment, self.cell.unit.as_str());
        (kills > 0).then(|| "a process was killed because the memory limit was reached".to_owned())
    }

    fn finished(&self, code: i32, asked: bool, message: Option<String>) {
        let service = self.cell.unit.as_service().is_some();
        let state = if asked && service {
            ServiceState::Stopped
        } else {
            ServiceState::Exited { code }
        };
        let message = message.or_else(|| (!asked && code != 0).then(|| format!("ended with status {code}")));
        self.host.update_unit(&self.environment, &self.cell.unit, |record| {
            record.underway = Underway::Nothing;
            record.state = state;
            record.since = now();
            record.message = message.or_else(|| record.message.take());
        });
    }

    fn time_over(&self) {
        let limit = self.cell.manner.timeout_ms.unwrap_or_default();
        self.host.update_unit(&self.environment, &self.cell.unit, |record| {
            record.underway = Underway::Nothing;
            record.timed_out = true;
            record.state = ServiceState::Exited { code: KILLED };
            record.since = now();
            record.message = Some(format!("its time of {limit} ms was over"));
        });
    }
}

async fn ended(monitor: &AsyncFd<OwnedFd>) {
    // An error means that the descriptor can not be watched any more; nothing is to be gained by waiting.
    let _ = monitor.readable().await;
}

async fn asked(stop: &mut watch::Receiver<Option<Stop>>) -> Stop {
    let kind = stop.wait_for(Option::is_some).await.map(|kind| *kind);
    match kind {
        Ok(kind) => kind.unwrap_or(Stop::Now),
        // Whoever could have asked is gone: the host is ending and containers go on.
        Err(_) => std::future::pending().await,
    }
}

async fn time_over(left: Option<Duration>) {
    match left {
        Some(left) => sleep(left).await,
        None => std::future::pending().await,
    }
}

impl UnitRecord {
    /// Notes what is begun. An end that was asked for stays: it comes after whatever else is under way.
    pub(crate) fn begins(&mut self, what: Underway) {
        let over = matches!(self.state, ServiceState::Stopped | ServiceState::Exited { .. });
        match what {
            Underway::Stop if over => {}
            Underway::Start if self.underway == Underway::Stop => {}
            _ => self.underway = what,
        }
    }

    /// Notes that it is done, if it still is what is under way.
    pub(crate) fn completes(&mut self, what: Underway) {
        if self.underway == what {
            self.underway = Underway::Nothing;
        }
    }
}

impl Host {
    /// Asks the watchers of some containers to end them and waits until that is done. It is written down first, so that a host
    /// that is killed meanwhile is followed by one that goes on with it.
    pub(crate) async fn stop_units(&self, environment: &Environment, units: &[UnitName], kind: Stop) {
        let watched = |unit: &&UnitName| environment.inner().watchers.contains_key(*unit);
        let units: Vec<&UnitName> = units.iter().filter(watched).collect();
        if units.is_empty() {
            return;
        }
        let noted = self.update(environment, |record| {
            for unit in &units {
                if let Some(unit) = record.units.get_mut(*unit) {
                    unit.begins(Underway::Stop);
                }
            }
        });
        if let Err(error) = noted {
            // Whoever frees a disk that is full must be able to.
            tracing::warn!(environment = %environment.id, %error, "a stop is not written down");
        }
        join_all(units.iter().map(|unit| stop(environment, unit, kind))).await;
    }
}

/// Asks a watcher to end its container and waits until that is done.
async fn stop(environment: &Environment, unit: &UnitName, kind: Stop) {
    let done = environment.inner().watchers.get(unit).map(|watcher| {
        watcher.stop.send_replace(Some(kind));
        watcher.done.clone()
    });
    if let Some(mut done) = done {
        let _ = done.wait_for(|done| *done).await;
        environment.inner().watchers.remove(unit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_with_each_quick_end_and_begin_anew_after_one_that_had_settled() {
        let (quick, settled) = (Duration::from_secs(1), SETTLED + Duration::from_secs(1));
        let mut ends = Ends::default();
        let mut pause_after = |ran| {
            ends.count(ran);
            (ends.restarts(), ends.pause())
        };
        // Nothing is special about one that has run for long before it ends for the first time.
        assert_eq!(pause_after(settled), (0, FIRST_PAUSE));
        assert_eq!(pause_after(quick), (1, FIRST_PAUSE * 2));
        assert_eq!(pause_after(quick), (2, FIRST_PAUSE * 4));
        for _ in 0..40 {
            pause_after(quick);
        }
        assert_eq!(pause_after(quick), (43, LONGEST_PAUSE));
        assert_eq!(pause_after(settled), (0, FIRST_PAUSE));
        assert_eq!(pause_after(quick), (1, FIRST_PAUSE * 2));
    }

    #[tokio::test]
    #[allow(clippy::panic, reason = "that is what is tried")]
    async fn whoever_panics_tries_again_and_is_told_of_in_the_end() {
        let mut tries = 0;
        let once = guarded(|| {
            tries += 1;
            let panics = tries == 1;
            async move { assert!(!panics, "a fault") }
        });
        assert_eq!(once.await, Ok(()));
        assert_eq!(tries, 2);
        let mut tries = 0;
        let always = guarded(|| {
            tries += 1;
            async { panic!("a fault of {}", "ours") }
        });
        assert_eq!(always.await, Err("a fault of ours".to_owned()));
        assert_eq!(tries, PANICS_MAX);
    }
}
