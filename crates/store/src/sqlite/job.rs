//! Statements on jobs, their standard input and their events.

use airunner_core::{
    ControlEvent, Error, InputWriter, Job, JobControl, JobFilter, JobId, JobInput, JobState, Labels, Lease,
    PrincipalId, QueueName, Result, Sequence, TerminalSize, Timestamp,
};
use rusqlite::{Row, params};

use super::rows::{
    SqliteRows, get, integer, json, json_or_none, millis, number, time, time_or_none, to_json, word,
    word_or_none,
};
use crate::{
    likeness::alike,
    line::{LAST_IN_LINE, Lane, delayed, in_line, place, rank_of},
    rows::{Alike, EventRows, InputWritten, JobRows, Place, Visit},
};

macro_rules! columns {
    () => {
        "job_id, queue, owner, state, visible_at, attempt, handed_back, holder, deadline, process_id, exit, reason, \
         cancellation, created_at, started_at, finished_at, spec, worker, usage, rank, certificates"
    };
}

fn job(row: &Row<'_>) -> Result<Job> {
    Ok(Job {
        id: word(row, 0)?,
        queue: word(row, 1)?,
        owner: word(row, 2)?,
        spec: json(row, 16)?,
        state: word(row, 3)?,
        attempt: number(row, 5)?,
        handed_back: number(row, 6)?,
        lease: lease(row, [7, 8, 17])?,
        process_id: get(row, 9)?,
        exit: json_or_none(row, 10)?,
        reason: get(row, 11)?,
        usage: json_or_none(row, 18)?,
        cancellation: json_or_none(row, 12)?,
        created_at: time(row, 13)?,
        visible_at: time(row, 4)?,
        started_at: time_or_none(row, 14)?,
        finished_at: time_or_none(row, 15)?,
        rank: rank(row, 19)?,
        certificates: json_or_none(row, 20)?.unwrap_or_default(),
    })
}

fn rank(row: &Row<'_>, column: usize) -> Result<Option<u64>> {
    Ok(get::<Option<i64>>(row, column)?.map(i64::unsigned_abs))
}

/// The lane's requirements as a column: as JSON, and nothing where there are none.
fn required(requires: &Labels) -> Result<String> {
    if requires.is_empty() { Ok(String::new()) } else { to_json(requires) }
}

/// The lease in the columns holder, deadline and worker.
fn lease(row: &Row<'_>, [holder, deadline, worker]: [usize; 3]) -> Result<Option<Lease>> {
    let holder: Option<PrincipalId> = word_or_none(row, holder)?;
    let deadline = time_or_none(row, deadline)?;
    let worker = word_or_none(row, worker)?;
    Ok(holder.zip(deadline).map(|(holder, deadline)| Lease { holder, worker, deadline }))
}

fn worker(job: &Job) -> Option<String> {
    job.lease.as_ref().and_then(|lease| lease.worker).map(|worker| worker.to_string())
}

fn certificates(job: &Job) -> Result<Option<String>> {
    if job.certificates.is_empty() { Ok(None) } else { to_json(&job.certificates).map(Some) }
}

/// Each lane of a queue that holds a job, found from the one before it.
const LANES: &str = "WITH RECURSIVE lanes (lane) AS ( \
     SELECT min(lane) FROM jobs INDEXED BY jobs_line WHERE state = 'scheduled' AND queue = ?1 \
     UNION ALL \
     SELECT (SELECT min(lane) FROM jobs INDEXED BY jobs_line \
             WHERE state = 'scheduled' AND queue = ?1 AND lane > lanes.lane) \
     FROM lanes WHERE lane IS NOT NULL) \
     SELECT lane FROM lanes WHERE lane IS NOT NULL";

/// Jobs of a lane by their places.
const STANDING: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM jobs INDEXED BY jobs_line WHERE state = 'scheduled' AND queue = ?1 AND lane = ?2 \
     AND place BETWEEN ?3 AND ?4 ORDER BY place, number LIMIT ?5"
);

const FIRST_PLACE: &str = "SELECT place FROM jobs INDEXED BY jobs_line \
     WHERE state = 'scheduled' AND queue = ?1 AND lane = ?2 AND place >= ?3 ORDER BY place LIMIT 1";

