//! What an `OutputStore` must do.

use airunner_core::{
    JobId, KeptOutput, Label, OutputChunk, OutputRead, OutputStream, Result, Sequence, Stores,
};

use super::{
    OUTPUT_LIMIT,
    world::{NOW, World, after, race, refused},
};

const PLENTY: usize = 1 << 30;

pub async fn no_byte_is_changed(stores: Stores) {
    let world = World::new(stores);
    let job = world.job().id;
    let every_byte: Vec<u8> = (0..=255).collect();
    let chunks = [
        chunk(1, 1, b"plain\r\n"),
        OutputChunk { stream: OutputStream::Stderr, ..chunk(1, 2, &every_byte) },
        chunk(1, 5, b""),
        chunk(1, 6, "ünïcode \u{1F980}".as_bytes()),
    ];
    append(&world, job, &chunks[..2]).await.unwrap();
    append(&world, job, &chunks[2..]).await.unwrap();
    let read = read(&world, job, Sequence::default(), PLENTY).await;
    assert_eq!(read, OutputRead { chunks: chunks.to_vec(), lost_until: None });
}

pub async fn reading_goes_on_where_it_was(stores: Stores) {
    let world = World::new(stores);
    let job = world.job().id;
    let chunks: Vec<_> = (1..=20).map(|n| chunk(1, n, format!("line {n}\n").as_bytes())).collect();
    append(&world, job, &chunks).await.unwrap();
    let mut place = Sequence::default();
    let mut found = Vec::new();
    loop {
        // Room for about three, and at least one however little room there is.
        let got = read(&world, job, place, if found.is_empty() { 1 } else { 24 }).await;
        let Some(last) = got.chunks.last() else { break };
        assert!(got.chunks.len() <= 4);
        place = last.sequence;
        found.extend(got.chunks);
    }
    assert_eq!(found, chunks);
    // From any place, known or not.
    let from = read(&world, job, Sequence::new(1, 17), PLENTY).await;
    assert_eq!(from.chunks, chunks[17..]);
    assert_eq!(read(&world, job, Sequence::new(2, 0), PLENTY).await, OutputRead::default());
}

pub async fn a_reader_follows_a_writer(stores: Stores) {
    let world = World::new(stores);
    let job = world.job().id;
    let mut place = Sequence::default();
    for n in 1..=30 {
        let new = chunk(1, n, format!("line {n}\n").as_bytes());
        append(&world, job, std::slice::from_ref(&new)).await.unwrap();
        let got = read(&world, job, place, PLENTY).await;
        assert_eq!(got.chunks, [new]);
        place = got.chunks[0].sequence;
        assert_eq!(read(&world, job, place, PLENTY).await, OutputRead::default());
    }
}

pub async fn what_is_kept_already_is_dropped(stores: Stores) {
    let world = World::new(stores);
    let job = world.job().id;
    append(&world, job, &[chunk(1, 1, b"a"), chunk(1, 4, b"b")]).await.unwrap();
    let again = [chunk(1, 1, b"x"), chunk(1, 3, b"between"), chunk(1, 4, b"y"), chunk(1, 5, b"c")];
    append(&world, job, &again).await.unwrap();
    append(&world, job, &again).await.unwrap();
    let read = read(&world, job, Sequence::default(), PLENTY).await;
    assert_eq!(read.chunks, [chunk(1, 1, b"a"), chunk(1, 4, b"b"), chunk(1, 5, b"c")]);
}

pub async fn attempts_follow_one_another(stores: Stores) {
    let world = World::new(stores);
    let job = world.job().id;
    append(&world, job, &[chunk(1, 1, b"first"), chunk(1, 9, b"first again")]).await.unwrap();
    append(&world, job, &[chunk(2, 1, b"second")]).await.unwrap();
    append(&world, job, &[chunk(11, 1, b"eleventh")]).await.unwrap();
    let read = read(&world, job, Sequence::new(1, 1), PLENTY).await;
    let expected = [chunk(1, 9, b"first again"), chunk(2, 1, b"second"), chunk(11, 1, b"eleventh")];
    assert_eq!(read.chunks, expected);
    let last = async |attempt| world.stores.output.last_output(&job, attempt).await.unwrap();
    assert_eq!(last(1).await, Some(Sequence::new(1, 9)));
    assert_eq!(last(2).await, Some(Sequence::new(2, 1)));
    assert_eq!(last(3).await, None);
    assert_eq!(last(11).await, Some(Sequence::new(11, 1)));
}

