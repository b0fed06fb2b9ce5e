//! A backend of one's own, in one file: every node is a directory and one shell script, which makes the data
//! directory what the recipe says and then becomes PostgreSQL. Run the same script over ssh, in a jail or as
//! a virtual machine's start-up script, and it is a backend for that. `tests/conformance.rs` shows that it
//! does what the contract of [`dbaas_core::infrastructure`] says.
//!
//! ```text
//! <root>/<instance>/<node>/
//!   node.json    what we know of it: Record
//!   boot/        what the script needs of the recipe: files to write, password files
//!   incomplete   there while `data` is being made: never start it
//!   up           the preparation has ended, PostgreSQL takes over
//!   failed       the program that ended the preparation, and what it printed
//!   data/ log
//! ```
//! Nothing is remembered but by these files. Whether a node runs is not written down at all: `/proc` is
//! asked, for processes that work below the node's directory. That is how the next start of the program, or a
//! crash at any line of this file, does no harm.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::net::TcpListener;
use std::ops::RangeInclusive;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use dbaas_core::boot::{ADMIN_ROLE, BootRecipe, BootRole, Prepare, ReplicationSource};
use dbaas_core::boot_output::{first_error, preparation_failure, rewind_failure, says_disk_full, telling_line};
use dbaas_core::cluster::Epoch;
use dbaas_core::config::{AutoConf, HbaRules};
use dbaas_core::id::InstanceId;
use dbaas_core::infrastructure::*;
use dbaas_core::version::PostgresVersion;
use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use rustix::process::{Pid, PidfdFlags, Signal, geteuid, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// The command of a node. Its directory is the working directory; everything else comes by environment
/// variables, secrets by files.
const SCRIPT: &str = r#"
set -u
umask 077
failed() { { echo "$1"; cat out; } > failed.new; mv failed.new failed; exit 1; }
run() { "$@" > out 2>&1 || failed "${1##*/}"; }
complete() { sync -f . && rm -f incomplete && sync .; }

case $PREPARE in
init)
  : > incomplete
  rm -rf data
  run "$BIN/initdb" -D data -U "$ADMIN" -E UTF8 --locale=C.UTF-8 --data-checksums --no-sync --no-instructions \
    --auth-host=scram-sha-256 --auth-local=scram-sha-256 --pwfile=boot/pwfile
  for seed in $SEEDS; do # before the first start: the copies are standbys of this cluster from birth
    [ -d "../$seed" ] && [ ! -f "../$seed/data/postmaster.opts" ] || continue
    rm -rf "../$seed/arriving" "../$seed/data"
    run cp -a data "../$seed/arriving"
    sync -f .
    run mv "../$seed/arriving" "../$seed/data"
  done
  complete ;;
seed)
  tries=0
  until [ -f "../$SOURCE/data/PG_VERSION" ] && [ ! -f "../$SOURCE/incomplete" ] || [ $tries -ge 600 ]; do
    sleep 0.1
    tries=$((tries + 1))
  done
  echo "the first node has no copy for this one" > out
  [ -f data/PG_VERSION ] || failed seed ;;
base-backup)
  # What is there may be the last copy: it is given up when the source has begun to send, not before.
  rm -rf backup
  PGPASSFILE=boot/pgpass "$BIN/pg_basebackup" -D backup -X stream -c fast --no-sync -S "$SLOT" -d "$CONNINFO" > out 2>&1 &
  while kill -0 $! 2> /dev/null && [ ! -d backup/pg_wal ]; do sleep 0.05; done
  if [ -d backup/pg_wal ]; then
    : > incomplete
    rm -rf data
  fi
  wait $! || failed pg_basebackup
  run mv backup data
  complete ;;
