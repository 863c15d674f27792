//! Any file that calls itself a record: opened, verified and read, or refused with a reason. What
//! verifies as complete holds exactly the events of the record that it was made of.

use crate::golden;
use protocol::topics::EventRow;
use record::Record;
use record::verify::{Evidence, Options, verify};
use std::sync::OnceLock;

struct Golden {
    bytes: Vec<u8>,
    rows: Vec<EventRow>,
}

fn golden() -> &'static Golden {
    static GOLDEN: OnceLock<Golden> = OnceLock::new();
    GOLDEN.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("golden.thecal");
        let (pump, gateway) = golden::write_golden(&path);
        let bytes = std::fs::read(&path).expect("written just now");
        let mut rows = pump;
        rows.extend(gateway);
        Golden { bytes, rows }
    })
}

/// An even first byte: the rest is the file. Odd: five bytes a change of a good record, or where it
/// is cut.
pub(crate) fn body(input: &[u8]) -> bool {
    let golden = golden();
    let Some((first, rest)) = input.split_first() else {
        return false;
    };
    let bytes = if first % 2 == 0 {
        rest.to_vec()
    } else {
        let mut bytes = golden.bytes.clone();
        for change in rest.chunks_exact(5).take(32) {
            let at = u32::from_le_bytes([change[0], change[1], change[2], 0]);
            let at = usize::try_from(at).expect("small") % bytes.len().max(1);
            if change[3] == 0xff && change[4] == 0xff {
                bytes.truncate(at);
            } else if let Some(byte) = bytes.get_mut(at) {
                *byte ^= change[3];
            }
        }
        bytes
    };
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("any.thecal");
    std::fs::write(&path, &bytes).expect("a file");
    let Ok(record) = Record::open_read_only(&path) else {
        return false;
    };
    let mut rows = Vec::new();
    let read = record.for_each_event(|stored| {
        rows.push(stored.row);
        Ok(())
    });
    drop(record);
    let Ok(report) = verify(&path, &Options::default()) else {
        return false;
    };
    assert!(!report.line(&path).is_empty());
    if report.evidence == Evidence::Complete {
        assert!(read.is_ok(), "verified, and cannot be read");
        let key = |row: &EventRow| (row.source.to_string(), row.seq);
        rows.sort_by_key(key);
        let mut wanted = golden.rows.clone();
        wanted.sort_by_key(key);
        assert!(
            rows == wanted,
            "verified as complete, and holds other events"
        );
    }
    report.evidence != Evidence::Altered
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let start = |n: usize| {
        let mut seed = vec![0];
        seed.extend_from_slice(&golden().bytes[..n.min(golden().bytes.len())]);
        seed
    };
    vec![
        vec![1],
        vec![1, 18, 0, 0, 2, 0],
        vec![1, 0, 0x20, 0, 1, 0, 0x33, 0x31, 0, 0x40, 0],
        vec![1, 0, 0x40, 0, 0xff, 0xff],
        start(100),
        start(4_000),
        b"\0not a record at all".to_vec(),
    ]
}
