//! The log of one simulated container.

use crate::{LogLine, LogQuery, LogStream};
use futures::stream::{self, BoxStream, StreamExt};
use model::Timestamp;
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::watch;

/// How many lines are kept.
const LINES_MAX: usize = 1000;

#[derive(Default)]
struct Kept {
    lines: VecDeque<LogLine>,
    /// Number of the first kept line.
    first: usize,
}

/// A log that can be read while it is written. It ends when its container is removed and this is dropped.
pub(super) struct Log {
    kept: Arc<Mutex<Kept>>,
    written: watch::Sender<usize>,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            kept: Arc::default(),
            written: watch::channel(0).0,
        }
    }
}

impl Log {
    pub(super) fn push(&self, at: Timestamp, stream: LogStream, text: &str) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.lines.push_back(LogLine {
            at,
            stream,
            text: text.to_owned(),
        });
        if kept.lines.len() > LINES_MAX {
            kept.lines.pop_front();
            kept.first += 1;
        }
        let end = kept.first + kept.lines.len();
        drop(kept);
        self.written.send_replace(end);
    }

    pub(super) fn read(&self, query: LogQuery) -> BoxStream<'static, LogLine> {
        let kept = Arc::clone(&self.kept);
        let mut written = self.written.subscribe();
        let (first, end) = {
            let kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            (kept.first, kept.first + kept.lines.len())
        };
        let begin = query.tail.map_or(first, |tail| end.saturating_sub(tail).max(first));
        written.mark_unchanged();
        stream::unfold(
            (kept, written, begin),
            move |(kept, mut written, mut next)| async move {
                loop {
                    let line = {
                        let kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                        next = next.max(kept.first);
                        kept.lines.get(next - kept.first).cloned()
                    };
                    if let Some(line) = line {
                        return Some((line, (kept, written, next + 1)));
                    }
                    if !query.follow || written.changed().await.is_err() {
                        return None;
                    }
                }
            },
        )
        .boxed()
    }
}
