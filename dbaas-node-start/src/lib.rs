//! The start of a node that has a file system of its own (a container's volume, a virtual machine's disk), as
//! an archive: the job, the recipe's files, the passwords and the shell script that carries it out. Backends
//! bring the archive there and run [`NODE_SCRIPT`] as the user `postgres`; what the script left behind is
//! read by [`control::Control`].

pub mod archive;
pub mod control;

/// The script: `/bin/sh SCRIPT NODE_DIRECTORY`, or `/bin/sh -c TEXT dbaas-node NODE_DIRECTORY`. It ends in
/// PostgreSQL, by `exec`.
pub const NODE_SCRIPT: &str = include_str!("scripts/node.sh");