rewind)
  : > incomplete
  rm -f data/postmaster.pid data/standby.signal data/recovery.signal
  if ! PGPASSFILE=$PWD/boot/pgpass "$BIN/pg_rewind" -D data --no-sync --source-server "$CONNINFO" > out 2>&1; then
    # It connects before it touches anything: then the data is as whole as it was.
    ! grep -q 'connection to server' out || rm -f incomplete
    failed pg_rewind
  fi
  # It recovered as a primary does, and nothing of that was rewound: what it wrote is in nobody else's WAL.
  ! grep -q 'to complete crash recovery' out || ! grep -q 'no rewind required' out || failed pg_rewind
  rm -rf data/pg_replslot/* # slots of its life as a primary would keep WAL for ever
  complete ;;
esac

for file in boot/files/*; do
  run cp "$file" "data/.new"
  run sync data/.new
  run mv data/.new "data/${file##*/}"
done
rm -f data/postmaster.pid data/standby.signal data/recovery.signal
[ "$ROLE" != standby ] || : > data/standby.signal
sync data
rm -rf boot out
: > up
exec "$BIN/postgres" -D data -c listen_addresses=127.0.0.1 -c "port=$PORT" -c unix_socket_directories= \
  -c dynamic_shared_memory_type=mmap -c logging_collector=off -c log_destination=stderr
"#;

/// How long processes that were killed may take to end.
const KILL_AT_MOST: Duration = Duration::from_secs(10);

/// `node.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    spec: NodeSpec,
    port: u16,
    /// Whether it is to run. A node that is, and does not, has died.
    on: bool,
    /// Removed, its data kept.
    removed: bool,
    boot: Option<Boot>,
}

/// The last start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Boot {
    epoch: Epoch,
    id: String,
    prepare: String,
}

/// Nodes as shell scripts. One value per directory at a time: [`dbaas_embedded::open_on`] sees to that.
pub struct ScriptBackend {
    shared: Arc<Shared>,
    /// Calls for one node come one after the other.
    calls: Mutex<HashMap<NodeRef, Arc<tokio::sync::Mutex<()>>>>,
}

struct Shared {
    root: PathBuf,
    bin: PathBuf,
    version: PostgresVersion,
    /// Whom PostgreSQL runs as, if we are root: it refuses to be root.
    account: Option<(u32, u32)>,
    /// Where nodes are given their port. No other backend of this machine has one of them: a port is chosen
    /// long before somebody listens there.
    ports: RangeInclusive<u16>,
    /// Held while a look at a node would see half a start, and while a port is chosen.
    looking: Mutex<()>,
}

impl ScriptBackend {
    /// Nodes below `root`, of the PostgreSQL whose programs lie in `bin`, at `ports` that are for this value
    /// alone.
    pub fn open(root: &Path, bin: &Path, ports: RangeInclusive<u16>) -> Result<ScriptBackend, InfraError> {
        fs::create_dir_all(root).map_err(shown)?;
        let output = Command::new(bin.join("postgres")).arg("-V").output().map_err(shown)?;
        let version = PostgresVersion::from_version_output(&String::from_utf8_lossy(&output.stdout))
            .map_err(|e| error(InfraErrorKind::ImageUnavailable, e.to_string()))?;
        let shared = Shared {
            root: root.canonicalize().map_err(shown)?,
            bin: bin.to_owned(),
            version,
            account: geteuid().is_root().then(unprivileged).transpose()?,
            ports,
            looking: Mutex::new(()),
        };
        Ok(ScriptBackend { shared: Arc::new(shared), calls: Mutex::default() })
    }

    /// Runs a call alone on its node, and to its end even if the caller stops waiting: half a start is worse
    /// than a late one.
    async fn alone<T: Send + 'static>(
        &self,
        node: NodeRef,
        call: impl FnOnce(&Shared) -> Result<T, InfraError> + Send + 'static,
    ) -> Result<T, InfraError> {
        let turn = Arc::clone(self.calls.lock().entry(node).or_default());
        let turn = turn.lock_owned().await;
        self.blocking(move |shared| {
            let result = call(shared);
            drop(turn);
            result
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Shared) -> Result<T, InfraError> + Send + 'static,
    ) -> Result<T, InfraError> {
        let shared = Arc::clone(&self.shared);
        let ended = tokio::task::spawn_blocking(move || call(&shared)).await;
        ended.unwrap_or_else(|_| Err(error(InfraErrorKind::OutcomeUnknown, "the call was interrupted")))
    }
}

