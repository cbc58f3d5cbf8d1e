//! Where a run's time and memory went, in the formats of the usual viewers:
//! `cpu.prof` (pprof protobuf), `flamegraph.svg`, and `mem.prof` (pprof heap
//! profile) in builds with the feature `heap-profile`.

use std::io;
use std::path::{Path, PathBuf};

use pprof::protos::Message;
use pprof::{ProfilerGuard, ProfilerGuardBuilder};

use super::allocator;

/// Not a round number, so that samples do not fall in step with timers.
const SAMPLES_PER_SECOND: i32 = 997;
/// Frames in which unwinding from a signal handler may deadlock.
const NEVER_UNWIND: [&str; 4] = ["libc", "libgcc", "pthread", "vdso"];

/// The profiler of this process; there can be one at a time.
#[must_use = "nothing is written before `finish`"]
pub struct Profiler {
    directory: PathBuf,
    cpu: Sampler,
    heap: Result<(), String>,
}

/// What a profiled run left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProfileFiles {
    /// CPU profile, pprof protobuf: `go tool pprof -http : cpu.prof`.
    pub cpu: PathBuf,
    /// The same samples as a picture: any browser.
    pub flamegraph: PathBuf,
    /// Heap profile, gzip of pprof protobuf.
    pub heap: Option<PathBuf>,
    /// Why there is no heap profile.
    pub note: Option<String>,
}

/// The profile could not be taken or written.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// There is one profiler in a process, and it is at work.
    #[error("a profile is being taken already")]
    Running,
    /// The sampler did not start, or its samples could not be read.
    #[error("cannot profile this process")]
    Sampler(#[source] pprof::Error),
    /// A file could not be written.
    #[error("cannot write the profile {}", file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl From<pprof::Error> for ProfileError {
    fn from(error: pprof::Error) -> Self {
        match error {
            pprof::Error::Running => ProfileError::Running,
            error => ProfileError::Sampler(error),
        }
    }
}

/// Samples this process until it is asked for what it has, or dropped; there can be one
/// at a time.
#[must_use = "sampling ends when this is dropped"]
pub struct Sampler(ProfilerGuard<'static>);

impl Sampler {
    /// Starts to sample.
    ///
    /// # Errors
    /// A profiler is running already, or none can be started.
    pub fn start() -> Result<Sampler, ProfileError> {
        let guard = ProfilerGuardBuilder::default()
            .frequency(SAMPLES_PER_SECOND)
            .blocklist(&NEVER_UNWIND)
            .build()?;
        Ok(Sampler(guard))
    }

    /// The samples as pprof protobuf.
    ///
    /// # Errors
    /// The samples cannot be read.
    pub fn pprof(&self) -> Result<Vec<u8>, ProfileError> {
        Ok(self.report()?.pprof()?.encode_to_vec())
    }

    /// The samples as a picture, SVG.
    ///
    /// # Errors
    /// The samples cannot be read or drawn.
    pub fn flamegraph(&self) -> Result<Vec<u8>, ProfileError> {
        let mut picture = Vec::new();
        let report = self.report()?;
        if report.data.is_empty() {
            // The drawing library refuses an empty picture; a run can be that short.
            picture.extend_from_slice(NO_SAMPLES);
        } else {
            report.flamegraph(&mut picture)?;
        }
        Ok(picture)
    }

    fn report(&self) -> Result<pprof::Report, ProfileError> {
        Ok(self.0.report().frames_post_processor(without_the_sampler).build()?)
    }
}

/// Starts to sample this process; the files are written into `directory`.
///
/// # Errors
/// The directory cannot be made, or a profiler is running already.
pub fn start(directory: &Path) -> Result<Profiler, ProfileError> {
    std::fs::create_dir_all(directory)
        .map_err(|source| ProfileError::Write { file: directory.to_owned(), source })?;
    let heap = allocator::start_heap_profile();
    Ok(Profiler { directory: directory.to_owned(), cpu: Sampler::start()?, heap })
}

impl Profiler {
    /// Writes the files. A heap profile that cannot be had is a note, not an error.
    ///
    /// # Errors
    /// The samples cannot be read or `cpu.prof` or `flamegraph.svg` cannot be written.
    pub fn finish(self) -> Result<ProfileFiles, ProfileError> {
        // Memory first: what is written below would count as the run's.
        let heap = self.heap.and_then(|()| allocator::heap_profile()).and_then(|profile| {
            let path = self.directory.join("mem.prof");
            std::fs::write(&path, profile).map(|()| path).map_err(|error| error.to_string())
        });
        let cpu = self.directory.join("cpu.prof");
        write(&cpu, &self.cpu.pprof()?)?;
        let flamegraph = self.directory.join("flamegraph.svg");
        write(&flamegraph, &self.cpu.flamegraph()?)?;
        let (heap, note) = match heap {
            Ok(path) => (Some(path), None),
            Err(why) => (None, Some(format!("mem.prof not written: {why}"))),
        };
        Ok(ProfileFiles { cpu, flamegraph, heap, note })
    }
}

/// Every stack ends in the sampler's own unwinding; without this, it would look
/// as if that was where all the time went.
fn without_the_sampler(stack: &mut pprof::Frames) {
    let samplers = |symbol: &pprof::Symbol| {
        let name = symbol.name();
        name.starts_with("backtrace::") || name.contains("pprof::backtrace")
    };
    let own = stack.frames.iter().take_while(|frame| frame.iter().any(samplers)).count();
    stack.frames.drain(..own);
}

fn write(path: &Path, content: &[u8]) -> Result<(), ProfileError> {
    std::fs::write(path, content)
        .map_err(|source| ProfileError::Write { file: path.to_owned(), source })
}

const NO_SAMPLES: &[u8] = br#"<svg xmlns="http://www.w3.org/2000/svg" width="480" height="40">
<text x="10" y="25">the run used too little CPU time for one sample</text></svg>
"#;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot be set up should fail loudly")]
mod tests {
    use std::hint::black_box;
    use std::time::{Duration, Instant};

