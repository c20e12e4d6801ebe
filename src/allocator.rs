//! How the allocator of the system keeps what was freed.

/// Blocks of so many bytes come from the system alone and go back to it at once; so much may stay free at the end of an arena.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGE: libc::c_int = 1 << 20;

/// Has glibc keep little of what a training or a version that was dropped took: as many arenas as there are cores instead of
/// eight times that, and no large blocks, whose bound it would raise by itself. For the start of the process, before there
/// are threads. Elsewhere it does nothing.
pub fn keep_little() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let arenas = libc::c_int::try_from(cores.max(2)).unwrap_or(libc::c_int::MAX);
        for (parameter, value) in
            [(libc::M_ARENA_MAX, arenas), (libc::M_MMAP_THRESHOLD, LARGE), (libc::M_TRIM_THRESHOLD, LARGE)]
        {
            // SAFETY: it takes two numbers. What it does not take, it leaves as it was.
            unsafe { libc::mallopt(parameter, value) };
        }
    }
}

/// Has glibc give back to the system what is free between what is in use, which it keeps otherwise: hundreds of megabytes after a
/// training or many publications. Elsewhere it does nothing.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it takes a number and may be called from any thread at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}
