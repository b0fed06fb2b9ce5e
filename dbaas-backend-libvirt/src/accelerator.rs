//! Whether machines are run by KVM or emulated: tried, not assumed.

use std::time::Duration;

use dbaas_core::infrastructure::{InfraError, InfraErrorKind};

use crate::backend::Inner;
use crate::xml::{Accelerator, probe};

/// How long a machine runs that shows whether KVM works.
const PROBE: Duration = Duration::from_millis(300);

impl Inner {
    /// How machines are run here: by KVM where libvirt offers it, the processor has it and a machine really
    /// runs by it, which is tried; a device file alone says nothing.
    pub(crate) async fn accelerator(&self) -> Result<Accelerator, InfraError> {
        if let Some(known) = *self.accelerator.lock() {
            return Ok(known);
        }
        let found = match self.options.emulate {
            Some(true) => Accelerator::Emulated,
            Some(false) => Accelerator::Kvm,
            None => match self.try_kvm().await? {
                Ok(()) => Accelerator::Kvm,
                Err(why) => {
                    tracing::warn!(uri = %self.options.uri, %why, "no hardware virtualisation: machines are emulated, and many times slower");
                    Accelerator::Emulated
                }
            },
        };
        *self.accelerator.lock() = Some(found);
        Ok(found)
    }

    /// Runs a machine without disks by KVM, for a moment. The inner error: why that does not work here.
    async fn try_kvm(&self) -> Result<Result<(), String>, InfraError> {
        let questions = ["capabilities", "domcapabilities --virttype kvm"].map(str::to_owned);
        let answers = self.libvirt.ask(&questions).await?;
        let [host, kvm] = answers.as_slice() else {
            return Err(InfraError::new(
                InfraErrorKind::Other,
                "libvirt tells no capabilities",
            ));
        };
        if kvm.is_empty() {
            return Ok(Err("libvirt does not offer it".to_owned()));
        }
        // What offers KVM without them emulates a part of it, and small machines run there that larger ones
        // do not follow.
        let host = String::from_utf8_lossy(host);
        let features = ["<feature name='vmx'/>", "<feature name='svm'/>"];
        if !features.iter().any(|feature| host.contains(feature)) {
            return Ok(Err("the host's processor has neither vmx nor svm".to_owned()));
        }
        let name = format!("dbaas-probe-{}", uuid::Uuid::new_v4());
        let xml = probe(&name, &self.options.owner);
        match self
            .libvirt
            .run(&["create", "/dev/stdin"], Some(xml.into_bytes()))
            .await
        {
            Ok(_) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    InfraErrorKind::Unavailable | InfraErrorKind::OutcomeUnknown
                ) =>
            {
                return Err(error);
            }
            Err(error) => return Ok(Err(error.to_string())),
        }
        // A processor that cannot run guests ends the machine, or has it paused, with its first instruction.
        tokio::time::sleep(PROBE).await;
        let state = self.libvirt.ask(&[format!("domstate --reason {name}")]).await?;
        let state = state
            .first()
            .map(|said| String::from_utf8_lossy(said).trim().to_owned());
        // It vanishes with its end.
        let _ = self.libvirt.run(&["destroy", &name], None).await;
        Ok(match state {
            Some(state) if state.starts_with("running") => Ok(()),
            other => Err(format!(
                "a machine that was tried did not run ({})",
                other.unwrap_or_default()
            )),
        })
    }

    /// A machine that KVM ran stands still before it has said anything: KVM does not work here after all.
    /// Whether that is new.
    pub(crate) fn give_kvm_up(&self) -> bool {
        let mut accelerator = self.accelerator.lock();
        if self.options.emulate.is_some() || *accelerator != Some(Accelerator::Kvm) {
            return false;
        }
        tracing::warn!(uri = %self.options.uri, "a machine stands still in its boot by KVM: from now on machines are emulated, and many times slower");
        *accelerator = Some(Accelerator::Emulated);
        true
    }

    /// What users should know of every instance here.
    pub(crate) fn warnings(&self) -> Vec<String> {
        match *self.accelerator.lock() {
            Some(Accelerator::Emulated) => vec![
                "machines are emulated, as there is no hardware virtualisation here: they are many times slower".to_owned(),
            ],
            _ => Vec::new(),
        }
    }
}
