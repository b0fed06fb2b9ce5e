//! What is kept of a node, in its volume:
//!
//! ```text
//! node/                 everything; belongs to the image's postgres user
//!   pgdata/             the data directory
//!   pgdata.backup/      a base backup on its way to become that
//!   dbaas/spec.json     what the node is to be
//!   dbaas/ticket        off | kept | start <boot id> (not used yet) | used <boot id>
//!   dbaas/boot.json     the last start
//!   dbaas/boot-<id>/    the job of a start, its files and passwords; gone when PostgreSQL starts
//!   dbaas/up-<id>       the start came to PostgreSQL
//!   dbaas/exit-<id>     the start failed before: the program, and what it said
//!   dbaas/init-*        how far the container is that initialises the node and its copies: alive-<id>, done-<id>, failed-<id>
//!   dbaas/incomplete    there while a preparation runs, and after one that did not end: the data must not be started
//!   dbaas/seeded        the data is a copy of the first node's
//! ```

use std::collections::BTreeMap;
use std::io;

use dbaas_core::boot::{ADMIN_ROLE, BootFile, BootRecipe, BootRole, Prepare, ReplicationSource};
use dbaas_core::cluster::Epoch;
use dbaas_core::infrastructure::{InfraError, InfraErrorKind, NodeSpec};
use dbaas_core::secret::Secret;
use dbaas_core::version::PostgresMajor;
use serde::{Deserialize, Serialize};

use crate::archive::{Account, Upload};

/// The directory within the volume.
pub const NODE_DIR: &str = "node";
const FORMAT: u32 = 1;

/// What a start was to do with the data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PrepareKind {
    /// [`Prepare::Existing`].
    Existing,
    /// [`Prepare::Init`].
    Init,
    /// [`Prepare::SeedOf`].
    SeedOf,
    /// [`Prepare::BaseBackup`].
    BaseBackup,
    /// [`Prepare::Rewind`].
    Rewind,
}

impl PrepareKind {
    /// Without what it needs.
    pub fn of(prepare: &Prepare) -> Self {
        match prepare {
            Prepare::Existing => PrepareKind::Existing,
            Prepare::Init { .. } => PrepareKind::Init,
            Prepare::SeedOf { .. } => PrepareKind::SeedOf,
            Prepare::BaseBackup { .. } => PrepareKind::BaseBackup,
            Prepare::Rewind { .. } => PrepareKind::Rewind,
        }
    }
}

/// `boot.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boot {
    /// The recipe's.
    pub epoch: Epoch,
    /// Differs from start to start.
    pub boot_id: String,
    /// What the recipe asked for.
    pub prepare: PrepareKind,
    /// Of the data directory.
    pub major: Option<PostgresMajor>,
}

/// `spec.json`.
#[derive(Debug, Serialize, Deserialize)]
struct StoredSpec {
    format: u32,
    spec: NodeSpec,
}

/// `ticket`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ticket {
    /// Nothing is to be started.
    Off,
    /// The node was removed, its data kept.
    Kept,
    /// To be used by the next start.
    Start,
    /// Used.
    Used,
    /// Used by a start that is not the last one asked for: two were asked for at the same time, by a
    /// controller that ended and by the next.
    UsedByAnother,
}

/// How a start failed before it came to PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// `initdb`, `pg_rewind`, …; or the script's own words for what it did itself.
    pub program: String,
    /// What it said.
    pub output: String,
}

/// What is known of a node from its volume.
#[derive(Debug, Clone)]
pub struct Control {
    /// What it is to be.
    pub spec: Option<NodeSpec>,
    /// Whether a start is due.
    pub ticket: Ticket,
    /// The last start.
    pub boot: Option<Boot>,
    /// That start came to PostgreSQL.
    pub up: bool,
    /// That start failed before.
    pub failed: Option<Failed>,
}

impl Control {
    /// Nothing is there yet.
    pub fn empty() -> Self {
        Control {
            spec: None,
            ticket: Ticket::Off,
            boot: None,
            up: false,
            failed: None,
        }
    }

