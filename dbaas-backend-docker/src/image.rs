//! Images: whether they are there, what PostgreSQL they hold, and how they come.

use std::collections::HashMap;
use std::sync::Arc;

use bollard::errors::Error;
use bollard::models::ImageInspect;
use bollard::query_parameters::{CreateImageOptionsBuilder, ListImagesOptionsBuilder};
use dbaas_core::id::InstanceId;
use dbaas_core::infrastructure::{AvailableVersion, InfraError, InfraErrorKind};
use dbaas_core::version::{ImageRef, PostgresMajor, PostgresVersion};
use dbaas_node_start::archive::Account;
use futures_util::StreamExt;
use parking_lot::Mutex;

use crate::backend::Inner;
use crate::engine::{if_there, shown};
use crate::{names, registry};

/// A pull takes at most so long; then it is begun anew.
const PULL_AT_MOST: std::time::Duration = std::time::Duration::from_secs(3600);

/// Images that were asked about.
#[derive(Default)]
pub(crate) struct Images {
    pulls: Mutex<HashMap<String, Pull>>,
    /// Whom PostgreSQL runs as, by the image's content.
    pub(crate) accounts: Mutex<HashMap<String, Account>>,
}

/// An image that the engine has.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    /// Its content.
    pub(crate) id: String,
    /// Where it declares its volume.
    pub(crate) volume_path: String,
    pub(crate) major: Option<PostgresMajor>,
    pub(crate) version: Option<PostgresVersion>,
    /// What processors it is for, such as `linux/amd64`.
    platform: String,
    /// Its names by digest in registries that it came from.
    digests: Vec<String>,
}

impl Image {
    fn read(found: ImageInspect) -> Image {
        let config = found.config.unwrap_or_default();
        let env: HashMap<String, String> = config
            .env
            .unwrap_or_default()
            .iter()
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        // Such as 15.18-1.pgdg13+1.
        let version = env
            .get("PG_VERSION")
            .and_then(|v| v.split(['-', '~', '+']).next()?.parse::<PostgresVersion>().ok());
        let major = env
            .get("PG_MAJOR")
            .and_then(|m| m.parse().ok())
            .or(version.map(|v| v.major));
        // Mounted there, our volume spares the anonymous one that the engine would make.
        let volume_path = config
            .volumes
            .unwrap_or_default()
            .into_iter()
            .find(|path| path.starts_with("/var/lib/postgresql"))
            .unwrap_or_else(|| "/var/lib/postgresql/data".to_owned());
        Image {
            id: found.id.unwrap_or_default(),
            volume_path,
            major,
            version,
            platform: format!(
                "{}/{}",
                found.os.unwrap_or_default(),
                found.architecture.unwrap_or_default()
            ),
            digests: found.repo_digests.unwrap_or_default(),
        }
    }

    /// The name by digest that stays the same when the tag moves on; `None` where it came from no registry.
    pub(crate) fn digest_of(&self, image: &ImageRef) -> Option<&str> {
        let prefix = format!("{}@", image.repository());
        self.digests
            .iter()
            .find(|name| name.starts_with(&prefix))
            .map(String::as_str)
    }
}

/// How far a pull is.
#[derive(Debug, Clone)]
pub(crate) enum Pull {
    Running(String),
    Failed(String),
}

fn unavailable(message: String) -> InfraError {
    InfraError::new(InfraErrorKind::ImageUnavailable, message)
}

/// The image for a node of an instance, if the engine has it; otherwise it is pulled in the background, and
/// the error says how far that is. Once a node of the instance has it, the others get the very same, also
/// when the tag has moved on.
pub(crate) async fn ensure(
    inner: &Arc<Inner>,
    image: &ImageRef,
    instance: InstanceId,
) -> Result<Image, InfraError> {
    let docker = inner.engine.docker().await?;
    let resolved = resolved(inner, &docker, image, instance).await?;
    // The tag tells what is to be in it.
    let wanted = image.major();
    let image = resolved.as_ref().unwrap_or(image);
    let found = if_there(docker.inspect_image(image.as_str()).await)
        .map_err(|e| shown(&format!("looking at image {image}"), &e))?;
    let Some(found) = found else {
        return Err(pull(inner, image));
    };
    let found = Image::read(found);
    let machine = platform(inner, &docker).await?;
    if found.platform != machine {
        return Err(unavailable(format!(
            "image {image} is for {}, and the engine's machine is {machine}; `docker pull --platform {machine} {image}` gets the right one",
            found.platform
        )));
    }
    let Some(major) = found.major else {
        return Err(unavailable(format!(
            "image {image} is not a PostgreSQL image: it has no PG_MAJOR in its environment, as the stock image has"
        )));
    };
    if let Some(wanted) = wanted
        && wanted != major
    {
        return Err(unavailable(format!(
            "image {image} holds PostgreSQL {major}, not {wanted}; pull it anew or name another image"
        )));
    }
    Ok(found)
}

