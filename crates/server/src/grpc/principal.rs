//! PrincipalService over the registry's use cases.

use std::collections::BTreeSet;

use airunner_app::{authn::certificate_hash, explain::explain, principal::new_principal};
use airunner_core::{
    DnsName, EnrolScope, Error, PageRequest, Principal, PrincipalFilter, PrincipalId, PrincipalUpdate,
    Result, Role,
};
use airunner_proto::principal::v1::{self as pb, principal_service_server::PrincipalService};
use tonic::{Request, Response, Status, async_trait};

use super::{Api, Call, call, convert};

/// PrincipalService.
pub struct PrincipalApi(pub Api);

#[async_trait]
impl PrincipalService for PrincipalApi {
    async fn create_principal(
        &self,
        request: Request<pb::CreatePrincipalRequest>,
    ) -> Result<Response<pb::CreatePrincipalResponse>, Status> {
        let call = call(request)?;
        call.answer(self.create(&call).await)
    }

    async fn get_principal(
        &self,
        request: Request<pb::GetPrincipalRequest>,
    ) -> Result<Response<pb::GetPrincipalResponse>, Status> {
        let call = call(request)?;
        let found = async {
            let id: PrincipalId = call.message.principal_id.parse()?;
            self.0.app.principals.get(&call.caller, &id).await
        };
        call.answer(found.await.map(|found| pb::GetPrincipalResponse { principal: Some(message(&found)) }))
    }

