//! What only one process may have, taken from one that may be just letting go of it.
//!
//! A process that another one was just starting when that one ended or let go has its descriptors until it becomes the program
//! that it is to run: locks and listening sockets live on with it for that moment, which is long on a busy machine.

use rustix::fs::FlockOperation;
use std::{
    fs::File,
    io::{self, ErrorKind},
    net::SocketAddr,
    time::Duration,
};
use tokio::net::TcpListener;

/// How often it is tried, and the pause between: five seconds in all.
const ATTEMPTS: u32 = 200;
const PAUSE: Duration = Duration::from_millis(25);
/// After how many attempts it is said that something is waited for: after half a second.
const TOLD: u32 = 20;

/// A file that nobody else locks while this lives.
#[derive(Debug)]
pub(crate) struct LockedFile(pub(crate) File);

impl LockedFile {
    /// Locks a file.
    ///
    /// # Errors
    /// [`ErrorKind::WouldBlock`] if another process keeps it locked, and whatever else the kernel says.
    pub(crate) async fn new(file: File) -> io::Result<Self> {
        let lock = || rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(io::Error::from);
        once_let_go_of("the lock", ErrorKind::WouldBlock, lock).await?;
        Ok(Self(file))
    }
}

impl Drop for LockedFile {
    fn drop(&mut self) {
        // Closing the file would leave the lock to those who have the descriptor, too.
        let _ = rustix::fs::flock(&self.0, FlockOperation::Unlock);
    }
}

/// Listens at an address; waits some seconds for one that listens there and goes.
///
/// # Errors
/// When it can not be listened on.
pub async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let bind = || std::net::TcpListener::bind(address);
    let socket = once_let_go_of(&address.to_string(), ErrorKind::AddrInUse, bind).await?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket)
}

async fn once_let_go_of<T>(what: &str, taken: ErrorKind, mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for number in 1..ATTEMPTS {
        match attempt() {
            Err(error) if error.kind() == taken => {
                if number == TOLD {
                    tracing::info!("{what} is in use and is waited for");
                }
                tokio::time::sleep(PAUSE).await;
            }
            other => return other,
        }
    }
    attempt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[tokio::test]
    async fn what_is_let_go_of_within_the_time_is_taken() {
        let holder = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = holder.local_addr().unwrap();
        let place = tempfile::NamedTempFile::new().unwrap();
        // As a process that was just started would have it.
        let held = place.reopen().unwrap();
        rustix::fs::flock(&held, FlockOperation::LockExclusive).unwrap();
        let taken = tokio::spawn({
            let file = place.reopen().unwrap();
            async move { (listen(address).await.unwrap(), LockedFile::new(file).await.unwrap()) }
        });
        tokio::time::sleep(PAUSE * 4).await;
        assert!(!taken.is_finished());
        drop((holder, held));
        taken.await.unwrap();
    }

    #[tokio::test]
    async fn a_lock_goes_though_somebody_else_has_the_descriptor() {
        let place = tempfile::NamedTempFile::new().unwrap();
        let held = LockedFile::new(place.reopen().unwrap()).await.unwrap();
        let _elsewhere = held.0.try_clone().unwrap();
        drop(held);
        rustix::fs::flock(place.reopen().unwrap(), FlockOperation::NonBlockingLockExclusive).unwrap();
    }
}
