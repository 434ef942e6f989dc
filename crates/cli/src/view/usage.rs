//! How a job's limits and what it used look: exact figures for programs, and beside its limit as a bar for people.

use std::time::Duration;

use airunner_proto::job::v1::{self as pb, Isolation};
use serde::Serialize;

use super::word;

/// Cells of a bar.
const BAR: u64 = 10;

/// What a job may use at most; what is not limited is none.
#[derive(Debug, Serialize)]
pub(crate) struct LimitsView {
    pub(crate) cpu_millis: Option<u32>,
    pub(crate) memory_bytes: Option<u64>,
    processes: Option<u32>,
    open_files: Option<u64>,
    file_size_bytes: Option<u64>,
}

/// What an attempt used; what its worker's host does not count is none.
#[derive(Debug, Serialize)]
pub(crate) struct UsageView {
    isolation: String,
    left_out: Vec<String>,
    user_micros: u64,
    system_micros: u64,
    peak_memory_bytes: Option<u64>,
    oom_kills: Option<u64>,
    peak_processes: Option<u64>,
    read_bytes: Option<u64>,
    written_bytes: Option<u64>,
}

/// The name of a level; none where none is asked for.
pub(crate) fn isolation(number: i32) -> Option<String> {
    (number != 0).then(|| word(number, Isolation::as_str_name, "ISOLATION_"))
}

impl From<pb::ResourceLimits> for LimitsView {
    fn from(limits: pb::ResourceLimits) -> Self {
        Self {
            cpu_millis: Some(limits.cpu_millis).filter(|value| *value > 0),
            memory_bytes: Some(limits.memory_bytes).filter(|value| *value > 0),
            processes: Some(limits.processes).filter(|value| *value > 0),
            open_files: Some(limits.open_files).filter(|value| *value > 0),
            file_size_bytes: Some(limits.file_size_bytes).filter(|value| *value > 0),
        }
    }
}

impl LimitsView {
    /// All of them in one line.
    pub(crate) fn line(&self) -> String {
        let parts = [
            self.cpu_millis.map(cpus),
            self.memory_bytes.map(|bytes| format!("{} of memory", size(bytes))),
            self.processes.map(|count| format!("{count} processes")),
            self.open_files.map(|count| format!("{count} open files")),
            self.file_size_bytes.map(|bytes| format!("files of {}", size(bytes))),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

impl From<pb::Usage> for UsageView {
    fn from(usage: pb::Usage) -> Self {
        Self {
            isolation: isolation(usage.isolation).unwrap_or_default(),
            left_out: usage.left_out,
            user_micros: micros(usage.user_time),
            system_micros: micros(usage.system_time),
            peak_memory_bytes: usage.peak_memory_bytes,
            oom_kills: usage.oom_kills,
            peak_processes: usage.peak_processes,
            read_bytes: usage.read_bytes,
            written_bytes: usage.written_bytes,
        }
    }
}

impl UsageView {
    /// Lines of a record: with bars where `bars`, for a job that ran for `life` under these limits.
    pub(crate) fn fields(
        &self,
        limits: Option<&LimitsView>,
        life: Option<Duration>,
        bars: bool,
    ) -> Vec<(&'static str, String)> {
        let cpu_limit = limits.and_then(|limits| limits.cpu_millis);
        let memory_limit = limits.and_then(|limits| limits.memory_bytes);
        let used = self.user_micros.saturating_add(self.system_micros);
        // What its limit would have let it use in its life.
        let granted = cpu_limit.zip(life).map(|(millis, life)| {
            let micros = life.as_micros().saturating_mul(millis.into()) / 1_000;
            u64::try_from(micros).unwrap_or(u64::MAX)
        });
        let cpu = format!(
            "{} ({} user, {} system)",
            seconds(used),
            seconds(self.user_micros),
            seconds(self.system_micros)
        );
        let cpu_of = cpu_limit.map(cpus).unwrap_or_default();
        let memory = self.peak_memory_bytes.map(size).unwrap_or_default();
        let memory_of = memory_limit.map(size).unwrap_or_default();
        let block = |bytes: Option<u64>| bytes.filter(|bytes| *bytes > 0).map(size).unwrap_or_default();
        let number = |count: Option<u64>| count.map(|count| count.to_string()).unwrap_or_default();
        vec![
            ("ran at", self.isolation.clone()),
            ("ran without", self.left_out.join(", ")),
            ("CPU time", against(cpu, Some(used), granted, &cpu_of, bars)),
            ("peak memory", against(memory, self.peak_memory_bytes, memory_limit, &memory_of, bars)),
            ("killed for memory", number(self.oom_kills.filter(|kills| *kills > 0))),
            ("peak processes", number(self.peak_processes)),
            ("read from disk", block(self.read_bytes)),
            ("written to disk", block(self.written_bytes)),
        ]
    }
}

/// What was used, and where there is a limit how much of it that is.
fn against(text: String, used: Option<u64>, limit: Option<u64>, of: &str, bars: bool) -> String {
    let Some((used, limit)) = used.zip(limit).filter(|(_, limit)| *limit > 0) else { return text };
    let percent = u128::from(used) * 100 / u128::from(limit);
    let told = format!("{text}, {percent} % of {of}");
    if bars { format!("{} {told}", bar(used, limit)) } else { told }
}

/// Whole cells, and at least one where anything was used.
fn bar(used: u64, limit: u64) -> String {
    let filled = u128::from(used) * u128::from(BAR) / u128::from(limit);
    let filled = u64::try_from(filled).unwrap_or(BAR).clamp(u64::from(used > 0), BAR);
    (0..BAR).map(|cell| if cell < filled { '█' } else { '░' }).collect()
}

fn cpus(millis: u32) -> String {
    let text = format!("{}.{:03}", millis / 1_000, millis % 1_000);
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text} {}", if text == "1" { "CPU" } else { "CPUs" })
}

/// Bytes in the largest unit of which there is one, with a tenth where it is not whole.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.iter().find(|(unit, _)| bytes >= *unit) {
        None => format!("{bytes} B"),
        Some((unit, name)) if bytes.is_multiple_of(*unit) => format!("{} {name}", bytes / unit),
        Some((unit, name)) => {
            // Shortened rather than rounded: what fits a limit must not look like more than it.
            let tenths = u128::from(bytes) * 10 / u128::from(*unit);
            format!("{}.{} {name}", tenths / 10, tenths % 10)
        }
    }
}

