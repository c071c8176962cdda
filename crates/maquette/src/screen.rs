//! What people see while they wait: a line on standard error for whatever takes longer than a second.

use std::{
    future::Future,
    io::{self, IsTerminal as _, Write as _},
    time::{Duration, Instant},
};
use tokio::time::{interval, sleep};

/// How long nothing is shown.
const QUIET: Duration = Duration::from_secs(1);

/// Waits for something and shows, from the second second on, what and for how long.
pub(crate) async fn while_doing<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::pin!(work);
    tokio::select! {
        done = &mut work => return done,
        () = sleep(QUIET) => {}
    }
    let since = Instant::now();
    let terminal = io::stderr().is_terminal();
    if !terminal {
        show(&format!("{what} …\n"));
    }
    let mut tick = interval(Duration::from_millis(250));
    loop {
        tokio::select! {
            done = &mut work => {
                if terminal {
                    show("\r\x1b[2K");
                }
                return done;
            }
            _ = tick.tick() => {
                if terminal {
                    let seconds = (since.elapsed() + QUIET).as_secs();
                    show(&format!("\r\x1b[2K{what} … {seconds} s"));
                }
            }
        }
    }
}

/// One line of news.
pub(crate) fn tell(line: &str) {
    show(&format!("{line}\n"));
}

fn show(text: &str) {
    // Whoever closed standard error does not want to know.
    let _ = write!(io::stderr(), "{text}");
    let _ = io::stderr().flush();
}
