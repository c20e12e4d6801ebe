//! What a daemon would find on this machine, and what of it stands in its way or slows it down.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
    time::{Duration, Instant},
};

use crate::{config::Config, model};

/// A disk that syncs fewer times a second makes each acknowledged write wait for longer than people notice.
const SLOW_FSYNCS: f64 = 50.0;
/// How long the disk is tried.
const TRY_DISK: Duration = Duration::from_millis(500);
/// Connections and files that a busy daemon may have open.
const OPEN_FILES: u64 = 4096;
const GIB: u64 = 1 << 30;

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub what: &'static str,
    /// How it is.
    pub found: String,
    /// What to do about it; none where it is well.
    pub advice: Option<String>,
}

/// Looks at what a daemon with this configuration would meet. Writes nothing but a small file beside the data, which it removes.
pub fn examine(config: &Config) -> Vec<Finding> {
    let mut findings = vec![processor(config), memory(config), device(config)];
    findings.extend(folder(config));
    findings.extend(disk(&config.data_dir, config.min_free_bytes));
    findings.extend(open_files());
    findings
}

fn finding(what: &'static str, found: impl Into<String>, advice: Option<&str>) -> Finding {
    Finding { what, found: found.into(), advice: advice.map(str::to_owned) }
}

fn processor(config: &Config) -> Finding {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let instructions = model::kernels::instructions();
    let found = format!(
        "{} with {instructions}, {cores} cores, {} threads compute",
        std::env::consts::ARCH,
        config.threads
    );
    let advice = if config.threads > cores {
        Some("more threads than cores make everything slower; lower `threads`")
    } else if instructions == model::kernels::PORTABLE {
        Some(
            "without AVX2 and FMA learning and answering take much longer; use another machine if speed matters",
        )
    } else {
        None
    };
    finding("processor", found, advice)
}

fn memory(config: &Config) -> Finding {
    let limit = config.training_memory_limit;
    let found = format!("{} MiB for a training at most", limit >> 20);
    let advice = "large models may not fit; give the daemon more memory, or set training_memory_limit";
    finding("memory", found, (limit < GIB).then_some(advice))
}

fn device(config: &Config) -> Finding {
    match config.device.open() {
        Ok(device) => finding("device", format!("networks learn on {device}"), None),
        Err(error) => {
            finding("device", error.to_string(), Some("the daemon does not start like this; see docs/gpu.md"))
        }
    }
}

fn folder(config: &Config) -> Vec<Finding> {
    let path = &config.data_dir;
    let Ok(metadata) = fs::metadata(path) else {
        return vec![finding(
            "data folder",
            format!("{} is not there yet; the daemon makes it", path.display()),
            None,
        )];
    };
    let mut findings = Vec::new();
    let bytes = fs::metadata(path.join("db/db")).map_or(0, |database| database.len());
    let open = is_open_to_others(&metadata);
    findings.push(finding(
        "data folder",
        format!("{}, database of {} MiB", path.display(), bytes >> 20),
        open.then_some("others of this machine can read it; chmod 700"),
    ));
    if path.join("restoring").exists() {
        let advice = "restoring a backup was not finished; remove the folder and restore again";
        findings.push(finding("data folder", "holds the file restoring", Some(advice)));
    }
    findings
}

#[cfg(unix)]
fn is_open_to_others(metadata: &fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    metadata.permissions().mode() & 0o077 != 0
}

#[cfg(not(unix))]
fn is_open_to_others(_metadata: &fs::Metadata) -> bool {
    false
}

/// The disk of the data folder, or of the first folder above it that is there.
fn disk(path: &Path, min_free_bytes: Option<u64>) -> Vec<Finding> {
    let Some(folder) = path.ancestors().find(|folder| folder.is_dir()) else { return Vec::new() };
    let mut findings = Vec::new();
    if let Some((free, needed)) = crate::store::free_and_needed_bytes(folder) {
        let needed = min_free_bytes.unwrap_or(needed);
        let found = format!("{} MiB free", free >> 20);
        let advice = format!("below {} MiB nothing more is taken in; make room", needed >> 20);
        findings.push(Finding { what: "disk", found, advice: (free < 2 * needed).then_some(advice) });
    }
    let trial = folder.join(format!(".taxond-doctor-{}", std::process::id()));
    let rate = fsyncs_per_second(&trial);
    // It may not have been made at all.
    let _removed = fs::remove_file(&trial);
    findings.push(match rate {
        Ok(rate) => {
            let advice = "each acknowledged write waits for one; a disk with a write cache that survives a power cut is faster";
            finding("disk", format!("{rate:.0} fsyncs a second"), (rate < SLOW_FSYNCS).then_some(advice))
        }
        Err(error) => finding(
            "disk",
            format!("{} cannot be written: {error}", folder.display()),
            Some("the daemon needs to write there; mend the permissions, or name another --data-dir"),
        ),
    });
    findings
}

fn fsyncs_per_second(file: &Path) -> io::Result<f64> {
    let mut file = File::create_new(file)?;
    let (start, mut count) = (Instant::now(), 0_u32);
    while start.elapsed() < TRY_DISK {
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        count += 1;
    }
    Ok(f64::from(count) / start.elapsed().as_secs_f64())
}

#[cfg(target_os = "linux")]
fn open_files() -> Option<Finding> {
    use rustix::process::{Resource, getrlimit};
    // None is no limit.
    let most = getrlimit(Resource::Nofile).current?;
    let advice = format!(
        "each connection is one; allow {OPEN_FILES}: `ulimit -n {OPEN_FILES}`, or LimitNOFILE= of the unit"
    );
    let found = format!("{most} at a time");
    Some(Finding { what: "open files", found, advice: (most < OPEN_FILES).then_some(advice) })
}

#[cfg(not(target_os = "linux"))]
fn open_files() -> Option<Finding> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    fn examined(path: &Path) -> Vec<Finding> {
        let settings = Settings { data_dir: Some(path.to_owned()), ..Settings::default() };
        examine(&Config::new(settings).unwrap())
    }

    #[test]
    fn a_folder_is_looked_at_and_left_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("a/b");
        let findings = examined(&missing);
        assert!(
            findings.iter().any(|finding| finding.found.ends_with("is not there yet; the daemon makes it"))
        );
        assert!(findings.iter().any(|finding| finding.found.ends_with("fsyncs a second")), "{findings:?}");
        assert!(!missing.exists() && fs::read_dir(dir.path()).unwrap().next().is_none());
    }

    #[cfg(unix)]
    #[test]
    fn what_is_wrong_comes_with_advice() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("restoring"), "").unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let advice: Vec<String> =
            examined(dir.path()).into_iter().filter_map(|finding| finding.advice).collect();
        assert!(advice.iter().any(|advice| advice.contains("chmod 700")), "{advice:?}");
        assert!(advice.iter().any(|advice| advice.contains("restore again")), "{advice:?}");
    }
}
