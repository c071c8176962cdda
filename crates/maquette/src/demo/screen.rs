//! What the demo shows: progress of what takes longer, frames around texts, and one key at a time.

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use std::{
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};
use tokio::{io::AsyncReadExt, time::interval};

/// Writes a line to standard error: standard output is for the JSON document alone.
pub(crate) fn say(text: &str) {
    let mut out = io::stderr().lock();
    // Nobody is left to tell if standard error is gone.
    let _ = writeln!(out, "{text}");
}

/// Runs something and shows that it is being done, how long it takes, and how it ended.
pub(crate) async fn while_doing<T, E>(what: &str, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let since = Instant::now();
    let live = io::stderr().is_terminal();
    let mut tick = interval(Duration::from_millis(100));
    tokio::pin!(work);
    let result = loop {
        tokio::select! {
            result = &mut work => break result,
            _ = tick.tick() => {
                if live && since.elapsed() > Duration::from_millis(300) {
                    let mut out = io::stderr().lock();
                    let _ = write!(out, "\r  … {what} {:.1} s ", since.elapsed().as_secs_f32());
                    let _ = out.flush();
                }
            }
        }
    };
    let sign = if result.is_ok() { "✓" } else { "✗" };
    let clear = if live { "\r\u{1b}[K" } else { "" };
    say(&format!(
        "{clear}  {sign} {what} ({:.2} s)",
        since.elapsed().as_secs_f32()
    ));
    result
}

/// A text with a line on its left.
pub(crate) fn quote(text: &str) -> String {
    text.trim_end().lines().map(|line| format!("  │ {line}\n")).collect()
}

/// Reads single keys from the terminal; puts it back as it was when dropped.
pub(crate) struct Keys {
    before: Termios,
}

impl Keys {
    /// Takes the terminal; `None` if standard input is none.
    pub(crate) fn take() -> Option<Self> {
        let stdin = io::stdin();
        let before = tcgetattr(&stdin).ok()?;
        let mut raw = before.clone();
        raw.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
        tcsetattr(&stdin, OptionalActions::Now, &raw).ok()?;
        Some(Self { before })
    }

    /// The next key; `None` at the end of input.
    pub(crate) async fn next(&self) -> Option<char> {
        let mut byte = [0_u8; 1];
        match tokio::io::stdin().read(&mut byte).await {
            Ok(1) => Some(char::from(byte[0])),
            _ => None,
        }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}