/// The image by digest, as a node of the instance has it already.
async fn resolved(
    inner: &Arc<Inner>,
    docker: &bollard::Docker,
    image: &ImageRef,
    instance: InstanceId,
) -> Result<Option<ImageRef>, InfraError> {
    if image.digest().is_some() {
        return Ok(None);
    }
    let volumes = inner.volumes(docker, Some(instance)).await?;
    let containers = inner.labels_of_containers(docker, Some(instance)).await?;
    let labels = volumes.into_iter().map(|(_, v)| v.labels).chain(containers);
    Ok(labels
        .filter(|labels| {
            labels
                .get(names::IMAGE)
                .is_some_and(|name| name == image.as_str())
        })
        .find_map(|labels| labels.get(names::DIGEST)?.parse().ok()))
}

/// What the engine's machine runs.
async fn platform(inner: &Arc<Inner>, docker: &bollard::Docker) -> Result<String, InfraError> {
    if let Some(known) = inner.machine.platform.lock().clone() {
        return Ok(known);
    }
    let told = docker
        .version()
        .await
        .map_err(|e| shown("asking about the engine", &e))?;
    let platform = format!(
        "{}/{}",
        told.os.unwrap_or_default(),
        told.arch.unwrap_or_default()
    );
    *inner.machine.platform.lock() = Some(platform.clone());
    Ok(platform)
}

/// An image that a container was made of, if the engine still has it.
pub(crate) async fn by_id(docker: &bollard::Docker, id: &str) -> Result<Option<Image>, InfraError> {
    let found = if_there(docker.inspect_image(id).await).map_err(|e| shown("looking at an image", &e))?;
    Ok(found.map(Image::read))
}

/// Begins a pull, or says how far it is.
fn pull(inner: &Arc<Inner>, image: &ImageRef) -> InfraError {
    let by_hand = format!("`docker pull {image}` does it by hand");
    if !inner.options.pull {
        return unavailable(format!(
            "the engine has no image {image}, and pulling is switched off; {by_hand}"
        ));
    }
    let mut pulls = inner.images.pulls.lock();
    match pulls.get(image.as_str()) {
        Some(Pull::Running(progress)) => {
            return unavailable(format!("image {image} is being pulled: {progress}"));
        }
        Some(Pull::Failed(why)) => {
            let error = unavailable(format!("image {image} cannot be pulled: {why}; {by_hand}"));
            // The next call tries again.
            pulls.remove(image.as_str());
            return error;
        }
        None => {}
    }
    pulls.insert(image.to_string(), Pull::Running("begun".to_owned()));
    drop(pulls);
    let (weak, wanted) = (Arc::downgrade(inner), image.clone());
    inner.spawn(async move {
        let run = async {
            let Some(inner) = weak.upgrade() else {
                return Ok(());
            };
            run_pull(&inner, &wanted).await
        };
        let result = tokio::time::timeout(PULL_AT_MOST, run)
            .await
            .unwrap_or_else(|_| Err("it took more than an hour".to_owned()));
        if let Some(inner) = weak.upgrade() {
            let mut pulls = inner.images.pulls.lock();
            match result {
                Ok(()) => pulls.remove(wanted.as_str()),
                Err(why) => {
                    tracing::warn!(image = %wanted, why, "an image cannot be pulled");
                    pulls.insert(wanted.to_string(), Pull::Failed(why))
                }
            };
            drop(pulls);
            inner.nodes.missed();
        }
    });
    unavailable(format!("the engine has no image {image}; it is being pulled"))
}

async fn run_pull(inner: &Arc<Inner>, image: &ImageRef) -> Result<(), String> {
    let docker = inner.engine.docker().await.map_err(|e| e.to_string())?;
    let reference = match (image.tag(), image.digest()) {
        (None, None) => format!("{image}:latest"),
        _ => image.to_string(),
    };
    let options = CreateImageOptionsBuilder::default()
        .from_image(&reference)
        .build();
    let options_of = &inner.options;
    let login = registry::credentials(
        &options_of.registry_logins,
        options_of.registry_login_file.as_deref(),
        image,
    )
    .map_err(|e| e.to_string())?;
    let anonymous = login.is_none();
    let mut steps = docker.create_image(Some(options), None, login);
    let mut layers: HashMap<String, (i64, i64)> = HashMap::new();
    while let Some(step) = steps.next().await {
        let step = step.map_err(|e| refused(&e, image, anonymous))?;
        if let (Some(id), Some(detail)) = (&step.id, &step.progress_detail)
            && let (Some(current), Some(total)) = (detail.current, detail.total)
        {
            layers.insert(id.clone(), (current.min(total), total));
        }
        let (done, all) = layers
            .values()
            .fold((0i64, 0i64), |(d, a), (current, total)| (d + current, a + total));
        let status = step.status.unwrap_or_default();
        let progress = match (done * 100).checked_div(all) {
            Some(percent) => format!("{status}, {percent} % of the layers seen so far"),
            None => status,
        };
        inner
            .images
            .pulls
            .lock()
            .insert(image.to_string(), Pull::Running(progress));
    }
    Ok(())
}

