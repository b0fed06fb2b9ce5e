//! [`LinkCut`]: a part of the network of a machine that fails. Whole links are cut by libvirt, from outside;
//! a part of what a machine reaches by its own routes, with the help of the guest agent, which needs no
//! network.

use dbaas_core::id::{InstanceId, NodeId};

use super::LibvirtPlace;

/// What a machine does not reach, until this is mended or dropped. As the answers are lost, nothing there
/// reaches it either.
#[derive(Debug)]
pub struct LinkCut<'a> {
    place: &'a LibvirtPlace,
    instance: InstanceId,
    node: NodeId,
    /// The machine that it was done to: one that was started anew has its network back.
    machine: Option<String>,
    /// `None`: the whole link.
    unreachable: Option<Vec<String>>,
}

impl<'a> LinkCut<'a> {
    /// Pulls the node's only cable.
    pub fn link(place: &'a LibvirtPlace, instance: InstanceId, node: NodeId) -> anyhow::Result<LinkCut<'a>> {
        let cut = LinkCut {
            place,
            instance,
            node,
            machine: place.machine(instance, node),
            unreachable: None,
        };
        cut.set_link("down")?;
        Ok(cut)
    }

    /// Cuts a node off from some addresses.
    pub async fn addresses(
        place: &'a LibvirtPlace,
        instance: InstanceId,
        node: NodeId,
        unreachable: Vec<String>,
    ) -> anyhow::Result<LinkCut<'a>> {
        let mut cut = LinkCut {
            place,
            instance,
            node,
            machine: place.machine(instance, node),
            unreachable: Some(Vec::new()),
        };
        for address in unreachable {
            let to = format!("{address}/32");
            let command = ["ip", "route", "add", "blackhole", &to];
            place.in_guest(instance, node, &command).await?;
            cut.unreachable.get_or_insert_default().push(to);
        }
        Ok(cut)
    }

    fn set_link(&self, state: &str) -> anyhow::Result<()> {
        let name = LibvirtPlace::name(self.instance, self.node);
        let listed = self.place.virsh(&["domiflist", &name])?;
        for card in listed.lines().filter_map(|line| line.split_whitespace().last()) {
            self.place.virsh(&["domif-setlink", &name, card, state])?;
        }
        Ok(())
    }

    fn is_gone(&self) -> bool {
        self.place.machine(self.instance, self.node) != self.machine
    }

    /// Joins it again. A machine that was started anew meanwhile has its network back already.
    pub async fn mend(mut self) -> anyhow::Result<()> {
        let Some(unreachable) = self.unreachable.take() else {
            return match self.set_link("up") {
                Err(error) if !self.is_gone() => Err(error),
                _ => Ok(()),
            };
        };
        for to in unreachable {
            if self.is_gone() {
                break;
            }
            let command = ["ip", "route", "del", "blackhole", &to];
            if let Err(error) = self.place.in_guest(self.instance, self.node, &command).await
                && !self.is_gone()
            {
                return Err(error);
            }
        }
        Ok(())
    }
}