    /// From the files of `dbaas/`, by their names within it.
    pub fn read(files: &BTreeMap<String, Secret>) -> Result<Self, InfraError> {
        let text = |name: &str| files.get(&format!("dbaas/{name}")).map(Secret::expose);
        let damaged = |name: &str, e: serde_json::Error| {
            let message = format!("dbaas/{name} in the node's volume cannot be read: {e}");
            InfraError::new(InfraErrorKind::Other, message)
        };
        let spec = match text("spec.json") {
            None | Some("") => None,
            Some(json) => {
                let stored: StoredSpec = serde_json::from_str(json).map_err(|e| damaged("spec.json", e))?;
                if stored.format > FORMAT {
                    let message = "the node's volume was written by a newer program; it is left alone";
                    return Err(InfraError::new(InfraErrorKind::Unsupported, message));
                }
                Some(stored.spec)
            }
        };
        let boot: Option<Boot> = match text("boot.json") {
            None | Some("") => None,
            Some(json) => Some(serde_json::from_str(json).map_err(|e| damaged("boot.json", e))?),
        };
        let mut ticket = text("ticket").unwrap_or_default().split_whitespace();
        let ticket = match ticket.next() {
            Some("used") => match (ticket.next(), &boot) {
                (Some(used), Some(boot)) if used != boot.boot_id => Ticket::UsedByAnother,
                _ => Ticket::Used,
            },
            Some("start") => Ticket::Start,
            Some("kept") => Ticket::Kept,
            _ => Ticket::Off,
        };
        let of_boot = |what: &str| boot.as_ref().and_then(|b| text(&format!("{what}-{}", b.boot_id)));
        let failed = of_boot("exit").map(|text| {
            let (program, output) = text.split_once('\n').unwrap_or((text, ""));
            Failed {
                program: program.trim().to_owned(),
                output: output.to_owned(),
            }
        });
        Ok(Control {
            spec,
            ticket,
            up: of_boot("up").is_some(),
            failed,
            boot,
        })
    }
}

fn archive_error(e: io::Error) -> InfraError {
    InfraError::new(InfraErrorKind::Other, format!("packing the node's files: {e}"))
}

fn begin(account: Account) -> io::Result<Upload> {
    Upload::new(account)
        .dir(NODE_DIR)?
        .dir(&format!("{NODE_DIR}/dbaas"))
}

fn json<T: Serialize>(value: &T) -> io::Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(io::Error::from)
}

/// An upload that keeps the spec; with a ticket if it is to change.
pub fn spec_upload(
    account: Account,
    spec: &NodeSpec,
    ticket: Option<&Ticket>,
) -> Result<Vec<u8>, InfraError> {
    let build = || {
        let stored = StoredSpec {
            format: FORMAT,
            spec: spec.clone(),
        };
        let mut upload = begin(account)?.file(&format!("{NODE_DIR}/dbaas/spec.json"), &json(&stored)?)?;
        if let Some(ticket) = ticket {
            upload = upload.file(&format!("{NODE_DIR}/dbaas/ticket"), ticket_text(ticket))?;
        }
        upload.finish()
    };
    build().map_err(archive_error)
}

fn ticket_text(ticket: &Ticket) -> &'static [u8] {
    match ticket {
        Ticket::Kept => b"kept\n",
        // The others are written with a boot, by `boot_upload` and the script.
        Ticket::Off | Ticket::Start | Ticket::Used | Ticket::UsedByAnother => b"off\n",
    }
}

/// An upload that makes the ticket void.
pub fn ticket_upload(account: Account, ticket: &Ticket) -> Result<Vec<u8>, InfraError> {
    let build = || {
        begin(account)?
            .file(&format!("{NODE_DIR}/dbaas/ticket"), ticket_text(ticket))?
            .finish()
    };
    build().map_err(archive_error)
}

/// What the script is to do before the server is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job {
    /// The data directory is there.
    Existing,
    /// `initdb`.
    Init,
    /// `initdb` for the warm pool: nothing is started afterwards.
    MakeAhead,
    /// The data directory was initialised ahead; it gets the superuser's password.
    InitAhead,
    /// Another container does it.
    InitElsewhere,
    /// Wait for the copy.
    Seed,
    /// There is no copy to wait for.
    NoSeed,
    /// `pg_basebackup`.
    BaseBackup,
    /// `pg_rewind`.
    Rewind,
}

