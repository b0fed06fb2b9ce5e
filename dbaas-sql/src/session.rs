//! [`Session`]: one login, and the task that moves its bytes.

use std::future::poll_fn;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dbaas_core::sql_executor::{Rows, SESSION_SETTINGS, SqlError, SqlErrorKind, SqlTarget};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, Connection, SimpleQueryMessage, Socket};
use tracing::instrument::WithSubscriber;
use tracing::subscriber::NoSubscriber;

use crate::classify;

/// How long the end of a session may take: cancelling what it was at, and saying good-bye.
const CLOSING: Duration = Duration::from_secs(1);

/// How many statements a session keeps prepared.
const PREPARED_AT_MOST: usize = 8;

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// The timeouts that the server itself keeps for a session, so that a statement ends also when its client is
/// gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ServerLimits {
    statement_timeout_ms: u32,
    lock_timeout_ms: u32,
}

impl ServerLimits {
    /// A little less than the client's deadline: the server's answer that it gave up says more than silence.
    /// Waiting for a lock gets half, so that those who queue behind this statement are not held up for its
    /// whole time.
    pub(crate) fn within(timeout_ms: u32, lock_timeout_ms: Option<u32>) -> Self {
        let statement_timeout_ms = (timeout_ms - (timeout_ms / 10).min(1_000)).max(1);
        let lock_timeout_ms = lock_timeout_ms
            .unwrap_or(statement_timeout_ms / 2)
            .min(statement_timeout_ms)
            // Zero would mean no limit.
            .max(1);
        ServerLimits {
            statement_timeout_ms,
            lock_timeout_ms,
        }
    }

    fn as_statement(self) -> String {
        format!(
            "SET statement_timeout = {}; SET lock_timeout = {}",
            self.statement_timeout_ms, self.lock_timeout_ms
        )
    }
}

/// Startup options. They outrank what the database or the role has been given by `ALTER DATABASE` and
/// `ALTER ROLE`, which may be a tenant's doing. Some need a superuser; for anybody else the login fails with
/// 42501, rather than that a statement's text may end up in the log. `major`: the server's, if it is known;
/// else what not every version has is left to [`late_settings`].
fn startup_options(user: &str, limits: ServerLimits, idle_session: Duration, major: Option<u32>) -> String {
    let mut options = String::new();
    let mut push = |name: &str, value: &str| {
        // Words are split at spaces, and a backslash takes away a character's meaning.
        let value = value.replace('\\', "\\\\").replace(' ', "\\ ");
        options.push_str(&format!("-c {name}={value} "));
    };
    for setting in SESSION_SETTINGS {
        if setting.since <= major.unwrap_or(0) {
            push(setting.name, setting.value);
        }
    }
    push("session_authorization", user);
    push("statement_timeout", &limits.statement_timeout_ms.to_string());
    push("lock_timeout", &limits.lock_timeout_ms.to_string());
    push("idle_session_timeout", &idle_session.as_millis().to_string());
    options
}

/// What [`startup_options`] could not hold, for a server whose version is known only now.
fn late_settings(major: u32) -> String {
    let late = SESSION_SETTINGS
        .iter()
        .filter(|setting| setting.since > 0 && setting.since <= major);
    late.map(|setting| format!("SET {} = '{}'; ", setting.name, setting.value))
        .collect()
}

/// A session. Dropping it ends it: what it is at is cancelled, and its task ends within [`CLOSING`].
pub(crate) struct Session {
    client: Client,
    /// The server's major version, if it said one that can be read.
    major: Option<u32>,
    /// To be set before anything else; empty afterwards.
    late: String,
    limits: Option<ServerLimits>,
    /// Statements that the server has parsed and planned for this session, by the hashes of their texts.
    prepared: Vec<u64>,
    busy: Arc<AtomicBool>,
    /// Its drop is what tells the task to end.
    _closing: oneshot::Sender<()>,
}

/// What a new session is given besides its target.
pub(crate) struct Opening<T> {
    pub(crate) tls: T,
    pub(crate) connect_timeout: Duration,
    pub(crate) limits: ServerLimits,
    pub(crate) idle_session: Duration,
    /// The server's major version, if it is known.
    pub(crate) major: Option<u32>,
    /// How many cancel requests may be on their way at once.
    pub(crate) cancels: Arc<Semaphore>,
}

