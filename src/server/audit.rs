//! The audit log: a line for each call that changes something or hands out everything, with who, what, to which model, and what became of it. It goes to
//! the tracing target `taxond::audit`, and holds nothing of what examples or reasons say.

use std::{sync::Arc, time::Instant};

use tonic::Code;
use tracing::info;

use super::{deadline::Deadline, roles::Rpc};
use crate::service::{Identity, Peer, Said};

/// The target of the lines.
const TARGET: &str = "taxond::audit";

/// A call that changes something, from its arrival on. Dropped before it was answered, it counts as cancelled, or as beyond its
/// deadline: the client went, and what it asked for may have been done.
pub(super) struct Audit {
    rpc: Rpc,
    who: String,
    from: Option<Peer>,
    said: Arc<Said>,
    started: Instant,
    /// None until it is answered.
    outcome: Option<Code>,
    deadline: Option<Deadline>,
}

impl Audit {
    pub(super) fn begin(
        rpc: Rpc,
        who: Option<&Identity>,
        from: Option<&Peer>,
        said: Arc<Said>,
        deadline: Option<Deadline>,
    ) -> Self {
        let who = who.map(|who| who.name.clone()).unwrap_or_default();
        Self { rpc, who, from: from.cloned(), said, started: Instant::now(), outcome: None, deadline }
    }

    /// Writes the line of a call that is answered.
    pub(super) fn answered(mut self, outcome: Code) {
        self.outcome = Some(outcome);
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        let outcome = self.outcome.unwrap_or_else(|| Deadline::outcome_of_reset(self.deadline));
        info!(
            target: TARGET,
            who = self.who,
            from = self.from.as_ref().map(Peer::to_string),
            rpc = self.rpc.method(),
            model = self.said.model.get(),
            request_id = self.said.request_id.get(),
            outcome = ?outcome,
            millis = self.started.elapsed().as_secs_f64() * 1000.0,
            "call"
        );
    }
}
