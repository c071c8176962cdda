//! Rolls dice for board games.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    time::{SystemTime, UNIX_EPOCH},
};

const SIDES: u32 = 6;

fn roll() -> u32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.subsec_nanos() % SIDES + 1
}

fn main() -> std::io::Result<()> {
    let port = std::env::var("PORT").unwrap_or_else(|_| "7878".to_owned());
    let listener = TcpListener::bind(format!("0.0.0.0:{port}"))?;
    for stream in listener.incoming() {
        let mut stream = stream?;
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        while matches!(lines.next(), Some(Ok(line)) if !line.is_empty()) {}
        let body = format!("<h1>Dice</h1><p>A die with {SIDES} sides shows {}.</p>", roll());
        let _ = write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
    }
    Ok(())
}
