//! Both ends in one process, and each end against a peer that means harm.

use std::io::{Cursor, Read, Write};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::thread;

use proptest::prelude::*;
use rstest::rstest;
use tempfile::NamedTempFile;

use super::receive::{ReceiveError, Received};
use super::wire::{FromReceiver, FromSender};
use super::*;

const BLOCK: usize = 4096;

fn file(content: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(content).unwrap();
    file
}

fn geometry(size: usize) -> Geometry {
    Geometry::proposed(size as u64, u32::try_from(BLOCK).unwrap()).unwrap()
}

/// Blocks of different bytes, none of them zero.
fn content(blocks: usize) -> Vec<u8> {
    (0..blocks * BLOCK)
        .map(|at| u8::try_from((at / BLOCK * 7 + at % 251) % 255 + 1).unwrap())
        .collect()
}

/// A writer that breaks after so many bytes.
struct Cut<W>(W, usize);

impl<W: Write> Write for Cut<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let admitted = bytes.len().min(self.1);
        if admitted == 0 {
            return Err(std::io::ErrorKind::BrokenPipe.into());
        }
        self.1 -= admitted;
        self.0.write(&bytes[..admitted])
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

type Outcome = (Result<Sent, SendError>, Result<Received, ReceiveError>);

fn transfer(source: &NamedTempFile, target: &NamedTempFile, limit: usize) -> Outcome {
    let (here, there) = UnixStream::pair().unwrap();
    let device = Device::open_to_write(target.path()).unwrap();
    let receiving = thread::spawn(move || {
        let output = there.try_clone().unwrap();
        let outcome = receive(device, there.try_clone().unwrap(), output);
        there.shutdown(std::net::Shutdown::Both).ok();
        outcome
    });
    let device = Device::open(source.path()).unwrap();
    let geometry = geometry(usize::try_from(device.size()).unwrap());
    let output = Cut(here.try_clone().unwrap(), limit);
    let sent = send(
        device,
        geometry,
        (here.try_clone().unwrap(), output),
        |_| {},
    );
    here.shutdown(std::net::Shutdown::Both).ok();
    (sent, receiving.join().unwrap())
}

fn read(file: &NamedTempFile) -> Vec<u8> {
    std::fs::read(file.path()).unwrap()
}

#[test]
fn only_blocks_that_differ_travel() {
    let mut old = content(3000);
    let new = old.clone();
    for block in [0, 17, 18, 2999] {
        old[block * BLOCK + 5] = 0;
    }
    let (source, target) = (file(&new), file(&old));
    let (sent, received) = transfer(&source, &target, usize::MAX);
    let (sent, received) = (sent.unwrap(), received.unwrap());
    assert_eq!(read(&target), new);
    assert_eq!(sent.changed, 4 * BLOCK as u64);
    assert_eq!(received.written, 4 * BLOCK as u64);
    assert!(sent.out < 5 * BLOCK as u64, "{sent:?}");
    assert_eq!(sent.blocks_in_use, 3000);
    let (sent, _) = transfer(&source, &target, usize::MAX);
    let sent = sent.unwrap();
    assert_eq!(sent.changed, 0);
    assert!(sent.out < 200 && sent.back >= 3000 * 32, "{sent:?}");
}

#[test]
fn what_is_zero_takes_no_room_and_does_not_travel() {
    let old = content(2000);
    let mut new = vec![0; 2000 * BLOCK];
    new[500 * BLOCK] = 1;
    let (source, target) = (file(&new), file(&old));
    let (sent, received) = transfer(&source, &target, usize::MAX);
    assert_eq!(received.unwrap().written, 2000 * BLOCK as u64);
    assert!(sent.unwrap().out < 2 * BLOCK as u64);
    assert_eq!(read(&target), new);
    let allocated = std::fs::metadata(target.path()).unwrap().blocks() * 512;
    assert!(allocated <= 64 * 1024, "{allocated}");
}

