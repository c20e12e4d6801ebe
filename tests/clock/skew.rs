//! Loaded before the C library into a process, makes its wall clock differ by CLOCK_SKEW_SECONDS. The
//! monotonic clock stays. A test compiles it; it needs nothing but the standard library.

use std::{
    env,
    ffi::{c_int, c_long},
    sync::LazyLock,
};

const CLOCK_REALTIME: c_int = 0;
#[cfg(target_arch = "x86_64")]
const SYS_CLOCK_GETTIME: c_long = 228;
#[cfg(target_arch = "aarch64")]
const SYS_CLOCK_GETTIME: c_long = 113;

/// `struct timespec` of 64-bit Linux.
#[repr(C)]
pub struct Timespec {
    seconds: i64,
    nanoseconds: c_long,
}

static SKEW: LazyLock<i64> = LazyLock::new(|| {
    let seconds = env::var("CLOCK_SKEW_SECONDS").ok();
    seconds.and_then(|seconds| seconds.parse().ok()).unwrap_or(0)
});

unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
}

/// The C library's function of this name.
///
/// # Safety
/// As that: `time` points to a place for the time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: c_int, time: *mut Timespec) -> c_int {
    // SAFETY: the caller gives what the system call takes.
    let result = unsafe { syscall(SYS_CLOCK_GETTIME, clock, time) } as c_int;
    if result == 0 && clock == CLOCK_REALTIME {
        // SAFETY: the system call has written it.
        unsafe { (*time).seconds += *SKEW };
    }
    result
}