pub async fn a_job_without_output_has_none(stores: Stores) {
    let world = World::new(stores);
    let job = world.job().id;
    assert_eq!(read(&world, job, Sequence::default(), PLENTY).await, OutputRead::default());
    assert_eq!(world.stores.output.last_output(&job, 1).await.unwrap(), None);
    append(&world, job, &[]).await.unwrap();
    assert_eq!(read(&world, job, Sequence::default(), PLENTY).await, OutputRead::default());
}

pub async fn jobs_do_not_share_output(stores: Stores) {
    let world = World::new(stores);
    let jobs: Vec<_> = (0..8).map(|_| world.job().id).collect();
    race(jobs.iter().map(|job| {
        let (world, job) = (world.clone(), *job);
        async move {
            for n in 1..=10 {
                append(&world, job, &[chunk(1, n, format!("{job} {n}").as_bytes())]).await.unwrap();
            }
        }
    }))
    .await;
    for job in jobs {
        let expected: Vec<_> = (1..=10).map(|n| chunk(1, n, format!("{job} {n}").as_bytes())).collect();
        assert_eq!(read(&world, job, Sequence::default(), PLENTY).await.chunks, expected);
    }
}

pub async fn appends_to_one_job_do_not_mix(stores: Stores) {
    let world = World::new(stores);
    let job = world.job().id;
    race((0..8).map(|_| {
        let world = world.clone();
        async move {
            for n in 1..=10 {
                append(&world, job, &[chunk(1, n, format!("line {n}").as_bytes())]).await.unwrap();
            }
        }
    }))
    .await;
    let expected: Vec<_> = (1..=10).map(|n| chunk(1, n, format!("line {n}").as_bytes())).collect();
    assert_eq!(read(&world, job, Sequence::default(), PLENTY).await.chunks, expected);
}

pub async fn the_oldest_goes_when_there_is_too_much(stores: Stores) {
    let world = World::new(stores);
    let job = world.job().id;
    let size = 32 * 1024;
    let count = 3 * OUTPUT_LIMIT / size;
    for n in 1..=count {
        append(&world, job, &[chunk(1, n, &vec![u8::try_from(n % 251).unwrap(); 32 * 1024])]).await.unwrap();
    }
    let mut found = read(&world, job, Sequence::default(), PLENTY).await;
    let kept: u64 = found.chunks.iter().map(|chunk| chunk.bytes.len() as u64).sum();
    assert!(kept <= OUTPUT_LIMIT, "{kept} bytes are kept");
    assert!(kept >= OUTPUT_LIMIT / 2, "only {kept} bytes are kept");
    // What is there is whole and reaches to the end; what is gone is said to be.
    let lost = found.lost_until.unwrap();
    let places: Vec<_> = found.chunks.iter().map(|chunk| chunk.sequence.n()).collect();
    assert_eq!(places, (places[0]..=count).collect::<Vec<_>>());
    assert!(Sequence::new(1, 1) <= lost && lost < found.chunks[0].sequence);
    assert!(lost >= Sequence::new(1, places[0] - 1), "nobody says where {lost} to {} went", places[0]);
    assert!(found.chunks.iter().all(|chunk| u64::from(chunk.bytes[0]) == chunk.sequence.n() % 251));
    // Who asks for what is there still is not bothered with it.
    found = read(&world, job, lost, PLENTY).await;
    assert_eq!(found.lost_until, None);
    assert_eq!(found.chunks.len(), places.len());
    assert_eq!(world.stores.output.last_output(&job, 1).await.unwrap(), Some(Sequence::new(1, count)));
}

pub async fn large_batches_are_kept_whole(stores: Stores) {
    let world = World::new(stores);
    let job = world.job().id;
    let largest = chunk(1, 1, &vec![1; 256 * 1024]);
    let batch: Vec<_> = (2..=6).map(|n| chunk(1, n, &vec![2; 40 * 1024])).collect();
    append(&world, job, std::slice::from_ref(&largest)).await.unwrap();
    append(&world, job, &batch).await.unwrap();
    let found = read(&world, job, Sequence::default(), PLENTY).await;
    assert_eq!(found.chunks[0], largest);
    assert_eq!(found.chunks[1..], batch);
}

pub async fn what_no_worker_sends_is_refused(stores: Stores) {
    let world = World::new(stores);
    let job = world.job().id;
    let too_large = chunk(1, 1, &vec![0; 256 * 1024 + 1]);
    refused(append(&world, job, &[too_large]).await, Label::TooLarge);
    let out_of_order = [chunk(1, 2, b"b"), chunk(1, 1, b"a")];
    refused(append(&world, job, &out_of_order).await, Label::InvalidArgument);
    let two_attempts = [chunk(1, 2, b"b"), chunk(2, 1, b"a")];
    refused(append(&world, job, &two_attempts).await, Label::InvalidArgument);
    assert_eq!(read(&world, job, Sequence::default(), PLENTY).await, OutputRead::default());
}