#[test]
fn what_lies_beyond_the_sources_end_is_left_alone() {
    let (source, target) = (file(&content(10)), file(&vec![9; 12 * BLOCK + 100]));
    let (sent, received) = transfer(&source, &target, usize::MAX);
    assert_eq!(sent.unwrap().rest, 2 * BLOCK as u64 + 100);
    assert_eq!(received.unwrap().rest, 2 * BLOCK as u64 + 100);
    let now = read(&target);
    assert_eq!(now[..10 * BLOCK], content(10));
    assert!(now[10 * BLOCK..].iter().all(|byte| *byte == 9));
}

#[test]
fn a_smaller_device_is_refused_with_both_sizes_and_nothing_is_written() {
    let (source, target) = (file(&content(10)), file(&content(9)));
    let (sent, received) = transfer(&source, &target, usize::MAX);
    let Err(SendError::Refused(Refused::TooSmall(text))) = sent else {
        panic!("{sent:?}")
    };
    assert!(text.contains("36864") && text.contains("40960"), "{text}");
    assert!(received.is_err());
    assert_eq!(read(&target), content(9));
}

#[test]
fn a_transfer_that_was_cut_goes_on_where_it_was() {
    let (source, target) = (file(&content(4000)), file(&vec![0; 4000 * BLOCK]));
    let half = 2000 * BLOCK;
    let (sent, received) = transfer(&source, &target, half);
    assert!(sent.is_err() && received.is_err());
    let (sent, received) = transfer(&source, &target, usize::MAX);
    let sent = sent.unwrap();
    assert!(received.is_ok());
    assert_eq!(read(&target), content(4000));
    // What was under way when the connection broke is sent again.
    assert!(sent.changed < 3500 * BLOCK as u64, "{sent:?}");
    assert!(sent.changed > 1000 * BLOCK as u64, "{sent:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn both_devices_are_the_same_afterwards(
        blocks in prop::collection::vec((0_u8..3, 0_u8..3), 0..60),
        rest in 0_usize..BLOCK,
        more in 0_usize..3 * BLOCK,
    ) {
        let make = |pick: fn(&(u8, u8)) -> u8| {
            let mut bytes: Vec<u8> = blocks.iter().flat_map(|pair| vec![pick(pair); BLOCK]).collect();
            bytes.extend(vec![1; rest]);
            bytes
        };
        let (new, mut old) = (make(|pair| pair.0), make(|pair| pair.1));
        old.extend(vec![7; more]);
        let (source, target) = (file(&new), file(&old));
        let (sent, received) = transfer(&source, &target, usize::MAX);
        let differing = blocks.iter().filter(|(new, old)| new != old).count();
        prop_assert_eq!(sent.unwrap().changed, (differing * BLOCK) as u64);
        prop_assert_eq!(received.unwrap().written, (differing * BLOCK) as u64);
        let now = read(&target);
        prop_assert_eq!(&now[..new.len()], &new[..]);
        prop_assert_eq!(&now[new.len()..], &old[new.len()..]);
    }
}

// === a hostile sender ===

fn hello(size: u64, block: u32) -> FromSender {
    FromSender::Hello { size, block }
}

fn data(index: u64, length: usize) -> FromSender {
    FromSender::Data {
        index,
        bytes: vec![0xee; length],
    }
}

/// What a receiver with a device of ten blocks makes of these frames. The hashes of all ten are told before each frame
/// is read, because the stream is held back until then.
fn told(words: &[FromSender]) -> (Result<Received, ReceiveError>, Vec<u8>) {
    let target = file(&content(10));
    let device = Device::open_to_write(target.path()).unwrap();
    let (here, mut there) = UnixStream::pair().unwrap();
    let receiving = thread::spawn(move || receive(device, here.try_clone().unwrap(), here));
    let mut words = words.iter();
    words.next().unwrap().write(&mut there).unwrap();
    let mut hashes = 0;
    while hashes < 10 {
        match FromReceiver::read(&mut there) {
            Ok(FromReceiver::Hashes(more)) => hashes += more.len(),
            Ok(FromReceiver::Hello { .. }) => {}
            _ => break,
        }
    }
    for word in words {
        // A receiver that has heard enough hangs up.
        let _ = word.write(&mut there);
    }
    there.shutdown(std::net::Shutdown::Write).ok();
    let mut rest = Vec::new();
    let _ = there.read_to_end(&mut rest);
    (receiving.join().unwrap(), read(&target))
}

