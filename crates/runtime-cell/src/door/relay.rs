//! Moves bytes between two sockets without looking at them, both ways, until both have ended: `splice` through a pipe, so that no
//! byte enters this process.

use rustix::{
    io::Errno,
    net::Shutdown,
    pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice},
};
use std::{
    io,
    os::fd::OwnedFd,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::Interest,
    net::TcpStream,
    time::{Instant, sleep_until},
};

/// What a pipe is to hold. One user may have so many pages in pipes; where they are used up, pipes are smaller.
const PIPE_BYTES: usize = 512 << 10;
/// Pipes that are kept for the next that need one.
const SPARE: usize = 64;

/// A pipe that is empty whenever nobody uses it.
#[derive(Debug)]
struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

/// Pipes that nobody uses at present: a connection that is idle has none.
#[derive(Debug, Default)]
pub(crate) struct Pipes(Mutex<Vec<Pipe>>);

impl Pipes {
    fn take(&self) -> io::Result<Pipe> {
        if let Some(pipe) = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop() {
            return Ok(pipe);
        }
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // A smaller one works as well.
        let _ = fcntl_setpipe_size(&write, PIPE_BYTES);
        Ok(Pipe { read, write })
    }

    fn give_back(&self, pipe: Pipe) {
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < SPARE {
            spare.push(pipe);
        }
    }
}

/// Why the connection ended before both sides had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Cut {
    /// One side broke.
    #[error("the connection broke")]
    Broken(#[from] io::Error),
    /// There was too much of it.
    #[error("too many bytes were sent")]
    Spent,
    /// Nothing moved for long.
    #[error("nothing was sent for {} s", .0.as_secs())]
    Idle(Duration),
}

/// Moves bytes until both sides have said that they are done. `moved` is told of bytes from the first to the second
/// and back, and says whether more may follow.
pub(crate) async fn relay(
    pipes: &Pipes,
    inner: &TcpStream,
    outer: &TcpStream,
    idle: Duration,
    moved: impl Fn(u64, u64) -> bool,
) -> Result<(), Cut> {
    let begun = Instant::now();
    // Milliseconds since then.
    let last = AtomicU64::new(0);
    let note = || {
        let elapsed = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        last.store(elapsed, Ordering::Relaxed);
    };
    let up = one_way(pipes, inner, outer, |bytes| {
        note();
        moved(bytes, 0)
    });
    let down = one_way(pipes, outer, inner, |bytes| {
        note();
        moved(0, bytes)
    });
    let silence = async {
        loop {
            let until = begun + Duration::from_millis(last.load(Ordering::Relaxed)) + idle;
            if Instant::now() >= until {
                return;
            }
            sleep_until(until).await;
        }
    };
    tokio::select! {
        done = async { tokio::try_join!(up, down) } => done.map(drop),
        () = silence => Err(Cut::Idle(idle)),
    }
}

async fn one_way(pipes: &Pipes, from: &TcpStream, to: &TcpStream, moved: impl Fn(u64) -> bool) -> Result<(), Cut> {
    loop {
        from.readable().await?;
        let pipe = pipes.take()?;
        // Whatever fails in here leaves bytes in the pipe, which goes with it.
        let ended = drain(&pipe, from, to, &moved).await?;
        pipes.give_back(pipe);
        if ended {
            return match rustix::net::shutdown(to, Shutdown::Write) {
                // It has closed already, in both directions.
                Ok(()) | Err(Errno::NOTCONN) => Ok(()),
                Err(error) => Err(Cut::Broken(error.into())),
            };
        }
    }
}

/// Moves what there is; true at the end of the stream, false when there is nothing for now. The pipe is empty afterwards.
async fn drain(pipe: &Pipe, from: &TcpStream, to: &TcpStream, moved: &impl Fn(u64) -> bool) -> Result<bool, Cut> {
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    loop {
        let taken = from.try_io(Interest::READABLE, || {
            Ok(splice(from, None, &pipe.write, None, PIPE_BYTES, flags)?)
        });
        let mut left = match taken {
            Ok(0) => return Ok(true),
            Ok(taken) => taken,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        while left > 0 {
            let given = to.async_io(Interest::WRITABLE, || {
                Ok(splice(&pipe.read, None, to, None, left, flags)?)
            });
            match given.await {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                Ok(given) => {
                    left = left.saturating_sub(given);
                    if !moved(u64::try_from(given).unwrap_or(u64::MAX)) {
                        return Err(Cut::Spent);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        // Whoever sends without end leaves time for the others.
        tokio::task::consume_budget().await;
    }
}
