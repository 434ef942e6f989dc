//! The bucket: what is asked of S3. Names are `names.rs`'s.

use airunner_core::{Error, JobId, KeptOutput, Label, Result};
use aws_sdk_s3::{
    error::{ProvideErrorMetadata, SdkError},
    primitives::ByteStream,
    types::{
        BucketLocationConstraint, CreateBucketConfiguration, Delete, ObjectIdentifier,
        PublicAccessBlockConfiguration,
    },
};

use super::names::{self, Listing};
use crate::{Aws, error::Deed};

/// Objects that one request deletes at most (S3's limit).
const DELETE: usize = 1_000;
/// How often an object is put whose name another request is about to take.
const PUTS: u32 = 3;
/// The region whose buckets are made without naming it.
const UNNAMED_REGION: &str = "us-east-1";

const MAKES: &str =
    "Terraform makes it, or `airunner-cli bootstrap` with --create; [store] bucket names another";

#[derive(Clone)]
pub(super) struct Bucket {
    aws: Aws,
    name: String,
}

impl Bucket {
    pub(super) async fn open(aws: &Aws, name: &str) -> Result<Self> {
        let bucket = Self { aws: aws.clone(), name: name.to_owned() };
        let head = aws.s3().head_bucket().bucket(name).send().await;
        head.map_err(|error| aws.failure(&bucket.deed("s3:ListBucket"), error))?;
        Ok(bucket)
    }

    /// What there is of a job: of one attempt and those after it, or of all.
    pub(super) async fn list(&self, job: &JobId, from: Option<u32>) -> Result<Listing> {
        let start = from.map(|attempt| names::before_attempt(*job, attempt));
        let mut listing = Listing::default();
        let take = |key: &str, size| {
            listing.take(*job, key, size);
            true
        };
        self.visit(names::prefix(*job), start, take).await?;
        listing.sort();
        Ok(listing)
    }

    /// Everything that is called as a job's output is.
    pub(super) async fn keys(&self, job: &JobId) -> Result<Vec<String>> {
        let mut keys = Vec::new();
        let take = |key: &str, _| {
            keys.push(key.to_owned());
            true
        };
        self.visit(names::prefix(*job), None, take).await?;
        Ok(keys)
    }

    /// The jobs after `after` that have objects, in order, with the bytes of these: `limit` at most.
    pub(super) async fn jobs(&self, after: Option<JobId>, limit: usize) -> Result<Vec<KeptOutput>> {
        let mut jobs: Vec<KeptOutput> = Vec::new();
        let take = |key: &str, size| {
            let Some(job_id) = names::job_of(key) else { return true };
            if let Some(last) = jobs.last_mut().filter(|last| last.job_id == job_id) {
                last.bytes += size;
                return true;
            }
            let has_room = jobs.len() < limit;
            if has_room {
                jobs.push(KeptOutput { job_id, bytes: size });
            }
            has_room
        };
        self.visit(names::ALL.to_owned(), after.map(names::after_job), take).await?;
        Ok(jobs)
    }

