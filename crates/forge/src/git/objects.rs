//! Objects of a mirror, read through `git cat-file --batch` processes that stay for a while: starting one costs more than
//! most of what it is asked.
//!
//! A process that was not read to the end of its answer is never used again: whoever takes one gives it back only after the
//! last answer, and ends it otherwise by dropping it.

use super::{EntryKind, GitError, Mirror, TreeEntry, command::Group};
use std::{
    process::Stdio,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    process::{ChildStdin, ChildStdout},
    task::JoinHandle,
    time::{Instant, sleep},
};

/// A process that nobody asked for so long is ended.
const IDLE: Duration = Duration::from_secs(10);
/// Processes that stay; further ones end after their work.
const KEPT: usize = 2;
/// How much is read at once, in bytes.
const CHUNK: usize = 64 << 10;
/// Questions of so many bytes fit into a pipe, whatever its other end does.
const AT_ONCE: usize = 4 << 10;

/// The idle processes of one mirror.
#[derive(Debug, Default)]
pub(super) struct Objects {
    idle: Mutex<Idle>,
}

#[derive(Debug, Default)]
struct Idle {
    readers: Vec<(Reader, Instant)>,
    /// Whether a task watches their time.
    watched: bool,
}

/// One process.
#[derive(Debug)]
struct Reader {
    child: Group,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// Contents that were asked for and come in the order of the questions. Dropping it ends the process.
#[derive(Debug)]
pub(super) struct Asked {
    objects: Arc<Objects>,
    child: Group,
    questions: Questions,
    answers: BufReader<ChildStdout>,
}

#[derive(Debug)]
enum Questions {
    Written(ChildStdin),
    Writing(JoinHandle<std::io::Result<ChildStdin>>),
}

fn broken() -> GitError {
    GitError::Parse { subcommand: "cat-file" }
}

impl Objects {
    fn take(&self) -> Option<Reader> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.readers.pop().map(|(reader, _)| reader)
    }

    fn give_back(self: &Arc<Self>, reader: Reader) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.readers.len() >= KEPT {
            return;
        }
        idle.readers.push((reader, Instant::now()));
        if !std::mem::replace(&mut idle.watched, true) {
            tokio::spawn(watch(Arc::downgrade(self)));
        }
    }

    /// Ends those that nobody uses at present, so that they hold no file that was deleted.
    pub(super) fn clear(&self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.readers.clear();
    }
}

async fn watch(objects: Weak<Objects>) {
    loop {
        sleep(IDLE).await;
        let Some(objects) = objects.upgrade() else { return };
        let mut idle = objects.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.readers.retain(|(_, since)| since.elapsed() < IDLE);
        if idle.readers.is_empty() {
            idle.watched = false;
            return;
        }
    }
}

impl Mirror {
    /// Asks for the contents of all these entries but submodules, which have none.
    pub(super) async fn ask<'a>(&self, entries: impl Iterator<Item = &'a TreeEntry>) -> Result<Asked, GitError> {
        let Reader {
            child,
            mut questions,
            answers,
        } = match self.objects.take() {
            Some(reader) => reader,
            None => self.reader()?,
        };
        let wanted = entries.filter(|entry| entry.kind != EntryKind::Submodule);
        let text: String = wanted.map(|entry| format!("{}\n", entry.object)).collect();
        let questions = if text.len() <= AT_ONCE {
            questions.write_all(text.as_bytes()).await.map_err(|_| broken())?;
            Questions::Written(questions)
        } else {
            // Beside the reading, or both sides would wait for each other once the pipes are full. It ends with git.
            Questions::Writing(tokio::spawn(async move {
                questions.write_all(text.as_bytes()).await?;
                Ok(questions)
            }))
        };
        Ok(Asked {
            objects: Arc::clone(&self.objects),
            child,
            questions,
            answers,
        })
    }

    fn reader(&self) -> Result<Reader, GitError> {
        let mut command = self.git.command(&self.dir, "cat-file", ["--batch"], None);
        // Nobody would read it while the process stays.
        command.stderr(Stdio::null());
        let mut child = Group::spawn(&mut command)?;
        match (child.0.stdin.take(), child.0.stdout.take()) {
            (Some(questions), Some(answers)) => Ok(Reader {
                child,
                questions,
                answers: BufReader::with_capacity(CHUNK, answers),
            }),
            _ => Err(broken()),
        }
    }
}

impl Asked {
    /// Begins the next answer, whose content follows. The size was checked before, so another one is an error.
    async fn begin(&mut self, entry: &TreeEntry) -> Result<(), GitError> {
        let mut header = String::new();
        let read = (&mut self.answers).take(200).read_line(&mut header).await;
        read.map_err(|_| broken())?;
        if header.trim_end() == format!("{} blob {}", entry.object, entry.size) {
            Ok(())
        } else {
            Err(broken())
        }
    }

    async fn end(&mut self) -> Result<(), GitError> {
        match self.answers.read_u8().await {
            Ok(b'\n') => Ok(()),
            _ => Err(broken()),
        }
    }

    /// The content of the next entry. Its size is bounded by whoever asks.
    pub(super) async fn read(&mut self, entry: &TreeEntry) -> Result<Vec<u8>, GitError> {
        self.begin(entry).await?;
        let mut bytes = Vec::new();
        let read = (&mut self.answers).take(entry.size).read_to_end(&mut bytes).await;
        if read.ok().map(|n| n as u64) != Some(entry.size) {
            return Err(broken());
        }
        self.end().await?;
        Ok(bytes)
    }

    /// Gives the content of the next entry to `piece`, one piece after the other.
    pub(super) async fn pieces(
        &mut self,
        entry: &TreeEntry,
        mut piece: impl FnMut(&[u8]) -> Result<(), GitError>,
    ) -> Result<(), GitError> {
        self.begin(entry).await?;
        let mut left = entry.size;
        while left > 0 {
            let there = self.answers.fill_buf().await.map_err(|_| broken())?;
            let length = there.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            if length == 0 {
                return Err(broken());
            }
            piece(&there[..length])?;
            self.answers.consume(length);
            left -= length as u64;
        }
        self.end().await
    }

    /// After the last answer: the process may be asked again.
    pub(super) async fn finish(self) -> Result<(), GitError> {
        let questions = match self.questions {
            Questions::Written(questions) => questions,
            Questions::Writing(task) => task.await.map_err(|_| broken())?.map_err(|_| broken())?,
        };
        self.objects.give_back(Reader {
            child: self.child,
            questions,
            answers: self.answers,
        });
        Ok(())
    }
}
