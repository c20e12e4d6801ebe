//! Loaded before the C library into a process, records what it does to the files below a folder, in order: what was written
//! where, and which of it was synced. A test compiles it; it needs nothing but the standard library.
//!
//! POWER_CUT_FOLDER names the folder, POWER_CUT_LOG the file to append records to; each is a kind, two numbers and the length
//! of bytes that follow, numbers as 8 bytes little-endian:
//!
//! ```text
//! C object 0      path       the object was made under the path
//! W object offset data       data was written into it
//! T object length            it was cut or extended
//! B object id                a sync of it began; object 0 and a path for a folder
//! E object id                that sync ended well
//! R 0      0      old\0new   a path was renamed
//! U 0      0      path       a path was removed
//! ```
//!
//! With POWER_CUT_FAIL_BELOW, a path, the writes and syncs of files below it fail with EIO from the one with the number
//! POWER_CUT_FAIL_AT on, counted from 0, as many as POWER_CUT_FAILURES says.

use std::{
    collections::HashMap,
    env,
    ffi::{CStr, CString, c_char, c_int, c_uint, c_void},
    os::unix::ffi::OsStrExt as _,
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
};

const O_CREAT: c_int = 0o100;
const O_TRUNC: c_int = 0o1000;
const O_APPEND: c_int = 0o2000;
const O_WRONLY: c_int = 0o1;
const O_CLOEXEC: c_int = 0o2_000_000;
const SEEK_CUR: c_int = 1;
const F_OK: c_int = 0;
const EIO: c_int = 5;
const AT_FDCWD: c_int = -100;
const RTLD_NEXT: *mut c_void = -1_isize as *mut c_void;

unsafe extern "C" {
    fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
    fn access(path: *const c_char, mode: c_int) -> c_int;
    fn lseek64(fd: c_int, offset: i64, whence: c_int) -> i64;
    fn __errno_location() -> *mut c_int;
}

/// The function of the C library under the name.
macro_rules! real {
    ($name:literal as $type:ty) => {{
        static REAL: LazyLock<usize> = LazyLock::new(|| {
            // SAFETY: the name is a C string, and the next library in line defines the function.
            unsafe { dlsym(RTLD_NEXT, concat!($name, "\0").as_ptr().cast()) as usize }
        });
        // SAFETY: the type is that of the function in the C library.
        unsafe { std::mem::transmute::<usize, $type>(*REAL) }
    }};
}

type Open = extern "C" fn(*const c_char, c_int, c_uint) -> c_int;
type OpenAt = extern "C" fn(c_int, *const c_char, c_int, c_uint) -> c_int;
type Write = extern "C" fn(c_int, *const c_void, usize) -> isize;
type PWrite = extern "C" fn(c_int, *const c_void, usize, i64) -> isize;
type Truncate = extern "C" fn(c_int, i64) -> c_int;
type Sync = extern "C" fn(c_int) -> c_int;
type Rename = extern "C" fn(*const c_char, *const c_char) -> c_int;
type Unlink = extern "C" fn(*const c_char) -> c_int;

static RECORDER: LazyLock<Option<Mutex<Recorder>>> = LazyLock::new(|| {
    let folder = env::var_os("POWER_CUT_FOLDER")?.as_bytes().to_vec();
    let log = CString::new(env::var_os("POWER_CUT_LOG")?.as_bytes()).ok()?;
    let log = real!("open64" as Open)(log.as_ptr(), O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0o600);
    let failing = Failing::from_environment();
    (log >= 0).then(|| {
        Mutex::new(Recorder { folder, log, objects: 0, paths: HashMap::new(), open: HashMap::new(), failing })
    })
});

struct Recorder {
    folder: Vec<u8>,
    log: c_int,
    /// Objects made so far; their numbers count from 1.
    objects: u64,
    paths: HashMap<Vec<u8>, u64>,
    open: HashMap<c_int, Opened>,
    failing: Option<Failing>,
}

/// A disk that fails.
struct Failing {
    below: Vec<u8>,
    /// Writes and syncs that go well still, and that fail then.
    well: u64,
    ill: u64,
}

