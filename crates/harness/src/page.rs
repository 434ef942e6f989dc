//! Page tokens, against lists of both backends.

use std::sync::LazyLock;

use airunner_core::{
    CertificateFilter, JobFilter, Label, Page, PageRequest, PrincipalFilter, PrincipalType, Result,
    SecureRandom, Stores,
};
use airunner_store::{MemoryStore, SqliteOptions, SqliteStore};
use airunner_testkit::{clock::FakeClock, random::SeededRandom, records};

use crate::{refusal, transcoded::RUNTIME};

/// Rows of each list.
const ROWS: usize = 12;

struct Both {
    stores: [Stores; 2],
    /// It lives as long as the process.
    _sqlite: SqliteStore,
}

/// The same rows in both.
static STORES: LazyLock<Both> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder").keep();
    let options = SqliteOptions::new(folder.join("store.db"), folder.join("output"));
    let sqlite = SqliteStore::open(options).expect("a store");
    let stores = [MemoryStore::new(1 << 20).stores(), sqlite.stores()];
    for stores in &stores {
        RUNTIME.block_on(fill(stores, &SeededRandom::new(1)));
    }
    Both { stores, _sqlite: sqlite }
});

async fn fill(stores: &Stores, random: &dyn SecureRandom) {
    let now = FakeClock::START;
    let audit = || records::audit("test", "test", now);
    let admin = records::principal_of("admin-1", PrincipalType::Admin);
    stores.principals.create_principal(admin.clone(), audit()).await.expect("a free id");
    for n in 1..ROWS {
        let principal = records::principal(&format!("p{n}"));
        stores.principals.create_principal(principal.clone(), audit()).await.expect("a free id");
        let issuance = records::issuance(records::certificate(&principal, now, random));
        stores.certificates.record_issued(issuance).await.expect("a record");
        let token = records::enrollment(&principal, &admin, now, random);
        stores.enrollments.create_token(token, None, audit()).await.expect("a token");
        let job = records::job("admin-1", now, random);
        stores.jobs.enqueue_jobs(vec![job], None, audit()).await.expect("a job");
    }
}

/// A byte for the list, one for the size of the page, and the token. Either it is refused as a page token, or it leads
/// to a page after which the walk comes to an end, over no more rows than there are.
pub fn run(input: &[u8]) {
    let [list, size, token @ ..] = input else { return };
    let Ok(token) = std::str::from_utf8(token) else { return };
    for stores in &STORES.stores {
        if let Err(error) = RUNTIME.block_on(walk(stores, *list, *size, token)) {
            refusal::holds(&error, &[Label::PageToken]);
            assert_eq!(error.field(), Some("page_token"));
        }
    }
}

/// The token after the first page of each list, which is its backend's own, and the same in the others.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![vec![0, 3], b"\x00\x03garbage".to_vec()];
    for list in 0..4u8 {
        let page = PageRequest::parse(3, "").expect("a page");
        for stores in &STORES.stores {
            let page = RUNTIME.block_on(list_of(stores, list, &page)).expect("a page");
            let token = page.next.expect("more than a page");
            seeds.extend((0..4u8).map(|list| [&[list, 3], token.as_bytes()].concat()));
        }
    }
    seeds
}

async fn walk(stores: &Stores, list: u8, size: u8, token: &str) -> Result<()> {
    let mut page = PageRequest::parse(u32::from(size % 16), token)?;
    let mut seen: Vec<String> = Vec::new();
    for _ in 0..=ROWS {
        let Page { items, next } = list_of(stores, list, &page).await?;
        assert!(items.len() <= page.size() as usize, "more rows than were asked for");
        seen.extend(items);
        let Some(next) = next else {
            let mut once = seen.clone();
            once.sort();
            once.dedup();
            assert!(once.len() == seen.len() && seen.len() <= ROWS, "rows came twice: {seen:?}");
            return Ok(());
        };
        assert!(Some(next.as_str()) != page.token(), "a page leads to itself");
        page = page.next(next);
    }
    panic!("the walk does not end");
}

/// A page of a list, of each row what tells it from others.
async fn list_of(stores: &Stores, list: u8, page: &PageRequest) -> Result<Page<String>> {
    fn named<T>(page: Page<T>, name: impl FnMut(T) -> String) -> Page<String> {
        Page { items: page.items.into_iter().map(name).collect(), next: page.next }
    }
    Ok(match list % 4 {
        0 => {
            let page = stores.principals.list_principals(&PrincipalFilter::default(), page).await?;
            named(page, |row| row.id.to_string())
        }
        1 => {
            let page = stores.certificates.list_certificates(&CertificateFilter::default(), page).await?;
            named(page, |row| row.serial.to_string())
        }
        2 => named(stores.jobs.list_jobs(&JobFilter::default(), page).await?, |row| row.id.to_string()),
        _ => named(stores.enrollments.list_tokens(None, page).await?, |row| row.id.to_string()),
    })
}
