//! What happened to a job, and when: its attempts on a line of time, its output over the same time, its events one by one.

use std::time::Duration;

use airunner_core::{Sequence, Timestamp};
use airunner_proto::job::v1::{self as pb, job_event::Kind};
use serde::Serialize;

use super::{job::EventView, timestamp, usage::size};

/// Cells of a chart.
const CELLS: usize = 40;
/// Events that are shown at most: the first and the last of them.
const SHOWN: usize = 12;
/// Columns of an event's line.
const LINE: usize = 60;

/// What a job's events tell.
#[derive(Debug, Serialize)]
pub(crate) struct HistoryView {
    events: Vec<EventView>,
    output_bytes: u64,
    /// Whether all of the output was counted.
    output_is_whole: bool,
    /// Bytes in each of as many equal parts of the time from the job's coming to its end, or to now.
    output_over_time: Vec<u64>,
    #[serde(skip)]
    told: Vec<(Timestamp, String)>,
    #[serde(skip)]
    line: Vec<Cell>,
    #[serde(skip)]
    life: Duration,
}

/// What a part of the time saw; of several the one that stands last here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Cell {
    Waits,
    Runs,
    Noted,
    Ended,
}

/// What a job has told so far.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// Control events, in order.
    pub(crate) events: Vec<pb::JobEvent>,
    /// When how much was printed, in order.
    pub(crate) printed: Vec<(Timestamp, u64)>,
    /// Whether nothing that was printed is missing.
    pub(crate) is_whole: bool,
}

impl HistoryView {
    /// The history of a job that came at `from` and ended at `to`, or is looked at then.
    pub(crate) fn new(history: History, from: Timestamp, to: Timestamp) -> Self {
        let last =
            history.events.iter().filter_map(at).chain(history.printed.iter().map(|(at, _)| *at)).max();
        let span = Span { from, to: last.unwrap_or(to).max(to) };
        let mut output_over_time = vec![0; CELLS];
        for (at, bytes) in &history.printed {
            output_over_time[span.cell(*at)] += bytes;
        }
        Self {
            output_bytes: history.printed.iter().map(|(_, bytes)| bytes).sum(),
            output_is_whole: history.is_whole,
            output_over_time,
            told: history.events.iter().filter_map(|event| Some((at(event)?, told(event)))).collect(),
            line: line(&history.events, &span),
            life: span.to.since(span.from),
            events: history.events.into_iter().map(EventView::from).collect(),
        }
    }

    /// Lines of a record. Charts are drawn where someone looks, else nothing but the events is told.
    pub(crate) fn fields(&self, from: Timestamp, charts: bool) -> Vec<(&'static str, String)> {
        let mut fields = Vec::new();
        if charts {
            fields.push(("time line", format!("{} {}", draw(&self.line), ago(self.life))));
        }
        if self.output_bytes > 0 {
            let more = if self.output_is_whole { "" } else { " and more" };
            let total = format!("{}{more}", size(self.output_bytes));
            let chart = sparkline(&self.output_over_time);
            fields.push(("output", if charts { format!("{chart} {total}") } else { total }));
        }
        let shown = self.told.len().min(SHOWN);
        let (first, last) = (shown.div_ceil(2), shown / 2);
        let mut name = "events";
        for (n, (at, told)) in self.told.iter().enumerate() {
            if n >= first && n < self.told.len() - last {
                continue;
            }
            if n == self.told.len() - last && self.told.len() > shown {
                fields.push(("", format!("… {} more", self.told.len() - shown)));
            }
            let mut told: String = told.chars().take(LINE).collect();
            told.insert_str(0, &format!("{:>10}  ", format!("+{}", ago(at.since(from)))));
            fields.push((std::mem::take(&mut name), told));
        }
        fields
    }
}

/// From when until when cells count.
struct Span {
    from: Timestamp,
    to: Timestamp,
}

impl Span {
    fn cell(&self, at: Timestamp) -> usize {
        let life = self.to.since(self.from).as_millis().max(1);
        let place = at.since(self.from).as_millis() * CELLS as u128 / life;
        usize::try_from(place).unwrap_or(CELLS).min(CELLS - 1)
    }
}

fn at(event: &pb::JobEvent) -> Option<Timestamp> {
    event.at.as_ref().map(timestamp)
}

/// Waiting, running from each start to the end of its attempt or to the end of the line, and what else there was.
fn line(events: &[pb::JobEvent], span: &Span) -> Vec<Cell> {
    let mut cells = vec![Cell::Waits; CELLS];
    let mut since = None;
    for event in events {
        let Some(at) = at(event) else { continue };
        let here = span.cell(at);
        match &event.kind {
            Some(Kind::Started(_)) => since = Some(here),
            Some(Kind::AttemptEnded(_)) => {
                // The start is by the worker's clock, the end by the server's.
                let began = since.take().unwrap_or(here).min(here);
                cells[began..=here].iter_mut().for_each(|cell| *cell = (*cell).max(Cell::Runs));
                cells[here] = Cell::Ended;
            }
            Some(Kind::Note(_)) => cells[here] = cells[here].max(Cell::Noted),
            _ => {}
        }
    }
    if let Some(began) = since {
        cells[began..].iter_mut().for_each(|cell| *cell = (*cell).max(Cell::Runs));
    }
    cells
}

