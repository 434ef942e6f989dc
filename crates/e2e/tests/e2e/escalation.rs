//! No escalation: whatever those who are no admins call, in whatever order, no principal, certificate, token or role
//! comes out with more than its maker had. An enroller's scope counts as what its admin delegated: workers and services
//! with default roles under its prefix.

use std::collections::{BTreeMap, BTreeSet};

use airunner_app::authz::PermissionSet;
use airunner_core::{
    CertificateFilter, EnrolScope, PageRequest, Permission, Principal, PrincipalFilter, PrincipalType, Role,
};
use airunner_e2e::{Answer, Credentials, RawClient, TestServer};
use airunner_pki::{PrivateKey, create_csr};
use airunner_proto::{
    ca::v1::{
        CreateEnrollmentTokenRequest, CreateEnrollmentTokenResponse, EnrollRequest, EnrollResponse,
        IssueCertificateRequest, RegisterCertificateRequest, RenewCertificateRequest,
        RenewCertificateResponse, RevokeCertificatesRequest,
    },
    job::v1::{CancelJobRequest, EnqueueJobsRequest, GetJobRequest, ListJobsRequest},
    principal::v1::{
        self as pb, ActivatePrincipalRequest, CreatePrincipalRequest, DeletePrincipalRequest,
        SetPrincipalRolesRequest, SuspendPrincipalRequest, UpdatePrincipalRequest,
    },
};
use proptest::{
    collection::vec,
    prelude::*,
    sample::select,
    test_runner::{Config, TestRunner},
};
use tonic::Code;

use crate::calls::*;

/// Ids that calls name: those who are there, and those within and without the enroller's scope.
const IDS: &[&str] =
    &["admin", "enroller", "service", "worker", "user", "viewer", "m-1", "M-2", "m-3", "x-1", "m", "xm-1"];

/// The enroller's place among the players.
const ENROLLER: usize = 4;

