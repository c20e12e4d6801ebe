//! Loaded before the C library into a process, makes the disk one that takes its time over a sync: each fsync and fdatasync takes
//! SLOW_DISK_MICROS microseconds more than the disk that is there. `cargo bench --bench store` compiles it; it needs nothing but
//! the standard library.

use std::{
    env,
    ffi::{c_char, c_int, c_void},
    sync::LazyLock,
    thread,
    time::Duration,
};

const RTLD_NEXT: *mut c_void = -1_isize as *mut c_void;

unsafe extern "C" {
    fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
}

type Sync = extern "C" fn(c_int) -> c_int;

static MORE: LazyLock<Duration> = LazyLock::new(|| {
    let micros = env::var("SLOW_DISK_MICROS").ok().and_then(|micros| micros.parse().ok());
    Duration::from_micros(micros.unwrap_or(0))
});

/// The function of the C library under the name, which ends with a zero.
fn real(name: &'static [u8]) -> Sync {
    // SAFETY: the name is a C string, and the next library in line defines the function, of this type.
    unsafe { std::mem::transmute::<*mut c_void, Sync>(dlsym(RTLD_NEXT, name.as_ptr().cast())) }
}

#[unsafe(no_mangle)]
extern "C" fn fsync(fd: c_int) -> c_int {
    static REAL: LazyLock<Sync> = LazyLock::new(|| real(b"fsync\0"));
    thread::sleep(*MORE);
    REAL(fd)
}

#[unsafe(no_mangle)]
extern "C" fn fdatasync(fd: c_int) -> c_int {
    static REAL: LazyLock<Sync> = LazyLock::new(|| real(b"fdatasync\0"));
    thread::sleep(*MORE);
    REAL(fd)
}
