//! Connections, logs and commands, through the API server: a way that is open wherever the API server can be reached.

use super::{KubernetesRuntime, unsupported};
use crate::{
    api::{failed, told},
    build::labels::{self, JOB, SERVICE},
    names,
    observe::Seen,
};
use bytes::Bytes;
use futures::{AsyncBufRead, AsyncBufReadExt, StreamExt, stream::BoxStream};
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::Status, jiff};
use kube::{
    Api, ResourceExt,
    api::{AttachParams, LogParams},
};
use model::{EnvironmentId, ServiceName, Timestamp};
use runtime::{Connection, Exec, ExecExit, LogLine, LogQuery, LogStream, Result, RuntimeError, Target};
use std::{collections::BTreeMap, io, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    sync::{mpsc, oneshot},
};

/// How long the API server may take to open a stream.
const OPENED: Duration = Duration::from_secs(20);

/// The longest line of a log, and what stands before it: a time.
const LINE_MAX: usize = 16 * 1024;
const TIME_MAX: usize = 64;

/// How many pieces of output wait for whoever reads, and how long one is.
const PIECES: usize = 16;
const PIECE: usize = 16 * 1024;

impl KubernetesRuntime {
    fn pods(&self, id: &EnvironmentId) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace(id))
    }

    /// The pod of a service that runs now.
    async fn running(&self, id: &EnvironmentId, service: &ServiceName, action: &str) -> Result<String> {
        let seen = self.seen(id).await?;
        if !has(&seen, SERVICE, service.as_str()) {
            return Err(not_found(format!("service {service} in {id}")));
        }
        let pods = seen.pods_of(SERVICE, &names::workload(service.as_str()));
        let running = pods.into_iter().rfind(|pod| runs(pod));
        running
            .map(ResourceExt::name_any)
            .ok_or_else(|| failed(action, "none of its pods runs"))
    }

    pub(super) async fn connect_to(
        &self,
        id: &EnvironmentId,
        service: &ServiceName,
        target: Target,
    ) -> Result<Connection> {
        let Target::Port(port) = target else {
            return Err(unsupported(
                format!("the administration of {service}"),
                "a cluster has no way in for an engine's administrator yet",
            ));
        };
        let action = format!("connecting to port {port} of {service}");
        let pod = self.running(id, service, &action).await?;
        let api = self.pods(id);
        let ports = [port];
        let opened = tokio::time::timeout(OPENED, api.portforward(&pod, &ports)).await;
        let opened = opened.map_err(|_| failed(&action, format!("no answer within {OPENED:?}")))?;
        let mut forwarder = opened.map_err(|error| told(&action, error))?;
        let stream = forwarder
            .take_stream(port)
            .ok_or_else(|| failed(&action, "the port was not forwarded"))?;
        Ok(Connection::Boxed(Box::pin(stream)))
    }

    pub(super) async fn lines(
        &self,
        id: &EnvironmentId,
        name: &str,
        query: LogQuery,
    ) -> Result<BoxStream<'static, LogLine>> {
        let action = format!("reading the log of {name}");
        let seen = self.seen(id).await?;
        let key = [SERVICE, JOB].into_iter().find(|key| has(&seen, key, name));
        let key = key.ok_or_else(|| not_found(format!("{name} in {id}")))?;
        let pods = seen.pods_of(key, &names::workload(name));
        let Some(pod) = pods.into_iter().rfind(|pod| has_begun(pod)) else {
            return Ok(futures::stream::empty().boxed());
        };
        let how = LogParams {
            follow: query.follow,
            tail_lines: query.tail.map(|lines| i64::try_from(lines).unwrap_or(i64::MAX)),
            timestamps: true,
            ..LogParams::default()
        };
        let (api, pod) = (self.pods(id), pod.name_any());
        let opened = tokio::time::timeout(OPENED, api.log_stream(&pod, &how)).await;
        let opened = opened.map_err(|_| failed(&action, format!("no answer within {OPENED:?}")))?;
        let reader = opened.map_err(|error| told(&action, error))?;
        let lines = futures::stream::unfold(Box::pin(reader), |mut reader| async move {
            let line = next_line(&mut reader).await.ok().flatten()?;
            Some((line, reader))
        });
        Ok(lines.boxed())
    }

    pub(super) async fn command(
        &self,
        id: &EnvironmentId,
        service: &ServiceName,
        argv: &[String],
        variables: &BTreeMap<String, String>,
    ) -> Result<Exec> {
        let action = format!("running a command in {service}");
        let pod = self.running(id, service, &action).await?;
        // The API server takes no variables.
        let env = (!variables.is_empty()).then(|| "env".to_owned());
        let settings = variables.iter().map(|(name, value)| format!("{name}={value}"));
        let words: Vec<String> = env.into_iter().chain(settings).chain(argv.iter().cloned()).collect();
        let how = AttachParams {
            stdin: true,
            stdout: true,
            stderr: true,
            ..AttachParams::default()
        };
        let api = self.pods(id);
        let opened = tokio::time::timeout(OPENED, api.exec(&pod, words, &how)).await;
        let opened = opened.map_err(|_| failed(&action, format!("no answer within {OPENED:?}")))?;
        let mut process = opened.map_err(|error| told(&action, error))?;
        let missing = || failed(&action, "the API server has opened no stream for it");
        let status = process.take_status().ok_or_else(missing)?;
        let (stdin, given) = mpsc::channel(PIECES);
        tokio::spawn(write(process.stdin().ok_or_else(missing)?, given));
        let (out, stdout) = mpsc::channel(PIECES);
        let (err, stderr) = mpsc::channel(PIECES);
        let reading = [
            tokio::spawn(read(process.stdout().ok_or_else(missing)?, out)),
            tokio::spawn(read(process.stderr().ok_or_else(missing)?, err)),
        ];
        let (mut tell, exit) = oneshot::channel();
        tokio::spawn(async move {
            let status = tokio::select! {
                status = status => status,
                // Nobody waits any more: the streams are closed with `process`.
                () = tell.closed() => return,
            };
            for task in reading {
                drop(task.await);
            }
            drop(process);
            drop(tell.send(status.map_or_else(
                || ExecExit::Failed("the connection ended before the command".to_owned()),
                |status| exit_of(&status),
            )));
        });
        Ok(Exec {
            stdin,
            stdout,
            stderr,
            exit,
        })
    }
}

