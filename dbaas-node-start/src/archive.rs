//! Tar archives: how files get into a container's volume and out of it, whether it runs or not.

use std::collections::BTreeMap;
use std::io::{self, Read};

use dbaas_core::secret::Secret;

/// The account in the image that PostgreSQL runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    /// Its number.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// An archive in the making. Files have mode 0600, directories 0700, and belong to the account.
pub struct Upload {
    builder: tar::Builder<Vec<u8>>,
    account: Account,
}

impl Upload {
    /// An empty one.
    pub fn new(account: Account) -> Self {
        Upload {
            builder: tar::Builder::new(Vec::new()),
            account,
        }
    }

    fn header(&self, kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(self.account.uid.into());
        header.set_gid(self.account.gid.into());
        header.set_mtime(1);
        header.set_size(size);
        header
    }

    /// A directory; one that is there keeps what is in it.
    pub fn dir(mut self, path: &str) -> io::Result<Self> {
        let mut header = self.header(tar::EntryType::Directory, 0o700, 0);
        self.builder.append_data(&mut header, path, io::empty())?;
        Ok(self)
    }

    /// A file; one that is there is replaced.
    pub fn file(mut self, path: &str, content: &[u8]) -> io::Result<Self> {
        let mut header = self.header(tar::EntryType::Regular, 0o600, content.len() as u64);
        self.builder.append_data(&mut header, path, content)?;
        Ok(self)
    }

    /// The archive's bytes.
    pub fn finish(self) -> io::Result<Vec<u8>> {
        self.builder.into_inner()
    }
}

/// The files of an archive, by their path within it, as text. Those that are longer than `bytes_max` are left
/// out.
pub fn read_files(archive: &[u8], bytes_max: u64) -> io::Result<BTreeMap<String, Secret>> {
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(archive).entries()? {
        let mut entry = entry?;
        if entry.header().entry_type() != tar::EntryType::Regular || entry.size() > bytes_max {
            continue;
        }
        let path = entry.path()?.to_string_lossy().into_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content)?;
        files.insert(path, Secret::new(String::from_utf8_lossy(&content).into_owned()));
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out() {
        let account = Account { uid: 999, gid: 998 };
        let archive = Upload::new(account)
            .dir("dbaas")
            .and_then(|a| a.file("dbaas/ticket", b"off\n"))
            .and_then(|a| a.file("dbaas/long", &[b'x'; 100]))
            .and_then(Upload::finish)
            .unwrap();
        let files = read_files(&archive, 50).unwrap();
        assert_eq!(files.len(), 1);
        assert_eq!(files["dbaas/ticket"].expose(), "off\n");
        let mut raw = tar::Archive::new(&archive[..]);
        for entry in raw.entries().unwrap() {
            let header = entry.unwrap().header().clone();
            assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (999, 998));
            assert_eq!(header.mode().unwrap() & 0o077, 0);
        }
        assert!(read_files(b"not an archive", 50).is_err());
    }
}
