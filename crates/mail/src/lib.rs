//! Catches the mail of one environment: takes it by SMTP, keeps it in a directory, shows it on a page. Sends nothing.
//!
//! It runs as a container of the environment, with its bounds and nothing else at hand: whoever speaks to it is the application, and
//! what it is told is an attacker's input. What must stay true:
//!
//! - Nothing here opens a connection.
//! - A line, a message, a session, the number of sessions and all that is kept have a bound.
//! - HTML of a message is shown in a sandboxed frame of its own answer, under a policy that lets it run and load nothing.

mod keep;
mod message;
mod page;
mod smtp;

pub use keep::{Bounds, Envelope, Keep, Kept};

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc};
use tokio::net::TcpListener;

/// Where mail is taken, shown and kept.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where SMTP is spoken.
    pub smtp: Vec<SocketAddr>,
    /// Where the page is.
    pub page: Vec<SocketAddr>,
    /// The directory in which messages are.
    pub directory: PathBuf,
    /// How much is kept.
    pub bounds: Bounds,
}

/// A catcher whose sockets are open.
#[derive(Debug)]
pub struct Catcher {
    smtp: Vec<TcpListener>,
    page: Vec<TcpListener>,
    keep: Arc<Keep>,
}

impl Catcher {
    /// Opens all sockets and the directory.
    ///
    /// # Errors
    /// Whatever can not be opened.
    pub async fn open(settings: &Settings) -> io::Result<Self> {
        let keep = Arc::new(Keep::open(&settings.directory, settings.bounds)?);
        let (mut smtp, mut page) = (Vec::new(), Vec::new());
        for address in &settings.smtp {
            smtp.push(TcpListener::bind(address).await?);
        }
        for address in &settings.page {
            page.push(TcpListener::bind(address).await?);
        }
        Ok(Self { smtp, page, keep })
    }

    /// Where it takes mail.
    #[must_use]
    pub fn smtp_addresses(&self) -> Vec<SocketAddr> {
        self.smtp.iter().filter_map(|socket| socket.local_addr().ok()).collect()
    }

    /// Where it shows mail.
    #[must_use]
    pub fn page_addresses(&self) -> Vec<SocketAddr> {
        self.page.iter().filter_map(|socket| socket.local_addr().ok()).collect()
    }

    /// Serves until it is dropped.
    pub async fn run(self) {
        let mut tasks = tokio::task::JoinSet::new();
        let turns = Arc::new(tokio::sync::Semaphore::new(smtp::SESSIONS_MAX));
        for socket in self.smtp {
            tasks.spawn(smtp::serve(socket, Arc::clone(&self.keep), Arc::clone(&turns)));
        }
        let turns = Arc::new(tokio::sync::Semaphore::new(page::CONNECTIONS_MAX));
        for socket in self.page {
            tasks.spawn(page::serve(socket, Arc::clone(&self.keep), Arc::clone(&turns)));
        }
        while tasks.join_next().await.is_some() {}
    }
}