#[async_trait]
impl Infrastructure for ScriptBackend {
    fn name(&self) -> &str {
        "script"
    }

    /// Nobody holds the limits, and nobody tells of deaths: said, not pretended. Failover then begins with
    /// the controller's next look.
    fn capabilities(&self) -> Capabilities {
        Capabilities::NONE
    }

    /// Nodes listen on this machine only.
    fn hba_rules(&self) -> HbaRules {
        HbaRules::loopback()
    }

    fn events(&self) -> InfraEvents {
        stream::pending().boxed()
    }

    async fn versions(&self) -> Result<Vec<AvailableVersion>, InfraError> {
        let version = self.shared.version;
        let image = format!("postgres:{version}").parse();
        let image = image.map_err(|_| error(InfraErrorKind::Other, "no image name"))?;
        Ok(vec![AvailableVersion { version, image, source: self.shared.bin.display().to_string() }])
    }

    async fn observe(&self, instance: InstanceId) -> Result<ObservedNodes, InfraError> {
        self.blocking(move |shared| {
            let nodes = shared.nodes()?.into_iter().filter(|node| node.instance == instance);
            let found: Result<Vec<_>, _> = nodes.filter_map(|node| shared.observe(node).transpose()).collect();
            Ok(found?.into())
        })
        .await
    }

    async fn list(&self) -> Result<Vec<NodeRef>, InfraError> {
        self.blocking(|shared| {
            let mut nodes = shared.nodes()?;
            nodes.retain(|node| shared.existing(*node).is_ok());
            Ok(nodes)
        })
        .await
    }

    async fn apply(&self, spec: &NodeSpec) -> Result<(), InfraError> {
        let spec = spec.clone();
        self.alone(spec.node, move |shared| shared.apply(spec)).await
    }

    async fn start(&self, node: NodeRef, recipe: &BootRecipe) -> Result<(), InfraError> {
        let recipe = recipe.clone();
        self.alone(node, move |shared| shared.start(node, &recipe)).await
    }

    async fn power_off(&self, node: NodeRef, mode: PowerOff) -> Result<(), InfraError> {
        if mode == PowerOff::Immediate {
            // A fence does not wait for its turn: a call before it may be waiting for PostgreSQL's shutdown.
            self.blocking(move |shared| kill_all(&shared.dir(node))).await?;
        }
        self.alone(node, move |shared| shared.power_off(node, mode)).await
    }

    async fn remove(&self, node: NodeRef, data: DataDisposal) -> Result<(), InfraError> {
        self.alone(node, move |shared| shared.remove(node, data)).await
    }

    async fn logs(&self, node: NodeRef, lines: usize) -> Result<String, InfraError> {
        self.blocking(move |shared| {
            shared.existing(node)?;
            let log = shared.log(node);
            let all: Vec<&str> = log.lines().collect();
            Ok(all[all.len().saturating_sub(lines)..].join("\n"))
        })
        .await
    }
}

impl Shared {
    fn dir(&self, node: NodeRef) -> PathBuf {
        self.root.join(node.instance.to_string()).join(node.node.to_string())
    }

    /// Every node that has a record, also a removed one.
    fn nodes(&self) -> Result<Vec<NodeRef>, InfraError> {
        let mut nodes = Vec::new();
        for instance in fs::read_dir(&self.root).map_err(shown)?.flatten() {
            for node in fs::read_dir(instance.path()).into_iter().flatten().flatten() {
                let parse = |entry: &fs::DirEntry| entry.file_name().to_str().map(str::to_owned);
                let (Some(i), Some(n)) = (parse(&instance), parse(&node)) else {
                    continue;
                };
                if let (Ok(instance), Ok(node)) = (i.parse(), n.parse()) {
                    nodes.push(NodeRef { instance, node });
                }
            }
        }
        Ok(nodes)
    }

    fn read(&self, node: NodeRef) -> Result<Option<Record>, InfraError> {
        match fs::read(self.dir(node).join("node.json")) {
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|e| shown(e.into())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(shown(e)),
        }
    }

