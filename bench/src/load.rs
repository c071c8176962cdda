//! An open-loop load generator: requests are due at fixed times, whether or not earlier ones were answered, and a latency counts
//! from the time at which its request was due. One thread and one kept connection per sender.

use crate::stats::quantile;
use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

/// What to send.
#[derive(Clone, Debug, Args)]
pub(crate) struct LoadArgs {
    #[arg(long)]
    address: SocketAddr,
    /// The Host header
    #[arg(long)]
    host: String,
    #[arg(long)]
    path: String,
    /// A further header line
    #[arg(long)]
    header: Option<String>,
    /// Requests per second, all senders together
    #[arg(long)]
    rate: u32,
    #[arg(long)]
    seconds: f64,
    #[arg(long, default_value_t = 8)]
    senders: u32,
}

/// Latencies in microseconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct LoadResult {
    pub(crate) requests: usize,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
    /// Requests that were answered a whole period late or more: the rate was not kept.
    pub(crate) late: usize,
}

/// Sends, and writes the result to standard output.
pub(crate) fn run(args: &LoadArgs) -> Result<()> {
    // A little time for all senders to connect.
    let begin = Instant::now() + Duration::from_millis(100);
    let senders = (0..args.senders).map(|number| {
        let args = args.clone();
        thread::spawn(move || sender(&args, number, begin))
    });
    let mut latencies = Vec::new();
    for sender in senders.collect::<Vec<_>>() {
        let sent = sender.join().map_err(|_| anyhow::anyhow!("a sender has failed"))?;
        latencies.extend(sent?);
    }
    latencies.sort_by(f64::total_cmp);
    let period = period(args).as_secs_f64() * 1e6;
    let result = LoadResult {
        requests: latencies.len(),
        p50: quantile(&latencies, 0.5),
        p99: quantile(&latencies, 0.99),
        max: latencies.last().copied().unwrap_or_default(),
        late: latencies.iter().filter(|latency| **latency > period).count(),
    };
    serde_json::to_writer(std::io::stdout().lock(), &result)?;
    Ok(())
}

/// Between two requests of one sender.
fn period(args: &LoadArgs) -> Duration {
    Duration::from_secs(1) * args.senders / args.rate
}

fn sender(args: &LoadArgs, number: u32, begin: Instant) -> Result<Vec<f64>> {
    let mut stream = TcpStream::connect(args.address).context("connecting")?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let extra = args.header.as_ref().map_or(String::new(), |line| format!("{line}\r\n"));
    let request = format!("GET {} HTTP/1.1\r\nHost: {}\r\n{extra}\r\n", args.path, args.host);
    let (period, mut buffer) = (period(args), vec![0; 256 * 1024]);
    let count = (args.seconds / period.as_secs_f64()) as u32;
    let mut latencies = Vec::with_capacity(count as usize);
    for index in 0..count {
        let due = begin + period * index + period * number / args.senders;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        stream.write_all(request.as_bytes())?;
        answer(&mut stream, &mut buffer)?;
        latencies.push(due.elapsed().as_secs_f64() * 1e6);
    }
    Ok(latencies)
}

/// Reads one answer whole; it must be a success with a length.
fn answer(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<()> {
    let mut have = 0;
    let mut wanted = None;
    while wanted.is_none_or(|wanted| have < wanted) {
        let read = stream.read(buffer.get_mut(have..).context("the answer is too large")?)?;
        ensure!(read > 0, "the connection was closed");
        have += read;
        if wanted.is_none() {
            wanted = length(buffer.get(..have).unwrap_or_default())?;
        }
    }
    Ok(())
}

/// The length of the whole answer, once its head is there.
fn length(bytes: &[u8]) -> Result<Option<usize>> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).to_ascii_lowercase();
    ensure!(
        head.starts_with("http/1.1 200"),
        "answered with {}",
        head.lines().next().unwrap_or_default()
    );
    let body = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let body: usize = body.context("an answer without a length")?.trim().parse()?;
    Ok(Some(end + 4 + body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_an_answer_is_that_of_head_and_body() {
        assert_eq!(length(b"HTTP/1.1 200 OK\r\nContent-Le").unwrap(), None);
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        assert_eq!(length(whole).unwrap(), Some(whole.len()));
        assert!(length(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n").is_err());
        assert!(length(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