    use pprof::protos::{Message, Profile};

    #[inline(never)]
    fn count_primes_slowly(until: Instant) -> u64 {
        let mut primes = 0;
        let mut candidate = 2u64;
        while Instant::now() < until {
            for _ in 0..64 {
                let prime = (2..candidate)
                    .take_while(|d| d * d <= candidate)
                    .all(|d| !candidate.is_multiple_of(d));
                primes += u64::from(black_box(prime));
                candidate += 1;
            }
        }
        primes
    }

    #[inline(never)]
    fn allocate_visibly() -> Vec<Vec<u8>> {
        (0..64).map(|fill| black_box(vec![fill; 1 << 20])).collect()
    }

    // One test, because a process has one profiler.
    #[test]
    fn the_profiles_name_our_functions() {
        let directory = tempfile::tempdir().unwrap();
        let profiler = super::start(&directory.path().join("profile")).unwrap();
        assert!(super::start(directory.path()).is_err(), "one profiler at a time");
        let held = allocate_visibly();
        black_box(count_primes_slowly(Instant::now() + Duration::from_millis(500)));
        let files = profiler.finish().unwrap();
        drop(held);

        let profile = Profile::decode(std::fs::read(&files.cpu).unwrap().as_slice()).unwrap();
        assert!(profile.string_table.iter().any(|name| name.contains("count_primes_slowly")));
        let sampler = |name: &String| name.contains("pprof::backtrace");
        assert!(!profile.string_table.iter().any(sampler), "the sampler is not our work");
        let picture = std::fs::read_to_string(&files.flamegraph).unwrap();
        assert!(picture.contains("<svg") && picture.contains("count_primes_slowly"));
        check_heap(&files);
    }

    #[cfg(feature = "heap-profile")]
    fn check_heap(files: &super::ProfileFiles) {
        assert_eq!(files.note, None);
        let compressed = std::fs::File::open(files.heap.as_ref().unwrap()).unwrap();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::MultiGzDecoder::new(compressed), &mut bytes)
            .unwrap();
        let profile = Profile::decode(bytes.as_slice()).unwrap();
        assert!(
            profile.string_table.iter().any(|name| name.contains("allocate_visibly")),
            "{:?}",
            profile.string_table
        );
    }

    #[cfg(not(feature = "heap-profile"))]
    fn check_heap(files: &super::ProfileFiles) {
        assert_eq!(files.heap, None);
        let note = "mem.prof not written: build with --features heap-profile";
        assert_eq!(files.note.as_deref(), Some(note));
    }
}
