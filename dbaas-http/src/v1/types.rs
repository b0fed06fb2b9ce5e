//! The values of fields: their bounds are those of the checks ([`dbaas_core::limits`]), and their patterns
//! say what the checks do as far as a regular expression can.

use dbaas_core::access::AccessLevel;
use dbaas_core::lifecycle::ObjectPhase;
use dbaas_core::limits;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder, Schema, SchemaFormat, SchemaType, Type};

use super::instances::PHASES;
use crate::openapi::schemas::{
    UUID_EXAMPLE, count, description_text, extension_name, instance_reference, text, timestamp,
    user_reference, uuid, version_reference, whole, words,
};

/// Types that are only described: what is in a field of one is something that serialises so.
macro_rules! described {
    ($($(#[$doc:meta])* $name:ident: $schema:expr;)+) => {$(
        $(#[$doc])*
        pub(crate) enum $name {}

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                $schema.into()
            }
        }

        impl utoipa::ToSchema for $name {}
    )+};
}
pub(crate) use described;

described! {
    /// A UUID.
    Id: uuid();
    /// A moment.
    Time: timestamp();
    /// An unsigned number that a JSON number holds exactly.
    Count: count();
    /// A TCP port.
    Port: whole(0..=65_535);
    /// Text with line breaks.
    FreeText: description_text();
    /// An IPv4 address.
    Ipv4: text().format(Some(SchemaFormat::Custom("ipv4".to_owned())));
    /// The state of an instance or of a node.
    State: words(["NEW", "IN_PROGRESS", "ACTIVE", "ERROR"]);
    /// What an instance is busy with.
    Phase: words(PHASES.map(|(word, _)| word));
    /// The state of a database or of a user.
    ObjectState: words(["NEW", "ACTIVE", "ERROR"]);
    /// What is happening to a database or to a user.
    ObjectPhaseWord: words(ObjectPhase::ALL.map(ObjectPhase::as_str));
    /// What a node is in its instance.
    Role: words(["primary", "standby"]);
    /// What somebody may do in a database.
    Level: words(AccessLevel::ALL.map(AccessLevel::as_str));
    /// Cores.
    Cpu: whole(limits::CPU_CORES).examples([2]);
    /// Memory in MB.
    Ram: whole(limits::RAM_MB).examples([2048]);
    /// A disk in GB.
    Disk: whole(limits::DISK_GB).examples([10]);
    /// Nodes of an instance.
    Nodes: whole(limits::NODES).default(Some(limits::NODES_DEFAULT.into())).examples([3]);
    /// Standbys that a commit waits for.
    SyncReplicas: whole(limits::SYNC_REPLICAS)
        .default(Some(limits::SYNC_REPLICAS_DEFAULT.into()))
        .examples([1]);
    /// Those that it really waits for.
    EffectiveSyncReplicas: whole(0..=15);
    /// A password's number.
    PasswordNumber: whole(limits::PASSWORD_VERSION).default(Some((*limits::PASSWORD_VERSION.start()).into()));
    /// Where a version of the catalogue is.
    VersionUri: version_reference().examples([format!("/v1/types/postgres/versions/{UUID_EXAMPLE}")]);
    /// Where an instance is.
    InstanceUri: instance_reference().examples([format!("/v1/types/postgres/instances/{UUID_EXAMPLE}")]);
    /// Where a user is.
    UserUri: user_reference();
    /// An extension.
    Extension: extension_name();
    /// Any setting: what it takes is in the catalogue of its version.
    Settings: settings();
    /// A number.
    Number: ObjectBuilder::new().schema_type(Type::Number);
    /// Whatever JSON there is.
    Anything: ObjectBuilder::new().schema_type(SchemaType::AnyValue);
}

fn settings() -> ObjectBuilder {
    let value = ObjectBuilder::new().schema_type(SchemaType::from_iter([
        Type::String,
        Type::Number,
        Type::Boolean,
        Type::Null,
    ]));
    map_of(value)
}

/// An object of whatever names.
pub(crate) fn map_of(value: ObjectBuilder) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .additional_properties(Some(AdditionalProperties::RefOr(RefOr::T(Schema::Object(
            value.build(),
        )))))
}