const LAST_PLACE: &str = "SELECT place FROM jobs INDEXED BY jobs_turn \
     WHERE state = 'scheduled' AND queue = ?1 AND lane = ?2 AND owner = ?3 AND place BETWEEN ?4 AND ?5 \
     ORDER BY place DESC LIMIT 1";

impl JobRows for SqliteRows<'_> {
    fn job(&self, id: &JobId) -> Result<Option<Job>> {
        let sql = concat!("SELECT ", columns!(), " FROM jobs WHERE job_id = ?1");
        self.first(sql, [id.to_string()], job)
    }

    fn job_control(&self, id: &JobId) -> Result<Option<JobControl>> {
        let sql = "SELECT state, attempt, holder, deadline, cancellation, worker FROM jobs WHERE job_id = ?1";
        self.first(sql, [id.to_string()], |row| {
            Ok(JobControl {
                job_id: *id,
                state: word(row, 0)?,
                attempt: number(row, 1)?,
                lease: lease(row, [2, 3, 5])?,
                cancellation: json_or_none(row, 4)?,
            })
        })
    }

    fn scan_jobs(
        &self,
        filter: &JobFilter,
        after: Option<Place>,
        visit: Visit<'_, (Place, Job)>,
    ) -> Result<()> {
        macro_rules! newest {
            ($index:literal, $condition:literal) => {
                concat!(
                    "SELECT ",
                    columns!(),
                    ", number FROM jobs ",
                    $index,
                    " WHERE ",
                    $condition,
                    " AND number < ?1 ORDER BY number DESC"
                )
            };
        }
        let until = after.map_or(i64::MAX, Place::row_number);
        let placed = |row: &Row<'_>| Ok((Place::numbered(get(row, 21)?), job(row)?));
        if let Some(holder) = &filter.holder {
            let sql = newest!("INDEXED BY jobs_holder", "state = 'running' AND holder = ?2");
            return self.scan(sql, params![until, holder.as_str()], placed, visit);
        }
        // Few jobs are live at a time, and few may be one owner's: the rarer decides.
        let state = filter.state.filter(|state| !state.has_ended() || filter.owner.is_none());
        if let Some(state) = state {
            let sql = newest!("INDEXED BY jobs_state", "state = ?2");
            return self.scan(sql, params![until, state.as_str()], placed, visit);
        }
        if let Some(owner) = &filter.owner {
            let sql = newest!("INDEXED BY jobs_owner", "owner = ?2");
            return self.scan(sql, params![until, owner.as_str()], placed, visit);
        }
        self.scan(newest!("", "TRUE"), [until], placed, visit)
    }

    fn lanes(&self, queue: &QueueName) -> Result<Vec<Labels>> {
        self.all(LANES, [queue.as_str()], |row| {
            if get::<String>(row, 0)?.is_empty() { Ok(Labels::new()) } else { json(row, 0) }
        })
    }

    fn open_lane(&mut self, _lane: &Lane, _now: Timestamp) -> Result<()> {
        Ok(())
    }

    fn waiting_jobs(&self, lane: &Lane, limit: u32) -> Result<Vec<Job>> {
        let params = params![lane.queue.as_str(), required(&lane.requires)?, 0, LAST_IN_LINE, limit];
        self.all(STANDING, params, job)
    }

    fn due_jobs(&self, lane: &Lane, now: Timestamp, limit: u32) -> Result<Vec<Job>> {
        let (from, until) = (LAST_IN_LINE + 1, delayed(now));
        self.all(STANDING, params![lane.queue.as_str(), required(&lane.requires)?, from, until, limit], job)
    }

    fn first_place(&self, lane: &Lane, from: i64) -> Result<Option<i64>> {
        let params = params![lane.queue.as_str(), required(&lane.requires)?, from];
        self.first(FIRST_PLACE, params, |row| get(row, 0))
    }

    fn last_rank(&self, lane: &Lane, priority: i32, owner: &PrincipalId) -> Result<Option<u64>> {
        let (first, last) = (in_line(priority, 0), in_line(priority, u64::MAX));
        let requires = required(&lane.requires)?;
        let params = params![lane.queue.as_str(), requires, owner.as_str(), first, last];
        self.first(LAST_PLACE, params, |row| Ok(rank_of(get(row, 0)?)))
    }

    fn queue_clock(&self, queue: &QueueName, priority: i32) -> Result<u64> {
        let sql = "SELECT rank FROM queue_clocks WHERE queue = ?1 AND priority = ?2";
        Ok(self.first(sql, params![queue.as_str(), priority], |row| number(row, 0))?.unwrap_or(0))
    }

    fn advance_clock(&mut self, queue: &QueueName, priority: i32, rank: u64, _now: Timestamp) -> Result<()> {
        let sql = "INSERT INTO queue_clocks (queue, priority, rank) VALUES (?1, ?2, ?3) \
                   ON CONFLICT (queue, priority) DO UPDATE SET rank = excluded.rank WHERE rank < excluded.rank";
        self.run(sql, params![queue.as_str(), priority, integer(rank)?]).map(drop)
    }

    fn lapsed_jobs(&self, before: Timestamp, limit: u32) -> Result<Vec<Job>> {
        let sql = concat!(
            "SELECT ",
            columns!(),
            " FROM jobs INDEXED BY jobs_deadline WHERE state = 'running' AND deadline < ?1 \
             ORDER BY deadline LIMIT ?2"
        );
        self.all(sql, params![before.as_millis(), limit], job)
    }

    fn held_jobs(&self, holder: &PrincipalId, limit: u32) -> Result<Vec<Job>> {
        let sql = concat!(
            "SELECT ",
            columns!(),
            " FROM jobs INDEXED BY jobs_holder WHERE state = 'running' AND holder = ?1 LIMIT ?2"
        );
        self.all(sql, params![holder.as_str(), limit], job)
    }

    fn jobs_alike(&self, job: &Job) -> Result<Alike> {
        // The last of them in the index is unique if any is.
        let sql = "SELECT is_unique FROM jobs INDEXED BY jobs_alike WHERE finished_at IS NULL AND alike = ?1 \
                   ORDER BY is_unique DESC LIMIT 1";
        let found = self.first(sql, [alike(job)], |row| Ok(Alike { any: true, unique: get(row, 0)? }))?;
        Ok(found.unwrap_or_default())
    }

    fn count_jobs(&self) -> Result<Vec<(JobState, u64)>> {
        self.all("SELECT state, jobs FROM job_counts", [], |row| Ok((word(row, 0)?, number(row, 1)?)))
    }

    fn input_written(&self, id: &JobId) -> Result<InputWritten> {
        let sql = "SELECT n, total, ended, writer, piece FROM job_inputs \
                   WHERE job = (SELECT number FROM jobs WHERE job_id = ?1) ORDER BY n DESC LIMIT 1";
        let found = self.first(sql, [id.to_string()], |row| {
            let writer = word_or_none(row, 3)?.zip(get::<Option<i64>>(row, 4)?);
            let writer = writer.map(|(id, piece)| InputWriter { id, piece: piece.unsigned_abs() });
            Ok(InputWritten { last: number(row, 0)?, bytes: number(row, 1)?, end: get(row, 2)?, writer })
        })?;
        Ok(found.unwrap_or_default())
    }

    fn inputs_after(&self, id: &JobId, after: u64, limit: u32) -> Result<Vec<JobInput>> {
        let sql = "SELECT n, bytes, ended, size FROM job_inputs \
                   WHERE job = (SELECT number FROM jobs WHERE job_id = ?1) AND n > ?2 ORDER BY n LIMIT ?3";
        self.all(sql, params![id.to_string(), integer(after)?, limit], |row| {
            let size = get::<Option<u32>>(row, 3)?.map(TerminalSize::from_u32);
            Ok(JobInput { n: number(row, 0)?, bytes: get(row, 1)?, end: get(row, 2)?, size })
        })
    }

    fn insert_input(&mut self, id: &JobId, input: &JobInput, writer: Option<InputWriter>) -> Result<()> {
        let sql = "INSERT INTO job_inputs (job, n, bytes, ended, size, writer, piece, total) \
                   SELECT number, ?2, ?3, ?4, ?5, ?6, ?7, ?8 + coalesce( \
                   (SELECT total FROM job_inputs WHERE job = number ORDER BY n DESC LIMIT 1), 0) \
                   FROM jobs WHERE job_id = ?1";
        let piece = writer.map(|writer| integer(writer.piece)).transpose()?;
        self.run(
            sql,
            params![
                id.to_string(),
                integer(input.n)?,
                input.bytes,
                input.end,
                input.size.map(TerminalSize::to_u32),
                writer.map(|writer| writer.id.to_string()),
                piece,
                integer(input.bytes.len() as u64)?,
            ],
        )
        .map(drop)
    }

    fn delete_inputs(&mut self, id: &JobId) -> Result<()> {
        let sql = "DELETE FROM job_inputs WHERE job = (SELECT number FROM jobs WHERE job_id = ?1)";
        self.run(sql, [id.to_string()]).map(drop)
    }

    fn insert_job(&mut self, job: &Job) -> Result<()> {
        let sql = concat!(
            "INSERT INTO jobs (",
            columns!(),
            ", is_unique, alike, lane, place) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, \
             ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25)"
        );
        let lease = job.lease.as_ref();
        let params = params![
            job.id.to_string(),
            job.queue.as_str(),
            job.owner.as_str(),
            job.state.as_str(),
            job.visible_at.as_millis(),
            job.attempt,
            job.handed_back,
            lease.map(|lease| lease.holder.as_str()),
            lease.map(|lease| lease.deadline.as_millis()),
            job.process_id,
            job.exit.as_ref().map(to_json).transpose()?,
            job.reason,
            job.cancellation.as_ref().map(to_json).transpose()?,
            job.created_at.as_millis(),
            millis(job.started_at),
            millis(job.finished_at),
            to_json(&job.spec)?,
            worker(job),
            job.usage.as_ref().map(to_json).transpose()?,
            job.rank.map(integer).transpose()?,
            certificates(job)?,
            job.spec.unique,
            alike(job),
            required(&job.spec.requires)?,
            place(job),
        ];
        self.run(sql, params).map(drop)
    }

    fn update_job(&mut self, job: &Job) -> Result<()> {
        let sql = "UPDATE jobs SET state = ?2, visible_at = ?3, attempt = ?4, handed_back = ?5, holder = ?6, \
                   deadline = ?7, process_id = ?8, exit = ?9, reason = ?10, cancellation = ?11, started_at = ?12, \
                   finished_at = ?13, worker = ?14, usage = ?15, rank = ?16, place = ?17, \
                   certificates = ?18 WHERE job_id = ?1";
        let lease = job.lease.as_ref();
        let params = params![
            job.id.to_string(),
            job.state.as_str(),
            job.visible_at.as_millis(),
            job.attempt,
            job.handed_back,
            lease.map(|lease| lease.holder.as_str()),
            lease.map(|lease| lease.deadline.as_millis()),
            job.process_id,
            job.exit.as_ref().map(to_json).transpose()?,
            job.reason,
            job.cancellation.as_ref().map(to_json).transpose()?,
            millis(job.started_at),
            millis(job.finished_at),
            worker(job),
            job.usage.as_ref().map(to_json).transpose()?,
            job.rank.map(integer).transpose()?,
            place(job),
            certificates(job)?,
        ];
        self.run(sql, params).map(drop)
    }
}

