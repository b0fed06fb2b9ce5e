//! `/v1/types/postgres/instances`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use dbaas_controller::error::ControlError;
use dbaas_controller::request::{InstanceFilter, Page};
use dbaas_controller::view::Instance;
use dbaas_core::id::{InstanceId, ProjectId};
use dbaas_core::instance::InstancePhase;
use dbaas_core::name::Description;

use super::{
    LIFECYCLES, Part, any_of, bounded, created, deleted, filtered, fresh, gone, known, not_created, one,
    waited,
};
use crate::access::Caller;
use crate::answer::{InstanceAnswer, fields_of};
use crate::app::App;
use crate::body::JsonBody;
use crate::conditional::{BodySecrecy, Precondition, idempotency_key};
use crate::listing::{Listing, Wanted};
use crate::path::{AnyInstancePath, InstancePath};
use crate::problem::Problem;
use crate::query::{Collection, NoQuery, Query, one_of, parsed, whole_in};
use crate::reference::{ROOT, instance_uri, parse_version};
use crate::request;

/// What an instance can be busy with, as `phase` has it.
pub(crate) const PHASES: [(&str, InstancePhase); 10] = [
    ("creating", InstancePhase::Creating),
    ("running", InstancePhase::Running),
    ("updating", InstancePhase::Updating),
    ("failing_over", InstancePhase::FailingOver),
    ("switching_over", InstancePhase::SwitchingOver),
    ("restarting", InstancePhase::Restarting),
    ("stopping", InstancePhase::Stopping),
    ("stopped", InstancePhase::Stopped),
    ("starting", InstancePhase::Starting),
    ("deleting", InstancePhase::Deleting),
];

/// Filters by what the control plane does not filter by itself.
#[derive(Default)]
struct Rest {
    ids: Vec<InstanceId>,
    descriptions: Vec<Description>,
    phases: Vec<InstancePhase>,
    cpus: Vec<usize>,
    rams: Vec<usize>,
    disks: Vec<usize>,
    nodes: Vec<usize>,
    sync_replicas: Vec<usize>,
}

impl Rest {
    fn read(query: &mut Query) -> Self {
        let number = |text: &str| whole_in(text, 0..=999_999_999);
        Rest {
            ids: query.many("uuid", parsed),
            descriptions: query.many("description", parsed),
            phases: query.many("phase", |text| one_of(text, &PHASES)),
            cpus: query.many("cpu", number),
            rams: query.many("ram", number),
            disks: query.many("disk_size", number),
            nodes: query.many("nodes_number", number),
            sync_replicas: query.many("sync_replica_number", number),
        }
    }

    fn is_empty(&self) -> bool {
        self.ids.is_empty()
            && self.descriptions.is_empty()
            && self.phases.is_empty()
            && [
                &self.cpus,
                &self.rams,
                &self.disks,
                &self.nodes,
                &self.sync_replicas,
            ]
            .iter()
            .all(|f| f.is_empty())
    }

    fn keep(&self, record: &Instance) -> bool {
        let spec = &record.spec;
        any_of(&self.ids, &record.id)
            && any_of(&self.descriptions, &spec.description)
            && any_of(&self.phases, &record.status.phase)
            && any_of(&self.cpus, &spec.resources.cpu.get().into())
            && any_of(&self.rams, &(spec.resources.ram.get() as usize))
            && any_of(&self.disks, &(spec.resources.disk.get() as usize))
            && any_of(&self.nodes, &spec.nodes.get().into())
            && any_of(&self.sync_replicas, &spec.sync_replicas.get().into())
    }
}

pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    wanted: Wanted,
    mut query: Query,
) -> Result<Response, Problem> {
    let paging = query.paging(Collection::Instances);
    let mut filter = InstanceFilter {
        projects: query.many("project_id", parsed::<ProjectId>),
        names: query.many("name", parsed),
        versions: query.many("version", parse_version),
        lifecycles: query.many("status", |text| one_of(text, &LIFECYCLES)),
    };
    let rest = Rest::read(&mut query);
    query.finish()?;

    let nothing = Part {
        items: Vec::new(),
        next: None,
    };
    let mut is_nothing = false;
    if let Caller::Project(own) = caller {
        // Other projects have nothing that this caller could see.
        is_nothing = !any_of(&filter.projects, &own);
        filter.projects = vec![own];
    }
    let after = paging.after.map(InstanceId::from_uuid);
    let part = if is_nothing {
        nothing
    } else if rest.is_empty() {
        let listed = app
            .control
            .instances(
                filter,
                Page {
                    after,
                    limit: paging.limit,
                },
            )
            .await?;
        Part {
            items: listed.items,
            next: listed.next,
        }
    } else {
        let fetch = |page| app.control.instances(filter.clone(), page);
        filtered(
            after,
            paging.limit,
            fetch,
            |record: &Instance| record.id,
            |record| rest.keep(record),
        )
        .await?
    };
    let listing = Listing::new("instances", Collection::Instances, paging.limit, wanted);
    Ok(part.answer(listing, |id| id.uuid(), InstanceAnswer::of))
}

pub(crate) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    _: NoQuery,
    headers: HeaderMap,
    body: JsonBody,
) -> Result<Response, Problem> {
    let path = format!("{ROOT}/instances");
    let key = idempotency_key(&headers, &caller.scope(), &path, body.bytes(), BodySecrecy::Plain)?;
    let mut create = request::create_instance(body.object()?, caller)?;
    create.idempotency_key = key;
    let made = app
        .control
        .create_instance(create)
        .await
        .map_err(|error| not_created(error, None))?;
    created(&instance_uri(made.id), made.revision, &InstanceAnswer::of(&made))
}

pub(crate) async fn read(
    State(app): State<Arc<App>>,
    InstancePath(id): InstancePath,
    headers: HeaderMap,
    mut query: Query,
) -> Result<Response, Problem> {
    let wait = query.wait(&LIFECYCLES);
    query.finish()?;
    let known = known(&headers)?;
    let Some(wait) = wait else {
        let found = app.control.instance(id).await?;
        return Ok(fresh(known, found.revision, &InstanceAnswer::of(&found)));
    };
    let wait = bounded(&app, wait);
    let waiting = app.control.wait_for_instance(id, wait.state, wait.timeout);
    let (found, outcome) = waited(&app, waiting, app.control.instance(id)).await?;
    Ok(outcome.mark(one(StatusCode::OK, found.revision, &InstanceAnswer::of(&found))))
}

pub(crate) async fn update(
    State(app): State<Arc<App>>,
    InstancePath(id): InstancePath,
    _: NoQuery,
    headers: HeaderMap,
    body: JsonBody,
) -> Result<Response, Problem> {
    let precondition = Precondition::read(&headers)?;
    let present = app.control.instance(id).await?;
    let expected = precondition.check(present.revision)?;
    let fields = fields_of(&InstanceAnswer::of(&present))?;
    let mut update = request::update_instance(body.object()?, &fields)?;
    update.expected = expected;
    let updated = app.control.update_instance(id, update).await?;
    Ok(one(
        StatusCode::OK,
        updated.revision,
        &InstanceAnswer::of(&updated),
    ))
}

pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    AnyInstancePath { id, is_foreign }: AnyInstancePath,
    _: NoQuery,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let precondition = Precondition::read(&headers)?;
    if is_foreign {
        // As if it were gone: the two must look the same.
        return gone(&precondition);
    }
    let expected = match precondition.is_given() {
        false => None,
        true => match app.control.instance(id).await {
            Ok(present) => precondition.check(present.revision)?,
            Err(ControlError::NotFound { .. }) => return gone(&precondition),
            Err(error) => return Err(error.into()),
        },
    };
    deleted(app.control.delete_instance(id, expected).await, &precondition)
}
