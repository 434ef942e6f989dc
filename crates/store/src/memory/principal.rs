//! Principals in memory.

use std::ops::Bound;

use airunner_core::{
    ChangeKind, DnsName, Principal, PrincipalFilter, PrincipalId, PrincipalStatus, Result, Role, Timestamp,
};

use super::State;
use crate::rows::{PrincipalRows, Standing, Visit};

impl PrincipalRows for State {
    fn principal(&self, id: &PrincipalId) -> Result<Option<Principal>> {
        Ok(self.principals.get(&id.folded()).cloned())
    }

    fn standing(&self, id: &PrincipalId) -> Result<Option<Standing>> {
        Ok(self.principals.get(&id.folded()).map(|principal| Standing {
            status: principal.status,
            version: principal.version,
            max_certificates: principal.max_certificates,
        }))
    }

    fn scan_principals(
        &self,
        _filter: &PrincipalFilter,
        after: Option<&str>,
        visit: Visit<'_, Principal>,
    ) -> Result<()> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        for principal in self.principals.range::<str, _>((from, Bound::Unbounded)).map(|(_, row)| row) {
            if !visit(principal.clone())? {
                break;
            }
        }
        Ok(())
    }

    fn another_admin(&self, besides: &PrincipalId) -> Result<bool> {
        let besides = besides.folded();
        Ok(self.principals.iter().any(|(id, principal)| {
            *id != besides
                && principal.status == PrincipalStatus::Active
                && principal.effective_roles().contains(&Role::Admin)
        }))
    }

    fn dns_owner(&self, name: &DnsName) -> Result<Option<PrincipalId>> {
        let is_there = |id: &&PrincipalId| {
            let principal = self.principals.get(&id.folded());
            principal.is_some_and(|principal| principal.status != PrincipalStatus::Deleted)
        };
        Ok(self.dns_names.get(name).filter(is_there).cloned())
    }

    fn insert_principal(&mut self, principal: &Principal) -> Result<()> {
        self.principals.insert(principal.id.folded(), principal.clone());
        Ok(())
    }

    fn update_principal(&mut self, principal: &Principal, at: Timestamp) -> Result<()> {
        let before = self.principals.insert(principal.id.folded(), principal.clone());
        let same = |before: &Principal| before.status == principal.status && before.roles == principal.roles;
        if !before.as_ref().is_some_and(same) {
            let kind = ChangeKind::Principal { id: principal.id.clone(), status: principal.status };
            self.tell(at, kind);
        }
        Ok(())
    }

    fn own_dns_names(&mut self, id: &PrincipalId, names: &[DnsName]) -> Result<()> {
        let folded = id.folded();
        self.dns_names.retain(|_, owner| owner.folded() != folded);
        self.dns_names.extend(names.iter().map(|name| (name.clone(), id.clone())));
        Ok(())
    }
}