impl EventRows for SqliteRows<'_> {
    fn events_after(&self, job: &JobId, after: Sequence, limit: u32) -> Result<Vec<ControlEvent>> {
        let sql = "SELECT sequence, at, kind FROM job_events \
                   WHERE job = (SELECT number FROM jobs WHERE job_id = ?1) AND sequence > ?2 ORDER BY sequence LIMIT ?3";
        // A place past all that SQLite can count has nothing after it.
        let after = integer(after.as_u64()).unwrap_or(i64::MAX);
        self.all(sql, params![job.to_string(), after, limit], |row| {
            Ok(ControlEvent { sequence: sequence(row, 0)?, at: time(row, 1)?, kind: json(row, 2)? })
        })
    }

    fn last_event(&self, job: &JobId, attempt: u32) -> Result<Option<Sequence>> {
        let sql = "SELECT max(sequence) FROM job_events \
                   WHERE job = (SELECT number FROM jobs WHERE job_id = ?1) AND sequence >= ?2 AND sequence < ?3";
        let from = integer(Sequence::new(attempt, 0).as_u64())?;
        let until = integer(Sequence::end_of(attempt).as_u64())?;
        let last =
            self.first(sql, params![job.to_string(), from, until], |row| get::<Option<i64>>(row, 0))?;
        Ok(last.flatten().map(|last| Sequence::from_u64(last.unsigned_abs())))
    }

    fn insert_event(&mut self, job: &JobId, event: &ControlEvent) -> Result<()> {
        let sql = "INSERT INTO job_events (job, sequence, at, kind) \
                   VALUES ((SELECT number FROM jobs WHERE job_id = ?1), ?2, ?3, ?4) \
                   ON CONFLICT (job, sequence) DO NOTHING";
        let sequence = integer(event.sequence.as_u64())?;
        self.run(sql, params![job.to_string(), sequence, event.at.as_millis(), to_json(&event.kind)?])
            .map(drop)
    }
}

