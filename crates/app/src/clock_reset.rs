//! Setting the store's highest time back, where a server with a wrong clock wrote one: what that would bring back to
//! life, and doing it. Whose clock is right is for a person to say, and asking is the caller's business.

use airunner_core::{
    Certificate, CertificateFilter, Clock, EnrollmentToken, PageRequest, Result, Stores, Timestamp,
};

use crate::authz::system_entry;

/// Certificates, and tokens, that are named at most; the rest is counted.
pub const NAMED: usize = 100;
/// Who acts, in the audit log.
const ACTOR: &str = "server";

/// The first of a number of things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpt<T> {
    /// At most [`NAMED`] of them.
    pub named: Vec<T>,
    /// How many there are in all.
    pub total: usize,
}

/// A highest time that is ahead of this machine's clock, and what has expired by the one and not by the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClockReset {
    /// The highest time in the store.
    pub highest: Timestamp,
    /// What this machine's clock says.
    pub now: Timestamp,
    /// Unrevoked certificates that would count again, those that expire first first.
    pub certificates: Excerpt<Certificate>,
    /// Unused enrolment tokens that would, the newest first.
    pub tokens: Excerpt<EnrollmentToken>,
}

impl ClockReset {
    /// What a reset would do; none where the highest time is not ahead of this machine's clock. Writes nothing.
    ///
    /// # Errors
    /// `store-unavailable` and the like.
    pub async fn foresee(stores: &Stores, clock: &dyn Clock) -> Result<Option<Self>> {
        let highest = stores.servers.servers().await?.highest;
        let now = clock.now();
        if highest <= now {
            return Ok(None);
        }
        let certificates = certificates(stores, now, highest).await?;
        let tokens = tokens(stores, now, highest).await?;
        Ok(Some(Self { highest, now, certificates, tokens }))
    }

    /// Sets the highest time to what this machine's clock says by now, and audits it. Servers that run hear of it with
    /// their next heartbeat. Returns the time that was set.
    ///
    /// # Errors
    /// `version-conflict` where a server wrote another time since it was foreseen; `store-unavailable` and the like.
    pub async fn carry_out(&self, stores: &Stores, clock: &dyn Clock) -> Result<Timestamp> {
        let now = clock.now();
        let mut audit = system_entry(now, ACTOR, "clock.reset", "");
        audit.detail = [
            ("highest", self.highest.to_string()),
            ("set_to", now.to_string()),
            ("certificates", self.certificates.total.to_string()),
            ("tokens", self.tokens.total.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        stores.servers.reset_time(self.highest, audit).await?;
        Ok(now)
    }
}

async fn certificates(stores: &Stores, now: Timestamp, highest: Timestamp) -> Result<Excerpt<Certificate>> {
    let filter = CertificateFilter {
        expires_before: Some(highest),
        revoked: Some(false),
        now,
        ..CertificateFilter::default()
    };
    let mut found = Excerpt { named: Vec::new(), total: 0 };
    let mut page = PageRequest::first(PageRequest::MAX_SIZE);
    loop {
        let next = stores.certificates.list_certificates(&filter, &page).await?;
        found.add(next.items);
        let Some(token) = next.next else { return Ok(found) };
        page = page.next(token);
    }
}

async fn tokens(stores: &Stores, now: Timestamp, highest: Timestamp) -> Result<Excerpt<EnrollmentToken>> {
    let mut found = Excerpt { named: Vec::new(), total: 0 };
    let mut page = PageRequest::first(PageRequest::MAX_SIZE);
    loop {
        let mut next = stores.enrollments.list_tokens(None, &page).await?;
        next.items.retain(|token| token.used_at.is_none() && (now..highest).contains(&token.expires_at));
        found.add(next.items);
        let Some(token) = next.next else { return Ok(found) };
        page = page.next(token);
    }
}

impl<T> Excerpt<T> {
    fn add(&mut self, more: Vec<T>) {
        self.total += more.len();
        let room = NAMED.saturating_sub(self.named.len());
        self.named.extend(more.into_iter().take(room));
    }
}
