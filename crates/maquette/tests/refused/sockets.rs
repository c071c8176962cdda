//! The sockets that Maquette's processes speak to each other by, and those of the monitors of containers: nobody else on the machine
//! gets a word out of them.

use crate::rig::{PATIENCE, Rig};
use forge::local::FileChange;
use std::{
    fs,
    os::unix::fs::FileTypeExt as _,
    path::{Path, PathBuf},
    time::Instant,
};
use tokio::process::Command;

/// A user that Maquette does not know.
const SOMEBODY: u32 = 61_234;

const TRY: &str = "
import os, socket, struct, sys
dial = b'{\"dial\":{\"environment\":\"e000000000\",\"service\":\"web\",\"target\":{\"port\":8080}}}'
words = [struct.pack('>I', len(dial)) + dial, struct.pack('<I', len(dial)) + dial, b'GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n', b'']
for path in sys.argv[1:]:
    for word in words:
        try:
            with socket.socket(socket.AF_UNIX) as s:
                s.settimeout(20)
                s.connect(path)
                try:
                    s.sendall(word)
                    s.shutdown(socket.SHUT_WR)
                    answer = s.recv(100)
                    if answer: print('ANSWERED', path, answer)
                except (BrokenPipeError, ConnectionResetError): pass
                except TimeoutError: print('HELD', path)
        except PermissionError: pass
        except OSError as e:
            try:
                os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))
                print('OPENED', path)
            except OSError: pass
print('tried', len(sys.argv) - 1)
";

/// Sockets and named pipes.
fn below(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            below(&entry.path(), found);
        } else if kind.is_socket() || kind.is_fifo() {
            found.push(entry.path());
        }
    }
}

pub(crate) async fn nobody_else_is_listened_to(rig: &Rig) {
    let (number, _) = rig
        .change("sockets", &[FileChange::write("page.txt", "sockets\n")])
        .await;
    rig.comment(number, &["live** with"]).await;
    let since = Instant::now();
    let id = rig.json(&["show", &format!("pr-{number}")]).await["id"].clone();
    let id = id.as_str().unwrap();
    let mut found = Vec::new();
    below(&rig.run_dir, &mut found);
    for name in ["control.sock", "dial.sock", "door.sock", "edge/control.sock"] {
        assert!(found.contains(&rig.run_dir.join(name)), "{name}: {found:#?}");
    }
    let monitors = found.iter().filter(|path| path.to_string_lossy().contains(id)).count();
    assert!(monitors > 0, "the monitors have none: {found:#?}");
    let tried = Command::new("/usr/bin/python3")
        .args(["-c", TRY])
        .args(&found)
        .uid(SOMEBODY)
        .gid(SOMEBODY)
        .current_dir("/")
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&tried.stdout);
    assert_eq!(said, format!("tried {}\n", found.len()), "{tried:?}");
    assert!(since.elapsed() < PATIENCE);
}
