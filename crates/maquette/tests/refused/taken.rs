//! Whoever takes the gateway's process over has no more than what visitors have; whoever takes over the control plane can not make
//! root follow files.

use crate::rig::{COMPOSE, Rig, SETTINGS};
use forge::local::FileChange;
use std::{
    fs,
    net::TcpStream,
    os::unix::fs::MetadataExt as _,
    process::Command,
    time::{Duration, Instant},
};

/// Does what the gateway's user can: it is run as that user, with that user's groups.
const ATTACK: &str = "
import os, signal, socket, struct, sys
root, run, serve, host, uid, gid = sys.argv[1:5] + [int(word) for word in sys.argv[5:7]]
os.setgroups([]); os.setgid(gid); os.setuid(uid)
for path in [root + '/state', root + '/state/store.db', root + '/state/operator.token', root + '/cells/pool', root + '/cells/environments',
             f'/proc/{serve}/environ', f'/proc/{serve}/mem', f'/proc/{serve}/root', run + '/edge']:
    try: os.listdir(path) if os.path.isdir(path) else open(path, 'rb').read(1); print('READ', path)
    except OSError: pass
for pid in (serve, host):
    try: os.kill(int(pid), 0); print('SIGNALLED', pid)
    except PermissionError: pass
def connects(path):
    with socket.socket(socket.AF_UNIX) as s:
        try: s.connect(path); return True
        except OSError: return False
print('control', connects(run + '/control.sock'))
print('edge', connects(run + '/edge/control.sock'))
with socket.socket(socket.AF_UNIX) as s:
    s.settimeout(120)
    s.connect(run + '/dial.sock')
    body = b'{\"inventory\":{\"environment\":null}}'
    s.sendall(struct.pack('>I', len(body)) + body)
    answer = b''
    while len(answer) < 4 or len(answer) < 4 + struct.unpack('>I', answer[:4])[0]:
        part = s.recv(4096)
        if not part: break
        answer += part
    print('dial', answer[4:].decode())
for path in [run + '/edge/x', run + '/x', run + '/edge/control.sock']:
    try: os.unlink(path) if path.endswith('sock') else open(path, 'w'); print('CHANGED', path)
    except OSError: pass
";

fn uid(pid: &str) -> u32 {
    fs::metadata(format!("/proc/{pid}")).unwrap().uid()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn root_keeps_nothing_where_the_control_plane_could_replace_it() {
    let mut rig = Rig::new(&[]).await;
    std::os::unix::fs::chown(rig.state(), Some(rig.user().0), Some(rig.user().1)).unwrap();
    let text = fs::read_to_string(rig.config()).unwrap();
    let inside = rig.state().join("volumes");
    let beside = format!("{}/cells,", rig.root.display());
    fs::write(rig.config(), text.replace(&beside, &format!("{},", inside.display()))).unwrap();
    rig.spawn();
    assert_eq!(rig.ended().await, 1);
    let log = rig.log();
    let said: Vec<&str> = log
        .lines()
        .skip_while(|line| !line.starts_with("error: "))
        .take(2)
        .collect();
    let belongs = format!("{} belongs to the user {}", rig.state().display(), rig.user().0);
    assert!(said[0].contains(&belongs), "{log}");
    assert!(
        said[1].starts_with("hint: ") && said[1].contains("`cell.data_dir`"),
        "{log}"
    );
    assert!(!inside.exists(), "root has made something there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_took_the_gateway_over_has_neither_the_store_nor_the_token_nor_the_cell_host() {
    let files = [
        FileChange::write("compose.yaml", COMPOSE),
        FileChange::write("maquette.yaml", SETTINGS),
    ];
    let mut rig = Rig::new(&files).await;
    // As somebody may have left it.
    fs::set_permissions(rig.state(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    rig.start().await;
    let run = rig.run_dir.display().to_string();
    let number = |file: String| fs::read_to_string(file).unwrap().trim().to_owned();
    let gateway = number(format!("{run}/gateway/gateway.pid"));
    let keeper = number(format!("{run}/gateway/gateway-keeper.pid"));
    let serve = number(format!("{}/serve.lock", rig.state().display()));
    let host = number(format!("{run}/cell-host.pid"));
    let theirs = fs::metadata(format!("/proc/{gateway}")).unwrap();
    assert_eq!((uid(&serve), uid(&host)), (rig.user().0, 0));
    assert_eq!(uid(&keeper), theirs.uid());
    assert!(![0, rig.user().0].contains(&theirs.uid()) && theirs.gid() != rig.user().1);

    let attack = Command::new("python3")
        .args(["-c", ATTACK, &rig.root.display().to_string(), &run, &serve, &host])
        .args([theirs.uid().to_string(), theirs.gid().to_string()])
        .output()
        .unwrap();
    let seen = String::from_utf8_lossy(&attack.stdout);
    assert!(attack.status.success(), "{}", String::from_utf8_lossy(&attack.stderr));
    for bad in ["READ", "SIGNALLED", "CHANGED", "control True"] {
        assert!(!seen.contains(bad), "{seen}");
    }
    assert!(seen.contains("edge True"), "the gateway could not work: {seen}");
    assert!(seen.contains("this socket only dials"), "{seen}");

    // It comes back as the same user, and ends with everything else.
    let pid = rustix::process::Pid::from_raw(gateway.parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let since = Instant::now();
    let another = loop {
        let now = number(format!("{run}/gateway/gateway.pid"));
        if !now.is_empty() && now != gateway && TcpStream::connect(("127.0.0.1", rig.gateway)).is_ok() {
            break now;
        }
        assert!(
            since.elapsed() < Duration::from_secs(240),
            "it does not come back\n{}",
            rig.log()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(uid(&another), theirs.uid());
    assert!(rig.stop().await.success(), "{}", rig.log());
    for pid in [another, keeper] {
        let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        assert!(state.is_empty() || state.contains(") Z "), "it was left: {state}");
    }
}