/// Why a registry gave nothing, with what to do where that is known.
fn refused(error: &Error, image: &ImageRef, anonymous: bool) -> String {
    let said = match error {
        Error::DockerResponseServerError { message, .. } => message.trim().to_owned(),
        Error::DockerStreamError { error } => error.trim().to_owned(),
        other => other.to_string(),
    };
    let registry = image.registry().unwrap_or("docker.io");
    let denied = [
        "unauthorized",
        "no basic auth",
        "denied",
        "authentication required",
    ]
    .iter()
    .any(|word| said.contains(word));
    match (denied, anonymous) {
        (true, true) => format!("{said} (there is no login for {registry})"),
        (true, false) => format!("{said} (the login for {registry} was refused)"),
        (false, _) => said,
    }
}

/// The local images of the repositories that count, newest minor of each tag as it stands.
pub(crate) async fn versions(inner: &Arc<Inner>) -> Result<Vec<AvailableVersion>, InfraError> {
    let docker = inner.engine.docker().await?;
    let images = docker
        .list_images(Some(ListImagesOptionsBuilder::default().build()))
        .await
        .map_err(|e| shown("listing images", &e))?;
    let mut available: Vec<AvailableVersion> = Vec::new();
    for summary in images {
        let tags = summary
            .repo_tags
            .iter()
            .filter_map(|tag| tag.parse::<ImageRef>().ok());
        let ours: Vec<ImageRef> = tags
            .filter(|tag| inner.options.repositories.iter().any(|r| r == tag.repository()))
            .filter(|tag| tag.major().is_some())
            .collect();
        if ours.is_empty() {
            continue;
        }
        let found = if_there(docker.inspect_image(&summary.id).await)
            .map_err(|e| shown("looking at an image", &e))?;
        let Some(version) = found.and_then(|f| Image::read(f).version) else {
            continue;
        };
        // Of several tags of one image the most telling: postgres:15.18 rather than postgres:15.
        let best = ours
            .into_iter()
            .filter(|tag| tag.major() == Some(version.major))
            .max_by_key(|tag| (tag.version().is_some(), std::cmp::Reverse(tag.as_str().len())));
        if let Some(image) = best
            && !available.iter().any(|a| a.version == version)
        {
            let source = format!("image {image} of the engine at {}", inner.engine.host());
            available.push(AvailableVersion {
                version,
                image,
                source,
            });
        }
    }
    if available.is_empty() {
        let newest = format!(
            "{}:{}",
            inner.options.repositories.first().map_or("postgres", |r| r),
            PostgresMajor::NEWEST_KNOWN
        );
        let Ok(newest) = newest.parse::<ImageRef>() else {
            return Ok(available);
        };
        return Err(pull(inner, &newest));
    }
    available.sort_by_key(|a| a.version);
    Ok(available)
}

#[cfg(test)]
mod tests {
    use bollard::models::ImageConfig;

    use super::*;

    fn image(env: &[&str], volume: Option<&str>) -> Image {
        Image::read(ImageInspect {
            config: Some(ImageConfig {
                env: Some(env.iter().map(|e| (*e).to_owned()).collect()),
                volumes: volume.map(|v| vec![v.to_owned()]),
                ..ImageConfig::default()
            }),
            ..ImageInspect::default()
        })
    }

    #[test]
    fn what_an_image_holds() {
        let stock = image(
            &["PG_MAJOR=15", "PG_VERSION=15.18-1.pgdg13+1"],
            Some("/var/lib/postgresql/data"),
        );
        assert_eq!(stock.version.unwrap().to_string(), "15.18");
        assert_eq!(stock.volume_path, "/var/lib/postgresql/data");
        let newer = image(&["PG_MAJOR=18", "PG_VERSION=18.6"], Some("/var/lib/postgresql"));
        assert_eq!(newer.volume_path, "/var/lib/postgresql");
        let beta = image(&["PG_MAJOR=19", "PG_VERSION=19~beta1-1"], None);
        assert_eq!((beta.version, beta.major.unwrap().get()), (None, 19));
        assert_eq!(image(&["PATH=/bin"], None).major, None);
    }
}
