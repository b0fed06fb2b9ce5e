//! Creation of any record: once, also when it is asked for twice with the same idempotency key.

use std::fmt::Write as _;

use dbaas_core::id::InstanceId;
use dbaas_core::limits;
use dbaas_core::store::{DocumentVersion, StoreErrorKind};
use uuid::Uuid;

use super::changes::{before_try, too_much_contention};
use super::{Inner, invalid};
use crate::error::ControlError;
use crate::ports::Ports;
use crate::repository::{Change, IdempotencyRecord, Record, Versioned, written};
use crate::request::IdempotencyKey;

/// What is said of a new user or database.
pub(super) const ACCEPTED: &str = "accepted; PostgreSQL is about to create it";

/// A create call.
pub(super) trait Creation: Sync {
    /// What it makes.
    type Record: Record + Send + Sync;

    /// Within which an idempotency key means one request.
    fn scope(&self) -> String;

    /// Checks the request against other records, and adds to the change what is to be written; the record
    /// itself comes last. Is called again if one of those records changed in the meantime.
    fn prepare(
        &self,
        ports: &Ports,
        id: Uuid,
        change: Change,
    ) -> impl Future<Output = Result<(Self::Record, Change), ControlError>> + Send;

    /// The id that the caller chose.
    fn chosen_id(&self) -> Option<Uuid> {
        None
    }

    /// Whether this request, carried out, would have made this record.
    fn makes(&self, record: &Self::Record) -> bool;

    /// What it makes, in words.
    fn what(&self) -> &'static str;

    /// The error for a name that is taken.
    fn name_taken(&self, ports: &Ports) -> impl Future<Output = ControlError> + Send;

    /// The error for what was made by an earlier call and is gone.
    fn gone(&self, id: Uuid) -> ControlError;

    /// The instance that the engine has to look at.
    fn concerns(record: &Self::Record) -> Option<InstanceId>;
}

/// An idempotency key, ready to be looked up.
pub(super) struct Key {
    id: Uuid,
    fingerprint: String,
}

impl Key {
    pub(super) fn new(scope: &str, key: &IdempotencyKey) -> Self {
        Key {
            id: IdempotencyRecord::id_of(scope, &key.key),
            fingerprint: hexadecimal(&key.fingerprint),
        }
    }

    /// What is kept of the request that this key was used for.
    pub(super) fn record(&self, resource: Uuid, ports: &Ports) -> IdempotencyRecord {
        IdempotencyRecord {
            id: self.id,
            fingerprint: self.fingerprint.clone(),
            resource,
            expires_at: ports.now().plus_ms(limits::IDEMPOTENCY_TTL_MS),
        }
    }
}

/// What a key was used for before.
pub(super) enum Earlier<R> {
    /// Nothing; there may be a record of it that has expired.
    Nothing(Option<DocumentVersion>),
    /// The same request made this, or was about this.
    Made(R),
}

impl Inner {
    /// Creates a record, or answers what the same call made before.
    pub(super) async fn create<C: Creation>(
        &self,
        creation: C,
        key: Option<IdempotencyKey>,
    ) -> Result<Versioned<C::Record>, ControlError> {
        let key = key.map(|key| Key::new(&creation.scope(), &key));
        let chosen = creation.chosen_id();
        if chosen.is_some_and(|id| id.is_nil() || id.is_max()) {
            return Err(invalid(
                "/uuid",
                "the nil and the max UUID are nobody's; choose another",
            ));
        }
        let id = chosen.unwrap_or_else(|| self.ports.randomness.new_id(self.ports.now()));
        for attempt in 0..self.ports.settings.conflict_tries {
            before_try(&self.ports, attempt).await;
            let mut change = Change::new();
            if let Some(key) = &key {
                let expired = match self.earlier(&creation, key).await? {
                    Earlier::Made(made) => return Ok(made),
                    Earlier::Nothing(expired) => expired,
                };
                // First in the batch: of several calls with one key, those that lose learn that before they
                // learn that the name is taken.
                change = change.put_over(&key.record(id, &self.ports), expired);
            }
            if chosen.is_some()
                && let Some(made) = self.made_before(&creation, id).await?
            {
                return Ok(made);
            }
            let refused = match creation.prepare(&self.ports, id, change).await {
                Ok((record, change)) => match self.ports.repository.commit_one(change).await {
                    Ok(version) => {
                        if let Some(instance) = C::concerns(&record) {
                            self.wake(instance);
                        }
                        return Ok(written(record, version));
                    }
                    Err(error) => match error.kind() {
                        StoreErrorKind::Conflict => continue,
                        StoreErrorKind::NameTaken => creation.name_taken(&self.ports).await,
                        StoreErrorKind::OutcomeUnknown => {
                            if let Ok(Some(made)) = self.ports.repository.load::<C::Record>(id).await {
                                if let Some(instance) = C::concerns(&made.record) {
                                    self.wake(instance);
                                }
                                return Ok(made);
                            }
                            self.ports.store_error(error)
                        }
                        _ => self.ports.store_error(error),
                    },
                },
                Err(refused) => refused,
            };
            // The same call may have succeeded between the look at the key and the refusal, and be the reason
            // for it.
            if let Some(key) = &key
                && !refused.is_retryable()
                && let Ok(Earlier::Made(made)) = self.earlier(&creation, key).await
            {
                return Ok(made);
            }
            return Err(refused);
        }
        Err(too_much_contention())
    }

    /// What the same request with the same chosen id made; an error if the id is of something else.
    async fn made_before<C: Creation>(
        &self,
        creation: &C,
        id: Uuid,
    ) -> Result<Option<Versioned<C::Record>>, ControlError> {
        let found = self.ports.repository.load::<C::Record>(id).await;
        match found.map_err(|error| self.ports.store_error(error))? {
            None => Ok(None),
            Some(made) if creation.makes(&made.record) => Ok(Some(made)),
            Some(_) => Err(ControlError::IdTaken {
                what: creation.what(),
                id,
            }),
        }
    }

    async fn earlier<C: Creation>(
        &self,
        creation: &C,
        key: &Key,
    ) -> Result<Earlier<Versioned<C::Record>>, ControlError> {
        let ports = &self.ports;
        let resource = match self.earlier_use(key).await? {
            Earlier::Nothing(expired) => return Ok(Earlier::Nothing(expired)),
            Earlier::Made(resource) => resource,
        };
        let made = ports.repository.load::<C::Record>(resource).await;
        match made.map_err(|error| ports.store_error(error))? {
            Some(made) => Ok(Earlier::Made(made)),
            None => Err(creation.gone(resource)),
        }
    }

    /// The resource that the same request was about, if the key was used before; an error if it was used for
    /// another request.
    pub(super) async fn earlier_use(&self, key: &Key) -> Result<Earlier<Uuid>, ControlError> {
        let ports = &self.ports;
        let found = ports.repository.load::<IdempotencyRecord>(key.id).await;
        let Some(found) = found.map_err(|error| ports.store_error(error))? else {
            return Ok(Earlier::Nothing(None));
        };
        if found.record.expires_at <= ports.now() {
            return Ok(Earlier::Nothing(Some(found.version)));
        }
        if found.record.fingerprint != key.fingerprint {
            return Err(ControlError::IdempotencyMismatch);
        }
        Ok(Earlier::Made(found.record.resource))
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}