impl Session {
    /// Connects and logs in.
    pub(crate) async fn open<T>(target: &SqlTarget, opening: Opening<T>) -> Result<Self, SqlError>
    where
        T: MakeTlsConnect<Socket> + Clone + Send + 'static,
        T::Stream: Send,
        T::TlsConnect: Send,
        <T::TlsConnect as tokio_postgres::tls::TlsConnect<Socket>>::Future: Send,
    {
        let Opening {
            tls,
            connect_timeout,
            limits,
            idle_session,
            major,
            cancels,
        } = opening;
        let mut config = Config::new();
        config
            .host(&target.endpoint.host)
            .port(target.endpoint.port)
            .dbname(&target.database)
            .user(&target.user)
            .password(target.password.expose())
            .application_name("dbaas_controller")
            .options(startup_options(&target.user, limits, idle_session, major))
            .connect_timeout(connect_timeout)
            .tcp_user_timeout(Duration::from_secs(10))
            .keepalives_idle(Duration::from_secs(10))
            .keepalives_interval(Duration::from_secs(3))
            .keepalives_retries(3);
        let (client, connection) = timeout(connect_timeout, config.connect(tls.clone()))
            .await
            .map_err(|_| {
                SqlError::new(
                    SqlErrorKind::ConnectTimeout,
                    format!("no login within {} ms", connect_timeout.as_millis()),
                )
            })?
            .map_err(|error| classify::connecting(&error))?;

        let says = connection.parameter("server_version").and_then(major_of);
        let late = match (major, says) {
            (None, Some(says)) => late_settings(says),
            _ => String::new(),
        };
        let busy = Arc::new(AtomicBool::new(false));
        let (closing, closed) = oneshot::channel();
        let cancel = Cancel {
            token: client.cancel_token(),
            tls,
            busy: Arc::clone(&busy),
            permits: cancels,
        };
        tokio::spawn(drive(connection, closed, cancel));
        Ok(Session {
            client,
            major: says,
            late,
            limits: Some(limits),
            prepared: Vec::new(),
            busy,
            _closing: closing,
        })
    }

    /// The server's major version, if it is known.
    pub(crate) fn major(&self) -> Option<u32> {
        self.major
    }

    /// Sets what could not be said at the login. An error is one of the login's: nothing else was done.
    pub(crate) async fn set_late(&mut self, deadline: Instant) -> Result<(), SqlError> {
        let late = std::mem::take(&mut self.late);
        if late.is_empty() {
            return Ok(());
        }
        let set = self
            .client
            .simple_query(&late)
            .with_subscriber(NoSubscriber::default());
        match timeout_at(deadline, set).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(classify::connecting(&error)),
            Err(_) => Err(SqlError::new(
                SqlErrorKind::ConnectTimeout,
                "no answer to the first statement",
            )),
        }
    }

    /// Whether the connection is known to be gone. Asks nobody, so a `false` is a guess.
    pub(crate) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Runs a statement under the given server limits and waits for its answer until the deadline.
    pub(crate) async fn query(
        &mut self,
        text: &str,
        limits: ServerLimits,
        deadline: Instant,
    ) -> Result<Rows, SqlError> {
        self.busy.store(true, Ordering::Release);
        let answer = timeout_at(deadline, self.send(text, limits)).await.map_err(|_| {
            SqlError::new(
                SqlErrorKind::OutcomeUnknown,
                "no answer to the statement within its deadline",
            )
        })?;
        self.busy.store(false, Ordering::Release);
        rows(answer.map_err(|error| classify::running(&error))?)
    }

    /// As [`query`](Self::query), for a text that comes again and again: parsing and planning the look at a
    /// node costs the server many times of what running it does. A session on which this fails is not used
    /// again, so what is prepared is known.
    pub(crate) async fn query_again(
        &mut self,
        text: &str,
        limits: ServerLimits,
        deadline: Instant,
    ) -> Result<Rows, SqlError> {
        let hash = hash(text);
        let name = format!("dbaas_{hash:016x}");
        if self.prepared.contains(&hash) {
            return self.query(&format!("EXECUTE {name}"), limits, deadline).await;
        }
        if self.prepared.len() >= PREPARED_AT_MOST {
            return self.query(text, limits, deadline).await;
        }
        let both = format!("PREPARE {name} AS {text}; EXECUTE {name}");
        let rows = self.query(&both, limits, deadline).await?;
        self.prepared.push(hash);
        Ok(rows)
    }

    async fn send(
        &mut self,
        text: &str,
        limits: ServerLimits,
    ) -> Result<Vec<SimpleQueryMessage>, tokio_postgres::Error> {
        // The driver logs statement texts; they may hold verifiers.
        let query = self
            .client
            .simple_query(text)
            .with_subscriber(NoSubscriber::default());
        if self.limits == Some(limits) {
            return query.await;
        }
        // Sent ahead of the statement without waiting for an answer in between.
        let set = limits.as_statement();
        let set = self
            .client
            .simple_query(&set)
            .with_subscriber(NoSubscriber::default());
        let (set, answer) = futures_util::future::join(set, query).await;
        self.limits = set.is_ok().then_some(limits);
        answer
    }
}