const SIZE: u64 = 10 * BLOCK as u64;

#[rstest]
#[case::blocks_of_no_power_of_two(vec![hello(SIZE, 5000)])]
#[case::blocks_of_nothing(vec![hello(SIZE, 0)])]
#[case::huge_blocks(vec![hello(SIZE, 1 << 30)])]
#[case::a_size_beyond_all_files(vec![hello(u64::MAX, 4096)])]
#[case::a_larger_device(vec![hello(SIZE + 1, 4096)])]
#[case::no_greeting(vec![data(0, BLOCK)])]
#[case::a_second_greeting(vec![hello(SIZE, 4096), hello(SIZE, 4096)])]
#[case::a_block_beyond_the_end(vec![hello(SIZE, 4096), data(10, BLOCK)])]
#[case::a_block_far_beyond_the_end(vec![hello(SIZE, 4096), data(u64::MAX, BLOCK)])]
#[case::a_short_block(vec![hello(SIZE, 4096), data(0, 100)])]
#[case::a_long_block(vec![hello(SIZE, 4096), data(0, BLOCK + 1)])]
#[case::zeros_beyond_the_end(vec![hello(SIZE, 4096), FromSender::Zero { first: 0, count: 11 }])]
#[case::zeros_that_wrap_around(vec![hello(SIZE, 4096), FromSender::Zero { first: 1, count: u64::MAX }])]
#[case::no_zeros(vec![hello(SIZE, 4096), FromSender::Zero { first: 0, count: 0 }])]
#[case::done_with_too_much(vec![hello(SIZE, 4096), FromSender::Done { upto: 11 }])]
#[case::an_early_end(vec![hello(SIZE, 4096), FromSender::End { digest: [0; 32] }])]
#[case::another_digest(vec![hello(SIZE, 4096), FromSender::Done { upto: 10 }, FromSender::End { digest: [0; 32] }])]
#[case::silence(vec![hello(SIZE, 4096)])]
fn a_hostile_sender_changes_nothing(#[case] words: Vec<FromSender>) {
    let (outcome, now) = told(&words);
    assert!(outcome.is_err(), "{outcome:?}");
    assert_eq!(now, content(10));
}

#[test]
fn a_sender_cannot_go_back() {
    let words = [hello(SIZE, 4096), data(5, BLOCK), data(4, BLOCK)];
    let (outcome, now) = told(&words);
    assert!(matches!(
        outcome,
        Err(ReceiveError::Refused(Refused::Protocol(_)))
    ));
    assert_eq!(now[4 * BLOCK..5 * BLOCK], content(10)[4 * BLOCK..5 * BLOCK]);
}

#[test]
fn a_sender_that_lies_about_what_it_sent_is_found_out() {
    let end = FromSender::End { digest: [1; 32] };
    let words = [
        hello(SIZE, 4096),
        data(0, BLOCK),
        FromSender::Done { upto: 10 },
        end,
    ];
    let (outcome, _) = told(&words);
    assert!(matches!(
        outcome,
        Err(ReceiveError::Refused(Refused::Mismatch(_)))
    ));
}

proptest! {
    #[test]
    fn no_bytes_make_either_end_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let target = file(&content(2));
        let device = Device::open_to_write(target.path()).unwrap();
        prop_assert!(receive(device, Cursor::new(bytes.clone()), Vec::new()).is_err());
        prop_assert_eq!(read(&target), content(2));
        let device = Device::open(target.path()).unwrap();
        let sent = send(device, geometry(2 * BLOCK), (Cursor::new(bytes), Vec::new()), |_| ());
        prop_assert!(sent.is_err());
    }
}

