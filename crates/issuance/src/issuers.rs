//! Issuers and authorities ready to sign: parsed once for each revision and shared by every request.
//!
//! It refuses to be stale: what is cached is compared with state's revisions at every use, and what was composed under
//! it carries those revisions as guards.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use certwright_core::ids::{AuthorityName, IssuerName, Serial, Uid};
use certwright_core::log::{Guard, Revision};
use certwright_core::mutant::{self, Mutant};
use certwright_core::spec::{AuthorityPurpose, IssuerKind, IssuerSpec};
use certwright_core::state::{Authority, State};
use certwright_core::x509::IssuerCertificate;
use certwright_core::{Reason, Rejection};
use certwright_custody::KeyRef;

use crate::chain;
use crate::sequencer::Check;
use crate::session::Session;

/// Cached issuers and authorities, beyond which all are parsed anew: far more than a cluster has.
const CACHED_MAX: usize = 1024;

/// An authority that can sign.
pub(crate) struct Signer {
    pub(crate) authority: AuthorityName,
    /// Serial of its own certificate.
    pub(crate) serial: Serial,
    pub(crate) certificate: IssuerCertificate,
    pub(crate) key: KeyRef,
    /// Its own certificate first, the root last.
    pub(crate) chain: Vec<Arc<[u8]>>,
    pub(crate) guard: Guard,
    /// Every authority of the chain as it was then.
    versions: Vec<(AuthorityName, Uid, Revision)>,
}

/// An issuer whose authority can sign.
pub(crate) struct Prepared {
    pub(crate) name: IssuerName,
    pub(crate) spec: IssuerSpec,
    pub(crate) signer: Arc<Signer>,
    uid: Uid,
    revision: Revision,
}

impl Signer {
    fn is_current(&self, state: &State) -> bool {
        self.versions.iter().all(|(name, uid, revision)| {
            state.authorities.get(name).is_some_and(|now| now.uid == *uid && now.revision == *revision)
        })
    }
}

impl Prepared {
    /// Whether state still says what this was prepared from; also for names that were deleted and made again.
    pub(crate) fn is_current(&self, state: &State) -> bool {
        if mutant::is(Mutant::PolicyOfYesterday) {
            return true;
        }
        let same = |now: &certwright_core::state::Issuer| now.uid == self.uid && now.revision == self.revision;
        state.issuers.get(&self.name).is_some_and(same) && self.signer.is_current(state)
    }

    /// What must not move between composing and appending.
    pub(crate) fn guards(&self) -> Vec<Guard> {
        if mutant::is(Mutant::PolicyOfYesterday) {
            return Vec::new();
        }
        vec![Guard { stream: self.name.stream(), revision: self.revision }, self.signer.guard.clone()]
    }

    /// The same as a check, which tells recreated names apart.
    pub(crate) fn check(self: &Arc<Self>) -> Check {
        let prepared = self.clone();
        Box::new(move |state| prepared.is_current(state))
    }
}

/// What was prepared in this term.
#[derive(Default)]
pub(crate) struct IssuerCache {
    issuers: Mutex<BTreeMap<IssuerName, Arc<Prepared>>>,
    signers: Mutex<BTreeMap<AuthorityName, Arc<Signer>>>,
}

/// What state says of an authority: copied out, so that parsing happens outside its lock.
struct Raw {
    authority: Authority,
    chain: Vec<Arc<[u8]>>,
    versions: Vec<(AuthorityName, Uid, Revision)>,
}

impl Raw {
    fn read(state: &State, name: &AuthorityName) -> Result<Self, Rejection> {
        let authorities = chain::authorities(state, name)?;
        let authority = authorities.first().map(|first| (*first).clone());
        Ok(Self {
            authority: authority
                .ok_or_else(|| Rejection::new(Reason::IssuerNotReady, format!("no authority {name}")))?,
            chain: chain::of(state, name)?,
            versions: chain::versions(&authorities),
        })
    }

    fn prepare(self) -> Result<Signer, Rejection> {
        let Self { authority, chain, versions } = self;
        let not_ready =
            || Rejection::new(Reason::IssuerNotReady, format!("authority {} is not certified", authority.name));
        let certified = authority.certified.as_ref().ok_or_else(not_ready)?;
        Ok(Signer {
            serial: certified.serial,
            certificate: IssuerCertificate::parse(&certified.certificate)?,
            key: KeyRef::of(&authority),
            guard: Guard { stream: authority.name.stream(), revision: authority.revision },
            authority: authority.name,
            chain,
            versions,
        })
    }
}

impl Session {
    /// The issuer, ready to sign. Rejects with ISSUER_NOT_FOUND, ISSUER_NOT_READY, NOT_YET_SUPPORTED.
    pub(crate) fn issuer(&self, name: &IssuerName) -> Result<Arc<Prepared>, Rejection> {
        let cached = lock(&self.issuers.issuers).get(name).cloned();
        let read = self.tools.log.read(|view| match cached {
            Some(cached) if cached.is_current(view.state) => Ok(Err(cached)),
            _ => read_issuer(view.state, name).map(Ok),
        });
        let (uid, revision, spec, raw) = match read? {
            Err(cached) => return Ok(cached),
            Ok(read) => read,
        };
        let signer = Arc::new(raw.prepare()?);
        let prepared = Arc::new(Prepared { name: name.clone(), spec, signer, uid, revision });
        remember(&self.issuers.issuers, name.clone(), prepared.clone());
        Ok(prepared)
    }

    /// The authority, ready to sign, whatever its purpose. Rejects with ISSUER_NOT_READY.
    pub(crate) fn signer(&self, name: &AuthorityName) -> Result<Arc<Signer>, Rejection> {
        let cached = lock(&self.issuers.signers).get(name).cloned();
        let read = self.tools.log.read(|view| match cached {
            Some(cached) if cached.is_current(view.state) => Ok(Err(cached)),
            _ => Raw::read(view.state, name).map(Ok),
        });
        let signer = match read? {
            Err(cached) => return Ok(cached),
            Ok(raw) => Arc::new(raw.prepare()?),
        };
        remember(&self.issuers.signers, name.clone(), signer.clone());
        Ok(signer)
    }
}

fn read_issuer(state: &State, name: &IssuerName) -> Result<(Uid, Revision, IssuerSpec, Raw), Rejection> {
    let missing = || Rejection::new(Reason::IssuerNotFound, format!("there is no issuer {name}"));
    let issuer = state.issuers.get(name).ok_or_else(missing)?;
    let IssuerKind::Ca { authority } = &issuer.spec.kind else {
        return Err(Rejection::new(
            Reason::NotYetSupported,
            format!("issuer {name} is of a kind that cannot issue yet"),
        ));
    };
    let raw = Raw::read(state, authority)?;
    if raw.authority.spec.purpose != AuthorityPurpose::Issuing {
        let message = format!("authority {authority} signs identities of this cluster and nothing else");
        return Err(Rejection::new(Reason::PolicyDenied, message));
    }
    Ok((issuer.uid, issuer.revision, issuer.spec.clone(), raw))
}

fn lock<T>(cache: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    cache.lock().unwrap_or_else(PoisonError::into_inner)
}

fn remember<K: Ord, V>(cache: &Mutex<BTreeMap<K, V>>, key: K, value: V) {
    let mut cache = lock(cache);
    if cache.len() >= CACHED_MAX {
        cache.clear();
    }
    cache.insert(key, value);
}
