//! Opening files so that it never waits: of a fifo the opening waits for another process, maybe for ever.

use std::{
    fs::{self, File, FileType, OpenOptions},
    io::{self, Read as _},
    path::Path,
};

/// Opens a regular file.
///
/// # Errors
/// As [`OpenOptions::open`]; [`io::ErrorKind::InvalidInput`] saying what there is where it is no regular file.
pub fn open(options: &OpenOptions, path: &Path) -> io::Result<File> {
    open_if(options, path, FileType::is_file)
}

/// The bytes of a regular file, or of a character device such as `/dev/null`.
///
/// # Errors
/// As [`open`], and those of reading.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_if(OpenOptions::new().read(true), path, is_file_or_device)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The text of a regular file, or of a character device such as `/dev/null`.
///
/// # Errors
/// As [`read`]; [`io::ErrorKind::InvalidData`] for what is not UTF-8.
pub fn read_to_string(path: &Path) -> io::Result<String> {
    String::from_utf8(read(path)?).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Refuses what is there and is neither a regular file nor a directory.
///
/// # Errors
/// As [`open`].
pub fn check(path: &Path) -> io::Result<()> {
    check_kind(fs::metadata(path)?.file_type(), |kind| kind.is_file() || kind.is_dir())
}

/// Makes a folder unless it is there. Its parent must be: a data folder that was moved away is not to come back empty.
///
/// # Errors
/// As [`fs::create_dir`].
pub fn make_folder(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

fn open_if(options: &OpenOptions, path: &Path, may_be: fn(&FileType) -> bool) -> io::Result<File> {
    // What is not there may be made by opening it.
    if let Ok(found) = fs::metadata(path) {
        check_kind(found.file_type(), may_be)?;
    }
    #[cfg_attr(not(target_os = "linux"), expect(unused_mut))]
    let mut options = options.clone();
    // Something else may have come in its place since.
    #[cfg(target_os = "linux")]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK);
    let file = options.open(path)?;
    check_kind(file.metadata()?.file_type(), may_be)?;
    Ok(file)
}

fn check_kind(kind: FileType, may_be: fn(&FileType) -> bool) -> io::Result<()> {
    if may_be(&kind) {
        return Ok(());
    }
    let found = name(kind);
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("it is {found}, not a regular file")))
}

fn is_file_or_device(kind: &FileType) -> bool {
    #[cfg(unix)]
    let device = std::os::unix::fs::FileTypeExt::is_char_device(kind);
    #[cfg(not(unix))]
    let device = false;
    kind.is_file() || device
}

fn name(kind: FileType) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt as _;

        if kind.is_fifo() {
            return "a fifo";
        }
        if kind.is_socket() {
            return "a socket";
        }
        if kind.is_block_device() || kind.is_char_device() {
            return "a device";
        }
    }
    if kind.is_dir() { "a directory" } else { "something else" }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn what_is_no_regular_file_is_named_and_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        rustix::fs::mknodat(rustix::fs::CWD, at("fifo"), rustix::fs::FileType::Fifo, 0o600.into(), 0)
            .unwrap();
        let _listener = UnixListener::bind(at("socket")).unwrap();
        fs::create_dir(at("folder")).unwrap();
        for (name, found) in [("fifo", "a fifo"), ("socket", "a socket"), ("folder", "a directory")] {
            let expected = format!("it is {found}, not a regular file");
            let mut writing = OpenOptions::new();
            writing.create(true).truncate(false).write(true);
            for options in [OpenOptions::new().read(true), &writing] {
                assert_eq!(open(options, &at(name)).unwrap_err().to_string(), expected, "{name}");
            }
            assert_eq!(read_to_string(&at(name)).unwrap_err().to_string(), expected, "{name}");
            assert_eq!(check(&at(name)).is_ok(), name == "folder");
        }
    }

    #[test]
    fn files_and_the_null_device_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        assert_eq!(read(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
        fs::write(&path, "text").unwrap();
        assert_eq!(read_to_string(&path).unwrap(), "text");
        assert_eq!(read(Path::new("/dev/null")).unwrap(), b"");
        fs::write(&path, [0xff]).unwrap();
        assert_eq!(read_to_string(&path).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
