//! Segment files after a crash, and under two servers.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use airunner_core::{JobId, OutputChunk, OutputStream, Sequence, Stores};
use airunner_testkit::records;

use crate::world::{NOW, Place, random};

fn chunk(n: u64, bytes: &[u8]) -> OutputChunk {
    OutputChunk {
        sequence: Sequence::new(1, n),
        at: NOW,
        stream: OutputStream::Stdout,
        bytes: bytes.to_vec().into(),
    }
}

/// The job's segment files, in order.
fn segments(place: &Place, job: JobId) -> Vec<PathBuf> {
    let dir = place.path().join("output").join(job.to_string());
    let mut paths: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
    paths.sort();
    paths
}

fn cut(path: &Path, bytes: u64) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(file.metadata().unwrap().len() - bytes).unwrap();
}

async fn read(stores: &Stores, job: JobId) -> Vec<OutputChunk> {
    let read = stores.output.output_after(&job, Sequence::default(), usize::MAX).await.unwrap();
    assert_eq!(read.lost_until, None);
    read.chunks
}

#[tokio::test]
async fn what_is_let_go_leaves_the_disk_and_what_is_removed_leaves_no_directory() {
    let place = Place::new();
    let store = place.open();
    let job = records::job("w1", NOW, random()).id;
    let dir = place.path().join("output").join(job.to_string());
    for n in 1..=30 {
        store.stores().output.append_output(&job, &[chunk(n, &vec![7; 64 * 1024])]).await.unwrap();
    }
    let on_disk: u64 = segments(&place, job).iter().map(|path| path.metadata().unwrap().len()).sum();
    assert!(segments(&place, job).len() > 1);
    assert_eq!(store.stores().output.release_output(&job).await.unwrap(), on_disk);
    assert_eq!(segments(&place, job), Vec::<PathBuf>::new());
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "word of it is left");
    // What is no job's is not ours to list or to remove.
    let strange = place.path().join("output/lost+found");
    fs::create_dir(&strange).unwrap();
    store.stores().output.remove_output(&job).await.unwrap();
    assert!(!dir.exists());
    assert_eq!(store.stores().output.kept_outputs(None, 10).await.unwrap(), []);
    assert!(strange.exists());
}

#[tokio::test]
async fn a_removal_that_was_cut_off_is_found_and_finished() {
    let place = Place::new();
    let store = place.open();
    let job = records::job("w1", NOW, random()).id;
    store.stores().output.append_output(&job, &[chunk(1, b"output")]).await.unwrap();
    store.close();
    // As it is when a crash comes after the first file.
    fs::remove_file(&segments(&place, job)[0]).unwrap();
    let stores = place.open().stores();
    let kept = stores.output.kept_outputs(None, 10).await.unwrap();
    assert_eq!(kept.iter().map(|kept| (kept.job_id, kept.bytes)).collect::<Vec<_>>(), [(job, 0)]);
    stores.output.remove_output(&job).await.unwrap();
    assert!(!place.path().join("output").join(job.to_string()).exists());
}

#[tokio::test]
async fn a_torn_tail_is_cut_off_and_written_again() {
    for torn in [1, 4, 20, 32] {
        let place = Place::new();
        let job = records::job("w1", NOW, random()).id;
        let store = place.open();
        store.stores().output.append_output(&job, &[chunk(1, b"whole")]).await.unwrap();
        store.stores().output.append_output(&job, &[chunk(2, b"torn")]).await.unwrap();
        store.close();
        cut(&segments(&place, job)[0], torn);
        let stores = place.open().stores();
        assert_eq!(read(&stores, job).await, [chunk(1, b"whole")], "{torn} bytes torn off");
        assert_eq!(stores.output.last_output(&job, 1).await.unwrap(), Some(Sequence::new(1, 1)));
        stores.output.append_output(&job, &[chunk(2, b"again"), chunk(3, b"more")]).await.unwrap();
        let expected = [chunk(1, b"whole"), chunk(2, b"again"), chunk(3, b"more")];
        assert_eq!(read(&stores, job).await, expected);
    }
}

#[tokio::test]
async fn what_a_crash_left_behind_the_tail_is_no_output() {
    let place = Place::new();
    let job = records::job("w1", NOW, random()).id;
    let stores = place.open().stores();
    stores.output.append_output(&job, &[chunk(1, b"whole")]).await.unwrap();
    for garbage in [&[0; 100][..], b"ao\x02\x01\0\0\0\x05 not what it says", b"x"] {
        let mut file = OpenOptions::new().append(true).open(&segments(&place, job)[0]).unwrap();
        file.write_all(garbage).unwrap();
        assert_eq!(read(&stores, job).await.len(), 1);
    }
    stores.output.append_output(&job, &[chunk(2, b"more")]).await.unwrap();
    assert_eq!(read(&stores, job).await, [chunk(1, b"whole"), chunk(2, b"more")]);
}

#[tokio::test]
async fn a_segment_that_was_begun_and_never_written_is_no_loss() {
    let place = Place::new();
    let job = records::job("w1", NOW, random()).id;
    let store = place.open();
    store.stores().output.append_output(&job, &[chunk(1, b"whole")]).await.unwrap();
    store.close();
    let first = segments(&place, job).remove(0);
    fs::write(first.with_file_name("0000000001-0000000000007.seg"), "").unwrap();
    let stores = place.open().stores();
    assert_eq!(stores.output.last_output(&job, 1).await.unwrap(), Some(Sequence::new(1, 1)));
    let late = [chunk(1, b"again"), chunk(7, b"seven")];
    stores.output.append_output(&job, &late).await.unwrap();
    assert_eq!(read(&stores, job).await, [chunk(1, b"whole"), chunk(7, b"seven")]);
}

#[tokio::test]
async fn two_servers_take_turns() {
    let place = Place::new();
    let job = records::job("w1", NOW, random()).id;
    let (one, two) = (place.open(), place.open());
    let mut expected = Vec::new();
    for n in 1..=40 {
        let stores = if n % 3 == 0 { one.stores() } else { two.stores() };
        let new = chunk(n, &vec![u8::try_from(n).unwrap(); 20_000]);
        // The last one comes again, as after a lost answer.
        let batch: Vec<_> = expected.last().cloned().into_iter().chain([new.clone()]).collect();
        stores.output.append_output(&job, &batch).await.unwrap();
        expected.push(new);
    }
    assert!(segments(&place, job).len() > 5);
    assert_eq!(read(&one.stores(), job).await, expected);
    assert_eq!(read(&two.stores(), job).await, expected);
}

#[tokio::test]
async fn output_is_there_after_opening_again() {
    let place = Place::new();
    let job = records::job("w1", NOW, random()).id;
    let store = place.open();
    let chunks: Vec<_> = (1..=30).map(|n| chunk(n, &[7; 10_000])).collect();
    for one in &chunks {
        store.stores().output.append_output(&job, std::slice::from_ref(one)).await.unwrap();
    }
    store.close();
    let stores = place.open().stores();
    assert_eq!(read(&stores, job).await, chunks);
    assert_eq!(stores.output.last_output(&job, 1).await.unwrap(), Some(Sequence::new(1, 30)));
}