/// What someone tries. Numbers choose among what there is at that moment.
#[derive(Clone, Debug)]
enum Attempt {
    Create { id: &'static str, kind: i32, roles: Vec<i32>, scope: bool, names: bool },
    SetRoles { id: &'static str, roles: Vec<i32> },
    Update { id: &'static str },
    Suspend { id: &'static str },
    Activate { id: &'static str },
    Delete { id: &'static str },
    Issue { id: &'static str },
    Register { id: &'static str },
    Revoke { id: &'static str },
    Token { id: &'static str },
    Enroll { token: usize },
    Renew,
    Enqueue,
    Job { job: usize },
}

fn attempt() -> impl Strategy<Value = Attempt> {
    let id = || select(IDS);
    let kind = || 0..6_i32;
    let roles = || vec(0..8_i32, 0..3);
    prop_oneof![
        6 => (id(), kind(), roles(), any::<bool>(), any::<bool>())
            .prop_map(|(id, kind, roles, scope, names)| Attempt::Create { id, kind, roles, scope, names }),
        3 => (id(), roles()).prop_map(|(id, roles)| Attempt::SetRoles { id, roles }),
        2 => id().prop_map(|id| Attempt::Update { id }),
        1 => id().prop_map(|id| Attempt::Suspend { id }),
        1 => id().prop_map(|id| Attempt::Activate { id }),
        1 => id().prop_map(|id| Attempt::Delete { id }),
        2 => id().prop_map(|id| Attempt::Issue { id }),
        2 => id().prop_map(|id| Attempt::Register { id }),
        1 => id().prop_map(|id| Attempt::Revoke { id }),
        6 => id().prop_map(|id| Attempt::Token { id }),
        6 => (0..8_usize).prop_map(|token| Attempt::Enroll { token }),
        3 => Just(Attempt::Renew),
        2 => Just(Attempt::Enqueue),
        2 => (0..8_usize).prop_map(|job| Attempt::Job { job }),
    ]
}

/// What the enroller is there for, so that the sequences come far.
fn enrolment() -> impl Strategy<Value = Attempt> {
    let id = || select(&["m-1", "M-2", "m-3"][..]);
    prop_oneof![
        (id(), select(&[2, 4][..])).prop_map(|(id, kind)| Attempt::Create {
            id,
            kind,
            roles: Vec::new(),
            scope: false,
            names: false
        }),
        id().prop_map(|id| Attempt::Token { id }),
        (0..8_usize).prop_map(|token| Attempt::Enroll { token }),
    ]
}

/// A caller of the game, and what it has got.
struct Player {
    client: RawClient,
    credentials: Credentials,
}

struct Game {
    server: TestServer,
    players: Vec<Player>,
    tokens: Vec<String>,
    jobs: Vec<String>,
    /// The principals as the admin made them.
    given: BTreeMap<String, Principal>,
    /// Who has come in by a token.
    enrolled: BTreeSet<String>,
    keys: [PrivateKey; 2],
}

fn scope() -> EnrolScope {
    let types = [PrincipalType::Worker, PrincipalType::Service].into();
    EnrolScope { id_prefix: "m-".to_owned(), types }
}

impl Game {
    async fn begin() -> Self {
        let server = TestServer::start().await;
        let mut players = Vec::new();
        for role in Role::ALL.iter().filter(|role| **role != Role::Admin) {
            let kind = match role {
                Role::Worker => PrincipalType::Worker,
                Role::Service => PrincipalType::Service,
                _ => PrincipalType::User,
            };
            let credentials = server
                .principal_with(role.as_str(), kind, |principal| {
                    principal.roles = [*role].into();
                    principal.enrol_scope = (*role == Role::Enroller).then(scope);
                    principal.max_certificates = 0;
                })
                .await;
            let client = server.connect(Some(&credentials)).await.unwrap();
            players.push(Player { client, credentials });
        }
        assert_eq!(players[ENROLLER].credentials.id.as_str(), "enroller");
        let given = principals(&server).await;
        let keys = [key_and_csr().0, key_and_csr().0];
        let (tokens, jobs) = (Vec::new(), Vec::new());
        Self { server, players, tokens, jobs, given, enrolled: BTreeSet::new(), keys }
    }

    /// Tries what only admins may; none where the attempt is of another kind.
    async fn manage(&self, at: usize, attempt: &Attempt) -> Option<Answer> {
        let Player { client, credentials } = &self.players[at];
        let answer = match attempt {
            Attempt::SetRoles { id, roles } => {
                let request = SetPrincipalRolesRequest {
                    principal_id: (*id).to_owned(),
                    version: 0,
                    roles: roles.clone(),
                };
                client.call(SET_ROLES, &request).await
            }
            Attempt::Update { id } => {
                let scope = pb::EnrolScope { id_prefix: "x".to_owned(), types: vec![2, 4] };
                let principal =
                    pb::Principal { enrol_scope: Some(scope), max_certificates: 9, ..Default::default() };
                let paths = vec!["enrol_scope".to_owned(), "max_certificates".to_owned()];
                let request = UpdatePrincipalRequest {
                    principal_id: (*id).to_owned(),
                    version: 0,
                    principal: Some(principal),
                    update_mask: Some(prost_types::FieldMask { paths }),
                };
                client.call(UPDATE_PRINCIPAL, &request).await
            }
            Attempt::Suspend { id } => {
                let request =
                    SuspendPrincipalRequest { principal_id: (*id).to_owned(), reason: String::new() };
                client.call(SUSPEND, &request).await
            }
            Attempt::Activate { id } => {
                let request = ActivatePrincipalRequest { principal_id: (*id).to_owned() };
                client.call(ACTIVATE, &request).await
            }
            Attempt::Delete { id } => {
                let request = DeletePrincipalRequest { principal_id: (*id).to_owned() };
                client.call(DELETE_PRINCIPAL, &request).await
            }
            Attempt::Issue { id } => {
                let request = IssueCertificateRequest {
                    principal_id: (*id).to_owned(),
                    csr: create_csr(&self.keys[0]).unwrap(),
                    ..Default::default()
                };
                client.call(ISSUE, &request).await
            }
            Attempt::Register { id } => {
                let certificate = credentials.chain[0].clone();
                let request = RegisterCertificateRequest {
                    principal_id: (*id).to_owned(),
                    certificate,
                    ..Default::default()
                };
                client.call(REGISTER, &request).await
            }
            Attempt::Revoke { id } => {
                let request =
                    RevokeCertificatesRequest { principal_id: (*id).to_owned(), ..Default::default() };
                client.call(REVOKE, &request).await
            }
            _ => return None,
        };
        Some(answer.unwrap())
    }

    async fn attempt(&mut self, player: usize, attempt: Attempt) {
        let at = player % self.players.len();
        if let Some(answer) = self.manage(at, &attempt).await {
            let denied = (Code::PermissionDenied, "permission-denied");
            assert_eq!((answer.code, answer.label.as_str()), denied, "{attempt:?}");
            return;
        }
        let (client, caller) = (self.players[at].client.clone(), self.players[at].credentials.id.to_string());
        let is_enroller = caller == "enroller";
        match attempt {
            Attempt::Create { id, kind, roles, scope, names } => {
                let request = CreatePrincipalRequest {
                    principal_id: id.to_owned(),
                    r#type: kind,
                    roles,
                    enrol_scope: scope
                        .then(|| pb::EnrolScope { id_prefix: "x".to_owned(), types: vec![2, 4] }),
                    dns_names: if names { vec!["db.example".to_owned()] } else { Vec::new() },
                    ..Default::default()
                };
                let answer = client.call(CREATE_PRINCIPAL, &request).await.unwrap();
                check_may_enrol(is_enroller, &answer);
            }
            Attempt::Token { id } => {
                let request =
                    CreateEnrollmentTokenRequest { principal_id: id.to_owned(), ..Default::default() };
                let answer = client.call(CREATE_TOKEN, &request).await.unwrap();
                check_may_enrol(is_enroller, &answer);
                if answer.code == Code::Ok {
                    self.tokens.push(answer.decode::<CreateEnrollmentTokenResponse>().token);
                }
            }
            Attempt::Enroll { token } => self.enroll(token).await,
            Attempt::Renew => self.renew(at).await,
            Attempt::Enqueue => {
                let request = EnqueueJobsRequest { jobs: vec![job("true")], ..Default::default() };
                let answer = client.call(ENQUEUE, &request).await.unwrap();
                if answer.code == Code::Ok {
                    let enqueued: airunner_proto::job::v1::EnqueueJobsResponse = answer.decode();
                    self.jobs.extend(enqueued.job_ids);
                }
            }
            Attempt::Job { job } if !self.jobs.is_empty() => {
                let job_id = self.jobs[job % self.jobs.len()].clone();
                let owner = owner(&self.server, &job_id).await;
                let request = CancelJobRequest { job_id: job_id.clone(), ..Default::default() };
                let cancelled = client.call(CANCEL, &request).await.unwrap();
                assert!(cancelled.code != Code::Ok || owner == caller, "{caller} stopped a job of {owner}");
                let seen = client.call(GET_JOB, &GetJobRequest { job_id }).await.unwrap();
                assert!(
                    seen.code != Code::Ok || owner == caller || caller == "viewer",
                    "{caller} saw {owner}'s"
                );
                let _ = client.call(LIST_JOBS, &ListJobsRequest::default()).await.unwrap();
            }
            _ => {}
        }
    }

    /// Redeems a token; who comes out joins the game.
    async fn enroll(&mut self, token: usize) {
        let Some(token) = (!self.tokens.is_empty()).then(|| self.tokens[token % self.tokens.len()].clone())
        else {
            return;
        };
        let anyone = self.server.connect_public().await;
        let key = PrivateKey::from_pkcs8(self.keys[1].to_pkcs8().expose()).unwrap();
        let csr = create_csr(&key).unwrap();
        let answer = anyone.call(ENROLL, &EnrollRequest { token, csr }).await.unwrap();
        if answer.code == Code::Ok {
            let enrolled: EnrollResponse = answer.decode();
            let certificate = enrolled.certificate.unwrap();
            let id = certificate.principal_id;
            let credentials = self.server.credentials(&id, &certificate.pem, &enrolled.chain_pem, key);
            let client = self.server.connect(Some(&credentials)).await.unwrap();
            self.enrolled.insert(id);
            self.players.push(Player { client, credentials });
        }
    }

    async fn renew(&mut self, at: usize) {
        let request = RenewCertificateRequest { csr: create_csr(&self.keys[0]).unwrap() };
        let answer = self.players[at].client.call(RENEW, &request).await.unwrap();
        if answer.code == Code::Ok {
            let renewed: RenewCertificateResponse = answer.decode();
            let own = &self.players[at].credentials.id;
            assert_eq!(renewed.certificate.unwrap().principal_id, own.as_str(), "a renewal names its caller");
        }
    }

    /// Looks over everything that there is.
    async fn check(&self) {
        for (id, principal) in principals(&self.server).await {
            let Some(given) = self.given.get(&id) else {
                check_made(&principal);
                continue;
            };
            assert_eq!(*given, principal, "what the admin made stays as it is");
        }
        let filter = CertificateFilter::default();
        let page = PageRequest::first(1_000);
        let listed = self.server.stores.certificates.list_certificates(&filter, &page).await.unwrap();
        for certificate in listed.items {
            let id = certificate.principal_id.to_string();
            assert!(self.given.contains_key(&id) || self.enrolled.contains(&id), "a certificate for {id}");
            // What the admin gave a first certificate has got none but by renewing its own.
            let first = certificate.predecessor.is_none() && certificate.description != "made by bootstrap";
            assert!(!first || self.enrolled.contains(&id), "a new lineage of {id}");
        }
        let tokens = self.server.stores.enrollments.list_tokens(None, &page).await.unwrap();
        for token in tokens.items {
            assert_eq!(token.created_by.as_str(), "enroller");
            assert!(scope().covers(&token.principal_id, token.principal_type), "{token:?}");
            assert_eq!(token.roles, BTreeSet::from([Role::from(token.principal_type)]));
        }
    }
}

fn check_may_enrol(is_enroller: bool, answer: &Answer) {
    if !is_enroller {
        let denied = (Code::PermissionDenied, "permission-denied", Some("certs:enrol"));
        assert_eq!((answer.code, answer.label.as_str(), answer.field.as_deref()), denied);
    }
}

/// Whether a principal that the game has brought forth is one that was delegated.
fn check_made(principal: &Principal) {
    assert_eq!(principal.created_by, "enroller");
    assert!(scope().covers(&principal.id, principal.principal_type), "{principal:?}");
    let delegated = PermissionSet::of_roles(&BTreeSet::from([Role::from(principal.principal_type)]));
    assert!(delegated.covers(PermissionSet::of_roles(&principal.effective_roles())), "{principal:?}");
    let never =
        [Permission::PrincipalsManage, Permission::CertsManage, Permission::CertsEnrol, Permission::CaManage];
    assert!(never.iter().all(|permission| !principal.may(*permission)));
    assert_eq!(principal.enrol_scope, None, "a scope is an admin's to give");
    assert!(principal.dns_names.is_empty(), "names are an admin's to give");
}

async fn principals(server: &TestServer) -> BTreeMap<String, Principal> {
    let (filter, page) = (PrincipalFilter::default(), PageRequest::first(1_000));
    let listed = server.stores.principals.list_principals(&filter, &page).await.unwrap();
    listed.items.into_iter().map(|principal| (principal.id.to_string(), principal)).collect()
}

async fn owner(server: &TestServer, id: &str) -> String {
    server.stores.jobs.get_job(&id.parse().unwrap()).await.unwrap().unwrap().owner.to_string()
}

#[test]
fn whatever_is_called_nobody_comes_to_more_than_its_maker_had() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let config = Config { cases: 200, max_shrink_iters: 200, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new(config);
    let step = prop_oneof![2 => (0..12_usize, attempt()), 1 => (Just(ENROLLER), enrolment())];
    let sequence = vec(step, 1..60);
    let enrolled = std::cell::Cell::new(0_usize);
    runner
        .run(&sequence, |sequence| {
            runtime.block_on(async {
                let mut game = Game::begin().await;
                for (player, attempt) in sequence {
                    game.attempt(player, attempt).await;
                }
                game.check().await;
                enrolled.set(enrolled.get() + game.enrolled.len());
                game.server.crash();
            });
            Ok(())
        })
        .unwrap();
    assert!(enrolled.get() > 0, "no sequence came as far as to enrol anyone: this proves nothing");
}
