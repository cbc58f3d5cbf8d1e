//! The allocator. With the feature `heap-profile` it is jemalloc, built to sample
//! one allocation in 512 KiB once asked to; without, the system's.

#[cfg(feature = "heap-profile")]
pub use jemalloc::{heap_profile, start_heap_profile};
#[cfg(not(feature = "heap-profile"))]
pub use system::{heap_profile, start_heap_profile};

#[cfg(feature = "heap-profile")]
mod jemalloc {
    use std::io::{Read, Write};

    use flate2::Compression;
    use flate2::read::MultiGzDecoder;
    use flate2::write::GzEncoder;
    use jemalloc_pprof::PROF_CTL;
    use pprof::protos::{Message, Profile};

    /// A regular expression of the pprof format: where it matches, the stack is cut.
    const ALLOCATOR_FRAMES: &str = concat!(
        "_rjem_.*|prof_backtrace_impl|do_rallocx|(m|c|re)alloc|",
        "__r(ust|dl|g)_(re)?alloc.*|<?alloc::alloc::.*",
    );

    #[global_allocator]
    static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

    /// Read by jemalloc before `main`: the sampler is there, asleep, and costs nothing.
    #[allow(
        unsafe_code,
        reason = "jemalloc takes its settings from a symbol of this name; \
        the name is jemalloc's own, and the value ends with a NUL as it expects"
    )]
    #[unsafe(export_name = "malloc_conf")]
    pub static MALLOC_CONF: &[u8] = b"prof:true,prof_active:false,lg_prof_sample:19\0";

    /// Starts to sample allocations.
    ///
    /// # Errors
    /// The reason as a sentence without a subject, for a note.
    pub fn start_heap_profile() -> Result<(), String> {
        // Keeps the settings in the binary: jemalloc's reference to them is a weak one.
        std::hint::black_box(MALLOC_CONF);
        let control = PROF_CTL.as_ref().ok_or("jemalloc's profiler is switched off")?;
        let mut control = control.try_lock().map_err(|_| "jemalloc's profiler is in use")?;
        control.activate().map_err(|error| error.to_string())
    }

    /// What is allocated now, by who allocated it: gzip of pprof protobuf.
    ///
    /// # Errors
    /// The reason as a sentence without a subject, for a note.
    pub fn heap_profile() -> Result<Vec<u8>, String> {
        let control = PROF_CTL.as_ref().ok_or("jemalloc's profiler is switched off")?;
        let mut control = control.try_lock().map_err(|_| "jemalloc's profiler is in use")?;
        let profile = control.dump_pprof().map_err(|error| error.to_string());
        control.deactivate().map_err(|error| error.to_string())?;
        name_the_callers(&profile?)
            .map_err(|error| format!("its format is not understood: {error}"))
    }

    /// Has viewers leave out the allocator's own frames, in which every stack
    /// ends, so that memory shows under the function that asked for it.
    fn name_the_callers(compressed: &[u8]) -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        MultiGzDecoder::new(compressed).read_to_end(&mut bytes)?;
        let mut profile = Profile::decode(bytes.as_slice()).map_err(std::io::Error::other)?;
        profile.drop_frames = i64::try_from(profile.string_table.len()).unwrap_or(0);
        profile.string_table.push(ALLOCATOR_FRAMES.to_owned());
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(&profile.encode_to_vec())?;
        encoder.finish()
    }
}

#[cfg(not(feature = "heap-profile"))]
mod system {
    const HOW: &str = "build with --features heap-profile";

    /// The system's allocator has no profiler.
    ///
    /// # Errors
    /// Always, with what to do.
    pub fn start_heap_profile() -> Result<(), String> {
        Err(HOW.to_owned())
    }

    /// The system's allocator has no profiler.
    ///
    /// # Errors
    /// Always, with what to do.
    pub fn heap_profile() -> Result<Vec<u8>, String> {
        Err(HOW.to_owned())
    }
}
