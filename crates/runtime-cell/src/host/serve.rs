//! The two sockets: who may speak, what may be asked, how it is answered.

use super::{Host, HostError, at, dockerfile::Base, environment::Environment, probe};
use crate::{
    door::wire::DOOR_SOCKET,
    names::UnitName,
    protocol::{
        Answer, CONTROL_SOCKET, DIAL_REQUEST_MAX, DIAL_SOCKET, REQUEST_MAX, Request, SecretValues, WireError, frame,
        parse, read_frame, receive_files, write_json,
    },
};
use model::{EnvironmentId, Power, ServiceName};
use runtime::{RuntimeError, Target};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::{
    fs,
    io::{self, IoSlice},
    mem::MaybeUninit,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::{PermissionsExt as _, chown},
    },
    path::Path,
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::Interest,
    net::{UnixListener, UnixStream},
    signal::unix::{SignalKind, signal},
    sync::{Semaphore, broadcast::error::RecvError},
    time::timeout,
};

const AT_ONCE: usize = 512;
const REQUEST_PATIENCE: Duration = Duration::from_secs(10);

/// Serves both sockets until the process is asked to end.
pub(super) async fn serve(host: Arc<Host>) -> Result<(), HostError> {
    let run = host.config.run_dir.clone();
    let control =
        listen(&run.join(CONTROL_SOCKET), 0o600, Some(host.config.control_uid)).map_err(at("listening below", &run))?;
    // Everybody may connect here; who is not listed is told nothing.
    let dial = listen(&run.join(DIAL_SOCKET), 0o666, None).map_err(at("listening below", &run))?;
    let door = listen(&run.join(DOOR_SOCKET), 0o666, None).map_err(at("listening below", &run))?;
    let mut terminate = signal(SignalKind::terminate()).map_err(at("waiting for signals in", &run))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(at("waiting for signals in", &run))?;
    tracing::info!(path = %run.display(), "the cell host serves");
    tokio::select! {
        () = accept(Arc::clone(&host), control, Door::Control) => {}
        () = accept(Arc::clone(&host), dial, Door::Dial) => {}
        () = super::door::serve(Arc::clone(&host), door) => {}
        () = host.logs.follow() => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Door {
    Control,
    Dial,
}

fn listen(path: &Path, mode: u32, owner: Option<u32>) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    chown(path, owner, None)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    Ok(listener)
}

async fn accept(host: Arc<Host>, listener: UnixListener, door: Door) {
    let slots = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let host = Arc::clone(&host);
                tokio::spawn(async move {
                    if let Err(error) = converse(&host, stream, door).await {
                        tracing::debug!(%error, "a connection ended");
                    }
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Who speaks is told by the kernel, not by the speaker.
fn may_speak(host: &Host, stream: &UnixStream, door: Door) -> io::Result<bool> {
    let uid = stream.peer_cred()?.uid();
    let control = uid == 0 || uid == host.config.control_uid;
    Ok(control || (door == Door::Dial && host.config.dial_uids.contains(&uid)))
}

async fn converse(host: &Arc<Host>, mut stream: UnixStream, door: Door) -> io::Result<()> {
    if !may_speak(host, &stream, door)? {
        tracing::warn!(uid = stream.peer_cred()?.uid(), "a stranger was turned away");
        return Ok(());
    }
    let max = if door == Door::Control {
        REQUEST_MAX
    } else {
        DIAL_REQUEST_MAX
    };
    let Some(body) = timeout(REQUEST_PATIENCE, read_frame(&mut stream, max)).await?? else {
        return Ok(());
    };
    let request = match parse::<Request>(&body) {
        // An engine's administration is not for whoever only dials.
        Ok(request)
            if door == Door::Control
                || matches!(
                    request,
                    Request::Dial {
                        target: Target::Port(_),
                        ..
                    }
                ) =>
        {
            request
        }
        Ok(_) => return refuse(&mut stream, "this socket only dials").await,
        Err(error) => return refuse(&mut stream, &error.to_string()).await,
    };
    drop(body);
    let secrets = timeout(REQUEST_PATIENCE, SecretValues::read(&mut stream, request.secrets())).await??;
    handle(host, &mut stream, request, secrets).await
}

async fn refuse(stream: &mut UnixStream, reason: &str) -> io::Result<()> {
    let error = WireError::Invalid {
        what: "request".into(),
        reason: reason.chars().take(300).collect(),
    };
    write_json(stream, &Err::<Answer, _>(error)).await
}

async fn handle(host: &Arc<Host>, stream: &mut UnixStream, request: Request, secrets: SecretValues) -> io::Result<()> {
    let answer = match request {
        Request::Dial {
            environment,
            service,
            target,
        } => return dial(host, stream, &environment, &service, target).await,
        Request::Changes => return changes(host, stream).await,
        Request::Logs {
            environment,
            name,
            query,
        } => {
            if let Err(error) = host.log_of(&environment, &name) {
                return write_json(stream, &Err::<Answer, WireError>(error.into())).await;
            }
            write_json(stream, &Ok::<_, WireError>(Answer::Done)).await?;
            return host
                .send_logs(stream, &environment, &name, query)
                .await
                .map_err(io::Error::other);
        }
        Request::Exec {
            environment,
            service,
            argv,
            variables,
        } => match host.exec(stream, &environment, &service, &argv, &variables).await {
            Ok(()) => return Ok(()),
            Err(error) => Err(error),
        },
        Request::ImagePut { sake, image, diffs } => {
            let files = timeout(REQUEST_PATIENCE, receive_files(stream)).await??;
            let host = Arc::clone(host);
            let put = tokio::spawn(async move { host.image_put(&sake, image, &diffs, files).await });
            put.await?.map(done)
        }
        Request::BuildRun {
            spec, service, bases, ..
        } => {
            let files = timeout(REQUEST_PATIENCE, receive_files(stream)).await??;
            let host = Arc::clone(host);
            let built = tokio::spawn(async move {
                let bases = Base::all(bases, files)?;
                host.build_run(&spec, &service, bases, &secrets).await
            });
            built.await?.map(Answer::Build)
        }
        other => {
            // What was begun is finished, also when the caller hangs up: it can be asked again.
            let host = Arc::clone(host);
            tokio::spawn(async move { carry_out(&host, other, &secrets).await }).await?
        }
    };
    write_json(stream, &answer.map_err(WireError::from)).await
}

async fn carry_out(host: &Arc<Host>, request: Request, secrets: &SecretValues) -> Result<Answer, RuntimeError> {
    Ok(match request {
        Request::Capabilities => Answer::Capabilities(host.capabilities.clone()),
        Request::Instance => Answer::Instance(host.config.instance.clone()),
        Request::Recall { environment } => {
            Answer::Spec(host.block(move |h| h.recall(&environment)).await?.map(Box::new))
        }
        Request::SourceExists { key } => Answer::Exists(host.block(move |h| h.source_exists(&key)).await?),
        Request::SourceBegin { sake, key } => Answer::Path(host.block(move |h| h.source_begin(&sake, &key)).await?),
        Request::SourceSeal { sake, key } => done(host.block(move |h| h.source_seal(&sake, &key)).await?),
        Request::SourceList => Answer::Sources(host.block(|h| h.source_list()).await?),
        Request::SourceRemove { key } => done(host.block(move |h| h.source_remove(&key)).await?),
        Request::ImageList => Answer::Images(host.block(|h| h.image_list()).await?),
        Request::ImageRemove { image } => done(host.block(move |h| h.image_remove(&image)).await?),
        Request::Apply { spec, stage, .. } => done(host.apply(&spec, &stage, secrets).await?),
        Request::Prepare { spec, services, .. } => done(host.prepare_services(&spec, &services, secrets).await?),
        Request::Observe { environment } => Answer::Observation(host.observe(&environment).map(Box::new)),
        Request::JobRun { spec, job, .. } => Answer::Job(host.job_run(&spec, &job, secrets).await?),
        Request::Power {
            environment,
            generation,
            power,
        } => done(host.power(&environment, generation, power).await?),
        Request::ServicesStop {
            environment,
            generation,
            services,
        } => done(host.services_stop(&environment, generation, &services).await?),
        Request::SnapshotCreate {
            environment,
            generation,
            volume,
            snapshot,
        } => done(
            host.snapshot_create(&environment, generation, &volume, &snapshot)
                .await?,
        ),
        Request::SnapshotList => Answer::Snapshots(host.block(|h| h.snapshot_list()).await?),
        Request::SnapshotRemove { sake, snapshot } => {
            done(host.block(move |h| h.snapshot_remove(sake.as_ref(), &snapshot)).await?)
        }
        Request::RoomOf { environment } => Answer::RoomOf(host.block(move |h| h.room_of(&environment)).await?),
        Request::Room => Answer::Room(host.block(|h| h.room()).await?),
        Request::Memory { environment } => {
            let bytes = host.block(move |h| Ok(h.groups.memory(environment.as_str())));
            Answer::Memory(bytes.await?)
        }
        Request::Remove {
            environment,
            generation,
        } => done(host.remove(&environment, generation).await?),
        Request::Inventory { environment } => {
            Answer::Resources(host.block(move |h| h.inventory(environment.as_ref())).await?)
        }
        Request::ImagePut { .. }
        | Request::BuildRun { .. }
        | Request::Dial { .. }
        | Request::Logs { .. }
        | Request::Exec { .. }
        | Request::Changes => {
            return Err(RuntimeError::Invalid {
                what: "request".into(),
                reason: "it streams".into(),
            });
        }
    })
}

fn done((): ()) -> Answer {
    Answer::Done
}

async fn changes(host: &Host, stream: &mut UnixStream) -> io::Result<()> {
    let mut changes = host.changes.subscribe();
    write_json(stream, &Ok::<_, WireError>(Answer::Done)).await?;
    loop {
        tokio::select! {
            change = changes.recv() => match change {
                Ok(environment) => write_json(stream, &Some(environment)).await?,
                // The reader must look at everything.
                Err(RecvError::Lagged(_)) => write_json(stream, &None::<EnvironmentId>).await?,
                Err(RecvError::Closed) => return Ok(()),
            },
            hung_up = stream.readable() => {
                hung_up?;
                if matches!(stream.try_read(&mut [0; 64]), Ok(0)) {
                    return Ok(());
                }
            }
        }
    }
}

async fn dial(
    host: &Arc<Host>,
    stream: &mut UnixStream,
    id: &EnvironmentId,
    service: &ServiceName,
    target: Target,
) -> io::Result<()> {
    let connected = match host.environment(id) {
        Ok(environment) => connect(host, &environment, service, target).await,
        Err(error) => Err(error),
    };
    match connected {
        Ok((socket, unix)) => {
            let body = serde_json::to_vec(&Ok::<_, WireError>(Answer::Connected { unix }))?;
            send_with_socket(stream, &frame(&body)?, &socket).await
        }
        Err(error) => write_json(stream, &Err::<Answer, WireError>(error.into())).await,
    }
}

async fn connect(
    host: &Arc<Host>,
    environment: &Arc<Environment>,
    service: &ServiceName,
    target: Target,
) -> Result<(OwnedFd, bool), RuntimeError> {
    let unit = UnitName::service(service);
    let record = environment.unit(&unit).ok_or_else(|| RuntimeError::NotFound {
        what: format!("service {service}"),
    })?;
    let failed = |reason: String| RuntimeError::Failed {
        action: format!("connecting to {service}"),
        reason,
    };
    if environment.power() != Power::Running {
        // A frozen listener accepts and then hangs.
        return Err(failed("the environment sleeps".into()));
    }
    match target {
        Target::Port(port) => {
            let stream = probe::connect(environment, record.number, port)
                .await
                .map_err(|e| failed(format!("port {port}: {e}")))?;
            Ok((stream.into_std().map_err(|e| failed(e.to_string()))?.into(), false))
        }
        Target::Administration => {
            let socket = record.manner.administration.as_deref();
            let socket = socket.ok_or_else(|| RuntimeError::NotFound {
                what: format!("a way in for the administrator of {service}"),
            })?;
            let cell = host.cell(environment, &unit)?;
            let stream = probe::administration(host, &cell, socket)
                .await
                .map_err(|e| failed(e.to_string()))?;
            Ok((stream.into_std().map_err(|e| failed(e.to_string()))?.into(), true))
        }
    }
}

/// The socket travels with the first byte; the frame is small enough to be sent at once.
async fn send_with_socket(stream: &UnixStream, bytes: &[u8], socket: &OwnedFd) -> io::Result<()> {
    let descriptors = [socket.as_fd()];
    let sent = stream
        .async_io(Interest::WRITABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            control.push(SendAncillaryMessage::ScmRights(&descriptors));
            Ok(sendmsg(
                stream,
                &[IoSlice::new(bytes)],
                &mut control,
                SendFlags::NOSIGNAL,
            )?)
        })
        .await?;
    if sent == bytes.len() {
        Ok(())
    } else {
        Err(io::ErrorKind::WriteZero.into())
    }
}
