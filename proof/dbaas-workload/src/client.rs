//! [`Client`]: a client that finds the primary among several hosts and reconnects, as an application's would.

use std::future::poll_fn;
use std::time::{Duration, Instant};

use dbaas_core::infrastructure::Endpoint;
use dbaas_core::secret::Secret;
use dbaas_core::sql_executor::Rows;
use futures_util::future::select_all;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout, timeout_at};
use tokio_postgres::error::Severity;
use tokio_postgres::{Config, NoTls, SimpleQueryMessage};

/// Where to connect, and as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Hosts to try, in order.
    pub hosts: Vec<Endpoint>,
    /// The database.
    pub database: String,
    /// The role.
    pub user: String,
    /// Its password.
    pub password: Secret,
}

impl Target {
    /// The same, with other hosts.
    #[must_use]
    pub fn at(&self, hosts: Vec<Endpoint>) -> Self {
        Target {
            hosts,
            ..self.clone()
        }
    }
}

/// Which of several hosts to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectStrategy {
    /// As libpq does: one host after the other from the first, each within the connect timeout, and again
    /// from the first.
    Sequential,
    /// All hosts at once; a host that is a standby is asked on the same connection whether it still is. A
    /// frozen host costs nothing.
    Parallel,
}

/// Which sessions will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Only one that can write (`target_session_attrs=read-write`).
    ReadWrite,
    /// Any.
    Any,
}

/// How a [`Client`] behaves.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// Which host to take.
    pub strategy: ConnectStrategy,
    /// Which sessions will do.
    pub access: Access,
    /// For one attempt at one host. (libpq has whole seconds, at least two.)
    pub connect_timeout: Duration,
    /// For one statement; then its outcome is unknown and the connection is given up.
    pub statement_timeout: Duration,
    /// Between attempts at the same host (parallel) or between rounds (sequential).
    pub retry_pause: Duration,
    /// For how long the server's machine may say nothing at all (libpq's `tcp_user_timeout`, with keepalives
    /// as often, at least a second apart). A machine that was switched off closes no connection: without this
    /// a client hears of it when it sends again and another machine answers there.
    pub silence: Option<Duration>,
    /// Settings that the session is to start with, such as `("synchronous_commit", "on")`. Values without
    /// spaces.
    pub settings: Vec<(&'static str, &'static str)>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        ClientOptions {
            strategy: ConnectStrategy::Parallel,
            access: Access::ReadWrite,
            connect_timeout: Duration::from_secs(1),
            statement_timeout: Duration::from_secs(1),
            retry_pause: Duration::from_millis(20),
            silence: None,
            settings: Vec::new(),
        }
    }
}

/// Why a statement has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The server refused it: it was not carried out.
    #[error("refused with SQLSTATE {sqlstate}: {message}")]
    Refused {
        /// The five characters.
        sqlstate: String,
        /// The primary message.
        message: String,
    },
    /// It was sent and may or may not have been carried out.
    #[error("outcome unknown: {0}")]
    Unknown(String),
    /// No session within the time given; nothing was sent.
    #[error("not connected: {0}")]
    NotConnected(String),
}

impl Failure {
    /// The SQLSTATE if there is one, else `unknown` or `not_connected`: for counting.
    pub fn label(&self) -> String {
        match self {
            Failure::Refused { sqlstate, .. } => sqlstate.clone(),
            Failure::Unknown(_) => "unknown".to_owned(),
            Failure::NotConnected(_) => "not_connected".to_owned(),
        }
    }
}

/// A client with at most one connection. See [`ClientOptions`].
#[derive(Debug)]
pub struct Client {
    target: Target,
    options: ClientOptions,
    session: Option<Session>,
}

#[derive(Debug)]
struct Session {
    endpoint: Endpoint,
    client: tokio_postgres::Client,
    driver: JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        // Closes the socket, as the end of a process would.
        self.driver.abort();
    }
}

impl Client {
    /// A client that is not connected yet.
    pub fn new(target: Target, options: ClientOptions) -> Self {
        Client {
            target,
            options,
            session: None,
        }
    }

    /// The host of the current connection.
    pub fn connected_to(&self) -> Option<&Endpoint> {
        self.session.as_ref().map(|session| &session.endpoint)
    }

    /// Gives the connection up.
    pub fn disconnect(&mut self) {
        self.session = None;
    }

    /// Connects unless it is connected, trying until the deadline.
    pub async fn connect(&mut self, deadline: Instant) -> Result<(), Failure> {
        if self
            .session
            .as_ref()
            .is_some_and(|session| !session.client.is_closed())
        {
            return Ok(());
        }
        self.session = None;
        let found = async {
            match self.options.strategy {
                ConnectStrategy::Sequential => self.sequential().await,
                ConnectStrategy::Parallel => self.parallel().await,
            }
        };
        match timeout_at(deadline.into(), found).await {
            Ok(session) => {
                self.session = Some(session);
                Ok(())
            }
            Err(_) => Err(Failure::NotConnected(
                "no host took the connection within the deadline".to_owned(),
            )),
        }
    }

