//! The operating system's user that PostgreSQL runs as. PostgreSQL refuses to run as root, and so do we.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use dbaas_core::infrastructure::{InfraError, InfraErrorKind};
use rustix::fs::{Gid, Uid};
use rustix::process::{getegid, geteuid};

/// Who runs PostgreSQL's programs and owns the data directories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Whether programs must be started as somebody else than we are.
    switches: bool,
}

impl Account {
    /// As root: `wanted`, else `postgres`, else `nobody`. Not as root: ourselves.
    pub(crate) fn choose(wanted: Option<&str>) -> Result<Account, InfraError> {
        if !geteuid().is_root() {
            let me = Account {
                name: format!("uid {}", geteuid().as_raw()),
                uid: geteuid().as_raw(),
                gid: getegid().as_raw(),
                switches: false,
            };
            return match wanted {
                None => Ok(me),
                Some(name) if lookup(name)?.is_some_and(|(uid, _)| uid == me.uid) => Ok(me),
                Some(name) => Err(InfraError::new(
                    InfraErrorKind::Unsupported,
                    format!(
                        "only root can run PostgreSQL as another user ({name}); start without that option, or as root"
                    ),
                )),
            };
        }
        let candidates = match wanted {
            Some(name) => vec![name],
            None => vec!["postgres", "nobody"],
        };
        for name in &candidates {
            if let Some((uid, gid)) = lookup(name)? {
                if uid == 0 {
                    return Err(InfraError::new(
                        InfraErrorKind::Unsupported,
                        format!("PostgreSQL cannot run as {name}: that is root; name an unprivileged user"),
                    ));
                }
                return Ok(Account {
                    name: (*name).to_owned(),
                    uid,
                    gid,
                    switches: true,
                });
            }
        }
        Err(InfraError::new(
            InfraErrorKind::Unsupported,
            format!(
                "running as root, PostgreSQL needs an unprivileged user and there is no {}; make one with `useradd --system postgres`",
                candidates.join(" or ")
            ),
        ))
    }

    /// Makes the command run as this user.
    pub(crate) fn apply(&self, command: &mut Command) {
        if self.switches {
            // The standard library drops root's supplementary groups when it changes the uid.
            command.uid(self.uid).gid(self.gid);
        }
    }

    /// Gives a file or directory to this user.
    pub(crate) fn own(&self, path: &Path) -> io::Result<()> {
        if self.switches {
            let owner = Some(Uid::from_raw(self.uid));
            let group = Some(Gid::from_raw(self.gid));
            rustix::fs::chownat(
                rustix::fs::CWD,
                path,
                owner,
                group,
                rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
            )?;
        }
        Ok(())
    }

    /// Says which directory on the way to `path` this user may not pass through, if any.
    pub(crate) fn check_way_to(&self, path: &Path) -> Result<(), InfraError> {
        if !self.switches {
            return Ok(());
        }
        for dir in path.ancestors() {
            let Ok(meta) = fs::metadata(dir) else { continue };
            let searchable = if meta.uid() == self.uid {
                meta.mode() & 0o100 != 0
            } else if meta.gid() == self.gid {
                meta.mode() & 0o010 != 0
            } else {
                meta.mode() & 0o001 != 0
            };
            if !searchable {
                return Err(InfraError::new(
                    InfraErrorKind::Unsupported,
                    format!(
                        "PostgreSQL runs as the user {} and may not enter {}, which {} lies in; choose a directory elsewhere, or \
                         `chmod o+x {}`",
                        self.name,
                        dir.display(),
                        path.display(),
                        dir.display()
                    ),
                ));
            }
        }
        Ok(())
    }
}

/// uid and gid of a user: `/etc/passwd`, else what the system's name services know.
fn lookup(name: &str) -> Result<Option<(u32, u32)>, InfraError> {
    let is_name = !name.is_empty()
        && !name.starts_with('-')
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'$'));
    if !is_name {
        return Err(InfraError::new(
            InfraErrorKind::Unsupported,
            format!("{name:?} is not the name of a user"),
        ));
    }
    if let Some(found) = fs::read_to_string("/etc/passwd")
        .ok()
        .and_then(|text| in_passwd(&text, name))
    {
        return Ok(Some(found));
    }
    let Ok(output) = Command::new("getent").arg("passwd").arg(name).output() else {
        return Ok(None);
    };
    Ok(in_passwd(&String::from_utf8_lossy(&output.stdout), name))
}

fn in_passwd(text: &str, name: &str) -> Option<(u32, u32)> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next()? != name {
            return None;
        }
        Some((fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn passwd_is_read_by_field() {
        let text = "root:x:0:0:root:/root:/bin/bash\npostgres:x:101:104:PostgreSQL:/var/lib/postgresql:/bin/bash\nbad:x\n";
        assert_eq!(in_passwd(text, "postgres"), Some((101, 104)));
        assert_eq!(in_passwd(text, "postgre"), None);
        assert_eq!(in_passwd(text, "bad"), None);
    }

    #[test]
    fn never_root() {
        for name in ["root", "", "-x", "a b", "no-such-user-here"] {
            assert!(Account::choose(Some(name)).is_err(), "{name}");
        }
        if let Ok(account) = Account::choose(None) {
            assert_ne!(account.uid, 0);
        }
    }

    #[test]
    fn a_closed_directory_on_the_way_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("inner");
        fs::create_dir(&inner).unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let other = Account {
            name: "other".into(),
            uid: 4_000_000,
            gid: 4_000_000,
            switches: true,
        };
        let message = other.check_way_to(&inner).unwrap_err().to_string();
        assert!(
            message.contains(&format!("may not enter {}", dir.path().display())),
            "{message}"
        );
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711)).unwrap();
        assert!(other.check_way_to(&inner).is_ok());
    }
}
