//! Principals that certificates were issued to a moment ago. The transaction of an issuance checks that its principal
//! is still the one that was decided on, so a memory that is out of date costs a second attempt and nothing else.
//! Nothing may be decided from here that no transaction checks.

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use airunner_core::{Error, Kind, Principal, PrincipalId, Result};

use crate::context::{Context, principal, retrying};

/// Principals that one generation holds; there are two.
const GENERATION: usize = 1_024;

/// The principals, in two generations: when the young one is full it becomes the old one, and what the old one held is
/// forgotten.
#[derive(Debug, Default)]
pub(crate) struct RecentPrincipals {
    generations: Mutex<Generations>,
}

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<PrincipalId, Arc<Principal>>,
    old: HashMap<PrincipalId, Arc<Principal>>,
}

impl RecentPrincipals {
    fn get(&self, id: &PrincipalId) -> Option<Arc<Principal>> {
        let mut generations = self.lock();
        if let Some(found) = generations.young.get(id) {
            return Some(found.clone());
        }
        let found = generations.old.remove(id)?;
        generations.keep(found.clone());
        Some(found)
    }

    fn keep(&self, principal: Arc<Principal>) {
        self.lock().keep(principal);
    }

    fn forget(&self, id: &PrincipalId) {
        let mut generations = self.lock();
        generations.young.remove(id);
        generations.old.remove(id);
    }

    fn lock(&self) -> MutexGuard<'_, Generations> {
        self.generations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Generations {
    fn keep(&mut self, principal: Arc<Principal>) {
        if self.young.len() >= GENERATION {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(principal.id.clone(), principal);
    }
}

/// Runs `act`, which ends in a transaction that checks the principal's version, for the principal `id`: first as it is
/// remembered, and if that is refused as the store has it.
///
/// # Errors
/// `not-found`, and those of `act`.
pub(crate) async fn for_principal<T, F, Fut>(context: &Context, id: &PrincipalId, act: F) -> Result<T>
where
    F: Fn(Arc<Principal>) -> Fut,
    Fut: Future<Output = Result<T>>,
{
    if let Some(remembered) = context.recent.get(id) {
        match act(remembered).await {
            Err(error) if may_be_out_of_date(&error) => context.recent.forget(id),
            done => return done,
        }
    }
    retrying(|| async {
        let read = Arc::new(principal(context, id).await?);
        let done = act(read.clone()).await?;
        context.recent.keep(read);
        Ok(done)
    })
    .await
}

/// Whether the refusal may be due to an old principal. A store that failed may have written all the same, so nothing is
/// tried again for it here.
fn may_be_out_of_date(error: &Error) -> bool {
    !matches!(error.kind(), Kind::Unavailable | Kind::Deadline | Kind::Internal | Kind::Limit)
}

#[cfg(test)]
mod tests {
    use airunner_core::{PrincipalType, Timestamp};

    use super::*;
    use crate::principal::new_principal;

    fn remember(recent: &RecentPrincipals, n: usize) -> PrincipalId {
        let id: PrincipalId = format!("w{n}").parse().unwrap();
        recent.keep(Arc::new(new_principal(
            id.clone(),
            PrincipalType::Worker,
            Timestamp::from_millis(0),
            "test",
        )));
        id
    }

    #[test]
    fn what_is_used_is_remembered_and_the_rest_goes() {
        let recent = RecentPrincipals::default();
        let used = remember(&recent, 0);
        let unused = remember(&recent, 1);
        for n in 2..3 * GENERATION {
            remember(&recent, n);
            assert!(recent.get(&used).is_some());
        }
        assert!(recent.get(&unused).is_none());
        let generations = recent.lock();
        assert!(generations.young.len() + generations.old.len() <= 2 * GENERATION);
    }

    #[test]
    fn what_is_forgotten_is_in_no_generation() {
        let recent = RecentPrincipals::default();
        let id = remember(&recent, 0);
        recent.forget(&id);
        assert!(recent.get(&id).is_none());
    }
}
