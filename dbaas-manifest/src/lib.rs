//! Element manifests: YAML that declares instances, users, databases, generated passwords and rendered
//! configuration, with references between them.
//!
//! Pure: text and facts in, a [`Manifest`](model::Manifest) and a [`Plan`](plan::Plan) out. The control plane
//! gathers the facts and carries the plan out. A crate of its own, so that the core does not carry a YAML
//! parser, and so that a change here rebuilds neither the planner nor the backends.
//!
//! ```
//! use dbaas_manifest::check::{self, Options};
//! use dbaas_manifest::model::Surroundings;
//!
//! let text = "
//! name: demo
//! resources:
//!   $core.secret.passwords:
//!     app: {method: AUTO_HEX}
//!   $core.config.configs:
//!     env:
//!       body: {kind: text, content: 'f\"PASSWORD={$core.secret.passwords.$ap:value}\"'}
//! ";
//! let refused = check::read(text, &Options::default(), &Surroundings::default()).unwrap_err();
//! assert_eq!(
//!     refused.errors[0].to_string(),
//!     "line 8, column 35: $core.config.configs.$env/body: \
//!      the manifest declares no $core.secret.passwords.$ap; did you mean \"app\"?"
//! );
//! ```

pub mod check;
pub mod collection;
pub mod document;
pub mod error;
pub mod expression;
pub mod jinja;
pub mod limits;
pub mod model;
pub mod order;
pub mod plan;
pub mod print;
pub mod reference;
pub mod render;
pub mod schema;
pub mod template;
pub mod yaml;
