//! An internet of the test's own: a network namespace with public addresses and a name server, and one beside it for the door.

use crate::support::{DOORKEEPER, Rig};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write as _,
    net::{IpAddr, TcpListener, UdpSocket},
    os::fd::AsFd as _,
    process::Command,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

/// The door's own address out there, and those of others.
pub(crate) const DOOR: &str = "93.184.215.2";
pub(crate) const ONE: &str = "93.184.215.14";
pub(crate) const TWO: &str = "93.184.215.15";
const NAMES: &str = "93.184.215.1";

/// Whoever comes first makes the directories that all of them share, and whoever goes last removes one.
static MAKING: Mutex<()> = Mutex::new(());

type Answers = Arc<Mutex<BTreeMap<String, Vec<IpAddr>>>>;

pub(crate) struct World {
    door: String,
    outside: String,
    answers: Answers,
    asked: Arc<Mutex<Vec<String>>>,
}

fn ip(arguments: &str) {
    let done = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(done.status.success(), "ip {arguments}: {done:?}");
}

/// Runs something with the sockets of a thread in that namespace.
fn within<T: Send + 'static>(namespace: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let file = File::open(format!("/run/netns/{namespace}")).unwrap();
    let entered = thread::spawn(move || {
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        work()
    });
    entered.join().unwrap()
}

impl World {
    /// Makes it, and starts the rig's door in it.
    pub(crate) fn with(rig: &mut Rig) -> Self {
        let (door, outside) = (format!("door-{}", rig.instance), format!("out-{}", rig.instance));
        let link = format!("v{}", rig.instance);
        let making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
        for namespace in [&door, &outside] {
            ip(&format!("netns add {namespace}"));
            ip(&format!("-n {namespace} link set lo up"));
        }
        ip(&format!(
            "-n {door} link add {link} type veth peer name {link} netns {outside}"
        ));
        for (namespace, addresses) in [(&door, vec![DOOR]), (&outside, vec![NAMES, ONE, TWO])] {
            for address in addresses {
                ip(&format!("-n {namespace} addr add {address}/24 dev {link}"));
            }
            ip(&format!("-n {namespace} link set {link} up"));
        }
        let directory = format!("/etc/netns/{door}");
        fs::create_dir_all(&directory).unwrap();
        let resolver = format!("nameserver {NAMES}\noptions timeout:3 attempts:3\n");
        fs::write(format!("{directory}/resolv.conf"), resolver).unwrap();
        drop(making);
        let world = Self {
            door,
            outside,
            answers: Arc::default(),
            asked: Arc::default(),
        };
        let socket = within(&world.outside, || UdpSocket::bind((NAMES, 53)).unwrap());
        let (answers, asked) = (Arc::clone(&world.answers), Arc::clone(&world.asked));
        thread::spawn(move || serve_names(&socket, &answers, &asked));
        let ids = [format!("--reuid={DOORKEEPER}"), format!("--regid={DOORKEEPER}")];
        rig.start_door_within(&[
            "ip",
            "netns",
            "exec",
            &world.door,
            "setpriv",
            &ids[0],
            &ids[1],
            "--clear-groups",
        ]);
        world
    }

    /// From now on a name has these addresses.
    pub(crate) fn name(&self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        self.answers.lock().unwrap().insert(name.to_owned(), addresses);
    }

    /// What the name server was asked for.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// Somebody at an address out there who says a word to whoever connects. Returns how to count who did.
    pub(crate) fn listen(&self, address: &str, word: &'static str) -> Arc<Mutex<usize>> {
        Self::listen_in(&self.outside, address, word)
    }

    /// The same beside the door.
    pub(crate) fn listen_beside_door(&self, address: &str, word: &'static str) -> Arc<Mutex<usize>> {
        Self::listen_in(&self.door, address, word)
    }

    fn listen_in(namespace: &str, address: &str, word: &'static str) -> Arc<Mutex<usize>> {
        let address = address.to_owned();
        let listener = within(namespace, move || TcpListener::bind((address.as_str(), 443)).unwrap());
        let count = Arc::new(Mutex::new(0));
        let counter = Arc::clone(&count);
        thread::spawn(move || {
            for stream in listener.incoming() {
                *counter.lock().unwrap() += 1;
                let _ = stream.unwrap().write_all(word.as_bytes());
            }
        });
        count
    }

    /// An address out there where nobody answers any more.
    pub(crate) fn unlisten(&self, address: &str) {
        let link = format!("v{}", self.door.trim_start_matches("door-"));
        ip(&format!("-n {} addr del {address}/24 dev {link}", self.outside));
        ip(&format!("-n {} route add unreachable {address}/32", self.door));
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for namespace in [&self.door, &self.outside] {
            let _ = Command::new("ip").args(["netns", "del", namespace]).status();
        }
        let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = fs::remove_dir_all(format!("/etc/netns/{}", self.door));
        let _ = fs::remove_dir("/etc/netns");
        // The threads end with the test's process; their sockets keep nothing that is seen.
        thread::sleep(Duration::from_millis(1));
    }
}

fn serve_names(socket: &UdpSocket, answers: &Answers, asked: &Mutex<Vec<String>>) {
    let mut query = [0; 512];
    while let Ok((length, from)) = socket.recv_from(&mut query) {
        let query = &query[..length];
        let (mut name, mut at) = (String::new(), 12);
        while query[at] != 0 {
            let label = &query[at + 1..=at + usize::from(query[at])];
            name.push_str(&String::from_utf8_lossy(label));
            name.push('.');
            at += 1 + label.len();
        }
        let name = name.trim_end_matches('.').to_owned();
        let kind = u16::from_be_bytes([query[at + 1], query[at + 2]]);
        let known = answers.lock().unwrap().get(&name).cloned();
        asked.lock().unwrap().push(name);
        let code = if known.is_some() { 0 } else { 3 };
        let records: Vec<Vec<u8>> = known
            .unwrap_or_default()
            .into_iter()
            .filter_map(|address| match (kind, address) {
                (1, IpAddr::V4(address)) => Some(address.octets().to_vec()),
                (28, IpAddr::V6(address)) => Some(address.octets().to_vec()),
                _ => None,
            })
            .collect();
        let mut reply = query[..2].to_vec();
        reply.extend([
            0x81,
            0x80 | code,
            0,
            1,
            0,
            u8::try_from(records.len()).unwrap(),
            0,
            0,
            0,
            0,
        ]);
        reply.extend(&query[12..at + 5]);
        for record in records {
            reply.extend([0xc0, 12]);
            reply.extend(kind.to_be_bytes());
            reply.extend([0, 1, 0, 0, 0, 0, 0, u8::try_from(record.len()).unwrap()]);
            reply.extend(record);
        }
        let _ = socket.send_to(&reply, from);
    }
}
