//! A port of the loopback for a program that is started, or started again, later.

use std::{io, net::Ipv4Addr};
use tokio::net::TcpSocket;

/// A port that is ours for as long as this lives, whether the program that listens on it runs or not.
///
/// A port that was only looked for is anybody's until the program listens: tests beside this one ask the kernel for ports
/// all the time. A socket that is bound and does not listen keeps the kernel from giving the port to them, refuses
/// connections as if it were not there, and lets a program listen that allows the address to be used again, as ours do
/// and those written in Go.
#[derive(Debug)]
pub struct HeldPort {
    number: u16,
    _bound: TcpSocket,
}

impl HeldPort {
    /// One that is free.
    ///
    /// # Errors
    /// If there is none.
    pub fn take() -> io::Result<Self> {
        let bound = TcpSocket::new_v4()?;
        bound.set_reuseaddr(true)?;
        bound.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        Ok(Self {
            number: bound.local_addr()?.port(),
            _bound: bound,
        })
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn it_is_nobody_elses_and_can_be_listened_on_again_and_again() {
        let port = HeldPort::take().unwrap();
        let address = (Ipv4Addr::LOCALHOST, port.number());
        for _ in 0..3 {
            assert!(TcpStream::connect(address).is_err(), "nobody listens");
            let listener = TcpListener::bind(address).unwrap();
            drop(TcpStream::connect(address).unwrap());
            drop(listener);
        }
        let others: Vec<TcpListener> = (0..200)
            .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap())
            .collect();
        assert!(
            others
                .iter()
                .all(|other| other.local_addr().unwrap().port() != port.number())
        );
    }
}
