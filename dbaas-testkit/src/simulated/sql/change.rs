//! What statements change in the catalogue.

use super::*;

/// What a change came to.
pub(super) struct Changed {
    pub(super) answer: Answer,
    /// What it did to something that is not the control plane's, or for the wrong role.
    pub(super) violation: Option<String>,
}

/// Carries out a change of roles or databases, in the database that the session is in; says so if it touches
/// what is not the control plane's.
pub(super) fn change(catalogue: &mut Catalogue, command: &Command, here: &str) -> Result<Changed, SqlError> {
    let no_role = || refused("42704", "role does not exist");
    let no_database = || refused("3D000", "database does not exist");
    let taken = || refused("23505", "duplicate key value violates unique constraint");
    let no_register = || refused("42P01", "relation does not exist");
    let parsed = |id: &str| Uuid::parse_str(id).map_err(|_| refused("22P02", "not a uuid"));
    let registered: BTreeSet<u32> = catalogue.register.iter().flatten().map(|(_, oid)| *oid).collect();
    let foreign = |oid: u32, name: &str, staging: bool| {
        let ours = registered.contains(&oid)
            || (staging && (name.starts_with("dbaas_new_") || name == SPARE_DATABASE));
        (!ours).then(|| format!("{name} is changed"))
    };
    let mut answer = Answer::Rows(Vec::new());
    let mut touched = None;
    match command {
        Command::CommentRole(name, comment) if name == dbaas_core::boot::ADMIN_ROLE => {
            let epoch = comment.strip_prefix("epoch=").and_then(|e| e.parse().ok());
            catalogue.history = epoch.unwrap_or(catalogue.history);
        }
        Command::CommentRole(name, comment) if name == dbaas_core::boot::REPLICATION_ROLE => {
            let setting = comment.strip_prefix("setting=").and_then(|s| s.parse().ok());
            catalogue.setting = setting.unwrap_or(catalogue.setting);
        }
        Command::CommentRole(..) => {}
        Command::CreateRegister => {
            catalogue.register.get_or_insert_default();
        }
        Command::RegisterRole(name, id) => {
            let (id, oid) = (parsed(id)?, catalogue.roles.get(name).ok_or_else(no_role)?.oid);
            let before = catalogue.register.as_ref().ok_or_else(no_register)?.get(&id);
            if registered.contains(&oid) {
                return Err(taken());
            }
            if !before.is_some_and(|before| catalogue.exists(*before)) {
                catalogue.register.get_or_insert_default().insert(id, oid);
                answer = boolean(true);
            }
        }
        Command::RegisterDatabase(name, id) => {
            let (id, oid) = (
                parsed(id)?,
                catalogue.databases.get(name).ok_or_else(no_database)?.oid,
            );
            let register = catalogue.register.as_mut().ok_or_else(no_register)?;
            if registered.contains(&oid) || register.contains_key(&id) {
                return Err(taken());
            }
            register.insert(id, oid);
            answer = boolean(true);
        }
        Command::Forget(id) => {
            let id = parsed(id)?;
            let register = catalogue.register.as_ref().ok_or_else(no_register)?;
            if register.get(&id).is_some_and(|oid| !catalogue.exists(*oid)) {
                catalogue.register.get_or_insert_default().remove(&id);
            }
        }
        Command::AdminPassword(verifier) => {
            let verifier: ScramVerifier = verifier.parse().map_err(|_| refused("22023", "not a verifier"))?;
            catalogue.admin = AdminLogin::Verifier(Box::new(verifier));
        }
        Command::ReplicationRole => catalogue.has_replication_role = true,
        Command::CreateRole(name, verifier) => {
            if catalogue.roles.contains_key(name) {
                return Err(refused("42710", "role already exists"));
            }
            let role = Role {
                oid: catalogue.new_oid(),
                verifier: verifier.clone(),
                can_login: true,
            };
            catalogue.roles.insert(name.clone(), role);
        }
        Command::AlterRole(name, verifier) => {
            let role = catalogue.roles.get_mut(name).ok_or_else(no_role)?;
            touched = foreign(role.oid, name, false);
            verifier.clone_into(&mut role.verifier);
            role.can_login = true;
        }
        Command::LockOut(name) => {
            let role = catalogue.roles.get_mut(name).ok_or_else(no_role)?;
            touched = foreign(role.oid, name, false);
            role.can_login = false;
        }
        Command::Reassign(from, to) => {
            if !catalogue.roles.contains_key(from) {
                return Err(no_role());
            }
            if to == dbaas_core::boot::ADMIN_ROLE {
                touched = Some(format!("what {from} owns goes to a superuser"));
            }
            // Every database that the role owns goes with what it owns in this one.
            for database in catalogue.databases.values_mut().filter(|d| d.owner == *from) {
                to.clone_into(&mut database.owner);
            }
            if let Some(database) = catalogue.databases.get_mut(here)
                && database.makers.remove(from)
            {
                database.makers.insert(to.clone());
            }
        }
        Command::DropRole(name) => {
            let role = catalogue.roles.get(name).ok_or_else(no_role)?;
            touched = foreign(role.oid, name, false);
            if catalogue
                .databases
                .values()
                .any(|database| database.owner == *name || database.makers.contains(name))
            {
                return Err(refused(
                    "2BP01",
                    "role cannot be dropped because some objects depend on it",
                ));
            }
            catalogue.roles.remove(name);
            for members in catalogue.levels.values_mut() {
                members.remove(name);
            }
        }
        Command::CreateLevel(name) => {
            catalogue.levels.entry(name.clone()).or_default();
        }
        Command::JoinLevel(role, member) => {
            if !catalogue.roles.contains_key(member) && !catalogue.levels.contains_key(member) {
                return Err(no_role());
            }
            let members = catalogue.levels.get_mut(role).ok_or_else(no_role)?;
            members.insert(member.clone());
        }
        Command::LeaveLevel(role, member) => {
            let members = catalogue.levels.get_mut(role).ok_or_else(no_role)?;
            members.remove(member);
        }
        Command::DropLevel(role) => {
            catalogue.levels.remove(role);
        }
        Command::CreateExtension(name) => {
            let database = catalogue.databases.get_mut(here).ok_or_else(no_database)?;
            if !database.extensions.insert(name.clone()) {
                return Err(refused("42710", "extension already exists"));
            }
        }
        Command::DropExtension(name) => {
            let database = catalogue.databases.get_mut(here).ok_or_else(no_database)?;
            database.extensions.remove(name);
        }
        Command::CreateDatabase(name) => {
            if catalogue.databases.contains_key(name) {
                return Err(refused("42P04", "database already exists"));
            }
            let database = Database {
                owner: dbaas_core::boot::ADMIN_ROLE.to_owned(),
                oid: catalogue.new_oid(),
                public_connects: true,
                makers: BTreeSet::new(),
                extensions: BTreeSet::new(),
            };
            catalogue.databases.insert(name.clone(), database);
        }
        Command::CloseDatabase(name) => {
            let database = catalogue.databases.get_mut(name).ok_or_else(no_database)?;
            touched = foreign(database.oid, name, true);
            database.public_connects = false;
        }
        Command::OwnDatabase(name, owner) => {
            // Databases of a role that changes hands are with the role without rights meanwhile, foreign ones
            // too.
            let lent = owner == HEIR_ROLE;
            if !lent && !catalogue.roles.contains_key(owner) {
                return Err(no_role());
            }
            let database = catalogue.databases.get_mut(name).ok_or_else(no_database)?;
            let given_back = database.owner == HEIR_ROLE;
            touched = foreign(database.oid, name, true).filter(|_| !lent && !given_back);
            owner.clone_into(&mut database.owner);
            if !lent {
                database.makers.insert(owner.clone());
            }
        }
        Command::OpenDatabase(name) => {
            let database = catalogue.databases.get(name).ok_or_else(no_database)?;
            touched = foreign(database.oid, name, true);
        }
        Command::RenameDatabase(name, to) => {
            if catalogue.databases.contains_key(to) {
                return Err(refused("42P04", "database already exists"));
            }
            let database = catalogue.databases.remove(name).ok_or_else(no_database)?;
            touched = foreign(database.oid, name, true);
            catalogue.databases.insert(to.clone(), database);
        }
        Command::DropDatabase(name) => {
            let database = catalogue.databases.get(name).ok_or_else(no_database)?;
            touched = foreign(database.oid, name, true);
            catalogue.databases.remove(name);
        }
        _ => {}
    }
    Ok(Changed {
        answer,
        violation: touched,
    })
}
