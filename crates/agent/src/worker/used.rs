//! What the processes of one attempt used, all together.

use airunner_exec::{Completion, Job};
use airunner_proto::job::v1::{Isolation, Usage};

use super::line::duration;

/// What they used so far; nothing where none of them has ended.
#[derive(Debug, Default)]
pub(super) struct Used(Option<Usage>);

impl Used {
    /// Adds what a process used that has ended.
    pub(super) fn add(&mut self, process: &Job, completion: &Completion) {
        let used = completion.usage.map(|usage| Usage {
            user_time: Some(duration(usage.user)),
            system_time: Some(duration(usage.system)),
            peak_memory_bytes: usage.peak_memory,
            oom_kills: usage.oom_kills,
            peak_processes: usage.peak_processes,
            read_bytes: usage.read_bytes,
            written_bytes: usage.written_bytes,
            ..Usage::default()
        });
        let left_out = process.left_out().iter().map(ToString::to_string).collect();
        self.merge(Usage { left_out, ..used.unwrap_or_default() });
    }

    fn merge(&mut self, more: Usage) {
        let Some(all) = &mut self.0 else {
            self.0 = Some(more);
            return;
        };
        all.user_time = together(all.user_time, more.user_time);
        all.system_time = together(all.system_time, more.system_time);
        // None is less than anything.
        all.peak_memory_bytes = all.peak_memory_bytes.max(more.peak_memory_bytes);
        all.peak_processes = all.peak_processes.max(more.peak_processes);
        for (all, more) in [
            (&mut all.oom_kills, more.oom_kills),
            (&mut all.read_bytes, more.read_bytes),
            (&mut all.written_bytes, more.written_bytes),
        ] {
            *all = sum(*all, more, u64::saturating_add);
        }
        for part in more.left_out {
            if !all.left_out.contains(&part) {
                all.left_out.push(part);
            }
        }
    }

    /// All of it, at the level that they ran at.
    pub(super) fn at(self, level: Isolation) -> Option<Usage> {
        self.0.map(|usage| Usage { isolation: level.into(), ..usage })
    }
}

fn together(
    one: Option<prost_types::Duration>,
    other: Option<prost_types::Duration>,
) -> Option<prost_types::Duration> {
    sum(one, other, |one, other| {
        let read = |time: prost_types::Duration| std::time::Duration::try_from(time).unwrap_or_default();
        duration(read(one).saturating_add(read(other)))
    })
}

fn sum<T>(one: Option<T>, other: Option<T>, add: impl FnOnce(T, T) -> T) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(add(one, other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_was_used_adds_up_and_peaks_do_not() {
        let fetch = Usage {
            user_time: Some(duration(Duration::from_millis(700))),
            peak_memory_bytes: Some(50),
            oom_kills: Some(0),
            left_out: vec!["a".to_owned()],
            ..Usage::default()
        };
        let command = Usage {
            user_time: Some(duration(Duration::from_millis(600))),
            peak_memory_bytes: Some(40),
            oom_kills: Some(1),
            read_bytes: Some(7),
            left_out: vec!["a".to_owned(), "b".to_owned()],
            ..Usage::default()
        };
        let mut used = Used::default();
        used.merge(fetch);
        used.merge(command);
        let all = used.at(Isolation::Limits).unwrap();
        assert_eq!(all.user_time, Some(duration(Duration::from_millis(1_300))));
        assert_eq!((all.peak_memory_bytes, all.oom_kills, all.read_bytes), (Some(50), Some(1), Some(7)));
        assert_eq!((all.system_time, all.left_out), (None, vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(Used::default().at(Isolation::None), None);
    }
}
