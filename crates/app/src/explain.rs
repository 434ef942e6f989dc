//! Why a principal may or may not do what needs a permission: the policy of `authz` told in sentences. Nothing is
//! decided by what stands here.

use airunner_core::{EnrolScope, Permission, Principal, PrincipalStatus, Role};

use crate::authz::sees_all_jobs;

/// Why, or why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Whether the principal may.
    pub allowed: bool,
    /// Roles that hold the permission, in the order of the list. Empty where it needs none.
    pub allowing: Vec<Role>,
    /// The reason, in a sentence.
    pub reason: String,
    /// What narrows it: over what it may, or what would have to change too. In sentences.
    pub notes: Vec<String>,
}

/// Explains whether `subject` may do what needs `permission`.
pub fn explain(subject: &Principal, permission: Permission) -> Explanation {
    let is_active = subject.status == PrincipalStatus::Active;
    let has_permission = is_everyones(permission) || subject.may(permission);
    let allowed = permission == Permission::Anonymous || (is_active && has_permission);
    let holding = |role: &&Role| !is_everyones(permission) && role.may(permission);
    let allowing = Role::ALL.iter().filter(holding).copied().collect();
    let mut notes = Vec::new();
    if !is_active && !has_permission {
        notes
            .push(format!("if it were active, its roles ({}) would still lack {permission}", roles(subject)));
    }
    if has_permission {
        notes.extend(narrowed(subject, permission));
    }
    if permission != Permission::Anonymous {
        notes.push("it needs a connection with a certificate of its own that is in force".to_owned());
    }
    let reason = reason(subject, permission, has_permission);
    Explanation { allowed, allowing, reason, notes }
}

/// What every principal may, whatever its roles.
const fn is_everyones(permission: Permission) -> bool {
    matches!(permission, Permission::SelfService | Permission::Anonymous)
}

fn reason(subject: &Principal, permission: Permission, has_permission: bool) -> String {
    let id = &subject.id;
    let because = if subject.suspended_reason.is_empty() {
        String::new()
    } else {
        format!(" ({})", subject.suspended_reason)
    };
    match (permission, subject.status) {
        (Permission::Anonymous, _) => format!("{id} may: anyone may, without a certificate too"),
        (_, PrincipalStatus::Suspended) => {
            format!("{id} may not: it is suspended{because}, and can do nothing until it is activated")
        }
        (_, PrincipalStatus::Deleted) => format!("{id} may not: it is deleted, for good"),
        (Permission::SelfService, PrincipalStatus::Active) => {
            format!("{id} may: every active principal may do this for itself")
        }
        (_, PrincipalStatus::Active) if has_permission => {
            let giving = subject.effective_roles().into_iter().filter(|role| role.may(permission));
            let giving: Vec<_> = giving.map(Role::as_str).collect();
            format!("{id} may: it has {permission} by its {}", named("role", &giving))
        }
        (_, PrincipalStatus::Active) => {
            let held: Vec<_> = subject.effective_roles().into_iter().map(Role::as_str).collect();
            format!("{id} may not: {permission} is not in its {}", named("role", &held))
        }
    }
}

/// Over what a permission that is held can be used.
fn narrowed(subject: &Principal, permission: Permission) -> Option<String> {
    let held = subject.effective_roles();
    let sees_all = sees_all_jobs(&held, permission);
    Some(match permission {
        Permission::JobsList | Permission::EventsStream | Permission::JobsCancel | Permission::JobsAttach
            if sees_all =>
        {
            "over all jobs".to_owned()
        }
        Permission::JobsList | Permission::EventsStream => {
            "over jobs that it owns or holds the lease of, no others".to_owned()
        }
        Permission::JobsCancel | Permission::JobsAttach => "over jobs that it owns, no others".to_owned(),
        Permission::JobsComplete | Permission::EventsPublish => {
            "over jobs whose lease it holds, no others, whatever its roles".to_owned()
        }
        Permission::CertsEnrol if held.iter().any(|role| role.may(Permission::PrincipalsManage)) => {
            "for all principals, as long as it confers no permission that it lacks".to_owned()
        }
        Permission::CertsEnrol => scope(subject.enrol_scope.as_ref()),
        Permission::PrincipalsManage | Permission::CertsManage => {
            "as long as it confers no permission that it lacks".to_owned()
        }
        Permission::SelfService => "over itself only".to_owned(),
        _ => return None,
    })
}

