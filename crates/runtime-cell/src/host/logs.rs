//! Lines that containers printed, read from the monitor's files.

use super::{Host, environment::Environment, failed, log_files};
use crate::{names::UnitName, protocol::write_json};
use model::{EnvironmentId, Timestamp};
use runtime::{LogLine, LogQuery, LogStream, RuntimeError};
use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::net::UnixStream;

const LINE_MAX: usize = 16 << 10;
const FOLLOW_PAUSE: Duration = Duration::from_millis(100);
const BATCH: usize = 256;
/// Lines may be long: this is what one reader may have in memory, as text and as the lines themselves.
const BATCH_BYTES: usize = 256 << 10;
const TAIL_BYTES: usize = 1 << 20;

impl Host {
    /// The log file of a service or job; a service goes first.
    pub(crate) fn log_of(
        &self,
        id: &EnvironmentId,
        name: &str,
    ) -> Result<(Arc<Environment>, UnitName, PathBuf), RuntimeError> {
        let environment = self.environment(id)?;
        let service = name.parse().ok().map(|name| UnitName::service(&name));
        let job = name.parse().ok().map(|name| UnitName::job(&name));
        let build = name.strip_prefix("build:").and_then(|name| name.parse().ok());
        let build = build.map(|name| UnitName::build(&name));
        let known = service
            .into_iter()
            .chain(job)
            .chain(build)
            .find(|unit| environment.unit(unit).is_some());
        let unit = known.ok_or_else(|| RuntimeError::NotFound {
            what: format!("a service or job `{}`", name.escape_debug()),
        })?;
        let log = self.container(id, &unit).log;
        Ok((environment, unit, log))
    }

    /// Sends lines until all are sent or, when following, until the container is removed or the caller hangs up.
    pub(crate) async fn send_logs(
        self: &Arc<Self>,
        stream: &mut UnixStream,
        id: &EnvironmentId,
        name: &str,
        query: LogQuery,
    ) -> Result<(), RuntimeError> {
        let (environment, unit, path) = self.log_of(id, name)?;
        let tail = query.tail;
        let first = self
            .block(move |_| Reader::open(&path, tail).map_err(|e| failed("reading a log", &e)))
            .await?;
        let sent = self.follow_log(stream, &environment, &unit, first, query.follow).await;
        if let Err(error) = sent {
            tracing::debug!(%error, "a reader of logs hung up");
        }
        Ok(())
    }

    async fn follow_log(
        self: &Arc<Self>,
        stream: &mut UnixStream,
        environment: &Environment,
        unit: &UnitName,
        mut reader: Reader,
        follow: bool,
    ) -> io::Result<()> {
        loop {
            let over = environment.inner().removed || environment.unit(unit).is_none();
            let (back, lines) = tokio::task::spawn_blocking(move || {
                let lines = reader.batch();
                (reader, lines)
            })
            .await?;
            reader = back;
            let lines = lines?;
            for line in &lines {
                write_json(stream, line).await?;
            }
            if !lines.is_empty() {
                continue;
            }
            if !follow || over {
                return Ok(());
            }
            tokio::select! {
                () = tokio::time::sleep(FOLLOW_PAUSE) => {}
                hung_up = stream.readable() => {
                    hung_up?;
                    if matches!(stream.try_read(&mut [0; 64]), Ok(0)) {
                        return Ok(());
                    }
                }
            }
        }
    }
}

/// Reads a log that the monitor writes, and may cut, meanwhile.
struct Reader {
    path: PathBuf,
    /// Older parts of the log, to be read first.
    older: std::collections::VecDeque<File>,
    file: Option<BufReader<File>>,
    /// Parts of a line that the monitor has split.
    partial: String,
    /// Bytes of a line that is not written to its end yet.
    rest: Vec<u8>,
    /// Lines that were read ahead to find the newest.
    ready: std::collections::VecDeque<LogLine>,
}

