//! Manifests, elements, and the values that they refer to, where the original service has them; and tokens.

use axum::routing::{get, post};
use utoipa::openapi::path::HttpMethod::{Delete, Get, Patch, Post, Put};

use super::Route;
use crate::handlers::{configs, elements, manifests, passwords, service, tokens, variables};
use crate::openapi::operations::{below, elements as op};

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new("/v1/em", get(service::below), [(Get, below("em", "/v1/em"))]),
        Route::new(
            "/v1/secret",
            get(service::below),
            [(Get, below("secret", "/v1/secret"))],
        ),
        Route::new(
            "/v1/config",
            get(service::below),
            [(Get, below("config", "/v1/config"))],
        ),
        Route::new("/v1/vs", get(service::below), [(Get, below("vs", "/v1/vs"))]),
        Route::new("/v1/iam", get(service::below), [(Get, below("iam", "/v1/iam"))]),
        Route::new(
            "/v1/em/manifests",
            get(manifests::list).post(manifests::create),
            [(Get, op::list_manifests()), (Post, op::create_manifest())],
        ),
        Route::new(
            "/v1/em/manifests/schema",
            get(manifests::schema),
            [(Get, op::manifest_schema())],
        ),
        Route::new(
            "/v1/em/manifests/{manifest}",
            get(manifests::read)
                .put(manifests::replace)
                .delete(manifests::delete),
            [
                (Get, op::read_manifest()),
                (Put, op::replace_manifest()),
                (Delete, op::delete_manifest()),
            ],
        ),
        Route::new(
            "/v1/em/manifests/{manifest}/actions/validate/invoke",
            post(manifests::plan),
            [(Post, op::validate_manifest())],
        ),
        Route::new(
            "/v1/em/manifests/{manifest}/actions/plan/invoke",
            post(manifests::plan),
            [(Post, op::plan_manifest())],
        ),
        Route::new(
            "/v1/em/manifests/{manifest}/actions/install/invoke",
            post(manifests::install),
            [(Post, op::install_manifest())],
        ),
        Route::new(
            "/v1/em/manifests/{manifest}/actions/upgrade/invoke",
            post(manifests::install),
            [(Post, op::upgrade_manifest())],
        ),
        Route::new(
            "/v1/em/manifests/{manifest}/actions/uninstall/invoke",
            post(manifests::uninstall),
            [(Post, op::uninstall_manifest())],
        ),
        Route::new(
            "/v1/em/elements",
            get(elements::list),
            [(Get, op::list_elements())],
        ),
        Route::new(
            "/v1/em/elements/{element}",
            get(elements::read),
            [(Get, op::read_element())],
        ),
        Route::new(
            "/v1/em/elements/{element}/resources",
            get(elements::resources),
            [(Get, op::list_element_resources())],
        ),
        Route::new(
            "/v1/em/elements/{element}/imports",
            get(elements::list_imports),
            [(Get, op::list_element_imports())],
        ),
        Route::new(
            "/v1/em/elements/{element}/exports",
            get(elements::list_exports),
            [(Get, op::list_element_exports())],
        ),
        Route::new(
            "/v1/em/elements/{element}/events",
            get(elements::events),
            [(Get, op::list_element_events())],
        ),
        Route::new(
            "/v1/em/elements/{element}/actions/uninstall/invoke",
            post(manifests::uninstall_element),
            [(Post, op::uninstall_element())],
        ),
        Route::new(
            "/v1/secret/passwords",
            get(passwords::list).post(passwords::create),
            [(Get, op::list_passwords()), (Post, op::create_password())],
        ),
        Route::new(
            "/v1/secret/passwords/{password}",
            get(passwords::read)
                .put(passwords::update)
                .patch(passwords::update)
                .delete(passwords::delete),
            [
                (Get, op::read_password()),
                (Put, op::replace_password()),
                (Patch, op::patch_password()),
                (Delete, op::delete_password()),
            ],
        ),
        Route::new(
            "/v1/secret/passwords/{password}/value",
            get(passwords::read_value),
            [(Get, op::read_password_value())],
        ),
        Route::new(
            "/v1/config/configs",
            get(configs::list),
            [(Get, op::list_configs())],
        ),
        Route::new(
            "/v1/config/configs/{config}",
            get(configs::read).delete(configs::delete),
            [(Get, op::read_config()), (Delete, op::delete_config())],
        ),
        Route::new(
            "/v1/vs/variables",
            get(variables::list).post(variables::create),
            [(Get, op::list_variables()), (Post, op::create_variable())],
        ),
        Route::new(
            "/v1/vs/variables/{variable}",
            get(variables::read)
                .put(variables::update)
                .patch(variables::update)
                .delete(variables::delete),
            [
                (Get, op::read_variable()),
                (Put, op::replace_variable()),
                (Patch, op::patch_variable()),
                (Delete, op::delete_variable()),
            ],
        ),
        Route::new(
            "/v1/iam/tokens",
            get(tokens::list).post(tokens::create),
            [(Get, op::list_tokens()), (Post, op::create_token())],
        ),
        Route::new(
            "/v1/iam/tokens/{token}",
            get(tokens::read)
                .put(tokens::update)
                .patch(tokens::update)
                .delete(tokens::delete),
            [
                (Get, op::read_token()),
                (Put, op::replace_token()),
                (Patch, op::patch_token()),
                (Delete, op::delete_token()),
            ],
        ),
    ]
}