    /// Keys under `prefix` after `start`, with the bytes of their objects, until `visit` has had enough.
    async fn visit(
        &self,
        prefix: String,
        start: Option<String>,
        mut visit: impl FnMut(&str, u64) -> bool,
    ) -> Result<()> {
        let request = self.aws.s3().list_objects_v2().bucket(&self.name).prefix(prefix);
        let mut pages = request.set_start_after(start).into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| self.aws.failure(&self.deed("s3:ListBucket"), error))?;
            for object in page.contents() {
                let size = object.size().and_then(|size| u64::try_from(size).ok()).unwrap_or(0);
                if !visit(object.key().unwrap_or_default(), size) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Puts an object where none of this name is; one that is there stays as it is.
    pub(super) async fn put_new(&self, key: &str, body: Vec<u8>) -> Result<()> {
        let mut tries = 1;
        loop {
            let body = ByteStream::from(body.clone());
            let request = self.aws.s3().put_object().bucket(&self.name).key(key).if_none_match("*");
            let Err(error) = request.body(body).send().await else { return Ok(()) };
            match error.code() {
                Some("PreconditionFailed") => return Ok(()),
                // Another request is about to put or delete the same: whichever comes first decides.
                Some("ConditionalRequestConflict") if tries < PUTS => tries += 1,
                _ => return Err(self.aws.failure(&self.deed("s3:PutObject"), error)),
            }
        }
    }

    /// Bytes of an object from `offset` on, at most `length`; none where the object is gone.
    pub(super) async fn get(&self, key: &str, offset: u64, length: u64) -> Result<Option<Vec<u8>>> {
        let range = format!("bytes={offset}-{}", offset + length - 1);
        let answer = self.aws.s3().get_object().bucket(&self.name).key(key).range(range).send().await;
        let object = match answer {
            Ok(object) => object,
            Err(SdkError::ServiceError(error)) if error.err().is_no_such_key() => return Ok(None),
            Err(error) => return Err(self.aws.failure(&self.deed("s3:GetObject"), error)),
        };
        let body = object.body.collect().await.map_err(|error| {
            let message = format!("the answer of S3 about {key} was cut off: try again");
            Error::new(Label::Unreachable, message).with_cause(error)
        })?;
        Ok(Some(body.to_vec()))
    }

    /// Deletes objects; those that are gone already don't matter.
    pub(super) async fn delete(&self, keys: &[String]) -> Result<()> {
        for keys in keys.chunks(DELETE) {
            let objects = keys.iter().map(|key| ObjectIdentifier::builder().key(key).build());
            let objects = objects.collect::<Result<Vec<_>, _>>().map_err(Error::internal)?;
            let delete = Delete::builder().set_objects(Some(objects)).quiet(true).build();
            let request = self.aws.s3().delete_objects().bucket(&self.name);
            let answer = request.delete(delete.map_err(Error::internal)?).send().await;
            let answer = answer.map_err(|error| self.aws.failure(&self.deed("s3:DeleteObject"), error))?;
            if let Some(error) = answer.errors().first() {
                let (key, code) = (error.key().unwrap_or_default(), error.code().unwrap_or_default());
                return Err(Error::new(
                    Label::AwsDenied,
                    format!(
                        "S3 did not delete {key} of the bucket {} ({code}): allow s3:DeleteObject",
                        self.name
                    ),
                ));
            }
        }
        Ok(())
    }

    fn deed(&self, permission: &'static str) -> Deed {
        deed(permission, &self.name)
    }
}

/// Makes a bucket that nobody from outside can read, or finds that it is ours already. Returns whether it was made.
/// Takes `s3:CreateBucket` and `s3:PutBucketPublicAccessBlock`.
///
/// # Errors
/// `already-exists` where another account has a bucket of this name; and what AWS says.
pub async fn create_bucket(aws: &Aws, name: &str) -> Result<bool> {
    let request = aws.s3().create_bucket().bucket(name);
    let place = (aws.region() != UNNAMED_REGION).then(|| {
        let region = BucketLocationConstraint::from(aws.region());
        CreateBucketConfiguration::builder().location_constraint(region).build()
    });
    let made = match request.set_create_bucket_configuration(place).send().await {
        Ok(_) => true,
        Err(error) => match error.code() {
            Some("BucketAlreadyOwnedByYou") => false,
            Some("BucketAlreadyExists") => {
                let message =
                    format!("another AWS account has a bucket {name}: set [store] bucket to another name");
                return Err(Error::new(Label::AlreadyExists, message));
            }
            _ => return Err(aws.failure(&deed("s3:CreateBucket", name), error)),
        },
    };
    let closed = PublicAccessBlockConfiguration::builder()
        .block_public_acls(true)
        .block_public_policy(true)
        .ignore_public_acls(true)
        .restrict_public_buckets(true)
        .build();
    let put =
        aws.s3().put_public_access_block().bucket(name).public_access_block_configuration(closed).send();
    put.await.map_err(|error| aws.failure(&deed("s3:PutBucketPublicAccessBlock", name), error))?;
    Ok(made)
}

/// Whether there is a bucket of this name that can be used.
///
/// # Errors
/// What AWS says, but for `aws-missing`.
pub async fn has_bucket(aws: &Aws, name: &str) -> Result<bool> {
    match Bucket::open(aws, name).await {
        Ok(_) => Ok(true),
        Err(error) if error.label() == Label::AwsMissing => Ok(false),
        Err(error) => Err(error),
    }
}

fn deed(permission: &'static str, name: &str) -> Deed {
    Deed::new(permission, format!("S3 bucket {name}"), MAKES)
}
