//! A port of this machine, usually of the loopback, for a program that is started, or started again, later.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};
use tokio::net::TcpSocket;

/// A port that is ours for as long as this lives, whether the program that listens on it runs or not.
///
/// A port that was only looked for is anybody's until the program listens: tests beside this one ask the kernel for ports
/// all the time. A socket that is bound and does not listen keeps the kernel from giving the port to them, refuses
/// connections as if it were not there, and lets a program listen that allows the address to be used again, as ours do
/// and those written in Go.
#[derive(Debug)]
pub struct HeldPort {
    address: SocketAddr,
    _bound: TcpSocket,
}

impl HeldPort {
    /// One that is free.
    ///
    /// # Errors
    /// If there is none.
    pub fn take() -> io::Result<Self> {
        Self::take_of(Ipv4Addr::LOCALHOST.into())
    }

    /// One that is free on another address of this machine.
    ///
    /// # Errors
    /// If there is none, or this machine does not have the address.
    pub fn take_of(address: IpAddr) -> io::Result<Self> {
        let bound = match address {
            IpAddr::V4(_) => TcpSocket::new_v4()?,
            IpAddr::V6(_) => TcpSocket::new_v6()?,
        };
        bound.set_reuseaddr(true)?;
        bound.bind((address, 0).into())?;
        Ok(Self {
            address: bound.local_addr()?,
            _bound: bound,
        })
    }

    /// Where the program listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.address.port()
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