fn scope(scope: Option<&EnrolScope>) -> String {
    let Some(scope) = scope else {
        return "for nobody: it has no enrol_scope, which an admin can give it".to_owned();
    };
    let types: Vec<_> = scope.types.iter().map(|kind| kind.as_str()).collect();
    format!(
        "for ids that start with {:?}, of type {}, with the role of their type",
        scope.id_prefix,
        types.join(" or ")
    )
}

fn roles(subject: &Principal) -> String {
    subject.effective_roles().into_iter().map(Role::as_str).collect::<Vec<_>>().join(", ")
}

fn named(word: &str, names: &[&str]) -> String {
    let plural = if names.len() == 1 { "" } else { "s" };
    format!("{word}{plural} {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use airunner_core::{PrincipalType, Timestamp};

    use super::*;
    use crate::principal::new_principal;

    fn principal(kind: PrincipalType) -> Principal {
        new_principal("ann".parse().unwrap(), kind, Timestamp::from_millis(0), "test")
    }

    #[test]
    fn a_user_may_cancel_what_it_owns() {
        let told = explain(&principal(PrincipalType::User), Permission::JobsCancel);
        assert!(told.allowed);
        assert_eq!(told.reason, "ann may: it has jobs:cancel by its role user");
        assert_eq!(told.notes[0], "over jobs that it owns, no others");
        assert_eq!(told.allowing, [Role::Admin, Role::User, Role::Service]);
    }

    #[test]
    fn who_sees_all_is_told_so() {
        let mut viewer = principal(PrincipalType::User);
        viewer.roles = [Role::Viewer].into();
        assert_eq!(explain(&viewer, Permission::JobsList).notes[0], "over all jobs");
        assert!(!explain(&viewer, Permission::JobsCancel).allowed);
        assert_eq!(
            explain(&principal(PrincipalType::Admin), Permission::JobsCancel).notes[0],
            "over all jobs"
        );
    }

    #[test]
    fn a_missing_permission_names_the_roles_that_there_are() {
        let told = explain(&principal(PrincipalType::Worker), Permission::PrincipalsRead);
        assert!(!told.allowed);
        assert_eq!(told.reason, "ann may not: principals:read is not in its role worker");
        assert_eq!(told.allowing, [Role::Admin]);
    }

    #[test]
    fn a_suspension_stands_before_all_but_what_anyone_may() {
        let mut ann = principal(PrincipalType::User);
        ann.status = PrincipalStatus::Suspended;
        ann.suspended_reason = "lost laptop".to_owned();
        let told = explain(&ann, Permission::SelfService);
        assert!(!told.allowed && told.reason.contains("suspended (lost laptop)"), "{}", told.reason);
        let told = explain(&ann, Permission::CertsManage);
        assert!(told.notes[0].contains("would still lack certs:manage"), "{:?}", told.notes);
        assert!(explain(&ann, Permission::Anonymous).allowed);
    }

    #[test]
    fn an_enroller_is_told_its_scope() {
        let mut enroller = principal(PrincipalType::User);
        enroller.roles = [Role::Enroller].into();
        assert!(explain(&enroller, Permission::CertsEnrol).notes[0].contains("no enrol_scope"));
        enroller.enrol_scope =
            Some(EnrolScope { id_prefix: "ci-".to_owned(), types: [PrincipalType::Worker].into() });
        let told = explain(&enroller, Permission::CertsEnrol);
        assert_eq!(
            told.notes[0],
            "for ids that start with \"ci-\", of type worker, with the role of their type"
        );
    }
}