    async fn list_principals(
        &self,
        request: Request<pb::ListPrincipalsRequest>,
    ) -> Result<Response<pb::ListPrincipalsResponse>, Status> {
        let call = call(request)?;
        let listed = async {
            let page = PageRequest::parse(call.message.page_size, &call.message.page_token)?;
            let prefix = &call.message.id_prefix;
            let filter = PrincipalFilter {
                principal_type: convert::from_principal_type("type", call.message.r#type)?,
                status: convert::from_principal_status("status", call.message.status)?,
                id_prefix: (!prefix.is_empty()).then(|| prefix.clone()),
            };
            self.0.app.principals.list(&call.caller, &filter, &page).await
        };
        call.answer(listed.await.map(|page| pb::ListPrincipalsResponse {
            principals: page.items.iter().map(message).collect(),
            next_page_token: page.next.unwrap_or_default(),
        }))
    }

    async fn update_principal(
        &self,
        request: Request<pb::UpdatePrincipalRequest>,
    ) -> Result<Response<pb::UpdatePrincipalResponse>, Status> {
        let call = call(request)?;
        let updated = async {
            let id: PrincipalId = call.message.principal_id.parse()?;
            let update = update(&call.message)?;
            self.0.app.principals.update(&call.caller, &id, call.message.version, update).await
        };
        call.answer(
            updated.await.map(|updated| pb::UpdatePrincipalResponse { principal: Some(message(&updated)) }),
        )
    }

    async fn set_principal_roles(
        &self,
        request: Request<pb::SetPrincipalRolesRequest>,
    ) -> Result<Response<pb::SetPrincipalRolesResponse>, Status> {
        let call = call(request)?;
        let changed = async {
            let id: PrincipalId = call.message.principal_id.parse()?;
            let roles = roles(&call.message.roles)?;
            self.0.app.principals.set_roles(&call.caller, &id, call.message.version, roles).await
        };
        call.answer(
            changed.await.map(|changed| pb::SetPrincipalRolesResponse { principal: Some(message(&changed)) }),
        )
    }

    async fn suspend_principal(
        &self,
        request: Request<pb::SuspendPrincipalRequest>,
    ) -> Result<Response<pb::SuspendPrincipalResponse>, Status> {
        let call = call(request)?;
        let changed = async {
            let id: PrincipalId = call.message.principal_id.parse()?;
            self.0.app.principals.suspend(&call.caller, &id, &call.message.reason).await
        };
        call.answer(
            changed.await.map(|changed| pb::SuspendPrincipalResponse { principal: Some(message(&changed)) }),
        )
    }

    async fn activate_principal(
        &self,
        request: Request<pb::ActivatePrincipalRequest>,
    ) -> Result<Response<pb::ActivatePrincipalResponse>, Status> {
        let call = call(request)?;
        let changed = async {
            let id: PrincipalId = call.message.principal_id.parse()?;
            self.0.app.principals.activate(&call.caller, &id).await
        };
        call.answer(
            changed.await.map(|changed| pb::ActivatePrincipalResponse { principal: Some(message(&changed)) }),
        )
    }

    async fn revoke_principal(
        &self,
        request: Request<pb::RevokePrincipalRequest>,
    ) -> Result<Response<pb::RevokePrincipalResponse>, Status> {
        let call = call(request)?;
        let changed = async {
            let id: PrincipalId = call.message.principal_id.parse()?;
            self.0.app.principals.revoke(&call.caller, &id, &call.message.reason).await
        };
        call.answer(
            changed.await.map(|changed| pb::RevokePrincipalResponse { principal: Some(message(&changed)) }),
        )
    }

    async fn delete_principal(
        &self,
        request: Request<pb::DeletePrincipalRequest>,
    ) -> Result<Response<pb::DeletePrincipalResponse>, Status> {
        let call = call(request)?;
        let changed = async {
            let id: PrincipalId = call.message.principal_id.parse()?;
            self.0.app.principals.delete(&call.caller, &id).await
        };
        call.answer(
            changed.await.map(|changed| pb::DeletePrincipalResponse { principal: Some(message(&changed)) }),
        )
    }

    async fn who_am_i(
        &self,
        request: Request<pb::WhoAmIRequest>,
    ) -> Result<Response<pb::WhoAmIResponse>, Status> {
        let call = call(request)?;
        call.answer(self.who(&call).await)
    }

    async fn explain_access(
        &self,
        request: Request<pb::ExplainAccessRequest>,
    ) -> Result<Response<pb::ExplainAccessResponse>, Status> {
        let call = call(request)?;
        call.answer(self.explain(&call).await)
    }
}

impl PrincipalApi {
    async fn create(&self, call: &Call<pb::CreatePrincipalRequest>) -> Result<pb::CreatePrincipalResponse> {
        let wanted = &call.message;
        let kind = convert::from_principal_type("type", wanted.r#type)?.ok_or_else(|| {
            Error::invalid("type", "say what the principal is: admin, worker, user or service")
        })?;
        let fresh = new_principal(wanted.principal_id.parse()?, kind, self.0.app.clock().now(), "");
        let principal = Principal {
            roles: roles(&wanted.roles)?,
            enrol_scope: wanted.enrol_scope.as_ref().map(scope).transpose()?,
            dns_names: dns_names(&wanted.dns_names)?,
            email: wanted.email.clone(),
            description: wanted.description.clone(),
            max_certificates: wanted.max_certificates.unwrap_or(fresh.max_certificates),
            validity: convert::from_duration("validity", wanted.validity)?,
            metadata: wanted.metadata.clone().into_iter().collect(),
            ..fresh
        };
        let created = self.0.app.principals.create(&call.caller, principal).await?;
        Ok(pb::CreatePrincipalResponse { principal: Some(message(&created)) })
    }

    async fn who(&self, call: &Call<pb::WhoAmIRequest>) -> Result<pb::WhoAmIResponse> {
        let me = self.0.app.principals.who_am_i(&call.caller).await?;
        let issuers = self.0.app.issuers().current();
        let hash = me.certificate.as_ref().and_then(|certificate| {
            let issuer = issuers.get(&certificate.issuer_id)?;
            Some(certificate_hash(&issuer.record.der, &certificate.serial).to_string())
        });
        Ok(pb::WhoAmIResponse {
            principal: Some(message(&me.principal)),
            permissions: call.caller.permissions().iter().map(|permission| permission.to_string()).collect(),
            serial_number: call.caller.certificate_serial(),
            expires_at: me.certificate.as_ref().map(|certificate| convert::time(certificate.expires_at)),
            fingerprint: me
                .certificate
                .as_ref()
                .map(|certificate| certificate.fingerprint.to_string())
                .unwrap_or_default(),
            certificate_hash: hash.unwrap_or_default(),
            spiffe_id: me.spiffe_id,
            server_version: env!("CARGO_PKG_VERSION").to_owned(),
            job_id: me.job.map(|job| job.to_string()).unwrap_or_default(),
        })
    }

