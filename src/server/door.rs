//! Who is asked who they are, and what a call takes.

use std::{
    path::PathBuf,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::{
    auth::Directory,
    rate::Bucket,
    roles::{Needs, Rpc},
};
use crate::{
    error::{Error, Result},
    registry::ModelId,
    service::{Identity, Peer, Said},
};

/// A call that is not let in.
#[derive(Debug)]
pub(super) struct Refusal {
    /// Who made it, where that is known.
    pub(super) who: Option<Arc<Identity>>,
    /// Why it is not.
    pub(super) cause: Error,
}

/// Decides about calls. What it goes by can be read again.
#[derive(Debug)]
pub(super) struct Door {
    /// None where nobody is asked who they are.
    known: Option<(PathBuf, ArcSwap<Directory>)>,
    /// Tells open calls that what it goes by was read again.
    changed: watch::Sender<()>,
    anybody: Arc<Identity>,
    /// Calls a second of each identity.
    rate_limit: Option<u32>,
    /// Of all together who are not known by name.
    bucket: Option<Bucket>,
}

impl Door {
    /// Reads the file that says who is who; without one, everybody may do everything.
    ///
    /// # Errors
    /// As [`Directory::load`].
    pub(super) fn open(auth_file: Option<PathBuf>, rate_limit: Option<u32>) -> Result<Self> {
        let known = match auth_file {
            Some(path) => {
                let directory = ArcSwap::from_pointee(Directory::load(&path, rate_limit)?);
                Some((path, directory))
            }
            None => None,
        };
        let bucket = rate_limit.map(Bucket::new);
        let (changed, anybody) = (watch::Sender::new(()), Arc::new(Identity::anybody()));
        Ok(Self { known, changed, anybody, rate_limit, bucket })
    }

    /// Reads the file again; false where there is none. A wrong file changes nothing.
    ///
    /// # Errors
    /// As [`Directory::load`].
    pub(super) fn reload(&self) -> Result<bool> {
        let Some((path, directory)) = &self.known else { return Ok(false) };
        directory.store(Arc::new(Directory::load(path, self.rate_limit)?));
        self.changed.send_replace(());
        Ok(true)
    }

    /// Changes each time the file was read again; none where nobody is asked who they are.
    pub(super) fn changes(&self) -> Option<watch::Receiver<()>> {
        self.known.as_ref().map(|_| self.changed.subscribe())
    }

    /// Whether an open call of an identity may go on: the identity is known still by what it presented, and may make the call
    /// for the model that it named.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`]; [`Error::Denied`] with reason `ROLE_TOO_LOW` or `MODEL_NOT_ALLOWED`.
    pub(super) fn still_admits(
        &self,
        (rpc, identity, said): (Rpc, &Identity, &Said),
        authorization: Option<&[u8]>,
        peer: Option<&Peer>,
    ) -> Result<()> {
        let Some((_, directory)) = &self.known else { return Ok(()) };
        let now = directory.load().identify(authorization, peer)?;
        if now.name != identity.name {
            let description = "what was presented stands for another identity now".to_owned();
            return Err(Error::Unauthenticated { reason: "IDENTITY_CHANGED", description });
        }
        check_role(rpc, &now)?;
        let named = said.model.get().and_then(|id| ModelId::new(id).ok());
        let sees = match named {
            Some(id) => now.sees(&id),
            None => now.models.is_none() || !said.all_models.load(Relaxed),
        };
        if sees {
            return Ok(());
        }
        let description = format!("'{}' may not use the model of this call any more", now.name);
        Err(Error::Denied { reason: "MODEL_NOT_ALLOWED", description })
    }

    /// Who calls, if they may make this call.
    ///
    /// # Errors
    /// With [`Error::Unauthenticated`], [`Error::Denied`] with reason `ROLE_TOO_LOW`, or [`Error::Exhausted`] with reason
    /// `RATE_LIMITED`.
    pub(super) fn admit(
        &self,
        rpc: Rpc,
        authorization: Option<&[u8]>,
        peer: Option<&Peer>,
    ) -> Result<Arc<Identity>, Refusal> {
        if rpc.needs == Needs::Nothing {
            return Ok(Arc::clone(&self.anybody));
        }
        let Some((_, directory)) = &self.known else {
            let identity = self.without_directory(peer).map_err(|cause| Refusal { who: None, cause })?;
            return within(self.bucket.as_ref(), identity);
        };
        let directory = directory.load();
        let identity = directory.identify(authorization, peer);
        let identity = identity.map_err(|cause| Refusal { who: None, cause })?;
        let identity = within(directory.bucket(&identity), identity)?;
        match check_role(rpc, &identity) {
            Ok(()) => Ok(identity),
            Err(cause) => Err(Refusal { who: Some(identity), cause }),
        }
    }

    /// Everybody may do everything; who shows a certificate is known by its first name.
    fn without_directory(&self, peer: Option<&Peer>) -> Result<Arc<Identity>> {
        let name = match peer {
            Some(Peer::Tcp { certificate: Some(names), .. }) => names.first(),
            _ => None,
        };
        match name {
            Some(name) => {
                let Identity { role, models, .. } = Identity::anybody();
                Identity::named(name, role, models).map(Arc::new).map_err(|why| Error::Unauthenticated {
                    reason: "UNKNOWN_CERTIFICATE",
                    description: format!("the name in the certificate {why}"),
                })
            }
            None => Ok(Arc::clone(&self.anybody)),
        }
    }
}

/// Refuses a call that takes another role.
fn check_role(rpc: Rpc, identity: &Identity) -> Result<()> {
    match rpc.needs {
        Needs::Role(role) if identity.role < role => {
            let (Identity { name, role: has, .. }, method) = (identity, rpc.method());
            let description = format!("{method} takes the role {role}, and '{name}' has {has}");
            Err(Error::Denied { reason: "ROLE_TOO_LOW", description })
        }
        Needs::Role(_) | Needs::Identity | Needs::Nothing => Ok(()),
    }
}

/// Whoever calls, unless that is too often.
fn within(bucket: Option<&Bucket>, identity: Arc<Identity>) -> Result<Arc<Identity>, Refusal> {
    match bucket.map_or(Ok(()), Bucket::take) {
        Ok(()) => Ok(identity),
        Err(wait) => {
            let description = "too many calls; retry after a pause".to_owned();
            let cause = Error::Exhausted { reason: "RATE_LIMITED", description, retry_after: Some(wait) };
            Err(Refusal { who: Some(identity), cause })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::roles;

    #[test]
    fn a_certificate_whose_name_would_forge_an_author_is_no_identity() {
        let door = Door::open(None, None).unwrap();
        let rpc = roles::find("/taxond.v1.RegistryService/ListModels").unwrap();
        let address = "192.0.2.1:4711".parse().unwrap();
        let admitted = |name: &str| {
            let certificate = Some([name.to_owned()].as_slice().into());
            door.admit(rpc, None, Some(&Peer::Tcp { address, certificate }))
        };
        assert_eq!(admitted("ci").unwrap().name, "ci");
        for name in ["x via admin", "\u{1b}[31mred"] {
            let refusal = admitted(name).unwrap_err();
            let is_unknown =
                matches!(refusal.cause, Error::Unauthenticated { reason: "UNKNOWN_CERTIFICATE", .. });
            assert!(is_unknown, "{}", refusal.cause);
        }
    }
}
