//! Isolation, limits and usage of jobs on the wire. Which values make sense is the use case's business.

use airunner_core::{Error, Isolation, ResourceLimits, Result, Usage};
use airunner_proto::job::v1 as pb;

use super::convert;

/// Parts that are kept of what an attempt ran without, and characters of each, at most.
const MAX_LEFT_OUT: usize = 16;
const MAX_PART: usize = 128;

/// A level on the wire.
pub(super) fn level(level: Option<Isolation>) -> pb::Isolation {
    match level {
        None => pb::Isolation::Unspecified,
        Some(Isolation::None) => pb::Isolation::None,
        Some(Isolation::Limits) => pb::Isolation::Limits,
        Some(Isolation::Sandbox) => pb::Isolation::Sandbox,
    }
}

/// A level from the wire; none for unspecified.
pub(super) fn from_level(number: i32) -> Result<Option<Isolation>> {
    let level = pb::Isolation::try_from(number).map_err(|_| convert::unknown("isolation", number))?;
    Ok(match level {
        pb::Isolation::Unspecified => None,
        pb::Isolation::None => Some(Isolation::None),
        pb::Isolation::Limits => Some(Isolation::Limits),
        pb::Isolation::Sandbox => Some(Isolation::Sandbox),
    })
}

/// Limits on the wire, where zero is none; nothing where nothing is limited.
pub(super) fn limits(limits: &ResourceLimits) -> Option<pb::ResourceLimits> {
    (!limits.is_empty()).then(|| pb::ResourceLimits {
        cpu_millis: limits.cpu_millis.unwrap_or_default(),
        memory_bytes: limits.memory_bytes.unwrap_or_default(),
        processes: limits.processes.unwrap_or_default(),
        open_files: limits.open_files.unwrap_or_default(),
        file_size_bytes: limits.file_size_bytes.unwrap_or_default(),
    })
}

/// Limits from the wire.
pub(super) fn from_limits(limits: Option<pb::ResourceLimits>) -> ResourceLimits {
    let limits = limits.unwrap_or_default();
    ResourceLimits {
        cpu_millis: Some(limits.cpu_millis).filter(|value| *value > 0),
        memory_bytes: Some(limits.memory_bytes).filter(|value| *value > 0),
        processes: Some(limits.processes).filter(|value| *value > 0),
        open_files: Some(limits.open_files).filter(|value| *value > 0),
        file_size_bytes: Some(limits.file_size_bytes).filter(|value| *value > 0),
    }
}

/// What was used, on the wire.
pub(super) fn usage(usage: &Usage) -> pb::Usage {
    pb::Usage {
        user_time: Some(convert::duration(usage.user)),
        system_time: Some(convert::duration(usage.system)),
        peak_memory_bytes: usage.peak_memory_bytes,
        oom_kills: usage.oom_kills,
        peak_processes: usage.peak_processes,
        read_bytes: usage.read_bytes,
        written_bytes: usage.written_bytes,
        isolation: level(Some(usage.isolation)) as i32,
        left_out: usage.left_out.clone(),
    }
}

/// What was used, as a worker tells it.
pub(super) fn from_usage(usage: pb::Usage) -> Result<Usage> {
    let time = |time| convert::from_duration("completions.usage", time);
    let isolation = from_level(usage.isolation)?;
    Ok(Usage {
        user: time(usage.user_time)?.unwrap_or_default(),
        system: time(usage.system_time)?.unwrap_or_default(),
        peak_memory_bytes: usage.peak_memory_bytes,
        oom_kills: usage.oom_kills,
        peak_processes: usage.peak_processes,
        read_bytes: usage.read_bytes,
        written_bytes: usage.written_bytes,
        isolation: isolation
            .ok_or_else(|| Error::invalid("completions.usage.isolation", "say at which level it ran"))?,
        left_out: usage
            .left_out
            .iter()
            .take(MAX_LEFT_OUT)
            .map(|part| part.chars().take(MAX_PART).collect())
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_zero_is_none() {
        assert!(from_limits(Some(pb::ResourceLimits::default())).is_empty() && from_limits(None).is_empty());
        assert_eq!(limits(&ResourceLimits::default()), None);
        let some = ResourceLimits { memory_bytes: Some(1), ..ResourceLimits::default() };
        assert_eq!(from_limits(limits(&some)), some);
    }

    #[test]
    fn what_a_worker_tells_is_bounded() {
        let told = pb::Usage {
            isolation: pb::Isolation::Limits as i32,
            left_out: vec!["ü".repeat(1_000); 1_000],
            ..pb::Usage::default()
        };
        let kept = from_usage(told).unwrap().left_out;
        assert_eq!((kept.len(), kept[0].chars().count()), (MAX_LEFT_OUT, MAX_PART));
    }

    #[test]
    fn a_level_that_is_not_known_is_refused() {
        assert_eq!(from_level(9).unwrap_err().field(), Some("isolation"));
        assert_eq!(
            from_usage(pb::Usage::default()).unwrap_err().field(),
            Some("completions.usage.isolation")
        );
    }
}
