//! What changed in the store without a hint: another control plane on it was asked for something.

use dbaas_core::database::DatabaseRecord;
use dbaas_core::id::InstanceId;
use dbaas_core::instance::InstanceRecord;
use dbaas_core::store::{DocumentVersion, Kind, StoreError, StoredDocument};
use dbaas_core::user::UserRecord;
use uuid::Uuid;

use super::Engine;
use super::memory::{InstanceMemory, Known};
use crate::repository::{Record, Versioned};

impl Engine {
    /// Has instances looked at that are new, or of which more was asked for than is remembered. A few reads
    /// of the store for all of them, however many there are: what each instance's record would cost to read
    /// anew is spared.
    pub(super) async fn find_changes(&self) -> Result<(), StoreError> {
        for kind in [InstanceRecord::KIND, UserRecord::KIND, DatabaseRecord::KIND] {
            let mut after = None;
            while let Some((page, last)) = self.ports.repository.documents_after(kind, after).await? {
                after = Some(last);
                for id in self.changed(kind, &page) {
                    self.queue.wake(id);
                }
            }
        }
        Ok(())
    }

    /// Instances of which these documents tell something new; what is remembered of them is doubted.
    fn changed(&self, kind: Kind, page: &[StoredDocument]) -> Vec<InstanceId> {
        let mut memory = self.memory.lock();
        let mut changed = Vec::new();
        for stored in page {
            let of = &stored.document;
            let instance = InstanceId::from_uuid(of.parent.unwrap_or(of.key.id));
            match memory.get_mut(&instance) {
                None if kind == InstanceRecord::KIND => changed.push(instance),
                None => {}
                Some(remembered) => {
                    let known = remembered.known.as_ref();
                    let is_news = |known| version_of(known, kind, of.key.id) < Some(stored.version);
                    if known.is_some_and(|known| is_news(known)) {
                        InstanceMemory::doubt(remembered);
                        changed.push(instance);
                    }
                }
            }
        }
        changed
    }
}

/// The version in which a document is remembered.
fn version_of(known: &Known, kind: Kind, id: Uuid) -> Option<DocumentVersion> {
    fn find<R: Record>(records: &[Versioned<R>], id: Uuid) -> Option<DocumentVersion> {
        let found = records.iter().find(|versioned| versioned.record.uuid() == id);
        found.map(|versioned| versioned.version)
    }
    match kind {
        UserRecord::KIND => find(&known.loaded.users, id),
        DatabaseRecord::KIND => find(&known.loaded.databases, id),
        _ => Some(known.loaded.instance.version),
    }
}