/// Everything that a start needs: job, files, passwords, boot mark and ticket; other files beside them.
pub fn boot_upload(
    account: Account,
    boot: &Boot,
    job: Job,
    recipe: &BootRecipe,
    others: &[(&str, &str)],
) -> Result<Vec<u8>, InfraError> {
    let build = || {
        let dir = format!("{NODE_DIR}/dbaas/boot-{}", boot.boot_id);
        let mut upload = begin(account)?;
        for (name, text) in others {
            upload = upload.file(&format!("{NODE_DIR}/dbaas/{name}"), text.as_bytes())?;
        }
        upload = upload
            .file(&format!("{NODE_DIR}/dbaas/boot.json"), &json(boot)?)?
            .dir(&dir)?
            .dir(&format!("{dir}/files"))?
            .file(&format!("{dir}/job"), job_text(job, recipe)?.as_bytes())?;
        for BootFile { name, content } in &recipe.files {
            upload = upload.file(&format!("{dir}/files/{name}"), content.expose().as_bytes())?;
        }
        match &recipe.prepare {
            Prepare::Init { admin_password, .. } => {
                one_line(admin_password, "the superuser's password")?;
                upload = upload.file(&format!("{dir}/pwfile"), admin_password.expose().as_bytes())?;
            }
            Prepare::BaseBackup { source, .. } | Prepare::Rewind { source } => {
                upload = upload.file(&format!("{dir}/pgpass"), pgpass(source)?.expose().as_bytes())?;
            }
            Prepare::Existing | Prepare::SeedOf { .. } => {}
        }
        // Last: without the ticket nothing of it is used.
        upload
            .file(
                &format!("{NODE_DIR}/dbaas/ticket"),
                format!("start {}\n", boot.boot_id).as_bytes(),
            )?
            .finish()
    };
    build().map_err(archive_error)
}

fn job_text(job: Job, recipe: &BootRecipe) -> io::Result<String> {
    let prepare = match job {
        Job::Existing => "existing",
        Job::Init | Job::MakeAhead | Job::InitAhead => "init",
        Job::InitElsewhere => "init-elsewhere",
        Job::Seed => "seed",
        Job::NoSeed => "no-seed",
        Job::BaseBackup => "base-backup",
        Job::Rewind => "rewind",
    };
    let role = match recipe.role {
        BootRole::Primary => "primary",
        BootRole::Standby => "standby",
    };
    let mut text = format!("prepare={prepare}\nrole={role}\nuser={ADMIN_ROLE}\n");
    let mut line = |name: &str, value: &str| {
        if value.contains(['\n', '\r', '\0']) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{name} holds a line break"),
            ));
        }
        text.push_str(&format!("{name}={value}\n"));
        Ok(())
    };
    match job {
        Job::MakeAhead => line("ahead", "make")?,
        Job::InitAhead => line("ahead", "take")?,
        _ => {}
    }
    match &recipe.prepare {
        Prepare::BaseBackup { source, slot } => {
            line("slot", slot)?;
            line("conninfo", &source.conninfo(None))?;
        }
        Prepare::Rewind { source } => line("conninfo", &source.conninfo(Some("postgres")))?,
        Prepare::Existing | Prepare::Init { .. } | Prepare::SeedOf { .. } => {}
    }
    Ok(text)
}

/// A password file's line (libpq, "The Password File").
fn pgpass(source: &ReplicationSource) -> io::Result<Secret> {
    one_line(&source.password, "the replication password")?;
    let escape = |text: &str| text.replace('\\', "\\\\").replace(':', "\\:");
    Ok(Secret::new(format!(
        "*:*:*:{}:{}\n",
        escape(&source.user),
        escape(source.password.expose())
    )))
}

