//! Where a control plane keeps its state on one machine.
//!
//! * [`SqliteStore`]: the [`Store`](dbaas_core::store::Store) that needs nothing installed.
//! * [`DataDirLock`]: one control plane for each data directory.
//! * [`Sealer`]: secrets at rest, encrypted with a key beside the store.

mod data_dir_lock;
mod private_file;
mod sealer;
mod sqlite;

pub use data_dir_lock::{DataDirLock, DataDirLockError};
pub use sealer::{KeyFileError, SealError, Sealer};
pub use sqlite::{SqliteOptions, SqliteStore};
