//! Jobs that people run: their output is ours, their exit code, too.

use super::{Session, now, path, print};
use crate::{
    cli::{Env, RunArgs},
    client::segment,
    exit::Failure,
    render, screen,
};
use api::{JobList, JobRunView, LogLineView, LogQuery};
use model::Timestamp;
use std::{
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};
use tokio::time::sleep;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(250);
/// The longest line that is waited for, in bytes; the server's are shorter.
const LINE_MAX: usize = 256 * 1024;
/// The exit code when the time of the job was over.
const TIMED_OUT: u8 = 124;
/// The exit code when nobody can tell how the job ended.
const CUT: u8 = 125;

pub(super) async fn list(session: &Session, args: &Env) -> Result<(), Failure> {
    let path = format!("{}/jobs", path(&args.environment));
    let list: JobList = screen::while_doing("asking", session.api.get(&path)).await?;
    session.answer(&list, |list| render::jobs(&list.jobs, now()))
}

pub(super) async fn run(session: &Session, args: RunArgs) -> Result<ExitCode, Failure> {
    let environment = path(&args.environment);
    let path = format!("{environment}/jobs/{}/runs", segment(&args.job));
    let begun: JobRunView = screen::while_doing("asking", session.api.post(&path, &serde_json::json!({}))).await?;
    if args.no_wait {
        session.answer(&begun, told)?;
        return Ok(ExitCode::SUCCESS);
    }
    let path = format!("{path}/{}", begun.number);
    let mut printed = Printed::new(begun.started);
    let run = tokio::select! {
        run = until_ended(session, &path) => run?,
        failure = follow(session, &environment, &args.job, &mut printed), if !session.json => return Err(failure),
    };
    if !session.json {
        // What was printed last may not have come yet.
        read(session, &environment, &args.job, false, &mut printed).await?;
    }
    if session.json {
        session.answer(&run, told)?;
    } else if run.exit != Some(0) {
        io::stderr().write_all(told(&run).as_bytes())?;
    }
    Ok(ExitCode::from(match (run.exit, run.timed_out) {
        (_, true) => TIMED_OUT,
        (Some(exit), _) => u8::try_from(exit).unwrap_or(u8::MAX),
        (None, _) => CUT,
    }))
}

fn told(run: &JobRunView) -> String {
    format!("run {} of the job {} {}\n", run.number, run.job, run.status())
}

async fn until_ended(session: &Session, path: &str) -> Result<JobRunView, Failure> {
    loop {
        let run: JobRunView = session.api.get(path).await?;
        if run.ended.is_some() {
            return Ok(run);
        }
        sleep(PAUSE).await;
    }
}

/// Prints lines as they come, for ever. There is no log before the job has begun.
async fn follow(session: &Session, environment: &str, job: &str, printed: &mut Printed) -> Failure {
    loop {
        if let Err(failure) = read(session, environment, job, true, printed).await {
            return failure;
        }
        sleep(PAUSE).await;
    }
}

async fn read(
    session: &Session,
    environment: &str,
    job: &str,
    follow: bool,
    printed: &mut Printed,
) -> Result<(), Failure> {
    let query = LogQuery {
        name: Some(job.to_owned()),
        tail: None,
        follow,
    };
    // A job that was not begun has no log, and neither has one that went with its environment.
    let Ok(mut response) = session.api.stream(&format!("{environment}/logs"), &query).await else {
        return Ok(());
    };
    printed.again();
    let mut buffer = Vec::new();
    while let Ok(Some(piece)) = response.chunk().await {
        buffer.extend_from_slice(&piece);
        let mut text = String::new();
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            let line: LogLineView = serde_json::from_slice(&line).map_err(|error| Failure::of(&error))?;
            if printed.is_new(line.at) {
                text += &render::plain_line(&line);
            }
        }
        if buffer.len() > LINE_MAX {
            return Err(Failure::unreachable("a line of the log is too long"));
        }
        print(&text)?;
    }
    Ok(())
}

/// Which lines of a log were printed. A log is read more than once, and holds older runs of its job.
struct Printed {
    /// The time of the last line, and how many lines of that time were printed.
    last: (Timestamp, u64),
    /// How many lines of that time were seen in this reading.
    seen: u64,
}

impl Printed {
    /// Nothing since then.
    fn new(started: Timestamp) -> Self {
        Self {
            last: (started, 0),
            seen: 0,
        }
    }

    /// The log is read from its beginning.
    fn again(&mut self) {
        self.seen = 0;
    }

    /// Whether the next line of this reading is still to be printed.
    fn is_new(&mut self, at: Timestamp) -> bool {
        if at < self.last.0 {
            return false;
        }
        if at > self.last.0 {
            (self.last, self.seen) = ((at, 1), 1);
            return true;
        }
        self.seen += 1;
        let new = self.seen > self.last.1;
        self.last.1 = self.last.1.max(self.seen);
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_printed_once_however_often_the_log_is_read() {
        let mut printed = Printed::new(Timestamp(10));
        let mut reading = |times: &[u64]| -> Vec<u64> {
            printed.again();
            let new = times.iter().filter(|at| printed.is_new(Timestamp(**at)));
            new.copied().collect()
        };
        assert_eq!(
            reading(&[8, 9, 10, 11, 11]),
            [10, 11, 11],
            "lines of an older run stay out"
        );
        assert_eq!(reading(&[8, 9, 10, 11, 11, 11, 12]), [11, 12]);
        assert!(reading(&[8, 9, 10, 11, 11, 11, 12]).is_empty());
        assert_eq!(reading(&[12, 13]), [13], "the beginning of the log is gone");
    }
}
