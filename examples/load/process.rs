//! What processes use, as the system tells.

use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System, get_current_pid};

/// Processor time that this process has used, in seconds. None where the system does not tell.
pub(crate) fn own_cpu_seconds() -> Option<f64> {
    let pid = get_current_pid().ok()?;
    let system = looked_at(pid, ProcessRefreshKind::nothing().with_cpu())?;
    system.process(pid).map(|process| process.accumulated_cpu_time() as f64 / 1e3)
}

/// Memory of a process that is in RAM, in bytes. None where there is no such process, or the system does not tell.
pub(crate) fn resident_bytes(pid: u32) -> Option<u64> {
    let pid = Pid::from_u32(pid);
    let system = looked_at(pid, ProcessRefreshKind::nothing().with_memory())?;
    system.process(pid).map(sysinfo::Process::memory)
}

fn looked_at(pid: Pid, kind: ProcessRefreshKind) -> Option<System> {
    let mut system = System::new().ok()?;
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, kind);
    Some(system)
}
