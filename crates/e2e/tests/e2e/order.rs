//! A denial and a new connection, in both orders, at every step of either: either the connection's read sees the
//! commit, or the cut finds the connection. No third thing happens.

use airunner_core::PrincipalType;
use airunner_e2e::{Answer, Closed, Gates, Point, RawClient, TestServer, TestServerOptions};
use airunner_proto::{
    ca::v1::RevokeCertificatesRequest,
    job::v1::EnqueueJobsRequest,
    principal::v1::{DeletePrincipalRequest, Role, SetPrincipalRolesRequest, SuspendPrincipalRequest},
};
use tonic::Code;

use crate::calls::*;

/// Where a new connection stands still: it has entered the registry of live connections in all of them.
const CONNECTION: [Point; 3] = [Point::IdentityAsked, Point::IdentityRead, Point::SeenAsked];

/// How a principal loses something, and at which points on the way that can stand still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Denial {
    Suspend,
    Delete,
    Revoke,
    Demote,
}

impl Denial {
    /// Before the commit, after it, before and after the feed is read, before the cut.
    fn points(self) -> &'static [Point] {
        match self {
            Self::Revoke => &[Point::RevokeAsked, Point::Revoked, Point::ChangesAsked, Point::ChangesRead],
            Self::Suspend | Self::Delete | Self::Demote => &[
                Point::StatusAsked,
                Point::StatusSet,
                Point::ChangesAsked,
                Point::ChangesRead,
                Point::PrincipalAsked,
            ],
        }
    }

    fn committed(self) -> Point {
        if self == Self::Revoke { Point::Revoked } else { Point::StatusSet }
    }

    async fn ask(self, admin: &RawClient, id: &str) -> Answer {
        let principal_id = id.to_owned();
        let answer = match self {
            Self::Suspend => {
                admin.call(SUSPEND, &SuspendPrincipalRequest { principal_id, reason: String::new() }).await
            }
            Self::Delete => admin.call(DELETE_PRINCIPAL, &DeletePrincipalRequest { principal_id }).await,
            Self::Revoke => {
                admin.call(REVOKE, &RevokeCertificatesRequest { principal_id, ..Default::default() }).await
            }
            Self::Demote => {
                let roles = vec![Role::Viewer as i32];
                admin.call(SET_ROLES, &SetPrincipalRolesRequest { principal_id, version: 0, roles }).await
            }
        };
        answer.unwrap()
    }

    fn label(self) -> &'static [&'static str] {
        match self {
            Self::Suspend => &["principal-suspended"],
            // Deleting revokes too: which of the two is found first does not matter.
            Self::Delete => &["principal-deleted", "certificate-revoked"],
            Self::Revoke => &["certificate-revoked"],
            Self::Demote => &["permission-denied"],
        }
    }
}

/// Starts a denial and stops it at `point`.
async fn started(
    denial: Denial,
    point: Point,
    gates: &Gates,
    admin: &RawClient,
    id: &str,
) -> (Closed, tokio::task::JoinHandle<Answer>) {
    let closed = gates.close(point);
    // Others come by the feed all the time: that they stand there does not say that the denial was committed.
    let committed =
        matches!(point, Point::ChangesAsked | Point::ChangesRead).then(|| gates.close(denial.committed()));
    let (admin, id) = (admin.clone(), id.to_owned());
    let asked = tokio::spawn(async move { denial.ask(&admin, &id).await });
    if let Some(committed) = committed {
        committed.reached().await;
        committed.open();
    }
    closed.reached().await;
    (closed, asked)
}

/// Whether what was taken away is still there: a call that the principal could make before.
async fn served(client: &RawClient) -> Result<(), String> {
    let request = EnqueueJobsRequest { jobs: vec![job("true")], ..Default::default() };
    let answer = client.call(ENQUEUE, &request).await.unwrap();
    if answer.code == Code::Ok { Ok(()) } else { Err(answer.label) }
}

async fn both_orders_at_every_step(denial: Denial) {
    let gates = Gates::default();
    let server =
        TestServer::start_with(TestServerOptions { gates: gates.clone(), ..Default::default() }).await;
    let admin = admin(&server).await;
    assert_eq!(admin.probe(WHO_AM_I).await.unwrap().code, Code::Ok);
    let mut number = 0;
    for step in CONNECTION {
        for point in denial.points() {
            for connection_first in [true, false] {
                number += 1;
                let id = format!("u{number}");
                let user = server.principal(&id, PrincipalType::User).await;
                if step != Point::SeenAsked {
                    // Noting a first use would find a revocation too; here nothing but the order may help.
                    let first = server.connect(Some(&user)).await.unwrap();
                    assert_eq!(first.probe(WHO_AM_I).await.unwrap().code, Code::Ok);
                }
                let arriving = gates.close(step);
                let client = server.connect(Some(&user)).await.unwrap();
                arriving.reached().await;
                let (denying, asked) = started(denial, *point, &gates, &admin, &id).await;
                if connection_first {
                    arriving.open();
                    // It may be served now: the denial has not been answered yet. The store refuses a job of one who
                    // is denied there already.
                    if let Err(label) = served(&client).await {
                        let known = denial.label().contains(&label.as_str());
                        assert!(known || label == "principal-not-active", "{label}");
                    }
                    denying.open();
                    assert_eq!(asked.await.unwrap().code, Code::Ok);
                } else {
                    denying.open();
                    assert_eq!(asked.await.unwrap().code, Code::Ok);
                    arriving.open();
                }
                let label = served(&client).await.unwrap_err();
                let case =
                    format!("{denial:?} at {point:?}, connection at {step:?} first: {connection_first}");
                assert!(denial.label().contains(&label.as_str()), "{case}: {label}");
            }
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspension_and_a_new_connection() {
    both_orders_at_every_step(Denial::Suspend).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_and_a_new_connection() {
    both_orders_at_every_step(Denial::Delete).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_and_a_new_connection() {
    both_orders_at_every_step(Denial::Revoke).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_roles_and_a_new_connection() {
    both_orders_at_every_step(Denial::Demote).await;
}
