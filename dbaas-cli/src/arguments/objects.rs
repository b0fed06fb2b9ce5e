//! Users and databases of an instance.

use super::*;

/// Where a user's password comes from: never from the command line, which others on the machine can read.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct PasswordSource {
    /// Make a password, and print it once.
    #[arg(long)]
    pub(crate) generate_password: bool,
    /// Read the password from standard input.
    #[arg(long)]
    pub(crate) password_stdin: bool,
    /// Read the password from a file.
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Users {
    /// Create a user. On a terminal its password is asked for, unless an option says where it comes from.
    #[command(after_help = "Example: dbaas users create orders app --generate-password --wait")]
    Create {
        /// The instance: name or uuid.
        instance: String,
        /// The user's name in PostgreSQL.
        name: String,
        #[command(flatten)]
        password: PasswordSource,
        /// Free text.
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// List the users of an instance.
    #[command(visible_alias = "ls", after_help = "Example: dbaas users list orders")]
    List {
        /// The instance: name or uuid.
        instance: String,
    },
    /// Show a user.
    #[command(after_help = "Example: dbaas users show orders app")]
    Show {
        /// The instance: name or uuid.
        instance: String,
        /// The user: name or uuid.
        user: String,
    },
    /// Give a user another password or description.
    #[command(after_help = "Example: dbaas users edit orders app --password-file new-password")]
    Edit {
        /// The instance: name or uuid.
        instance: String,
        /// The user: name or uuid.
        user: String,
        #[command(flatten)]
        password: PasswordSource,
        /// Free text.
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Take over a role of this name that was there before, with the password that was asked for.
    #[command(after_help = "Example: dbaas users adopt orders app --wait")]
    Adopt(OneUser),
    /// Give a user back what somebody took away by SQL: login, and its databases.
    #[command(after_help = "Example: dbaas users repair-access orders app --wait")]
    RepairAccess(OneUser),
    /// Drop a user that owns no database.
    #[command(
        visible_alias = "rm",
        after_help = "Example: dbaas users delete orders app --yes"
    )]
    Delete {
        /// The instance: name or uuid.
        instance: String,
        /// The user: name or uuid.
        user: String,
        #[command(flatten)]
        consent: Consent,
        #[command(flatten)]
        waiting: Waiting,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Databases {
    /// Create a database.
    #[command(after_help = "Example: dbaas databases create orders shop --owner app --wait")]
    Create {
        /// The instance: name or uuid.
        instance: String,
        /// The database's name in PostgreSQL.
        name: String,
        /// A user of the instance: name or uuid.
        #[arg(long, value_name = "USER")]
        owner: String,
        /// An extension that it is to have. May be given several times.
        #[arg(long, value_name = "NAME")]
        extension: Vec<String>,
        /// Free text.
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
        /// Do not protect it from deletion.
        #[arg(long)]
        unprotected: bool,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// List the databases of an instance.
    #[command(visible_alias = "ls", after_help = "Example: dbaas databases list orders")]
    List {
        /// The instance: name or uuid.
        instance: String,
    },
    /// Show a database.
    #[command(after_help = "Example: dbaas databases show orders shop")]
    Show {
        /// The instance: name or uuid.
        instance: String,
        /// The database: name or uuid.
        database: String,
    },
    /// Give a database another owner or description.
    #[command(after_help = "Example: dbaas databases edit orders shop --owner other --wait")]
    Edit {
        /// The instance: name or uuid.
        instance: String,
        /// The database: name or uuid.
        database: String,
        /// A user of the instance: name or uuid.
        #[arg(long, value_name = "USER")]
        owner: Option<String>,
        /// An extension that it is to have; all of them have to be given.
        #[arg(long, value_name = "NAME")]
        extension: Vec<String>,
        /// Drop every extension.
        #[arg(long, conflicts_with = "extension")]
        no_extensions: bool,
        /// Free text.
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
        #[command(flatten)]
        protection: Protection,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Who may use a database besides its owner: list, grant, revoke.
    #[command(subcommand)]
    Access(Access),
    /// Take over a database of this name that was there before, with what is in it.
    #[command(after_help = "Example: dbaas databases adopt orders shop --wait")]
    Adopt(OneDatabase),
    /// Bring the extensions of a database to the versions that its server offers.
    #[command(after_help = "Example: dbaas databases update-extensions orders shop --wait")]
    UpdateExtensions(OneDatabase),
    /// Give the owner back what somebody took away by SQL.
    #[command(after_help = "Example: dbaas databases repair-access orders shop --wait")]
    RepairAccess(OneDatabase),
    /// Drop a database with its data, also if clients are connected.
    #[command(
        visible_alias = "rm",
        after_help = "Example: dbaas databases delete orders shop --yes"
    )]
    Delete {
        /// The instance: name or uuid.
        instance: String,
        /// The database: name or uuid.
        database: String,
        #[command(flatten)]
        consent: Consent,
        #[command(flatten)]
        waiting: Waiting,
    },
}

/// A user of an instance that something is done with.
#[derive(Debug, Args)]
pub(crate) struct OneUser {
    /// The instance: name or uuid.
    pub(crate) instance: String,
    /// The user: name or uuid.
    pub(crate) user: String,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
}

/// A database of an instance that something is done with.
#[derive(Debug, Args)]
pub(crate) struct OneDatabase {
    /// The instance: name or uuid.
    pub(crate) instance: String,
    /// The database: name or uuid.
    pub(crate) database: String,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
}
