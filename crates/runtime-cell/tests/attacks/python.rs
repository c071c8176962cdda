//! An image with this machine's Python in it, as little of it as the attacks need, and an entrypoint that begins as root.

use crate::packed::Packed;
use std::{collections::BTreeMap, fs, process::Command};
use test_support::image::{Entry, base, layer};

pub(crate) const ENTRYPOINT: &str = "/entrypoint.sh";
const PROGRAM: &str = "/usr/bin/python3";
/// Prints the files of all that the attacks import.
const LISTING: &str = "\
import ctypes, encodings.idna, encodings.latin_1, errno, os, select, signal, socket, sys, threading, time
for module in list(sys.modules.values()):
    file = getattr(module, '__file__', None)
    if file: print(os.path.realpath(file))
";

fn printed(program: &str, arguments: &[&str]) -> String {
    let done = Command::new(program).args(arguments).env_clear().output().unwrap();
    String::from_utf8(done.stdout).unwrap()
}

pub(crate) fn image() -> Packed {
    let mut files: Vec<String> = printed(PROGRAM, &["-c", LISTING]).lines().map(str::to_owned).collect();
    files.push(PROGRAM.to_owned());
    let mut content = BTreeMap::new();
    for file in files {
        if file == PROGRAM || file.ends_with(".so") {
            // `name => path (address)`, or the path alone of what loads them.
            for word in printed("/usr/bin/ldd", &[&file])
                .split_whitespace()
                .filter(|word| word.starts_with('/'))
            {
                content.insert(word.to_owned(), fs::read(word).unwrap());
            }
        }
        let bytes = fs::read(&file).unwrap();
        content.insert(file, bytes);
    }
    let mut entries: Vec<Entry> = content
        .into_iter()
        .map(|(path, bytes)| Entry::program(path.trim_start_matches('/'), bytes))
        .collect();
    let script = "#!/bin/sh\nset -e\nchown -R 101:102 /var/www\nexec \"$@\"\n";
    entries.push(Entry::program(ENTRYPOINT.trim_start_matches('/'), script));
    Packed::of(&[base().unwrap(), layer(&entries).unwrap()])
}