fn not_found(what: String) -> RuntimeError {
    RuntimeError::NotFound { what }
}

/// Whether an environment has a service or job of that name.
fn has(seen: &Seen, key: &str, name: &str) -> bool {
    let label = names::workload(name);
    let of = |template: &k8s_openapi::api::core::v1::PodTemplateSpec| {
        template.metadata.as_ref().and_then(|meta| labels::label(meta, key)) == Some(label.as_str())
    };
    let deployments = seen
        .deployments
        .iter()
        .filter_map(|object| object.spec.as_ref())
        .any(|spec| of(&spec.template));
    let sets = seen
        .stateful_sets
        .iter()
        .filter_map(|object| object.spec.as_ref())
        .any(|spec| of(&spec.template));
    let jobs = seen
        .jobs
        .iter()
        .filter_map(|object| object.spec.as_ref())
        .any(|spec| of(&spec.template));
    deployments || sets || jobs
}

fn state(pod: &Pod) -> Option<&k8s_openapi::api::core::v1::ContainerStatus> {
    pod.status.as_ref()?.container_statuses.as_ref()?.first()
}

fn runs(pod: &Pod) -> bool {
    state(pod)
        .and_then(|status| status.state.as_ref()?.running.as_ref())
        .is_some()
}

/// Whether there can be a log.
fn has_begun(pod: &Pod) -> bool {
    let begun =
        |state: &k8s_openapi::api::core::v1::ContainerState| state.running.is_some() || state.terminated.is_some();
    let now_or_before = |status: &k8s_openapi::api::core::v1::ContainerStatus| {
        status.state.as_ref().is_some_and(begun) || status.last_state.as_ref().is_some_and(begun)
    };
    state(pod).is_some_and(now_or_before)
}