    fn existing(&self, node: NodeRef) -> Result<Record, InfraError> {
        let record = self.read(node)?.filter(|record| !record.removed);
        record.ok_or_else(|| error(InfraErrorKind::NotFound, format!("there is no node {}", node.node)))
    }

    fn write(&self, node: NodeRef, record: &Record) -> Result<(), InfraError> {
        let dir = self.dir(node);
        let text = serde_json::to_vec_pretty(record).map_err(|e| shown(e.into()))?;
        let replace = || -> io::Result<()> {
            let mut file = File::create(dir.join("node.json.new"))?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(dir.join("node.json.new"), dir.join("node.json"))?;
            File::open(&dir)?.sync_all()
        };
        replace().map_err(shown)
    }

    fn data(&self, node: NodeRef) -> DataState {
        let dir = self.dir(node);
        if dir.join("incomplete").exists() {
            DataState::Incomplete
        } else if dir.join("data/PG_VERSION").exists() {
            DataState::Initialised
        } else {
            DataState::Empty
        }
    }

    fn log(&self, node: NodeRef) -> String {
        String::from_utf8_lossy(&fs::read(self.dir(node).join("log")).unwrap_or_default()).into_owned()
    }

    fn power(&self, node: NodeRef, record: &Record) -> Result<(PowerState, Option<u32>), InfraError> {
        let dir = self.dir(node);
        if let Some(leader) = leader(&processes(&dir)?) {
            let power = match (leader.stopped, dir.join("up").exists()) {
                (true, _) => PowerState::Frozen,
                (false, true) => PowerState::Running,
                (false, false) => PowerState::Preparing,
            };
            return Ok((power, Some(leader.pid)));
        }
        let power = if record.on { PowerState::Exited(self.exit(node)) } else { PowerState::Off };
        Ok((power, None))
    }

    /// Why a node that should run does not. What PostgreSQL's programs print is read by the core, the same
    /// way for every backend.
    fn exit(&self, node: NodeRef) -> Exit {
        let dir = self.dir(node);
        if let Ok(failed) = fs::read_to_string(dir.join("failed")) {
            let (program, output) = failed.split_once('\n').unwrap_or((&failed, ""));
            let reason = match program {
                "seed" => ExitReason::SeedGone,
                "pg_rewind" => rewind_failure(output),
                _ => preparation_failure(output),
            };
            return Exit { reason, message: format!("{program}: {}", first_error(output)) };
        }
        if !dir.join("up").exists() {
            let message = "the preparation was interrupted".into();
            return Exit { reason: ExitReason::PreparationFailed, message };
        }
        let log = self.log(node);
        let reason = if says_disk_full(&log) { ExitReason::DiskFull } else { ExitReason::Died };
        Exit { reason, message: format!("PostgreSQL ended; its log says: {}", telling_line(&log)) }
    }

    fn observe(&self, node: NodeRef) -> Result<Option<ObservedNode>, InfraError> {
        let _whole = self.looking.lock();
        let Ok(record) = self.existing(node) else {
            return Ok(None);
        };
        let (power, leader) = self.power(node, &record)?;
        let endpoint = Some(Endpoint { host: "127.0.0.1".into(), port: record.port });
        Ok(Some(ObservedNode {
            node,
            power,
            data: self.data(node),
            endpoint: endpoint.clone(),
            peer_endpoint: endpoint,
            boot: record.boot.map(|boot| BootMark { epoch: boot.epoch, boot_id: boot.id }),
            applied: Some(record.spec),
            bootstrap_password: None,
            disk_free_bytes: None,
            backend_ref: leader.map(|pid| format!("pid {pid}")),
        }))
    }

    fn apply(&self, spec: NodeSpec) -> Result<(), InfraError> {
        let node = spec.node;
        if spec.image.major() != Some(self.version.major) {
            let message = format!("{} is not to be had: {} is what is here", spec.image, self.version);
            return Err(error(InfraErrorKind::ImageUnavailable, message));
        }
        let dir = self.dir(node);
        let _port = self.looking.lock();
        let record = match self.read(node)? {
            Some(record) => Record { spec, removed: false, ..record },
            None => Record { spec, port: self.free_port()?, on: false, removed: false, boot: None },
        };
        self.make_dir(&dir, 0o755)?;
        self.write(node, &record)
    }

