//! What each command does.

mod access;
mod catalogue;
mod connect;
pub(crate) mod contexts;
mod databases;
mod instances;
mod manifests;
mod nodes;
mod parameters;
mod tokens;
mod users;

use clap::CommandFactory as _;
use serde_json::{Map, Value};

use crate::arguments::{Arguments, Command, Global};
use crate::client::Client;
use crate::config;
use crate::failure::Failure;
use crate::screen::Screen;

/// What every command needs.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) screen: Screen,
}

/// Runs a command that talks to the server.
pub(crate) async fn run(command: Command, global: Global) -> Result<(), Failure> {
    let context = Context {
        client: config::client(&global)?,
        screen: Screen::new(&global),
    };
    match command {
        Command::Create(create) => instances::create(&context, create).await,
        Command::Instances(command) => instances::run(&context, command).await,
        Command::Users(command) => users::run(&context, command).await,
        Command::Databases(command) => databases::run(&context, command).await,
        Command::Versions(command) => catalogue::run(&context, command).await,
        Command::Nodes(command) => nodes::run(&context, command).await,
        Command::Events(command) => nodes::events(&context, command).await,
        Command::Tokens(command) => tokens::run(&context, command).await,
        Command::Parameters(command) => parameters::run(&context, command).await,
        Command::Logs(command) => nodes::logs(&context, command).await,
        Command::Connection(command) => connect::connection(&context, command).await,
        Command::Psql(command) => connect::psql(&context, command).await,
        Command::Dump(command) => connect::dump(&context, command).await,
        Command::Restore(command) => connect::restore(&context, command).await,
        Command::Switchover(command) => instances::switchover(&context, command).await,
        Command::Failover(command) => instances::failover(&context, command).await,
        Command::Restart(command) => instances::act(&context, "restart", command).await,
        Command::Start(command) => instances::act(&context, "start", command).await,
        Command::Stop(command) => instances::act(&context, "stop", command).await,
        Command::Plan(command) => manifests::plan(&context, command).await,
        Command::Apply(command) => manifests::apply(&context, command).await,
        Command::Uninstall(command) => manifests::uninstall(&context, command).await,
        Command::Contexts(_) | Command::Server(_) | Command::Completions { .. } | Command::Man { .. } => {
            Err(Failure::failed("this command does not talk to a server"))
        }
    }
}

/// The manual page of `dbaas`, or of one of its commands (`instances-create`).
pub(crate) fn manual(page: Option<&str>) -> Result<(), Failure> {
    let mut command = Arguments::command();
    command.build();
    for part in page.into_iter().flat_map(|page| page.split('-')) {
        command = command.find_subcommand(part).cloned().ok_or_else(|| {
            Failure::not_found(format!("there is no command {:?}", page.unwrap_or_default()))
        })?;
    }
    clap_mangen::Man::new(command)
        .render(&mut std::io::stdout())
        .map_err(|error| Failure::failed(format!("the manual cannot be written: {error}")))
}

/// The fields of a request: those that were given.
#[derive(Default)]
pub(crate) struct Body(Map<String, Value>);

impl Body {
    pub(crate) fn with<T: Into<Value>>(mut self, field: &str, value: Option<T>) -> Self {
        if let Some(value) = value {
            self.0.insert(field.to_owned(), value.into());
        }
        self
    }

    /// The body of a change, which must change something.
    pub(crate) fn change(self) -> Result<Value, Failure> {
        if self.0.is_empty() {
            return Err(Failure::usage("there is nothing to change").hint("--help lists what can be changed"));
        }
        Ok(self.whole())
    }

    pub(crate) fn whole(self) -> Value {
        Value::Object(self.0)
    }
}