impl Reader {
    fn open(path: &Path, tail: Option<usize>) -> io::Result<Self> {
        let mut parts = log_files::parts(path)?;
        parts.pop();
        let older = parts.iter().filter_map(|part| File::open(part).ok()).collect();
        let mut reader = Self {
            path: path.to_owned(),
            older,
            file: None,
            partial: String::new(),
            rest: Vec::new(),
            ready: std::collections::VecDeque::new(),
        };
        if let Some(tail) = tail {
            let mut bytes = 0;
            while let Some(line) = reader.next_line()? {
                bytes += weight(&line);
                reader.ready.push_back(line);
                while reader.ready.len() > tail || bytes > TAIL_BYTES {
                    let Some(line) = reader.ready.pop_front() else { break };
                    bytes -= weight(&line);
                }
            }
        }
        Ok(reader)
    }

    fn batch(&mut self) -> io::Result<Vec<LogLine>> {
        let mut lines = Vec::new();
        let mut bytes = 0;
        while lines.len() < BATCH && bytes < BATCH_BYTES {
            let line = match self.ready.pop_front() {
                Some(line) => line,
                None => match self.next_line()? {
                    Some(line) => line,
                    None => break,
                },
            };
            bytes += weight(&line);
            lines.push(line);
        }
        Ok(lines)
    }

    /// The monitor replaces a full log by a new file.
    fn reopen(&mut self) -> io::Result<bool> {
        if let Some(older) = self.older.pop_front() {
            self.file = Some(BufReader::new(older));
            self.rest.clear();
            return Ok(true);
        }
        let current = match std::fs::metadata(&self.path) {
            Ok(meta) => meta,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(e),
        };
        if let Some(file) = &mut self.file {
            let open = file.get_ref().metadata()?;
            if open.ino() == current.ino() && file.stream_position()? <= current.len() {
                return Ok(false);
            }
        }
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(0))?;
        self.file = Some(BufReader::new(file));
        self.rest.clear();
        Ok(true)
    }

    fn next_line(&mut self) -> io::Result<Option<LogLine>> {
        loop {
            if self.file.is_none() && !self.reopen()? {
                return Ok(None);
            }
            let Some(file) = &mut self.file else { return Ok(None) };
            let limit = (LINE_MAX * 2).saturating_sub(self.rest.len()).max(1) as u64;
            let length = file.by_ref().take(limit).read_until(b'\n', &mut self.rest)?;
            if self.rest.last() != Some(&b'\n') && self.rest.len() < LINE_MAX * 2 {
                if length == 0 && !self.reopen()? {
                    return Ok(None);
                }
                continue;
            }
            let bytes = std::mem::take(&mut self.rest);
            if let Some(line) = parse_line(&String::from_utf8_lossy(&bytes), &mut self.partial) {
                return Ok(Some(line));
            }
        }
    }
}

/// What a line takes in memory, in bytes.
fn weight(line: &LogLine) -> usize {
    line.text.capacity() + size_of::<LogLine>()
}

/// One line of the monitor's file: time, stream, `P` (it goes on) or `F` (complete), text.
fn parse_line(raw: &str, partial: &mut String) -> Option<LogLine> {
    let mut parts = raw.trim_end_matches('\n').splitn(4, ' ');
    let at = parse_time(parts.next()?)?;
    let stream = match parts.next()? {
        "stdout" => LogStream::Stdout,
        "stderr" => LogStream::Stderr,
        _ => return None,
    };
    let whole = parts.next()? == "F";
    partial.push_str(parts.next().unwrap_or_default());
    if partial.len() > LINE_MAX {
        let end = (0..=LINE_MAX)
            .rev()
            .find(|end| partial.is_char_boundary(*end))
            .unwrap_or(0);
        partial.truncate(end);
    }
    // A terminal ends lines so.
    if whole && partial.ends_with('\r') {
        partial.pop();
    }
    whole.then(|| LogLine {
        at,
        stream,
        text: std::mem::take(partial),
    })
}

