//! How long a call may take: which RPCs have a limit of their own accord, and what the caller set.

use std::time::Duration;

use airunner_net::grpc_timeout;
use http::HeaderMap;

/// RPCs whose answer is a stream that stays open.
const STREAMS: &[&str] = &[
    "/airunner.audit.v1.AuditService/TailAudit",
    "/airunner.job.v1.JobEventsService/GetJobOutput",
    "/airunner.job.v1.JobEventsService/PublishEvents",
    "/airunner.job.v1.JobEventsService/StreamEvents",
    "/airunner.job.v1.JobService/DequeueJobs",
    "/grpc.health.v1.Health/Watch",
];

/// RPCs that answer once something has happened, whenever that is.
const WAITING: &[&str] = &["/airunner.job.v1.JobService/StartJob"];

/// What a call's time is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deadline {
    /// None.
    Never,
    /// Until the answer begins; it may then go on for as long as it likes.
    Head(Duration),
    /// Until the answer is complete.
    Whole(Duration),
}

/// The time of the call at `path`: what `tonic::Request::set_timeout` put into its headers, else `usual` for those that
/// answer at once.
pub(crate) fn of(path: &str, headers: &HeaderMap, usual: Duration) -> Deadline {
    match grpc_timeout(headers) {
        Some(asked) => Deadline::Whole(asked),
        None if STREAMS.contains(&path) => Deadline::Head(usual),
        None if WAITING.contains(&path) => Deadline::Never,
        None => Deadline::Whole(usual),
    }
}

#[cfg(test)]
mod tests {
    use prost_reflect::DescriptorPool;

    use super::*;

    const USUAL: Duration = Duration::from_secs(30);

    #[test]
    fn every_stream_of_the_api_is_on_the_list_and_nothing_else() {
        let pool = DescriptorPool::decode(airunner_proto::DESCRIPTOR_SET).unwrap();
        let mut paths: Vec<String> = pool
            .services()
            .flat_map(|service| service.methods().collect::<Vec<_>>())
            .filter(prost_reflect::MethodDescriptor::is_server_streaming)
            .map(|method| format!("/{}/{}", method.parent_service().full_name(), method.name()))
            .collect();
        paths.push("/grpc.health.v1.Health/Watch".to_owned());
        paths.sort();
        assert_eq!(paths, STREAMS);
        let known = |path: &&str| {
            let name = path.trim_start_matches('/').replace('/', ".");
            pool.services()
                .flat_map(|service| service.methods().collect::<Vec<_>>())
                .any(|m| m.full_name() == name)
        };
        assert!(WAITING.iter().all(known));
    }

    #[test]
    fn the_caller_has_the_last_word() {
        let path = "/airunner.job.v1.JobService/StartJob";
        let mut headers = HeaderMap::new();
        assert_eq!(of(path, &headers, USUAL), Deadline::Never);
        assert_eq!(of("/airunner.job.v1.JobService/GetJob", &headers, USUAL), Deadline::Whole(USUAL));
        assert_eq!(of(STREAMS[0], &headers, USUAL), Deadline::Head(USUAL));
        for (text, time) in [
            ("5S", Some(Duration::from_secs(5))),
            ("2M", Some(Duration::from_mins(2))),
            ("1H", Some(Duration::from_hours(1))),
            ("20m", Some(Duration::from_millis(20))),
            ("7u", Some(Duration::from_micros(7))),
            ("9n", Some(Duration::from_nanos(9))),
            ("123456789S", None),
            ("S", None),
            ("5x", None),
            ("", None),
        ] {
            headers.insert("grpc-timeout", text.parse().unwrap());
            let expected = time.map_or(Deadline::Never, Deadline::Whole);
            assert_eq!(of(path, &headers, USUAL), expected, "{text:?}");
        }
    }
}
