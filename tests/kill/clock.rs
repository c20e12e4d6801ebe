//! Loaded before the C library into a process, moves its wall clock by CLOCK_OFFSET_SECONDS. A test compiles it; it needs nothing
//! but the standard library.

use std::{
    env,
    ffi::{c_char, c_int, c_long, c_void},
    sync::LazyLock,
};

const CLOCK_REALTIME: c_int = 0;
const RTLD_NEXT: *mut c_void = -1_isize as *mut c_void;

#[repr(C)]
pub struct Timespec {
    seconds: c_long,
    nanoseconds: c_long,
}

type ClockGetTime = extern "C" fn(c_int, *mut Timespec) -> c_int;

unsafe extern "C" {
    fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
}

static REAL: LazyLock<ClockGetTime> = LazyLock::new(|| {
    // SAFETY: the name is a C string, the next library in line defines the function, and it has this type.
    unsafe { std::mem::transmute::<*mut c_void, ClockGetTime>(dlsym(RTLD_NEXT, c"clock_gettime".as_ptr())) }
});

static OFFSET: LazyLock<c_long> = LazyLock::new(|| {
    env::var("CLOCK_OFFSET_SECONDS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(0)
});

/// # Safety
/// As that of the C library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: c_int, time: *mut Timespec) -> c_int {
    let outcome = REAL(clock, time);
    if outcome == 0 && clock == CLOCK_REALTIME {
        // SAFETY: the real function has just written there.
        unsafe { (*time).seconds += *OFFSET };
    }
    outcome
}
