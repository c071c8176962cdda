//! Whether a port of a container is open, asked often at little cost: one socket serves for all attempts, where a new one each
//! time would need a thread that enters the network.

use super::environment::Environment;
use crate::sandbox::network::container_address;
use rustix::io::Errno;
use std::{
    io,
    net::SocketAddrV4,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{sleep, timeout},
};

/// An attempt that is undecided for so long is given up: its first packet was lost.
const UNDECIDED: Duration = Duration::from_millis(50);
const STEP: Duration = Duration::from_millis(1);
/// How long a service may take to hang up.
const FAREWELL: Duration = Duration::from_secs(1);
/// How much it may say meanwhile.
const GREETING_MAX: usize = 64 << 10;

/// A socket that knocks at one port.
pub(crate) struct Knock {
    address: SocketAddrV4,
    socket: Option<OwnedFd>,
}

impl Knock {
    /// For a port of the container with that number.
    pub(crate) fn new(number: u16, port: u16) -> Self {
        Self {
            address: SocketAddrV4::new(container_address(number), port),
            socket: None,
        }
    }

    /// The port, in words.
    pub(crate) fn place(&self) -> String {
        format!("port {}", self.address.port())
    }

    /// Tries once, and hangs up.
    ///
    /// # Errors
    /// As long as nobody listens.
    pub(crate) async fn once(&mut self, environment: &Environment) -> io::Result<()> {
        tokio::spawn(leave(self.open(environment).await?));
        Ok(())
    }

    /// Tries once; the connection.
    ///
    /// # Errors
    /// As long as nobody listens.
    pub(crate) async fn open(&mut self, environment: &Environment) -> io::Result<OwnedFd> {
        let begun = Instant::now();
        let mut last = match &self.socket {
            Some(socket) => rustix::net::connect(socket, &self.address),
            None => {
                let hub = environment
                    .hub()
                    .map_err(|_| io::Error::from(io::ErrorKind::NotFound))?;
                self.socket = Some(hub.connect(self.address)?);
                Err(Errno::INPROGRESS)
            }
        };
        // Until it is decided, which is usually at once: the next call tells how the one before has ended.
        if let (Err(Errno::INPROGRESS | Errno::ALREADY), Some(socket)) = (last, &self.socket) {
            last = rustix::net::connect(socket, &self.address);
        }
        while let (Err(Errno::INPROGRESS | Errno::ALREADY), Some(socket)) = (last, &self.socket) {
            if begun.elapsed() > UNDECIDED {
                self.socket = None;
                return Err(io::ErrorKind::TimedOut.into());
            }
            sleep(STEP).await;
            last = rustix::net::connect(socket, &self.address);
        }
        match last {
            Ok(()) | Err(Errno::ISCONN) => self.socket.take().ok_or_else(|| io::ErrorKind::NotConnected.into()),
            // A refused socket can try again.
            Err(Errno::CONNREFUSED) => Err(Errno::CONNREFUSED.into()),
            Err(error) => {
                self.socket = None;
                Err(error.into())
            }
        }
    }
}

/// Hangs up as a client does that has nothing to ask. A connection that is cut while the service says something would be an error
/// in its log.
async fn leave(socket: OwnedFd) {
    let Ok(mut stream) = TcpStream::from_std(std::net::TcpStream::from(socket)) else {
        return;
    };
    let listened = async {
        stream.shutdown().await?;
        let mut chunk = [0; 4096];
        let mut heard = 0;
        while heard < GREETING_MAX {
            match stream.read(&mut chunk).await? {
                0 => break,
                length => heard += length,
            }
        }
        io::Result::Ok(())
    };
    // Whatever comes of it, the port is open.
    let _ = timeout(FAREWELL, listened).await;
}