/// `2026-11-21T11:42:32.051341772+00:00` in milliseconds since the epoch.
fn parse_time(text: &str) -> Option<Timestamp> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let millis = number(20, 23).unwrap_or(0);
    let zone = text.get(text.len().checked_sub(6)?..)?;
    let offset = if zone.ends_with('Z') {
        0
    } else {
        let minutes = zone.get(1..3)?.parse::<i64>().ok()? * 60 + zone.get(4..6)?.parse::<i64>().ok()?;
        if zone.starts_with('-') { -minutes } else { minutes }
    };
    // Days since the epoch in the proleptic Gregorian calendar, the year beginning in March.
    let (y, m) = if month <= 2 {
        (year - 1, month + 9)
    } else {
        (year, month - 3)
    };
    let days = y * 365 + y / 4 - y / 100 + y / 400 + (m * 153 + 2) / 5 + day - 1 - 719_468;
    let seconds = days * 86_400 + hour * 3600 + (minute - offset) * 60 + second;
    u64::try_from(seconds * 1000 + millis).ok().map(Timestamp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_with_time_and_stream_and_put_together() {
        let mut partial = String::new();
        assert!(parse_line("2026-11-21T11:42:32.051341772+00:00 stdout P one ", &mut partial).is_none());
        let line = parse_line("2026-11-21T12:42:32.051341772+01:00 stdout F and two\n", &mut partial).unwrap();
        assert_eq!(
            (line.text.as_str(), line.stream, line.at),
            ("one and two", LogStream::Stdout, Timestamp(1_795_261_352_051))
        );
        let line = parse_line("2026-11-21T12:42:32.0+01:00 stdout F of a terminal\r\n", &mut partial).unwrap();
        assert_eq!(line.text, "of a terminal");
        for odd in [
            "",
            "x",
            "2026-11-21T11:42:32.0+00:00 other F x",
            "9999999999999 stdout F x",
        ] {
            assert!(parse_line(odd, &mut String::new()).is_none(), "{odd}");
        }
    }

    #[test]
    fn long_lines_and_a_tail_of_everything_take_no_more_memory_than_is_meant_for_them() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let long = "x".repeat(15_000);
        let text: String = (0..400)
            .map(|n| format!("2026-11-21T11:42:32.05+00:00 stdout F {n} {long}\n"))
            .collect();
        std::fs::write(&path, text).unwrap();
        let mut reader = Reader::open(&path, Some(usize::MAX)).unwrap();
        let held: usize = reader.ready.iter().map(weight).sum();
        assert!((TAIL_BYTES / 2..=TAIL_BYTES).contains(&held), "{held}");
        let (mut count, mut last) = (0, String::new());
        loop {
            let batch = reader.batch().unwrap();
            let Some(line) = batch.last() else { break };
            let bytes: usize = batch.iter().map(weight).sum();
            assert!(bytes <= BATCH_BYTES + LINE_MAX * 3, "{bytes}");
            (count, last) = (count + batch.len(), line.text.clone());
        }
        assert!(count > 20 && last.starts_with("399 "), "the newest are given: {count}");
    }

    #[test]
    fn only_the_newest_lines_are_given_and_a_cut_file_is_read_on() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let text: String = (0..10)
            .map(|n| format!("2026-11-21T11:42:32.05+00:00 stderr F line {n}\n"))
            .collect();
        std::fs::write(&path, text).unwrap();
        let mut reader = Reader::open(&path, Some(2)).unwrap();
        let texts = |lines: Vec<LogLine>| lines.into_iter().map(|l| l.text).collect::<Vec<_>>();
        assert_eq!(texts(reader.batch().unwrap()), ["line 8", "line 9"]);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "2026-11-21T11:42:33.05+00:00 stderr F anew\n").unwrap();
        assert_eq!(texts(reader.batch().unwrap()), ["anew"]);
        assert!(reader.batch().unwrap().is_empty());
    }
}