    /// A port that no node has, running or not, and that nobody listens on.
    fn free_port(&self) -> Result<u16, InfraError> {
        let taken: Vec<u16> = self.nodes()?.into_iter().filter_map(|node| Some(self.read(node).ok()??.port)).collect();
        let mut ports = self.ports.clone();
        ports.find(|port| !taken.contains(port) && TcpListener::bind(("127.0.0.1", *port)).is_ok()).ok_or_else(|| {
            let message = format!("no port between {} and {} is free", self.ports.start(), self.ports.end());
            error(InfraErrorKind::Exhausted, message)
        })
    }

    fn make_dir(&self, dir: &Path, mode: u32) -> Result<(), InfraError> {
        fs::DirBuilder::new().recursive(true).mode(mode).create(dir).map_err(shown)?;
        self.own(dir)
    }

    fn own(&self, path: &Path) -> Result<(), InfraError> {
        let Some((uid, gid)) = self.account else {
            return Ok(());
        };
        chown(path, Some(uid), Some(gid)).map_err(shown)
    }

    /// Steps 1 to 5 of [`dbaas_core::boot`]. The checks are here, the work is the script's.
    fn start(&self, node: NodeRef, recipe: &BootRecipe) -> Result<(), InfraError> {
        recipe.check_files()?;
        let (dir, record) = (self.dir(node), self.existing(node)?);
        let written = fs::read_to_string(dir.join("data/postgresql.auto.conf")).unwrap_or_default();
        let known = AutoConf::parse_epoch(&written).max(record.boot.as_ref().map(|boot| boot.epoch));
        if known.is_some_and(|epoch| epoch > recipe.epoch) {
            let message = "the node has been started in a newer epoch";
            return Err(error(InfraErrorKind::StaleEpoch, message));
        }
        let (name, source) = describe(&recipe.prepare);
        let same_epoch = record.boot.as_ref().is_some_and(|boot| boot.epoch == recipe.epoch);
        let same = same_epoch && record.boot.as_ref().is_some_and(|boot| boot.prepare == name);
        match self.power(node, &record)?.0 {
            PowerState::Off | PowerState::Exited(_) => {}
            _ if same_epoch => return Ok(()),
            _ => {
                return Err(error(InfraErrorKind::InvalidState, "it runs by a recipe of another epoch"));
            }
        }
        let whole = self.data(node) == DataState::Initialised;
        let never_started = !dir.join("data/postmaster.opts").exists();
        let prepare = match (&recipe.prepare, whole) {
            (Prepare::Existing, true) => name,
            (Prepare::Init { .. } | Prepare::SeedOf { .. }, true) if same => "existing",
            (Prepare::SeedOf { .. }, true) if never_started => name,
            (Prepare::Init { .. } | Prepare::SeedOf { .. }, false) => name,
            (Prepare::BaseBackup { .. }, _) | (Prepare::Rewind { .. }, true) => name,
            (_, whole) => {
                let found = if whole { "a whole" } else { "no whole" };
                let message = format!("{found} data directory is there: this recipe does not fit");
                return Err(error(InfraErrorKind::InvalidState, message));
            }
        };
        self.write_boot(&dir, recipe, source)?;
        let log = fs::OpenOptions::new().create(true).append(true).mode(0o600).open(dir.join("log"));
        let log = log.map_err(shown)?;
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", SCRIPT, "dbaas-node"])
            .env_clear()
            .envs([("PATH", "/usr/bin:/bin"), ("LC_ALL", "C"), ("ADMIN", ADMIN_ROLE), ("PREPARE", prepare)])
            .env("BIN", &self.bin)
            .env("PORT", record.port.to_string())
            .env("ROLE", if recipe.role == BootRole::Standby { "standby" } else { "primary" })
            .current_dir(&dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(shown)?)
            .stderr(log)
            .process_group(0);
        if let Some((uid, gid)) = self.account {
            command.uid(uid).gid(gid);
        }
        match &recipe.prepare {
            Prepare::Existing => {}
            Prepare::Init { seeds, .. } => {
                let others = seeds.iter().filter(|seed| **seed != node.node).map(ToString::to_string);
                command.env("SEEDS", others.collect::<Vec<_>>().join(" "));
            }
            Prepare::SeedOf { source } => drop(command.env("SOURCE", source.to_string())),
            Prepare::BaseBackup { source, slot } => {
                command.env("SLOT", slot).env("CONNINFO", source.conninfo(None));
            }
            Prepare::Rewind { source } => drop(command.env("CONNINFO", source.conninfo(Some("postgres")))),
        }
        let boot = Boot { epoch: recipe.epoch, id: uuid::Uuid::new_v4().to_string(), prepare: name.to_owned() };
        let _whole = self.looking.lock();
        for mark in ["up", "failed"] {
            let _ = fs::remove_file(dir.join(mark));
        }
        self.write(node, &Record { on: true, boot: Some(boot), ..record })?;
        let mut child = command.spawn().map_err(shown)?;
        // So that no zombie stays. What became of it is seen by whoever looks.
        std::thread::spawn(move || child.wait());
        Ok(())
    }

