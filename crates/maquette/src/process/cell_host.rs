//! The cell host: the one process that does something and is root. Its keeper, which only waits, is root, too.

use super::{
    door, instance, keeper, load, log, places, running,
    user::{self, User},
};
use crate::{cli::CellHostArgs, exit::Failure};
use runtime_cell::{
    host::{self, HostConfig, OciKind},
    pool::{Place, PoolConfig},
};
use rustix::{fs::OFlags, process::geteuid};
use server::{
    StateDir,
    config::{OciRuntime, ServerConfig},
};
use std::{
    fs::{DirBuilder, File, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt as _, PermissionsExt as _, fchown},
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Bytes that stay free on the disk below the pool's image file.
const RESERVE: u64 = 2 << 30;
/// New environments are refused when less than this share of the pool is free.
const WATERMARK_PERCENT: u8 = 5;
/// What `statfs` says of btrfs.
const BTRFS: i64 = 0x9123_683e;

/// Runs it until it is asked to end. Containers go on.
pub(crate) fn run(args: &CellHostArgs) -> Result<ExitCode, Failure> {
    if args.keep {
        return keeper::run(args);
    }
    log("cell-host");
    if !geteuid().is_root() {
        return Err(Failure::new(1, "the cell host needs root")
            .hint("sudo maquette cell-host …, or start `maquette serve` as root"));
    }
    let config = load(&args.config)?;
    let user = user::choose(config.user.as_deref())?;
    let gateway = user::choose_gateway(&config, &user)?;
    let door_user = user::choose_door(&config, [&user, &gateway])?;
    let instance = match &args.instance {
        Some(instance) => instance.clone(),
        None => {
            user::own_state_directory(&config, &user)?;
            instance::of(&StateDir::new(&config.state_dir).store(), &user)?
        }
    };
    make_directories(&config)?;
    let data = places::data_dir(&config);
    restrict(&data, &user).map_err(|error| failed(&data, &error))?;
    user::make_meeting_places(&config, &user, &gateway)?;
    user::make_door_place(&config, &user, &door_user)?;
    let pid_file = pid_file(&config);
    let held = running::hold(&pid_file).map_err(|error| failed(&pid_file, &error))?;
    if held.is_none() {
        return Err(Failure::new(
            6,
            format!("another cell host runs at {}", config.cell.run_dir.display()),
        ));
    }
    let pool = pool_config(&config, instance.as_str());
    let mut host = HostConfig::new(instance, config.cell.run_dir.clone(), data, pool);
    host.control_uid = user.uid;
    host.control_gid = user.gid;
    host.dial_uids = vec![gateway.uid];
    host.door_uid = Some(door_user.uid);
    host.oci = oci_runtime(&config);
    host.images.bytes = config.images.unpacked_bytes();
    if args.door {
        door::keep(&config, &args.config, &door_user)?;
    }
    host::run(host).map_err(|error| Failure::of(&error).hint("`maquette doctor` says what this machine lacks"))?;
    drop(held);
    Ok(ExitCode::SUCCESS)
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::new(1, format!("{} can not be made: {error}", path.display()))
}

/// Makes what it has, passable, so that the user without privileges reaches the sockets and the files of commits. Nothing is made
/// where somebody else could replace it.
pub(super) fn make_directories(config: &ServerConfig) -> Result<(), Failure> {
    places::check(config)?;
    for directory in [&config.cell.run_dir, &places::data_dir(config)] {
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(directory)
            .map_err(|error| failed(directory, &error))?;
    }
    Ok(())
}

/// The OCI runtime that the operator wants, if it is one in particular.
pub(crate) fn oci_runtime(config: &ServerConfig) -> Option<OciKind> {
    match config.cell.oci_runtime {
        OciRuntime::Auto => None,
        OciRuntime::Crun => Some(OciKind::Crun),
        OciRuntime::Runc => Some(OciKind::Runc),
    }
}

/// Files of commits and volumes are for the control plane, which writes the former, and for nobody else on the machine.
fn restrict(data: &Path, user: &User) -> io::Result<()> {
    // Held, because the directory above is that user's in an older installation.
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let directory = File::options()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(data)?;
    fchown(&directory, Some(0), Some(user.gid))?;
    directory.set_permissions(Permissions::from_mode(0o710))
}

/// Whether the cell host that runs is one that a keeper starts: these are told the instance. The unit of a service manager does
/// not say it, and has no need of a keeper.
pub(super) fn is_kept(config: &ServerConfig) -> bool {
    running::arguments(&pid_file(config))
        .iter()
        .any(|word| word == "--instance")
}

/// The file that tells of a running cell host.
pub(crate) fn pid_file(config: &ServerConfig) -> PathBuf {
    config.cell.run_dir.join("cell-host.pid")
}

/// Where disks are: in a directory where the file system is btrfs, else in an image file.
pub(crate) fn pool_config(config: &ServerConfig, instance: &str) -> PoolConfig {
    let data = places::data_dir(config);
    let existing = data.ancestors().find(|path| path.exists());
    let is_btrfs = existing
        .and_then(|path| rustix::fs::statfs(path).ok())
        .is_some_and(|stat| stat.f_type == BTRFS);
    let place = if is_btrfs {
        Place::Directory(data.join("pool"))
    } else {
        Place::Image {
            path: data.join("pool.img"),
            size: config.cell.pool_gib.saturating_mul(1 << 30),
            mountpoint: data.join("pool"),
            reserve: RESERVE,
        }
    };
    PoolConfig {
        place,
        instance: instance.to_owned(),
        watermark_percent: WATERMARK_PERCENT,
    }
}
