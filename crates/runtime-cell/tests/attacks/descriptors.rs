//! What a container was not given: sockets in its files (`/usr` is the host's, without any), and descriptors of whoever has started it.

use crate::Town;

const LOOK: &str = "
import os, stat
for directory, names, files in os.walk('/'):
    names[:] = [name for name in names if not (directory == '/' and name in ('proc', 'sys', 'usr'))]
    for name in names + files:
        path = os.path.join(directory, name)
        try: mode = os.lstat(path).st_mode
        except OSError: continue
        if stat.S_ISSOCK(mode) or stat.S_ISFIFO(mode): print('SOCKET', path)
for pid in ('1', 'self'):
    for name in os.listdir(f'/proc/{pid}/fd'):
        try: target = os.readlink(f'/proc/{pid}/fd/{name}')
        except OSError: continue
        if int(name) > 2 and not target.startswith('/proc/'): print('DESCRIPTOR', pid, name, target)
        if target.startswith(('socket:', 'anon_inode:')): print('DESCRIPTOR', pid, name, target)
print('looked')
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_has_no_socket_and_no_descriptor_of_anybody_else() {
    let town = Town::build().await;
    let seen = town.attack(LOOK).await;
    assert_eq!(seen, "looked\n");
    town.end().await;
}