#[test]
fn a_frame_of_an_impossible_length_is_refused_before_room_is_made_for_it() {
    let mut bytes = vec![b'D'];
    bytes.extend(u32::MAX.to_le_bytes());
    assert!(FromSender::read(&mut Cursor::new(&bytes)).is_err());
    bytes[0] = b'H';
    assert!(FromReceiver::read(&mut Cursor::new(&bytes)).is_err());
}

// === a hostile receiver ===

fn answered(words: &[FromReceiver]) -> Result<Sent, SendError> {
    let source = file(&content(10));
    let mut bytes = Vec::new();
    for word in words {
        word.write(&mut bytes).unwrap();
    }
    let device = Device::open(source.path()).unwrap();
    send(
        device,
        geometry(10 * BLOCK),
        (Cursor::new(bytes), Vec::new()),
        |_| {},
    )
}

fn verdict(digest: BlockHash) -> FromReceiver {
    FromReceiver::Verdict { digest, written: 0 }
}

const LARGE_ENOUGH: FromReceiver = FromReceiver::Hello { size: SIZE };

#[rstest]
#[case::nothing(vec![])]
#[case::no_greeting(vec![FromReceiver::Hashes(vec![[0; 32]; 10])])]
#[case::a_device_too_small(vec![FromReceiver::Hello { size: SIZE - 1 }])]
#[case::too_few_hashes(vec![LARGE_ENOUGH, FromReceiver::Hashes(vec![[0; 32]; 9])])]
#[case::too_many_hashes(vec![LARGE_ENOUGH, FromReceiver::Hashes(vec![[0; 32]; 11]), verdict([0; 32])])]
#[case::a_verdict_without_hashes(vec![LARGE_ENOUGH, verdict([0; 32])])]
#[case::a_wrong_digest(vec![LARGE_ENOUGH, FromReceiver::Hashes(vec![[0; 32]; 10]), verdict([0; 32])])]
#[case::no_verdict(vec![LARGE_ENOUGH, FromReceiver::Hashes(vec![[0; 32]; 10])])]
fn a_hostile_receiver_is_not_believed(#[case] words: Vec<FromReceiver>) {
    assert!(answered(&words).is_err());
}

#[test]
fn a_receivers_reason_reaches_the_sender() {
    let refused = Refused::Full("no room\u{1b}[2J".to_owned());
    let words = [LARGE_ENOUGH, FromReceiver::Refused(refused)];
    let Err(SendError::Refused(Refused::Full(text))) = answered(&words) else {
        panic!()
    };
    assert!(!text.chars().any(char::is_control), "{text}");
}

#[test]
fn a_device_is_divided_so_that_its_hashes_stay_few() {
    assert_eq!(Geometry::of(1 << 30).block, 64 * 1024);
    assert_eq!(Geometry::of(1 << 37).block, 256 * 1024);
    assert_eq!(Geometry::of(1 << 42).block, 1024 * 1024);
    assert_eq!(Geometry::of(65 * 1024 + 1).blocks(), 2);
    assert_eq!(Geometry::of(0).blocks(), 0);
}

#[test]
fn a_device_of_zeros_is_known_as_such() {
    let zeros = |content: &[u8]| is_all_zero(&Device::open(file(content).path()).unwrap()).unwrap();
    assert!(zeros(&[]));
    assert!(zeros(&vec![0; 3 * 1024 * 1024 + 5]));
    let mut almost = vec![0; 2 * 1024 * 1024 + 5];
    *almost.last_mut().unwrap() = 1;
    assert!(!zeros(&almost));
}

#[test]
fn a_folder_is_no_device() {
    let folder = tempfile::tempdir().unwrap();
    assert!(Device::open(folder.path()).is_err());
}
