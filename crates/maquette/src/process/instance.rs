//! The id of the installation: it is in the store, which belongs to the user without privileges.

use crate::{cli::InstanceArgs, exit::Failure, process::block_on};
use std::{
    io::Write as _,
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, ExitCode, Stdio},
};

use super::user::User;
use model::InstanceId;
use store::Store;

/// Prints it.
pub(crate) fn run(args: &InstanceArgs) -> Result<ExitCode, Failure> {
    let id = block_on(async {
        let store = Store::open(&args.store).await.map_err(|error| Failure::of(&error))?;
        let id = store.instance().await.map_err(|error| Failure::of(&error))?;
        store.close().await;
        Ok::<InstanceId, Failure>(id)
    })??;
    writeln!(std::io::stdout(), "{id}")?;
    Ok(ExitCode::SUCCESS)
}

/// Asks a process of that user for it: root does not open files in a directory that is somebody else's.
pub(super) fn of(store: &Path, user: &User) -> Result<InstanceId, Failure> {
    let asked = Command::new("/proc/self/exe")
        .args(["instance-id".as_ref(), "--store".as_ref(), store.as_os_str()])
        .env_clear()
        .current_dir("/")
        .uid(user.uid)
        .gid(user.gid)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| Failure::new(1, format!("the store could not be asked: {error}")))?;
    let text = String::from_utf8_lossy(&asked.stdout);
    text.trim().parse().map_err(|_| {
        Failure::new(
            1,
            format!("the store {} can not be used by {}", store.display(), user.name),
        )
        .hint("the state directory and what is in it must belong to that user")
    })
}
