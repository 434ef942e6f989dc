//! The registry of live connections: which standings a denial must reach. It knows no sockets; a connection watches
//! its own standing.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use airunner_core::{CertificateRef, PrincipalId};
use dashmap::DashMap;

use crate::authn::Standing;

type Index<K> = DashMap<K, HashMap<u64, Arc<Standing>>>;

/// Every live connection, by certificate and by principal.
#[derive(Debug, Default)]
pub struct Live {
    next: AtomicU64,
    by_certificate: Index<CertificateRef>,
    by_principal: Index<PrincipalId>,
}

/// A connection's place in the registry; it leaves when this is dropped.
#[derive(Debug)]
pub struct LiveGuard {
    id: u64,
    live: Arc<Live>,
    standing: Arc<Standing>,
}

impl Live {
    /// Enters a connection. From now on a denial finds it.
    pub(crate) fn enter(self: &Arc<Self>, standing: &Arc<Standing>) -> LiveGuard {
        let id = self.next.fetch_add(1, Relaxed);
        let claim = standing.claim();
        insert(&self.by_certificate, claim.certificate, id, standing);
        insert(&self.by_principal, claim.principal_id.clone(), id, standing);
        LiveGuard { id, live: self.clone(), standing: standing.clone() }
    }

    /// The connections opened with this certificate.
    pub fn of_certificate(&self, certificate: &CertificateRef) -> Vec<Arc<Standing>> {
        values(&self.by_certificate, certificate)
    }

    /// The connections of this principal.
    pub fn of_principal(&self, principal: &PrincipalId) -> Vec<Arc<Standing>> {
        values(&self.by_principal, principal)
    }

    /// Every connection.
    pub fn all(&self) -> Vec<Arc<Standing>> {
        self.by_certificate.iter().flat_map(|entry| entry.values().cloned().collect::<Vec<_>>()).collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_certificate.iter().map(|entry| entry.len()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_certificate.is_empty()
    }
}

impl Drop for LiveGuard {
    fn drop(&mut self) {
        let claim = self.standing.claim();
        remove(&self.live.by_certificate, &claim.certificate, self.id);
        remove(&self.live.by_principal, &claim.principal_id, self.id);
    }
}

fn insert<K: Eq + Hash>(index: &Index<K>, key: K, id: u64, standing: &Arc<Standing>) {
    index.entry(key).or_default().insert(id, standing.clone());
}

fn values<K: Eq + Hash>(index: &Index<K>, key: &K) -> Vec<Arc<Standing>> {
    index.get(key).map(|entry| entry.values().cloned().collect()).unwrap_or_default()
}

fn remove<K: Eq + Hash>(index: &Index<K>, key: &K, id: u64) {
    if let Some(mut entry) = index.get_mut(key) {
        entry.remove(&id);
    }
    index.remove_if(key, |_, entry| entry.is_empty());
}