#[derive(Clone)]
struct Opened {
    object: u64,
    path: Vec<u8>,
}

impl Failing {
    fn from_environment() -> Option<Self> {
        let below = env::var_os("POWER_CUT_FAIL_BELOW")?.as_bytes().to_vec();
        let number = |name: &str| env::var(name).ok()?.parse().ok();
        Some(Self { below, well: number("POWER_CUT_FAIL_AT")?, ill: number("POWER_CUT_FAILURES")? })
    }

    /// Whether the disk fails now, under a path.
    fn strikes(&mut self, path: &[u8]) -> bool {
        if !path.starts_with(&self.below) {
            return false;
        }
        if self.well > 0 {
            self.well -= 1;
            return false;
        }
        let strikes = self.ill > 0;
        self.ill = self.ill.saturating_sub(1);
        strikes
    }
}

/// Whether the disk fails now, for a file; then the error number is set.
fn fails(fd: c_int) -> bool {
    let path = recorder().and_then(|recorder| Some(recorder.open.get(&fd)?.path.clone()));
    path.is_some_and(|path| fails_at(&path))
}

/// As [`fails`], under a path.
fn fails_at(path: &[u8]) -> bool {
    let strikes = recorder().is_some_and(|mut recorder| {
        recorder.failing.as_mut().is_some_and(|failing| failing.strikes(path))
    });
    if strikes {
        // SAFETY: the error number of this thread.
        unsafe { *__errno_location() = EIO };
    }
    strikes
}

fn recorder() -> Option<MutexGuard<'static, Recorder>> {
    Some(RECORDER.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
}

fn bytes<'a>(path: *const c_char) -> &'a [u8] {
    // SAFETY: the caller of the C function passes a C string.
    unsafe { CStr::from_ptr(path) }.to_bytes()
}

impl Recorder {
    fn record(&self, kind: u8, first: u64, second: u64, data: &[u8]) {
        let mut record = vec![kind];
        for number in [first, second, data.len() as u64] {
            record.extend(number.to_le_bytes());
        }
        record.extend(data);
        let written = real!("write" as Write)(self.log, record.as_ptr().cast(), record.len());
        assert_eq!(written, record.len() as isize, "the log takes all");
    }

    fn covers(&self, path: &[u8]) -> bool {
        path.starts_with(&self.folder)
    }

    fn opened(&mut self, fd: c_int, path: &[u8], flags: c_int, existed: bool) {
        self.open.remove(&fd);
        if !self.covers(path) {
            return;
        }
        let object = match self.paths.get(path) {
            Some(object) => *object,
            None if existed && flags & O_CREAT == 0 => 0,
            None => {
                self.objects += 1;
                self.paths.insert(path.to_vec(), self.objects);
                self.record(b'C', self.objects, 0, path);
                self.objects
            }
        };
        if object > 0 && flags & O_TRUNC != 0 {
            self.record(b'T', object, 0, &[]);
        }
        self.open.insert(fd, Opened { object, path: path.to_vec() });
    }

    fn written(&self, fd: c_int, offset: i64, data: &[u8]) {
        if let Some(Opened { object, .. }) = self.open.get(&fd).filter(|opened| opened.object > 0) {
            self.record(b'W', *object, offset as u64, data);
        }
    }
}

fn open_with(path: *const c_char, flags: c_int, open: impl FnOnce() -> c_int) -> c_int {
    // SAFETY: the path is a C string.
    let existed = unsafe { access(path, F_OK) } == 0;
    let fd = open();
    if fd >= 0
        && let Some(mut recorder) = recorder()
    {
        recorder.opened(fd, bytes(path), flags, existed);
    }
    fd
}

fn sync_with(fd: c_int, sync: impl FnOnce() -> c_int) -> c_int {
    if fails(fd) {
        return -1;
    }
    static IDS: Mutex<u64> = Mutex::new(0);
    let begun = recorder().and_then(|recorder| {
        let opened = recorder.open.get(&fd)?.clone();
        let mut ids = IDS.lock().unwrap_or_else(PoisonError::into_inner);
        *ids += 1;
        let path: &[u8] = if opened.object == 0 { &opened.path } else { &[] };
        recorder.record(b'B', opened.object, *ids, path);
        Some((opened.object, *ids))
    });
    let outcome = sync();
    if outcome == 0
        && let (Some((object, id)), Some(recorder)) = (begun, recorder())
    {
        recorder.record(b'E', object, id, &[]);
    }
    outcome
}