fn seconds(micros: u64) -> String {
    format!("{}.{:03} s", micros / 1_000_000, micros / 1_000 % 1_000)
}

fn micros(time: Option<prost_types::Duration>) -> u64 {
    let time = time.and_then(|time| Duration::try_from(time).ok()).unwrap_or_default();
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_cpus_are_told_in_units() {
        for (bytes, text) in
            [(0, "0 B"), (1_023, "1023 B"), (1_536, "1.5 KiB"), (256 << 20, "256 MiB"), (1 << 50, "1024 TiB")]
        {
            assert_eq!(size(bytes), text);
        }
        for (millis, text) in [(500, "0.5 CPUs"), (1_000, "1 CPU"), (10, "0.01 CPUs"), (12_000, "12 CPUs")] {
            assert_eq!(cpus(millis), text);
        }
    }

    #[test]
    fn a_bar_is_full_at_the_limit_and_never_empty_where_something_was_used() {
        for (used, filled) in [(0, 0), (1, 1), (55, 5), (100, 10), (1_000, 10)] {
            assert_eq!(bar(used, 100).chars().filter(|cell| *cell == '█').count(), filled, "{used}");
        }
    }

    #[test]
    fn usage_stands_against_its_limits() {
        let usage = UsageView::from(pb::Usage {
            user_time: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
            peak_memory_bytes: Some(64 << 20),
            isolation: Isolation::Sandbox as i32,
            ..pb::Usage::default()
        });
        let limits = LimitsView::from(pb::ResourceLimits {
            cpu_millis: 500,
            memory_bytes: 256 << 20,
            ..Default::default()
        });
        let shown = usage.fields(Some(&limits), Some(Duration::from_secs(4)), true);
        let find = |name| shown.iter().find(|(field, _)| *field == name).unwrap().1.as_str();
        assert_eq!(find("CPU time"), "█████░░░░░ 1.000 s (1.000 s user, 0.000 s system), 50 % of 0.5 CPUs");
        assert_eq!(find("peak memory"), "██░░░░░░░░ 64 MiB, 25 % of 256 MiB");
        let plain = usage.fields(None, None, false);
        assert_eq!(plain[3].1, "64 MiB");
    }
}
