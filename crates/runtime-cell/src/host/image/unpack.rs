//! Starts the process that unpacks an image, and waits for it within bounds.

use super::super::{Host, failed};
use crate::{
    sandbox::idmap::{self, Range},
    sys::{self, confined},
    unpacker::{Line, Order, OrderedLayer},
};
use images::BlobDigest;
use model::ImageDigest;
use runtime::RuntimeError;
use rustix::event::{PollFd, PollFlags, poll};
use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// All that the process may say, in bytes.
const ANSWERS_MAX: usize = 256 << 10;
/// The longest reason that is passed on, in characters.
const REASON_MAX: usize = 1000;

/// Ends the process, whatever becomes of the thread that waits for it.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Host {
    /// Fills the directory with what is in the layers.
    pub(super) fn unpack(
        &self,
        image: &ImageDigest,
        place: &Path,
        layers: Vec<(OwnedFd, BlobDigest)>,
    ) -> Result<(), RuntimeError> {
        let action = || format!("unpacking the image {}", image.short());
        let last = self.run_unpacker(place, &layers).map_err(|e| failed(action(), &e))?;
        match last {
            Some(Line::Done) => Ok(()),
            Some(Line::Refused(reason)) => Err(RuntimeError::Invalid {
                what: format!("the image {}", image.short()),
                reason: tamed(&reason),
            }),
            Some(Line::Failed { reason, full: true }) => Err(RuntimeError::Full {
                what: action(),
                reason: tamed(&reason),
            }),
            Some(Line::Failed { reason, .. }) => Err(RuntimeError::Failed {
                action: action(),
                reason: tamed(&reason),
            }),
            Some(Line::Layers(count)) => Err(RuntimeError::Failed {
                action: action(),
                reason: format!(
                    "it was ended after layer {count}: too much memory or time, or a call that it may not make"
                ),
            }),
            None => Err(RuntimeError::Failed {
                action: action(),
                reason: "it was ended before the first layer was unpacked".to_owned(),
            }),
        }
    }

    /// Returns the last thing that the process said.
    fn run_unpacker(&self, place: &Path, layers: &[(OwnedFd, BlobDigest)]) -> io::Result<Option<Line>> {
        // Ids that neither an environment nor a trial has.
        let range = Range::numbered(self.config.first_uid, self.config.max_environments + 1)
            .ok_or_else(|| io::Error::other("the user ids leave no room for those of unpacking"))?;
        let namespace = range.namespace()?;
        let tree = File::open(place)?;
        let target = idmap::detached(tree.as_fd(), namespace.as_fd(), false)?;
        let (answers, say) = io::pipe()?;
        let order = Order {
            target: target.as_raw_fd(),
            answers: say.as_raw_fd(),
            layers: layers
                .iter()
                .map(|(file, diff)| OrderedLayer {
                    file: file.as_raw_fd(),
                    diff: *diff,
                })
                .collect(),
            entries: self.config.images.entries,
            bytes: self.config.images.bytes,
        };
        let mut inherited = vec![target.as_raw_fd(), say.as_raw_fd()];
        inherited.extend(layers.iter().map(|(file, _)| file.as_raw_fd()));
        let mut command = Command::new("/proc/self/exe");
        command
            .args(&self.config.images.unpacker)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        sys::inherit(&mut command, inherited);
        confined::in_user_namespace(&mut command, namespace.as_fd());
        let mut child = Ended(command.spawn()?);
        drop(say);
        if let Some(mut stdin) = child.0.stdin.take() {
            stdin.write_all(&serde_json::to_vec(&order)?)?;
        }
        let said = read_until(answers.into(), Instant::now() + self.config.images.patience)?;
        let mut lines = said.rsplit(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.next().map(|line| Ok(serde_json::from_slice(line)?)).transpose()
    }
}

/// Reads to the end, at most until then.
fn read_until(answers: OwnedFd, until: Instant) -> io::Result<Vec<u8>> {
    let mut answers = File::from(answers);
    let mut said = Vec::new();
    loop {
        let left = until
            .saturating_duration_since(Instant::now())
            .min(Duration::from_secs(3600));
        let wait = rustix::event::Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(1),
            tv_nsec: left.subsec_nanos().into(),
        };
        let mut watched = [PollFd::new(&answers, PollFlags::IN)];
        match poll(&mut watched, Some(&wait)) {
            Ok(0) => return Ok(said),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(e) => return Err(e.into()),
        }
        let mut piece = [0; 4096];
        let got = answers.read(&mut piece)?;
        if got == 0 {
            return Ok(said);
        }
        said.extend_from_slice(&piece[..got]);
        if said.len() > ANSWERS_MAX {
            return Err(io::Error::other("it says too much"));
        }
    }
}

fn tamed(reason: &str) -> String {
    let escaped = reason.chars().flat_map(|c| {
        if c == '`' {
            c.to_string()
        } else {
            c.escape_debug().to_string()
        }
        .chars()
        .collect::<Vec<_>>()
    });
    escaped.take(REASON_MAX).collect()
}
