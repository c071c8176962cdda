//! Logs: lines as they come.

use super::{Session, path, print};
use crate::{cli::LogsArgs, exit::Failure, render, screen};
use api::{LogLineView, LogQuery};

/// The longest line that is waited for, in bytes; the server's are shorter.
const LINE_MAX: usize = 256 * 1024;

pub(super) async fn run(session: &Session, args: LogsArgs) -> Result<(), Failure> {
    let named = args.service.is_none();
    let query = LogQuery {
        name: args.service,
        tail: args.tail,
        follow: args.follow,
    };
    let path = format!("{}/logs", path(&args.environment));
    let mut response = screen::while_doing("asking", session.api.stream(&path, &query)).await?;
    let mut buffer = Vec::new();
    loop {
        let piece = response
            .chunk()
            .await
            .map_err(|_| Failure::unreachable("the log broke off"))?;
        let Some(piece) = piece else { return Ok(()) };
        buffer.extend_from_slice(&piece);
        let mut text = String::new();
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            text += &shown(&line, session.json, named)?;
        }
        if buffer.len() > LINE_MAX {
            return Err(Failure::unreachable("a line of the log is too long"));
        }
        print(&text)?;
    }
}

fn shown(line: &[u8], json: bool, named: bool) -> Result<String, Failure> {
    if json {
        return Ok(String::from_utf8_lossy(line).into_owned());
    }
    let line: LogLineView = serde_json::from_slice(line).map_err(|error| Failure::of(&error))?;
    Ok(render::log_line(&line, named))
}