    /// Sends SQL on the current connection and waits for the answer within the statement timeout. The rows of
    /// all its statements follow one another. After an unknown outcome, or where the server turned out not to
    /// be writable, the connection is gone.
    pub async fn send(&mut self, sql: &str) -> Result<Rows, Failure> {
        let Some(session) = &self.session else {
            return Err(Failure::NotConnected("no connection".to_owned()));
        };
        let failure = match timeout(self.options.statement_timeout, session.client.simple_query(sql)).await {
            Ok(Ok(messages)) => return Ok(rows(messages)),
            Ok(Err(error)) => classify(&error),
            Err(_) => Failure::Unknown("no answer within the statement timeout".to_owned()),
        };
        let usable = matches!(&failure, Failure::Refused { sqlstate, .. } if sqlstate != "25006");
        if !usable {
            self.session = None;
        }
        Err(failure)
    }

    /// [`Self::connect`] and [`Self::send`], again until it was carried out: only for what may be carried out
    /// twice.
    pub async fn send_until_done(&mut self, sql: &str, deadline: Instant) -> Result<Rows, Failure> {
        loop {
            self.connect(deadline).await?;
            match self.send(sql).await {
                Ok(rows) => return Ok(rows),
                // Something else than the state of the cluster: it would be refused again.
                Err(failure @ Failure::Refused { .. }) if self.session.is_some() => return Err(failure),
                Err(failure) if Instant::now() >= deadline => return Err(failure),
                Err(_) => sleep(self.options.retry_pause).await,
            }
        }
    }

    async fn sequential(&self) -> Session {
        loop {
            for host in &self.target.hosts {
                let attempt = async {
                    let session = self.open(host).await?;
                    self.suits(&session).await?.then_some(session)
                };
                if let Ok(Some(session)) = timeout(self.options.connect_timeout, attempt).await {
                    return session;
                }
            }
            sleep(self.options.retry_pause).await;
        }
    }

    async fn parallel(&self) -> Session {
        if self.target.hosts.is_empty() {
            return std::future::pending().await;
        }
        let attempts = self
            .target
            .hosts
            .iter()
            .map(|host| Box::pin(self.until_it_suits(host)));
        select_all(attempts).await.0
    }

    async fn until_it_suits(&self, host: &Endpoint) -> Session {
        loop {
            if let Ok(Some(session)) = timeout(self.options.connect_timeout, self.open(host)).await {
                while let Ok(Some(suits)) = timeout(self.options.connect_timeout, self.suits(&session)).await
                {
                    if suits {
                        return session;
                    }
                    sleep(self.options.retry_pause).await;
                }
            }
            sleep(self.options.retry_pause).await;
        }
    }

    async fn open(&self, host: &Endpoint) -> Option<Session> {
        let mut config = Config::new();
        config
            .host(&host.host)
            .port(host.port)
            .dbname(&self.target.database)
            .user(&self.target.user)
            .password(self.target.password.expose())
            .application_name("dbaas_workload");
        if let Some(silence) = self.options.silence {
            let apart = silence.max(Duration::from_secs(1));
            config
                .tcp_user_timeout(silence)
                .keepalives_idle(apart)
                .keepalives_interval(apart);
        }
        if !self.options.settings.is_empty() {
            let settings = self
                .options
                .settings
                .iter()
                .map(|(name, value)| format!("-c {name}={value}"));
            config.options(settings.collect::<Vec<_>>().join(" "));
        }
        let (client, mut connection) = match config.connect(NoTls).await {
            Ok(connected) => connected,
            Err(error) => {
                tracing::trace!(%host, sqlstate = error.code().map(|code| code.code()), "cannot connect");
                return None;
            }
        };
        let driver = tokio::spawn(async move {
            while let Some(Ok(_)) = poll_fn(|cx| connection.poll_message(cx)).await {}
        });
        Some(Session {
            endpoint: host.clone(),
            client,
            driver,
        })
    }

    /// `None`: it broke.
    async fn suits(&self, session: &Session) -> Option<bool> {
        if self.options.access == Access::Any {
            return Some(true);
        }
        let answer = session
            .client
            .simple_query("SHOW transaction_read_only")
            .await
            .ok()?;
        Some(rows(answer) == [[Some("off".to_owned())]])
    }
}

fn classify(error: &tokio_postgres::Error) -> Failure {
    match error.as_db_error() {
        Some(db) if db.parsed_severity() == Some(Severity::Error) && db.code().code() != "57014" => {
            Failure::Refused {
                sqlstate: db.code().code().to_owned(),
                message: db.message().to_owned(),
            }
        }
        Some(db) => Failure::Unknown(format!("{} {}", db.code().code(), db.message())),
        None => Failure::Unknown(error.to_string()),
    }
}

fn rows(messages: Vec<SimpleQueryMessage>) -> Rows {
    let rows = messages.into_iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(
            (0..row.len())
                .map(|column| row.try_get(column).ok().flatten().map(str::to_owned))
                .collect(),
        ),
        _ => None,
    });
    rows.collect()
}
