//! Generated documents and tidy checks of the workspace: `cargo xtask tidy`.

fn main() {}