    async fn explain(&self, call: &Call<pb::ExplainAccessRequest>) -> Result<pb::ExplainAccessResponse> {
        let id: PrincipalId = call.message.principal_id.parse()?;
        let subject = self.0.app.principals.get(&call.caller, &id).await?;
        let (path, method) = self.0.methods.find(&call.message.method)?;
        let told = explain(&subject, method.permission);
        let role = |role: Role| convert::role(role) as i32;
        Ok(pb::ExplainAccessResponse {
            allowed: told.allowed,
            permission: method.permission.to_string(),
            roles: told.allowing.into_iter().map(role).collect(),
            reason: told.reason,
            method: path.to_owned(),
            r#type: convert::principal_type(subject.principal_type) as i32,
            status: convert::principal_status(subject.status) as i32,
            held_roles: subject.effective_roles().into_iter().map(role).collect(),
            notes: told.notes,
        })
    }
}

fn message(principal: &Principal) -> pb::Principal {
    pb::Principal {
        principal_id: principal.id.to_string(),
        r#type: convert::principal_type(principal.principal_type) as i32,
        status: convert::principal_status(principal.status) as i32,
        roles: principal.roles.iter().map(|role| convert::role(*role) as i32).collect(),
        enrol_scope: principal.enrol_scope.as_ref().map(|scope| pb::EnrolScope {
            id_prefix: scope.id_prefix.clone(),
            types: scope.types.iter().map(|kind| convert::principal_type(*kind) as i32).collect(),
        }),
        dns_names: principal.dns_names.iter().map(ToString::to_string).collect(),
        created_at: Some(convert::time(principal.created_at)),
        created_by: principal.created_by.clone(),
        suspended_at: principal.suspended_at.map(convert::time),
        suspended_reason: principal.suspended_reason.clone(),
        email: principal.email.clone(),
        description: principal.description.clone(),
        max_certificates: principal.max_certificates,
        validity: principal.validity.map(convert::duration),
        metadata: principal.metadata.clone().into_iter().collect(),
        version: principal.version,
    }
}

fn update(request: &pb::UpdatePrincipalRequest) -> Result<PrincipalUpdate> {
    let mask = request
        .update_mask
        .as_ref()
        .filter(|mask| !mask.paths.is_empty())
        .ok_or_else(|| Error::invalid("update_mask", "name the fields to overwrite"))?;
    let wanted = request.principal.clone().unwrap_or_default();
    let mut update = PrincipalUpdate::default();
    for path in &mask.paths {
        match path.as_str() {
            "email" => update.email = Some(wanted.email.clone()),
            "description" => update.description = Some(wanted.description.clone()),
            "dns_names" => update.dns_names = Some(dns_names(&wanted.dns_names)?),
            "max_certificates" => update.max_certificates = Some(wanted.max_certificates),
            "validity" => update.validity = Some(convert::from_duration("validity", wanted.validity)?),
            "metadata" => update.metadata = Some(wanted.metadata.clone().into_iter().collect()),
            "enrol_scope" => update.enrol_scope = Some(wanted.enrol_scope.as_ref().map(scope).transpose()?),
            other => {
                return Err(Error::invalid("update_mask", format!("{other:?} is no field that can be set")));
            }
        }
    }
    Ok(update)
}

fn roles(numbers: &[i32]) -> Result<BTreeSet<Role>> {
    numbers.iter().map(|number| convert::from_role("roles", *number)).collect()
}

fn scope(scope: &pb::EnrolScope) -> Result<EnrolScope> {
    let types = scope.types.iter().map(|number| {
        convert::from_principal_type("enrol_scope.types", *number)?
            .ok_or_else(|| Error::invalid("enrol_scope.types", "a type is missing"))
    });
    Ok(EnrolScope { id_prefix: scope.id_prefix.clone(), types: types.collect::<Result<_>>()? })
}

fn dns_names(names: &[String]) -> Result<Vec<DnsName>> {
    names.iter().map(|name| name.parse()).collect()
}