fn sequence(row: &Row<'_>, column: usize) -> Result<Sequence, Error> {
    number(row, column).map(Sequence::from_u64)
}

#[cfg(test)]
mod tests {
    use rusqlite::{Connection, Params, StatementStatus};

    use super::*;

    const WAITING: i64 = 100_000;

    /// A queue in which jobs of many owners wait in two lanes, at three priorities, every tenth delayed.
    fn queue() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(include_str!("schema.sql")).unwrap();
        connection.execute_batch(include_str!("schema_2.sql")).unwrap();
        connection.execute_batch(include_str!("schema_3.sql")).unwrap();
        let fill = "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?1) \
                    INSERT INTO jobs (job_id, queue, owner, state, visible_at, attempt, handed_back, reason, created_at, \
                                      is_unique, alike, spec, lane, rank, place) \
                    SELECT 'job-' || n, 'default', 'owner-' || (n % 51), 'scheduled', 0, 0, 0, '', 0, 0, x'00', '{}', \
                           iif(n % 4 = 0, 'gpu', ''), n / 51, \
                           iif(n % 10 = 0, ?2 + n, ((100 - n % 3) << 48) + n / 51) FROM numbers";
        connection.execute(fill, params![WAITING, LAST_IN_LINE + 1]).unwrap();
        connection
    }

    /// How many rows of an index or a table a statement looks at, at most: each takes the machine some steps.
    fn steps(connection: &Connection, sql: &str, params: impl Params) -> (usize, i32) {
        let mut statement = connection.prepare(sql).unwrap();
        let rows = statement.query_map(params, |_| Ok(())).unwrap().count();
        (rows, statement.get_status(StatementStatus::VmStep))
    }

    fn plan(connection: &Connection, sql: &str, params: impl Params) -> Vec<String> {
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let lines = statement.query_map(params, |row| row.get(3)).unwrap();
        lines.map(Result::unwrap).collect()
    }

    #[test]
    fn a_lease_looks_at_few_rows_beyond_those_that_it_takes() {
        let connection = queue();
        for lane in ["", "gpu"] {
            for (from, until) in [(0, LAST_IN_LINE), (LAST_IN_LINE + 1, i64::MAX)] {
                let standing = |limit: i64| ("default", lane, from, until, limit);
                let (rows, one) = steps(&connection, STANDING, standing(1));
                assert_eq!(rows, 1);
                let (rows, many) = steps(&connection, STANDING, standing(64));
                assert_eq!(rows, 64);
                assert!(one < 100 && many < 64 * one, "{one} steps for a job, {many} for 64");
                let plan = plan(&connection, STANDING, standing(1));
                assert_eq!(
                    plan,
                    ["SEARCH jobs USING INDEX jobs_line (queue=? AND lane=? AND place>? AND place<?)"]
                );
            }
            let (_, first) = steps(&connection, FIRST_PLACE, params!["default", lane, 0]);
            let priority = [in_line(1, 0), in_line(1, u64::MAX)];
            let last = params!["default", lane, "owner-7", priority[0], priority[1]];
            let (rows, last) = steps(&connection, LAST_PLACE, last);
            assert_eq!(rows, 1);
            assert!(first < 50 && last < 50, "{first} and {last} steps");
        }
        let (lanes, steps) = steps(&connection, LANES, ["default"]);
        assert_eq!(lanes, 2);
        assert!(steps < 200, "{steps} steps for two lanes");
    }

    #[test]
    fn nothing_of_the_line_is_scanned_or_sorted() {
        let connection = queue();
        let lanes = plan(&connection, LANES, ["default"]);
        let first = plan(&connection, FIRST_PLACE, params!["default", "", 0]);
        let last = plan(&connection, LAST_PLACE, params!["default", "", "owner-7", 0, 1]);
        for line in lanes.iter().chain(&first).chain(&last) {
            assert!(!line.starts_with("SCAN jobs") && !line.contains("TEMP B-TREE"), "{line}");
        }
    }
}