/// The next line of a log; `None` at its end. What is too long for a line is cut off.
async fn next_line(reader: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<LogLine>> {
    let mut line = Vec::new();
    loop {
        let piece = reader.fill_buf().await?;
        if piece.is_empty() {
            return Ok((!line.is_empty()).then(|| parse(&line)));
        }
        let end = piece.iter().position(|byte| *byte == b'\n');
        let length = end.unwrap_or(piece.len());
        let room = (LINE_MAX + TIME_MAX).saturating_sub(line.len());
        line.extend_from_slice(&piece[..length.min(room)]);
        reader.consume_unpin(end.map_or(length, |end| end + 1));
        if end.is_some() {
            return Ok(Some(parse(&line)));
        }
    }
}

/// A line as the API server sends it: a time, a space, the text. Which output it was is not told.
fn parse(line: &[u8]) -> LogLine {
    let text = String::from_utf8_lossy(line);
    let (time, rest) = text.split_once(' ').unwrap_or((&text, ""));
    let time = time.parse::<jiff::Timestamp>().ok();
    let at = time.and_then(|time| u64::try_from(time.as_millisecond()).ok());
    let text = if at.is_some() { rest } else { &text };
    let mut text = text.trim_end_matches('\r').to_owned();
    let end = (0..=LINE_MAX.min(text.len()))
        .rfind(|at| text.is_char_boundary(*at))
        .unwrap_or(0);
    text.truncate(end);
    LogLine {
        at: Timestamp(at.unwrap_or(0)),
        stream: LogStream::Stdout,
        text,
    }
}

async fn read(mut from: impl AsyncRead + Unpin, to: mpsc::Sender<Bytes>) {
    let mut piece = vec![0; PIECE];
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        // Who no longer listens does not stop the command from printing.
        drop(to.send(Bytes::copy_from_slice(&piece[..length])).await);
    }
}

async fn write(mut to: impl tokio::io::AsyncWrite + Unpin, mut from: mpsc::Receiver<Bytes>) {
    while let Some(piece) = from.recv().await {
        if to.write_all(&piece).await.is_err() {
            return;
        }
    }
    drop(to.shutdown().await);
}

/// How a command ended, from what the API server says of it.
fn exit_of(status: &Status) -> ExecExit {
    let causes = status
        .details
        .iter()
        .flat_map(|details| details.causes.iter().flatten());
    let mut codes = causes.filter(|cause| cause.reason.as_deref() == Some("ExitCode"));
    let code = codes.find_map(|cause| cause.message.as_ref()?.parse().ok());
    match (status.status.as_deref(), code) {
        (Some("Success"), _) => ExecExit::Status(0),
        (_, Some(code)) => ExecExit::Status(code),
        _ => ExecExit::Failed(crate::api::shortened(status.message.as_deref().unwrap_or_default())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_a_time_and_a_bound() {
        let line = parse(b"2026-01-02T03:04:05.678901234Z it is ready\r");
        assert_eq!(
            (line.at, line.text.as_str()),
            (Timestamp(1_767_323_045_678), "it is ready")
        );
        let long = format!("2026-01-02T03:04:05Z {}", "ä".repeat(LINE_MAX));
        let line = parse(long.as_bytes());
        assert_eq!(line.text.len(), LINE_MAX);
        assert_eq!(parse(b"no time at all").text, "no time at all");
    }

    #[tokio::test]
    async fn a_log_is_read_line_by_line() {
        let mut log = futures::io::Cursor::new(b"2026-01-02T03:04:05Z one\n2026-01-02T03:04:05Z two".to_vec());
        assert_eq!(next_line(&mut log).await.unwrap().unwrap().text, "one");
        assert_eq!(next_line(&mut log).await.unwrap().unwrap().text, "two");
        assert_eq!(next_line(&mut log).await.unwrap(), None);
    }
}