    /// What the script needs, where only its account can read it.
    fn write_boot(
        &self,
        dir: &Path,
        recipe: &BootRecipe,
        source: Option<&ReplicationSource>,
    ) -> Result<(), InfraError> {
        let (boot, files) = (dir.join("boot"), dir.join("boot/files"));
        match fs::remove_dir_all(&boot) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(shown(e)),
            _ => {}
        }
        self.make_dir(&boot, 0o700)?;
        self.make_dir(&files, 0o700)?;
        let private = |path: PathBuf, text: &str| {
            let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
            file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(shown)?;
            self.own(&path)
        };
        for file in &recipe.files {
            private(files.join(&file.name), file.content.expose())?;
        }
        if let Prepare::Init { admin_password, .. } = &recipe.prepare {
            private(boot.join("pwfile"), admin_password.expose())?;
        }
        if let Some(source) = source {
            let escaped = source.password.expose().replace('\\', "\\\\").replace(':', "\\:");
            private(boot.join("pgpass"), &format!("*:*:*:{}:{escaped}\n", source.user))?;
        }
        Ok(())
    }

    /// The fence: `Ok` only when no process is left.
    fn power_off(&self, node: NodeRef, mode: PowerOff) -> Result<(), InfraError> {
        let dir = self.dir(node);
        let record = self.read(node)?;
        if let Some(record) = record.filter(|record| record.on) {
            // First: a look in the middle of this must not take it for a death.
            self.write(node, &Record { on: false, ..record })?;
        }
        if let (PowerOff::Graceful { deadline_ms }, true) = (mode, dir.join("up").exists()) {
            let deadline = Instant::now() + Duration::from_millis(deadline_ms.into());
            let found = processes(&dir)?;
            let server = leader(&found).filter(|server| !server.stopped);
            if let Some(server) = server {
                signal(server.pid, &dir, Signal::INT);
            }
            while server.is_some() && Instant::now() < deadline && !processes(&dir)?.is_empty() {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        kill_all(&dir)
    }

    fn remove(&self, node: NodeRef, data: DataDisposal) -> Result<(), InfraError> {
        let (dir, record) = (self.dir(node), self.read(node)?);
        let Some(record) = record else { return Ok(()) };
        if !processes(&dir)?.is_empty() {
            return Err(error(InfraErrorKind::InvalidState, "it runs: switch it off first"));
        }
        match data {
            DataDisposal::Keep => self.write(node, &Record { removed: true, ..record }),
            DataDisposal::Delete => {
                // Gone at once: interrupted in the middle, it must not be found again as half a node.
                release_shared_memory(&dir);
                let gone = dir.with_extension("gone");
                fs::rename(&dir, &gone).and_then(|()| fs::remove_dir_all(&gone)).map_err(shown)?;
                let _instance_has_other_nodes = dir.parent().map(fs::remove_dir);
                Ok(())
            }
        }
    }
}

/// A preparation's name for the script, and where it copies from.
fn describe(prepare: &Prepare) -> (&'static str, Option<&ReplicationSource>) {
    match prepare {
        Prepare::Existing => ("existing", None),
        Prepare::Init { .. } => ("init", None),
        Prepare::SeedOf { .. } => ("seed", None),
        Prepare::BaseBackup { source, .. } => ("base-backup", Some(source)),
        Prepare::Rewind { source } => ("rewind", Some(source)),
    }
}

struct Process {
    pid: u32,
    parent: u32,
    stopped: bool,
}

/// Every process that works in a directory or below it; zombies work nowhere.
fn processes(dir: &Path) -> Result<Vec<Process>, InfraError> {
    let pids = fs::read_dir("/proc").map_err(shown)?.flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let inside = pids.filter(|pid| works_in(*pid, dir));
    let looked_at = inside.filter_map(|pid| {
        // proc(5): pid (name) state parent …; the name may hold anything.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = stat.rsplit_once(") ")?.1.split(' ');
        let stopped = fields.next()? == "T";
        Some(Process { pid, parent: fields.next()?.parse().ok()?, stopped })
    });
    Ok(looked_at.collect())
}

fn works_in(pid: u32, dir: &Path) -> bool {
    fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(dir))
}