#[unsafe(no_mangle)]
extern "C" fn open64(path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    open_with(path, flags, || real!("open64" as Open)(path, flags, mode))
}

#[unsafe(no_mangle)]
extern "C" fn open(path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    open_with(path, flags, || real!("open" as Open)(path, flags, mode))
}

#[unsafe(no_mangle)]
extern "C" fn openat64(folder: c_int, path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    let open = || real!("openat64" as OpenAt)(folder, path, flags, mode);
    if folder == AT_FDCWD { open_with(path, flags, open) } else { open() }
}

#[unsafe(no_mangle)]
extern "C" fn write(fd: c_int, data: *const c_void, length: usize) -> isize {
    if fails(fd) {
        return -1;
    }
    // SAFETY: asks where the file stands.
    let offset = unsafe { lseek64(fd, 0, SEEK_CUR) };
    let written = real!("write" as Write)(fd, data, length);
    if written > 0
        && offset >= 0
        && let Some(recorder) = recorder()
    {
        // SAFETY: the caller passes so many bytes, and no more were written.
        recorder.written(fd, offset, unsafe { std::slice::from_raw_parts(data.cast(), written as usize) });
    }
    written
}

#[unsafe(no_mangle)]
extern "C" fn pwrite64(fd: c_int, data: *const c_void, length: usize, offset: i64) -> isize {
    if fails(fd) {
        return -1;
    }
    let written = real!("pwrite64" as PWrite)(fd, data, length, offset);
    if written > 0
        && let Some(recorder) = recorder()
    {
        // SAFETY: the caller passes so many bytes, and no more were written.
        recorder.written(fd, offset, unsafe { std::slice::from_raw_parts(data.cast(), written as usize) });
    }
    written
}

#[unsafe(no_mangle)]
extern "C" fn ftruncate64(fd: c_int, length: i64) -> c_int {
    if fails(fd) {
        return -1;
    }
    let outcome = real!("ftruncate64" as Truncate)(fd, length);
    if outcome == 0
        && let Some(recorder) = recorder()
        && let Some(Opened { object, .. }) = recorder.open.get(&fd).filter(|opened| opened.object > 0)
    {
        recorder.record(b'T', *object, length as u64, &[]);
    }
    outcome
}

#[unsafe(no_mangle)]
extern "C" fn fsync(fd: c_int) -> c_int {
    sync_with(fd, || real!("fsync" as Sync)(fd))
}

#[unsafe(no_mangle)]
extern "C" fn fdatasync(fd: c_int) -> c_int {
    sync_with(fd, || real!("fdatasync" as Sync)(fd))
}

#[unsafe(no_mangle)]
extern "C" fn rename(old: *const c_char, new: *const c_char) -> c_int {
    if fails_at(bytes(old)) {
        return -1;
    }
    let outcome = real!("rename" as Rename)(old, new);
    if outcome == 0
        && let Some(mut recorder) = recorder()
        && recorder.covers(bytes(old))
    {
        let (old, new) = (bytes(old), bytes(new));
        recorder.record(b'R', 0, 0, &[old, b"\0", new].concat());
        if let Some(object) = recorder.paths.remove(old) {
            recorder.paths.insert(new.to_vec(), object);
        }
    }
    outcome
}

#[unsafe(no_mangle)]
extern "C" fn unlink(path: *const c_char) -> c_int {
    if fails_at(bytes(path)) {
        return -1;
    }
    let outcome = real!("unlink" as Unlink)(path);
    if outcome == 0
        && let Some(mut recorder) = recorder()
        && recorder.covers(bytes(path))
    {
        recorder.record(b'U', 0, 0, bytes(path));
        recorder.paths.remove(bytes(path));
    }
    outcome
}
