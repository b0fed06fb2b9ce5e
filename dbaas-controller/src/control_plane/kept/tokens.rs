//! Calls about tokens.

use dbaas_core::id::InstanceId;
use dbaas_core::secret::Secret;
use dbaas_core::store::DocumentVersion;
use uuid::Uuid;

use super::kept_not_found;
use crate::control_plane::ControlPlane;
use crate::control_plane::create::Creation;
use crate::elements::record::Method;
use crate::elements::secret;
use crate::error::ControlError;
use crate::ports::Ports;
use crate::repository::Change;
use crate::request::{CreateToken, Listed, Page, UpdateToken};
use crate::tokens::TokenRecord;
use crate::view::{NewToken, Token};

/// What every token begins with, so that one that lies around is recognised.
const PREFIX: &str = "dbaas_";
/// Characters of a token after that: 43 of 64 are 256 bits.
const CHARS: usize = 43;

impl ControlPlane {
    /// Creates a token. Its text is answered this once; `None` if the same call made it before.
    pub async fn create_token(&self, mut request: CreateToken) -> Result<NewToken, ControlError> {
        let key = request.idempotency_key.take();
        let random = secret::generate(Method::AutoUrlSafe, CHARS);
        let text = Secret::new(format!("{PREFIX}{}", random.expose()));
        let hash = TokenRecord::hash_of(text.expose());
        let new = Request {
            request,
            hash: hash.clone(),
        };
        let made = self.inner.create(new, key).await?;
        let is_ours = made.record.hash == hash;
        Ok(NewToken {
            token: Token::of(made),
            text: is_ours.then_some(text),
        })
    }

    /// One token.
    pub async fn token(&self, id: Uuid) -> Result<Token, ControlError> {
        self.inner.load_kept(id).await.map(Token::of)
    }

    /// The tokens.
    pub async fn tokens(&self, page: Page<Uuid>) -> Result<Listed<Token, Uuid>, ControlError> {
        let listed = self.inner.list_kept(None, page).await?;
        Ok(listed.map(Token::of))
    }

    /// The token with this text.
    pub async fn token_of(&self, text: &str) -> Result<Option<Token>, ControlError> {
        let ports = self.ports();
        let found = ports
            .repository
            .find::<TokenRecord>(&TokenRecord::hash_of(text))
            .await;
        let found = found.map_err(|error| ports.store_error(error))?;
        Ok(found.map(Token::of))
    }

    /// Changes what a token is called or allows, from the next request on.
    pub async fn update_token(&self, id: Uuid, update: UpdateToken) -> Result<Token, ControlError> {
        let ports = self.ports();
        let apply = |record: &mut TokenRecord| {
            let before = record.clone();
            record.name = update.name.clone().unwrap_or(before.name.clone());
            record.description = update.description.clone().unwrap_or(before.description.clone());
            record.scopes = update.scopes.clone().unwrap_or(before.scopes.clone());
            if *record != before {
                record.updated_at = ports.now();
            }
            Ok(())
        };
        let written = self.inner.update_kept(id, update.expected, apply).await;
        written.map(Token::of)
    }

    /// Removes a token: from now on it is nobody's.
    pub async fn delete_token(
        &self,
        id: Uuid,
        expected: Option<DocumentVersion>,
    ) -> Result<(), ControlError> {
        self.inner.delete_kept::<TokenRecord>(id, expected).await
    }
}

struct Request {
    request: CreateToken,
    hash: String,
}

impl Creation for Request {
    type Record = TokenRecord;

    fn scope(&self) -> String {
        "token".to_owned()
    }

    async fn prepare(
        &self,
        ports: &Ports,
        id: Uuid,
        change: Change,
    ) -> Result<(TokenRecord, Change), ControlError> {
        let now = ports.now();
        let record = TokenRecord {
            id,
            name: self.request.name.clone(),
            description: self.request.description.clone(),
            project: self.request.project,
            scopes: self.request.scopes.clone(),
            hash: self.hash.clone(),
            created_at: now,
            updated_at: now,
        };
        let change = change.create(&record);
        Ok((record, change))
    }

    fn chosen_id(&self) -> Option<Uuid> {
        self.request.id
    }

    fn makes(&self, record: &TokenRecord) -> bool {
        let request = &self.request;
        (&request.name, &request.description) == (&record.name, &record.description)
            && (request.project, &request.scopes) == (record.project, &record.scopes)
    }

    fn what(&self) -> &'static str {
        "token"
    }

    async fn name_taken(&self, _: &Ports) -> ControlError {
        // Names of tokens are not unique, and two random texts are not the same.
        ControlError::NameTaken {
            what: "token",
            name: self.request.name.to_string(),
        }
    }

    fn gone(&self, id: Uuid) -> ControlError {
        kept_not_found::<TokenRecord>(id)
    }

    fn concerns(_: &TokenRecord) -> Option<InstanceId> {
        None
    }
}