fn one_line(secret: &Secret, what: &str) -> io::Result<()> {
    if secret.expose().contains(['\n', '\r', '\0']) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{what} holds a line break"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use dbaas_core::id::NodeId;
    use dbaas_core::infrastructure::Endpoint;

    use super::*;
    use crate::archive::read_files;

    const ACCOUNT: Account = Account { uid: 999, gid: 999 };

    fn boot() -> Boot {
        Boot {
            epoch: Epoch(3),
            boot_id: "b1".into(),
            prepare: PrepareKind::Rewind,
            major: None,
        }
    }

    fn recipe() -> BootRecipe {
        let source = ReplicationSource {
            node: NodeId::from_uuid(uuid::Uuid::nil()),
            endpoint: Endpoint {
                host: "a' b\\".into(),
                port: 1,
            },
            user: "u:".into(),
            password: Secret::new("hunter:22"),
        };
        let files = vec![BootFile {
            name: "postgresql.conf".into(),
            content: Secret::new("a = 1\n"),
        }];
        BootRecipe::new(Epoch(3), Prepare::Rewind { source }, BootRole::Standby, files)
    }

    /// The files as they are read back, without the directory around.
    fn back(upload: &[u8]) -> BTreeMap<String, Secret> {
        let files = read_files(upload, 1 << 20).unwrap();
        files
            .into_iter()
            .map(|(path, text)| (path.trim_start_matches("node/").to_owned(), text))
            .collect()
    }

    #[test]
    fn a_start_is_read_back() {
        let files = back(&boot_upload(ACCOUNT, &boot(), Job::Rewind, &recipe(), &[]).unwrap());
        let control = Control::read(&files).unwrap();
        assert_eq!((control.ticket, control.boot), (Ticket::Start, Some(boot())));
        let job = files["dbaas/boot-b1/job"].expose();
        assert!(job.starts_with("prepare=rewind\nrole=standby\n"), "{job}");
        assert!(job.contains("host='a\\' b\\\\' port=1 user='u:' "), "{job}");
        assert!(!job.contains("hunter"));
        assert_eq!(files["dbaas/boot-b1/pgpass"].expose(), "*:*:*:u\\::hunter\\:22\n");
    }

    #[test]
    fn how_a_start_failed() {
        let mut files = back(&boot_upload(ACCOUNT, &boot(), Job::Rewind, &recipe(), &[]).unwrap());
        files.insert("dbaas/ticket".into(), Secret::new("used b1\n"));
        files.insert("dbaas/exit-b1".into(), Secret::new("pg_rewind\nerror: x\n"));
        files.insert("dbaas/exit-b0".into(), Secret::new("initdb\nolder\n"));
        let control = Control::read(&files).unwrap();
        assert_eq!(control.ticket, Ticket::Used);
        assert!(!control.up);
        let failed = control.failed.clone();
        files.insert("dbaas/ticket".into(), Secret::new("used b0\n"));
        let other = Control::read(&files).unwrap();
        assert_eq!(other.ticket, Ticket::UsedByAnother);
        assert_eq!(failed.unwrap().program, "pg_rewind");
    }

    #[test]
    fn what_is_initialised_ahead_is_told() {
        let mut recipe = recipe();
        recipe.prepare = Prepare::Init {
            admin_password: Secret::new("it's"),
            seeds: Vec::new(),
        };
        for (job, word) in [(Job::MakeAhead, "ahead=make"), (Job::InitAhead, "ahead=take")] {
            let files = back(&boot_upload(ACCOUNT, &boot(), job, &recipe, &[]).unwrap());
            let text = files["dbaas/boot-b1/job"].expose();
            assert!(text.contains("prepare=init\n") && text.contains(word), "{text}");
            assert_eq!(files["dbaas/boot-b1/pwfile"].expose(), "it's");
        }
    }

    #[test]
    fn line_breaks_do_not_get_into_files_of_lines() {
        let mut bad = recipe();
        if let Prepare::Rewind { source } = &mut bad.prepare {
            source.endpoint.host = "x\nprepare=init".into();
        }
        assert!(boot_upload(ACCOUNT, &boot(), Job::Rewind, &bad, &[]).is_err());
        let mut bad = recipe();
        if let Prepare::Rewind { source } = &mut bad.prepare {
            source.password = Secret::new("x\ny");
        }
        let error = boot_upload(ACCOUNT, &boot(), Job::Rewind, &bad, &[]).unwrap_err();
        assert!(!error.to_string().contains("x\n"));
    }

    #[test]
    fn a_volume_of_a_newer_program_is_left_alone() {
        let json = r#"{"format":99,"spec":null}"#;
        let files = BTreeMap::from([("dbaas/spec.json".to_owned(), Secret::new(json))]);
        assert!(Control::read(&files).is_err());
        assert_eq!(Control::read(&BTreeMap::new()).unwrap().ticket, Ticket::Off);
    }
}
