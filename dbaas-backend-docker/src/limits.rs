//! What a container may use.

use bollard::Docker;
use bollard::models::ContainerUpdateBody;
use dbaas_core::infrastructure::{InfraError, InfraErrorKind, Resources};

use crate::backend::Inner;
use crate::engine::shown;

const MB: i64 = 1024 * 1024;

impl Inner {
    /// Processor time; the engine refuses more than its machine has.
    pub(crate) async fn nano_cpus(&self, docker: &Docker, resources: &Resources) -> Result<i64, InfraError> {
        let known = *self.machine.cpus.lock();
        let cpus = match known {
            Some(cpus) => cpus,
            None => {
                let info = docker
                    .info()
                    .await
                    .map_err(|e| shown("asking about the engine", &e))?;
                let cpus = info.ncpu.and_then(|n| u64::try_from(n).ok()).unwrap_or(1).max(1);
                *self.machine.cpus.lock() = Some(cpus);
                cpus
            }
        };
        let wanted = u64::from(resources.cpu).min(cpus);
        Ok(i64::try_from(wanted).unwrap_or(1) * 1_000_000_000)
    }

    /// Changes the limits of a container, also while it runs.
    pub(crate) async fn update_limits(
        &self,
        docker: &Docker,
        id: &str,
        resources: &Resources,
    ) -> Result<(), InfraError> {
        let body = ContainerUpdateBody {
            nano_cpus: Some(self.nano_cpus(docker, resources).await?),
            memory: Some(memory_bytes(resources)),
            memory_swap: Some(memory_bytes(resources)),
            ..ContainerUpdateBody::default()
        };
        docker
            .update_container(id, body)
            .await
            .map_err(|e| shown("changing the node's limits", &e))
    }
}

/// The least that a node may have.
pub(crate) fn smallest() -> Result<Resources, InfraError> {
    let of = |e: dbaas_core::size::OutOfBounds| InfraError::new(InfraErrorKind::Other, e.to_string());
    Ok(Resources {
        cpu: dbaas_core::size::CpuCores::new(1).map_err(of)?,
        ram: dbaas_core::size::RamMb::new(512).map_err(of)?,
        disk: dbaas_core::size::DiskGb::new(8).map_err(of)?,
    })
}

pub(crate) fn memory_bytes(resources: &Resources) -> i64 {
    i64::try_from(u64::from(resources.ram))
        .unwrap_or(i64::MAX / MB)
        .saturating_mul(MB)
}

/// Parallel queries share memory through /dev/shm; it counts towards the memory limit.
pub(crate) fn shm_bytes(resources: &Resources) -> i64 {
    (memory_bytes(resources) / 2).max(64 * MB)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits() {
        let resources = smallest().unwrap();
        assert_eq!(memory_bytes(&resources), 512 * MB);
        assert_eq!(shm_bytes(&resources), 256 * MB);
    }
}
