//! The catalogue of versions.

use serde_json::Value;

use super::{Body, Context};
use crate::arguments::Versions;
use crate::client::ROOT;
use crate::confirm::confirm;
use crate::failure::Failure;
use crate::resolve;
use crate::screen::{Column, text, time};

pub(crate) async fn run(context: &Context, command: Versions) -> Result<(), Failure> {
    let Context { client, screen } = context;
    match command {
        Versions::Create {
            name,
            image,
            description,
        } => {
            let body = Body::default()
                .with("name", Some(name))
                .with("image", Some(image))
                .with("description", description);
            let made = client.post(&format!("{ROOT}/versions"), &body.whole()).await?;
            show(context, &made)
        }
        Versions::List => {
            let versions = client.list(&format!("{ROOT}/versions"), "versions").await?;
            let columns: [Column<'_>; 4] = [
                ("NAME", &|v| text(v, "name")),
                ("IMAGE", &|v| text(v, "image")),
                ("DEPRECATED", &|v| text(v, "deprecated")),
                ("UUID", &|v| text(v, "uuid")),
            ];
            screen.list(&versions, &columns)
        }
        Versions::Show { version } => show(context, &resolve::version(client, Some(&version)).await?.item),
        Versions::Edit {
            version,
            name,
            description,
            deprecated,
        } => {
            let found = resolve::version(client, Some(&version)).await?;
            let body = Body::default()
                .with("name", name)
                .with("description", description)
                .with("deprecated", deprecated)
                .change()?;
            show(context, &client.patch(&found.path, &body).await?)
        }
        Versions::Delete { version, consent } => {
            let found = resolve::version(client, Some(&version)).await?;
            confirm(consent, &format!("Remove {:?} from the catalogue", found.name()))?;
            client.delete(&found.path).await?;
            screen.note(&format!("{} is removed", found.name()));
            Ok(())
        }
    }
}

fn show(context: &Context, version: &Value) -> Result<(), Failure> {
    let fields: [Column<'_>; 6] = [
        ("name", &|v| text(v, "name")),
        ("description", &|v| text(v, "description")),
        ("image", &|v| text(v, "image")),
        ("deprecated", &|v| text(v, "deprecated")),
        ("created", &|v| time(v, "created_at")),
        ("uuid", &|v| text(v, "uuid")),
    ];
    context.screen.one(version, &fields)
}