fn draw(line: &[Cell]) -> String {
    let sign = |cell: &Cell| match cell {
        Cell::Waits => '·',
        Cell::Runs => '━',
        Cell::Noted => '◆',
        Cell::Ended => '┫',
    };
    line.iter().map(sign).collect()
}

/// A cell each, as high as its share of the highest; empty where nothing was.
fn sparkline(parts: &[u64]) -> String {
    const STEPS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = parts.iter().copied().max().unwrap_or(0).max(1);
    let step = |part: &u64| match part {
        0 => ' ',
        part => {
            let height = u128::from(*part) * 8 / u128::from(most);
            STEPS[usize::try_from(height).unwrap_or(8).clamp(1, 8) - 1]
        }
    };
    parts.iter().map(step).collect()
}

fn told(event: &pb::JobEvent) -> String {
    let attempt = Sequence::from_u64(event.sequence).attempt();
    match &event.kind {
        Some(Kind::Started(started)) => format!("attempt {attempt} runs, as process {}", started.process_id),
        Some(Kind::Note(note)) => note.message.clone(),
        Some(Kind::AttemptEnded(ended)) => {
            let exit = super::job::ExitView::of(ended.exit);
            let exit = exit.map(|exit| format!(" with {exit}")).unwrap_or_default();
            let why = if ended.reason.is_empty() { String::new() } else { format!(": {}", ended.reason) };
            format!("attempt {attempt} {}{exit}{why}", ended.outcome.replace('-', " "))
        }
        Some(Kind::Gap(_)) => "output up to here is no longer kept".to_owned(),
        Some(Kind::Output(_)) | None => String::new(),
    }
}

/// A time between two moments, to be read at a glance.
fn ago(between: Duration) -> String {
    match between.as_secs() {
        0..60 => format!("{}.{:03} s", between.as_secs(), between.subsec_millis()),
        seconds @ 60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        seconds => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn event(attempt: u32, n: u64, millis: i64, kind: Kind) -> pb::JobEvent {
        let at = FROM.as_millis() + millis;
        let nanos = i32::try_from(at % 1_000).unwrap() * 1_000_000;
        pb::JobEvent {
            sequence: Sequence::new(attempt, n).as_u64(),
            at: Some(prost_types::Timestamp { seconds: at / 1_000, nanos }),
            kind: Some(kind),
        }
    }

    fn ended(attempt: u32, millis: i64, outcome: &str, last: bool) -> pb::JobEvent {
        let outcome = outcome.to_owned();
        event(
            attempt,
            9,
            millis,
            Kind::AttemptEnded(pb::AttemptEnded { outcome, last, ..Default::default() }),
        )
    }

    fn retried() -> HistoryView {
        let events = vec![
            event(1, 1, 1_000, Kind::Started(pb::Started { process_id: 7 })),
            event(1, 2, 1_500, Kind::Note(pb::Note { message: "cloned".to_owned() })),
            ended(1, 2_000, "lease-expired", false),
            event(2, 1, 3_000, Kind::Started(pb::Started { process_id: 8 })),
            ended(2, 4_000, "exited", true),
        ];
        let at = |millis| Timestamp::from_millis(FROM.as_millis() + millis);
        let printed = vec![(at(1_000), 10), (at(1_050), 10), (at(3_500), 80)];
        HistoryView::new(History { events, printed, is_whole: true }, FROM, at(4_000))
    }

    #[test]
    fn attempts_stand_on_a_line_of_time_and_output_under_it() {
        let fields = retried().fields(FROM, true);
        assert_eq!(fields[0], ("time line", "··········━━━━━◆━━━━┫·········━━━━━━━━━┫ 4.000 s".to_owned()));
        assert_eq!(fields[1].1, "          ▂                        █     100 B");
        assert!(fields.iter().all(|(name, text)| name.len() + 2 + text.chars().count() <= 80));
        let told: Vec<_> = fields[2..].iter().map(|(_, text)| text.trim_start()).collect();
        assert_eq!(told[0], "+1.000 s  attempt 1 runs, as process 7");
        assert_eq!(told[2], "+2.000 s  attempt 1 lease expired");
    }

    #[test]
    fn a_worker_whose_clock_is_ahead_may_start_after_the_end() {
        let started = event(1, 1, 3_000, Kind::Started(pb::Started { process_id: 7 }));
        let history =
            History { events: vec![started, ended(1, 1_000, "exited", true)], ..History::default() };
        let fields = HistoryView::new(history, FROM, FROM).fields(FROM, true);
        assert_eq!(fields[0].1, "·············┫·························· 3.000 s");
    }

    #[test]
    fn where_nobody_looks_there_is_text_alone() {
        let fields = retried().fields(FROM, false);
        assert_eq!(fields[0], ("output", "100 B".to_owned()));
        assert!(fields.iter().all(|(_, text)| text.is_ascii()), "{fields:?}");
    }

    #[test]
    fn of_many_events_the_first_and_the_last_are_shown() {
        let note =
            |n| event(1, n, i64::try_from(n).unwrap(), Kind::Note(pb::Note { message: format!("note {n}") }));
        let history = History { events: (1..=100).map(note).collect(), ..History::default() };
        let fields = HistoryView::new(history, FROM, FROM).fields(FROM, false);
        let told: Vec<_> = fields.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(told.len(), SHOWN + 1);
        assert!(told[0].ends_with("note 1") && told[6].contains("88 more") && told[12].ends_with("note 100"));
    }
}
