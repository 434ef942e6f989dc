//! Merging in the background: many small objects become one, so that a long job stays a short list. The new one is put
//! before the old ones go; a reader that meets both drops what it has.

use std::sync::Arc;

use airunner_core::{JobId, Result};
use airunner_store::output::record;

use super::{
    Inner, Limits, RUN, lock,
    names::{Kind, Listing, Object},
    read,
};

/// Merges what is due of `job`, unless that is under way or as much as may be is. Then the next batches ask again.
pub(super) fn in_background(inner: &Arc<Inner>, job: JobId) {
    let Ok(permit) = inner.merges.clone().try_acquire_owned() else { return };
    if !lock(&inner.merging).insert(job) {
        return;
    }
    let inner = inner.clone();
    tokio::spawn(async move {
        if let Err(error) = all_due(&inner, job).await {
            tracing::warn!(?error, %job, "output is not merged now");
        }
        lock(&inner.merging).remove(&job);
        drop(permit);
    });
}

/// Merges until nothing is due.
pub(super) async fn all_due(inner: &Inner, job: JobId) -> Result<()> {
    // Each round takes some objects away and adds one.
    loop {
        let listing = inner.bucket.list(&job, None).await?;
        sweep(inner, job, &listing).await?;
        let Some(run) = due(&listing, inner.limits) else { return Ok(()) };
        if !merge(inner, job, run).await? {
            return Ok(());
        }
    }
}

/// A run of small objects of one attempt and one kind, one after another, that is long enough or fills a segment.
fn due(listing: &Listing, limits: Limits) -> Option<&[Object]> {
    let is_small = |object: &Object| object.kind == Kind::Batch || object.size < limits.segment / 2;
    let mut start = 0;
    let mut bytes = 0;
    for (at, object) in listing.objects.iter().enumerate() {
        let head = &listing.objects[start];
        let goes_on = is_small(object)
            && object.kind == head.kind
            && object.first.attempt() == head.first.attempt()
            && is_small(head);
        if !goes_on {
            (start, bytes) = (at, 0);
        }
        bytes += object.size;
        let length = at + 1 - start;
        if length > 1 && (length >= RUN || bytes >= limits.segment) {
            return Some(&listing.objects[start..=at]);
        }
    }
    None
}

/// Makes one object of the run. False where one of them was gone: another server merges, or they were let go.
async fn merge(inner: &Inner, job: JobId, run: &[Object]) -> Result<bool> {
    let mut body = Vec::new();
    let mut place = None;
    for object in run {
        let Some(chunks) = read::whole(inner, job, object).await? else { return Ok(false) };
        for chunk in chunks.iter().filter(|chunk| place.is_none_or(|place| chunk.sequence > place)) {
            record::write(chunk, &mut body);
        }
        place = place.max(Some(object.last));
    }
    let (Some(first), Some(last)) = (run.first(), place) else { return Ok(false) };
    let merged = Object { first: first.first, last, kind: Kind::Segment, size: body.len() as u64 };
    inner.bucket.put_new(&merged.key(job), body).await?;
    let old: Vec<_> =
        run.iter().map(|object| object.key(job)).filter(|key| *key != merged.key(job)).collect();
    inner.bucket.delete(&old).await?;
    Ok(true)
}

/// Deletes what a merge that was cut off left: objects that lie within a segment before them.
async fn sweep(inner: &Inner, job: JobId, listing: &Listing) -> Result<()> {
    let mut covered = Vec::new();
    let mut over: Option<&Object> = None;
    for object in &listing.objects {
        match over {
            Some(segment) if object.last <= segment.last => covered.push(object.key(job)),
            _ if object.kind == Kind::Segment => over = Some(object),
            _ => {}
        }
    }
    inner.bucket.delete(&covered).await
}