/// The one that the others descend from: the script, and PostgreSQL's postmaster after it.
fn leader(processes: &[Process]) -> Option<&Process> {
    processes.iter().find(|one| processes.iter().all(|other| other.pid != one.parent))
}

/// Sends a signal to a process of the directory, and to no other that has got its number meanwhile.
fn signal(pid: u32, dir: &Path, signal: Signal) {
    let pid_there = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let held = pid_there.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    if let Some(held) = held.filter(|_| works_in(pid, dir)) {
        let _gone = pidfd_send_signal(held, signal);
    }
}

fn kill_all(dir: &Path) -> Result<(), InfraError> {
    let deadline = Instant::now() + KILL_AT_MOST;
    let mut empty_looks = 0;
    // Twice: a process that begets another one while `/proc` is being read can hide both.
    while empty_looks < 2 {
        let left = processes(dir)?;
        left.iter().for_each(|process| signal(process.pid, dir, Signal::KILL));
        empty_looks = if left.is_empty() { empty_looks + 1 } else { 0 };
        if Instant::now() >= deadline {
            return Err(error(InfraErrorKind::OutcomeUnknown, "processes do not end although they were killed"));
        }
        if !left.is_empty() {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    Ok(())
}

/// A server that was killed leaves a System V segment, which its next start takes over; where there is none
/// to come, it would stay for ever. The seventh line of `postmaster.pid` names it.
fn release_shared_memory(dir: &Path) {
    let text = fs::read_to_string(dir.join("data/postmaster.pid")).unwrap_or_default();
    let id = text.lines().nth(6).and_then(|line| line.split_whitespace().nth(1));
    if let Some(id) = id.filter(|id| id.bytes().all(|byte| byte.is_ascii_digit())) {
        let _gone_already = Command::new("ipcrm").args(["-m", id]).stderr(Stdio::null()).status();
    }
}

fn unprivileged() -> Result<(u32, u32), InfraError> {
    let users = fs::read_to_string("/etc/passwd").map_err(shown)?;
    let ids = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut ids = line.split(':').skip(2);
        Some((ids.next()?.parse().ok()?, ids.next()?.parse().ok()?))
    };
    let found = ids("postgres").or_else(|| ids("nobody"));
    found.ok_or_else(|| error(InfraErrorKind::Unsupported, "there is no user to run PostgreSQL as"))
}

fn error(kind: InfraErrorKind, message: impl Into<String>) -> InfraError {
    InfraError::new(kind, message)
}

fn shown(e: io::Error) -> InfraError {
    let full = matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    error(if full { InfraErrorKind::Exhausted } else { InfraErrorKind::Other }, e.to_string())
}