pub async fn what_is_kept_is_listed_by_job(stores: Stores) {
    let world = World::new(stores);
    let mut jobs: Vec<_> = (0..7).map(|_| world.job().id).collect();
    for job in &jobs {
        append(&world, *job, &[chunk(1, 1, &[1; 1_000])]).await.unwrap();
        append(&world, *job, &[chunk(1, 2, &[2; 1_000]), chunk(1, 3, &[3; 1_000])]).await.unwrap();
    }
    jobs.sort_unstable();
    let mut found = Vec::new();
    loop {
        let after = found.last().map(|kept: &KeptOutput| kept.job_id);
        let some = world.stores.output.kept_outputs(after, 3).await.unwrap();
        assert!(some.len() <= 3);
        if some.is_empty() {
            break;
        }
        found.extend(some);
    }
    assert_eq!(found.iter().map(|kept| kept.job_id).collect::<Vec<_>>(), jobs);
    assert!(found.iter().all(|kept| (3_000..4_000).contains(&kept.bytes)), "{found:?}");
}

pub async fn what_was_let_go_is_said_to_be_gone(stores: Stores) {
    let world = World::new(stores);
    let (job, other) = (world.job().id, world.job().id);
    append(&world, job, &[chunk(1, 1, b"first")]).await.unwrap();
    append(&world, job, &[chunk(2, 1, b"second"), chunk(2, 7, b"last")]).await.unwrap();
    append(&world, other, &[chunk(1, 1, b"another's")]).await.unwrap();
    assert!(world.stores.output.release_output(&job).await.unwrap() >= 15);
    let found = read(&world, job, Sequence::default(), PLENTY).await;
    assert_eq!(found.chunks, []);
    let lost = found.lost_until.unwrap();
    // All of it, and not the end of the attempt.
    assert!(Sequence::new(2, 7) <= lost && lost < Sequence::end_of(2), "{lost}");
    assert_eq!(read(&world, job, lost, PLENTY).await, OutputRead::default());
    let kept = world.stores.output.kept_outputs(None, 10).await.unwrap();
    let bytes = kept.iter().find(|kept| kept.job_id == job).map(|kept| kept.bytes);
    assert_eq!(bytes, Some(0));
    assert_eq!(read(&world, other, Sequence::default(), PLENTY).await.chunks, [chunk(1, 1, b"another's")]);
    // There is nothing left to let go, of this job and of one that printed nothing.
    assert_eq!(world.stores.output.release_output(&job).await.unwrap(), 0);
    let silent = world.job().id;
    assert_eq!(world.stores.output.release_output(&silent).await.unwrap(), 0);
    assert_eq!(read(&world, silent, Sequence::default(), PLENTY).await, OutputRead::default());
    assert_eq!(read(&world, job, Sequence::default(), PLENTY).await.lost_until, Some(lost));
}

pub async fn what_was_removed_was_never_there(stores: Stores) {
    let world = World::new(stores);
    let (job, released) = (world.job().id, world.job().id);
    for job in [job, released] {
        append(&world, job, &[chunk(1, 1, b"bytes")]).await.unwrap();
    }
    world.stores.output.release_output(&released).await.unwrap();
    assert!(world.stores.output.remove_output(&job).await.unwrap() >= 5);
    assert_eq!(world.stores.output.remove_output(&released).await.unwrap(), 0);
    assert_eq!(world.stores.output.remove_output(&job).await.unwrap(), 0);
    for job in [job, released] {
        assert_eq!(read(&world, job, Sequence::default(), PLENTY).await, OutputRead::default());
        assert_eq!(world.stores.output.last_output(&job, 1).await.unwrap(), None);
    }
    assert_eq!(world.stores.output.kept_outputs(None, 10).await.unwrap(), []);
}

fn chunk(attempt: u32, n: u64, bytes: &[u8]) -> OutputChunk {
    let at = if n == 1 { NOW } else { after(n) };
    OutputChunk {
        sequence: Sequence::new(attempt, n),
        at,
        stream: OutputStream::Stdout,
        bytes: bytes.to_vec().into(),
    }
}

async fn append(world: &World, job: JobId, chunks: &[OutputChunk]) -> Result<()> {
    world.stores.output.append_output(&job, chunks).await
}

async fn read(world: &World, job: JobId, after: Sequence, max_bytes: usize) -> OutputRead {
    world.stores.output.output_after(&job, after, max_bytes).await.unwrap()
}
