//! Calls about the catalogue of versions.

use utoipa::openapi::path::Operation;

use super::{Call, Links, create, delete, list, read, update};
use crate::openapi::parameters::filter;
use crate::openapi::schemas::{boolean, description_text, image, instance_name, uuid};
use crate::query::Collection;

const VERSION_LINKS: Links = (
    "version",
    &["readVersion", "replaceVersion", "patchVersion", "deleteVersion"],
);

pub(crate) fn list_versions() -> Operation {
    let filters = vec![
        filter("uuid", uuid()),
        filter("name", instance_name()),
        filter("description", description_text()),
        filter("image", image()),
        filter("deprecated", boolean()),
    ];
    list(
        "versions",
        "listVersions",
        "List the catalogue",
        "Versions",
        Collection::Versions,
        filters,
    )
    .done()
}

pub(crate) fn create_version() -> Operation {
    create(
        "versions",
        "createVersion",
        "Add a version",
        "Version",
        "VersionCreate",
        VERSION_LINKS,
    )
    .done()
}

pub(crate) fn read_version() -> Operation {
    read("versions", "readVersion", "Read a version", "Version", &[])
        .of(&["version"])
        .done()
}

pub(crate) fn list_parameters() -> Operation {
    Call::new(
        "versions",
        "listParameters",
        "List the settings of PostgreSQL that instances of a version may have as parameters, and why others are refused",
    )
    .of(&["version"])
    .answers(200, "Parameters", "The settings, by name.")
    .done()
}

pub(crate) fn replace_version() -> Operation {
    update(
        "versions",
        "replaceVersion",
        "Rename or deprecate a version",
        "Version",
        "VersionUpdate",
    )
    .of(&["version"])
    .done()
}

pub(crate) fn patch_version() -> Operation {
    update(
        "versions",
        "patchVersion",
        "Rename or deprecate a version",
        "Version",
        "VersionUpdate",
    )
    .of(&["version"])
    .done()
}

pub(crate) fn delete_version() -> Operation {
    delete(
        "versions",
        "deleteVersion",
        "Remove a version that no instance has",
    )
    .of(&["version"])
    .done()
}
