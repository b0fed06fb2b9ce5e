//! Dropping roles and databases, step by step, and saying who holds a step up.

use std::time::Duration;

use dbaas_core::command::{self, parse_obstacles, parse_release, parse_sessions};
use dbaas_core::id::{DatabaseId, NodeId, UserId};
use dbaas_core::plan::{Inheritance, Outcome, RoleRef, Transfer};
use dbaas_core::sql_executor::Script;
use tokio::time::Instant;

use super::{ActionError, Done, Stage, failed};

/// How long one action goes on with a part after the other, before it tells how far it is.
const PARTS: Duration = Duration::from_millis(500);
const POSTGRES: &str = "postgres";

/// What parts came to, one after the other.
enum Parts {
    /// There are more.
    More { left: u64, moved: u64 },
    /// What is left is not for them.
    Over,
}

impl Stage {
    pub(super) async fn drop_role(
        &self,
        node: NodeId,
        user: UserId,
        role: &RoleRef,
        databases: &[Inheritance],
    ) -> Result<Done, ActionError> {
        let id = user.uuid();
        self.run_for(
            node,
            POSTGRES,
            &role.name,
            &command::lock_out_role(&role.name, id),
        )
        .await?;
        let mut held_up = None;
        for inheritance in databases {
            let script = command::release_from_role(role, inheritance);
            let parts = self.opened(
                node,
                inheritance,
                self.parts(node, &inheritance.database, &script),
            );
            match parts.await {
                Ok(Parts::Over) => {}
                Ok(Parts::More { left, moved }) => return Ok(Done::Part { left, moved }),
                // What somebody holds in one database holds nothing up in another one.
                Err(error) => held_up = held_up.or(Some(error)),
            }
        }
        if let Some(error) = held_up {
            return Err(error);
        }
        if let Parts::More { left, moved } = self
            .parts(node, POSTGRES, &command::release_shared(role, id))
            .await?
        {
            return Ok(Done::Part { left, moved });
        }
        self.run_for(node, POSTGRES, &role.name, &command::disown_role(&role.name, id))
            .await?;
        for inheritance in databases {
            let script = command::inherit_from_role(role, inheritance);
            self.opened(
                node,
                inheritance,
                self.run_for(node, &inheritance.database, &role.name, &script),
            )
            .await?;
        }
        self.run_for(node, POSTGRES, &role.name, &command::drop_role(&role.name, user))
            .await?;
        Ok(Done::Whole)
    }

    pub(super) async fn transfer(&self, node: NodeId, transfer: &Transfer) -> Result<Done, ActionError> {
        let there = Inside {
            oid: transfer.oid,
            name: &transfer.name,
            closed: transfer.closed,
        };
        let (first, then) = (
            command::release_to_owner(transfer),
            command::transfer_objects(transfer),
        );
        let all = async {
            if let Parts::More { left, moved } = self.parts(node, there.name, &first).await? {
                return Ok(Done::Part { left, moved });
            }
            self.run_for(node, there.name, &transfer.from.name, &then).await?;
            Ok(Done::Whole)
        };
        self.opened(node, there, all).await
    }

    pub(super) async fn drop_database(
        &self,
        node: NodeId,
        database: DatabaseId,
        name: &str,
        registered: bool,
    ) -> Result<(), ActionError> {
        let answer = self
            .ask_in(node, POSTGRES, &command::database_obstacles(name))
            .await?;
        let obstacles = parse_obstacles(&answer).map_err(|e| failed(e.to_string()))?;
        if registered && !obstacles.is_empty() {
            let there = Inside {
                oid: obstacles.oid,
                name,
                closed: obstacles.closed,
            };
            let clear = command::clear_database(name, &obstacles);
            self.opened(node, there, self.run_for(node, name, name, &clear))
                .await?;
        }
        let script = command::drop_database(name, database, registered);
        self.run_for(node, POSTGRES, name, &script).await
    }

    /// Runs a script of parts until there is nothing left for it, or [`PARTS`] are over.
    async fn parts(&self, node: NodeId, database: &str, script: &Script) -> Result<Parts, ActionError> {
        let until = Instant::now() + PARTS;
        let mut moved = 0;
        loop {
            let answer = self.ask_in(node, database, script).await?;
            let released = parse_release(&answer).map_err(|e| failed(e.to_string()))?;
            if let Some(message) = released.held_up() {
                return Err(held_up(message));
            }
            if released.moved == 0 {
                return Ok(Parts::Over);
            }
            moved += released.moved;
            if Instant::now() >= until {
                let left = released.left;
                return Ok(Parts::More { left, moved });
            }
        }
    }

    /// Runs a script; where something is in use, the error says by whom. `name`: the role or database that it
    /// is about.
    async fn run_for(
        &self,
        node: NodeId,
        database: &str,
        name: &str,
        script: &Script,
    ) -> Result<(), ActionError> {
        let Err(error) = self.run_in(node, database, script).await else {
            return Ok(());
        };
        if error.outcome() != Outcome::HeldUp {
            return Err(error);
        }
        // Where nobody holds a lock somebody is connected, or was when it was tried.
        for look in [command::lock_holders(name), command::sessions_in(name)] {
            if let Ok(answer) = self.ask_in(node, database, &look).await
                && let Some(who) = parse_sessions(&answer)
            {
                return Err(held_up(format!("{name} is in use by {who}")));
            }
        }
        Err(error)
    }

    /// Runs a script in a tenant's database; where it waited for a lock in vain, the error says who holds
    /// what.
    pub(super) async fn run_waiting(
        &self,
        node: NodeId,
        database: &str,
        script: &Script,
    ) -> Result<(), ActionError> {
        let Err(error) = self.run_in(node, database, script).await else {
            return Ok(());
        };
        if error.outcome() == Outcome::HeldUp
            && let Ok(answer) = self.ask_in(node, database, &command::holders_here()).await
            && let Some(who) = parse_sessions(&answer)
        {
            return Err(held_up(who.to_owned()));
        }
        Err(error)
    }

    /// Does something in a database, which is open meanwhile.
    async fn opened<T>(
        &self,
        node: NodeId,
        there: impl Into<Inside<'_>>,
        work: impl Future<Output = Result<T, ActionError>>,
    ) -> Result<T, ActionError> {
        let Inside { oid, name, closed } = there.into();
        let allow = |allow| command::allow_connections(oid, name, allow);
        if closed {
            self.run_for(node, POSTGRES, name, &allow(true)).await?;
        }
        let result = work.await;
        if closed {
            self.run_for(node, POSTGRES, name, &allow(false)).await?;
        }
        result
    }
}

/// A database to do something in.
struct Inside<'a> {
    oid: u32,
    name: &'a str,
    closed: bool,
}

impl<'a> From<&'a Inheritance> for Inside<'a> {
    fn from(inheritance: &'a Inheritance) -> Self {
        Inside {
            oid: inheritance.oid,
            name: &inheritance.database,
            closed: inheritance.closed,
        }
    }
}

fn held_up(message: String) -> ActionError {
    ActionError {
        message,
        outcome: Outcome::HeldUp,
        passing: false,
    }
}
