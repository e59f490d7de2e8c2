//! What one sync of this machine's disk takes: the price of every commit.

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::time::Instant;

use hdrhistogram::Histogram;

const WRITES: usize = 300;

/// Microseconds up to a minute, to three digits.
pub fn micros() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("good bounds")
}

/// Writes 4 KiB and syncs, again and again, in the folder that the servers write to.
pub fn sync_time(folder: &Path) -> String {
    let path = folder.join("sync");
    let mut file = File::create(&path).expect("a file in the data folder");
    let block = [0x5a_u8; 4096];
    let mut times = micros();
    for _ in 0..WRITES {
        file.seek(SeekFrom::Start(0)).expect("the beginning");
        let begin = Instant::now();
        file.write_all(&block).expect("written");
        file.sync_data().expect("synced");
        times.saturating_record(u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX));
    }
    let _ = std::fs::remove_file(path);
    let at = |quantile| times.value_at_quantile(quantile);
    format!("disk: 4 KiB and fdatasync, {WRITES} times: p50 {} us, p99 {} us", at(0.5), at(0.99))
}
