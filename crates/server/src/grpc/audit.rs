//! AuditService over the use cases of the audit log.

use airunner_core::{AuditOutcome, AuditRecord};
use airunner_proto::audit::v1::{self as pb, audit_service_server::AuditService};
use tonic::{Request, Response, Status, async_trait};

use super::{Api, BoxStream, call, convert};
use crate::error::status;

/// Entries of a tail where nothing else is said.
const DEFAULT_COUNT: u32 = 50;

/// AuditService.
pub struct AuditApi(pub Api);

#[async_trait]
impl AuditService for AuditApi {
    type TailAuditStream = BoxStream<pb::TailAuditResponse>;

    async fn tail_audit(
        &self,
        request: Request<pb::TailAuditRequest>,
    ) -> Result<Response<Self::TailAuditStream>, Status> {
        let call = call(request)?;
        let count = if call.message.count == 0 { DEFAULT_COUNT } else { call.message.count };
        let follow = call.message.follow;
        let request_id = call.caller.request_id().to_owned();
        let tail = self.0.app.audit.tail(&call.caller, count).await;
        let (mut entries, mut follower) = call.opened(tail)?;
        Ok(Response::new(Box::pin(async_stream::try_stream! {
            loop {
                for record in entries.drain(..) {
                    yield pb::TailAuditResponse { entry: Some(message(record)) };
                }
                if !follow {
                    break;
                }
                entries = follower.next().await.map_err(|error| status(&error, &request_id))?;
            }
        })))
    }
}

fn message(record: AuditRecord) -> pb::AuditEntry {
    let AuditRecord { number, entry } = record;
    pb::AuditEntry {
        at: Some(convert::time(entry.at)),
        principal: entry.actor.principal,
        certificate: entry.actor.certificate,
        address: entry.actor.address,
        action: entry.action,
        target: entry.target,
        refused: match entry.outcome {
            AuditOutcome::Done => String::new(),
            AuditOutcome::Refused(label) => label,
        },
        request_id: entry.request_id,
        detail: entry.detail.into_iter().collect(),
        number,
    }
}