/// The first number of `15.18 (Debian …)`.
fn major_of(server_version: &str) -> Option<u32> {
    let digits = server_version.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

fn rows(messages: Vec<SimpleQueryMessage>) -> Result<Rows, SqlError> {
    let mut rows = Rows::new();
    for message in messages {
        if let SimpleQueryMessage::Row(row) = message {
            let columns = (0..row.len()).map(|i| row.try_get(i).map(|text| text.map(str::to_owned)));
            rows.push(columns.collect::<Result<_, _>>().map_err(|_| {
                SqlError::new(
                    SqlErrorKind::Statement,
                    "the statement was carried out; its answer is not UTF-8",
                )
            })?);
        }
    }
    Ok(rows)
}

struct Cancel<T> {
    token: tokio_postgres::CancelToken,
    tls: T,
    busy: Arc<AtomicBool>,
    permits: Arc<Semaphore>,
}

/// Moves the bytes of a connection until it ends, or until [`CLOSING`] after its session was dropped.
async fn drive<T>(
    mut connection: Connection<Socket, T::Stream>,
    closed: oneshot::Receiver<()>,
    cancel: Cancel<T>,
) where
    T: MakeTlsConnect<Socket>,
    T::Stream: Send,
{
    tokio::select! {
        () = until_end(&mut connection) => return,
        _ = closed => {}
    }
    let end = async {
        // Without a permit the server's own statement_timeout has to do.
        if cancel.busy.load(Ordering::Acquire)
            && let Ok(_permit) = cancel.permits.try_acquire()
        {
            // Failing is fine for the same reason.
            let _ = cancel.token.cancel_query(cancel.tls).await;
        }
        until_end(&mut connection).await;
    };
    // A server that does not answer any more would keep the connection for ever.
    let _ = timeout(CLOSING, end).await;
}

/// Notices and notifications are dropped: `poll` on the connection itself would log their texts.
async fn until_end<S>(connection: &mut Connection<Socket, S>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    while let Some(Ok(_)) = poll_fn(|cx| connection.poll_message(cx)).await {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_gives_up_before_the_client() {
        for timeout_ms in [2, 10, 100, 5_000, 60_000, u32::MAX] {
            let limits = ServerLimits::within(timeout_ms, None);
            assert!(limits.statement_timeout_ms <= timeout_ms);
            assert!(timeout_ms - limits.statement_timeout_ms <= 1_000);
            assert!(limits.lock_timeout_ms >= 1 && limits.lock_timeout_ms <= limits.statement_timeout_ms);
        }
        assert_eq!(ServerLimits::within(5_000, Some(100)).lock_timeout_ms, 100);
        // Zero would be no timeout at all.
        assert_eq!(
            ServerLimits::within(0, Some(0)),
            ServerLimits {
                statement_timeout_ms: 1,
                lock_timeout_ms: 1
            }
        );
    }

    #[test]
    fn the_first_number_is_the_major() {
        for (text, major) in [
            ("15.18 (Debian 15.18-0)", Some(15)),
            ("18beta1", Some(18)),
            ("devel", None),
            ("", None),
        ] {
            assert_eq!(major_of(text), major, "{text}");
        }
    }

    #[test]
    fn options_hold_what_the_version_has() {
        let limits = ServerLimits::within(1_000, None);
        let options = |major| startup_options("a b\\c", limits, Duration::from_secs(1), major);
        assert!(options(Some(17)).contains(" -c transaction_timeout=0 "));
        assert!(!options(Some(16)).contains("transaction_timeout") && late_settings(16).is_empty());
        assert!(!options(None).contains("transaction_timeout"));
        assert!(late_settings(18).contains("SET transaction_timeout = '0'; "));
        assert!(options(None).contains(" -c default_transaction_isolation=read\\ committed "));
        assert!(options(None).contains(" -c session_authorization=a\\ b\\\\c "));
    }
}
