//! The last good bundles on disk: what a restart begins with when their endpoints are out of reach.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use countersign_identity::bundle::SpiffeBundle;
use countersign_identity::{Bundle, TrustDomain};
use serde::{Deserialize, Serialize};

use crate::state::replace_file;

/// What a file's name ends with; before it is the trust domain's name, which has no separators.
const EXTENSION: &str = ".json";

/// A bundle, and when it was fetched.
#[derive(Debug, PartialEq)]
pub(super) struct Kept {
    pub(super) bundle: Bundle,
    pub(super) fetched_at: SystemTime,
}

/// As it is on disk.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    fetched_at: SystemTime,
    /// The SPIFFE bundle document.
    bundle: String,
}

/// Why a bundle is not kept, or what is kept is of no use.
#[derive(Debug, thiserror::Error)]
enum KeptError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Bundle(#[from] countersign_identity::bundle::BundleJsonError),
}

/// The directory of kept bundles, a file for each trust domain.
#[derive(Clone, Debug)]
pub(super) struct KeptBundles {
    directory: Arc<Path>,
}

impl KeptBundles {
    /// In a directory of its own below the control plane's state.
    pub(super) fn new(state_directory: &Path) -> Self {
        Self {
            directory: state_directory.join("federation").into(),
        }
    }

    fn file(&self, trust_domain: &TrustDomain) -> PathBuf {
        self.directory.join(format!("{trust_domain}{EXTENSION}"))
    }

    /// The bundle of an earlier run. What is damaged is told and left alone: the next good bundle replaces it.
    pub(super) fn load(&self, trust_domain: &TrustDomain) -> Option<Kept> {
        let path = self.file(trust_domain);
        match read(&path, trust_domain) {
            Ok(kept) => Some(kept),
            Err(KeptError::Io(error)) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                let path = path.display();
                tracing::warn!(%path, %error, "the kept bundle of a trust domain is not used");
                None
            }
        }
    }

    /// Keeps a bundle in place of the one before. Failing costs what a restart begins with, and nothing now.
    pub(super) fn save(&self, bundle: &Bundle, fetched_at: SystemTime) {
        let path = self.file(bundle.trust_domain());
        if let Err(error) = self.write(&path, bundle, fetched_at) {
            let path = path.display();
            tracing::error!(%path, %error, "a trust domain's bundle is in force, but not kept for the next start");
        }
    }

    fn write(&self, path: &Path, bundle: &Bundle, fetched_at: SystemTime) -> Result<(), KeptError> {
        let document = SpiffeBundle {
            bundle: bundle.clone(),
            refresh_hint: None,
        };
        let file = File {
            fetched_at,
            bundle: document.to_json()?,
        };
        fs::create_dir_all(&self.directory)?;
        Ok(replace_file(path, &serde_json::to_vec(&file)?)?)
    }

    /// Removes the bundles of all trust domains but those that are `wanted`.
    pub(super) fn forget_all_but(&self, wanted: impl Fn(&str) -> bool) {
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => {
                let path = self.directory.display();
                tracing::warn!(%path, %error, "cannot look for kept bundles");
                return;
            }
        };
        for path in entries.flatten().map(|entry| entry.path()) {
            let name = path.file_name().and_then(|name| name.to_str());
            let trust_domain = name.and_then(|name| name.strip_suffix(EXTENSION));
            if trust_domain.is_some_and(|trust_domain| !wanted(trust_domain))
                && let Err(error) = fs::remove_file(&path)
            {
                let path = path.display();
                tracing::warn!(%path, %error, "cannot remove a kept bundle that is not wanted any more");
            }
        }
    }
}

fn read(path: &Path, trust_domain: &TrustDomain) -> Result<Kept, KeptError> {
    let File { fetched_at, bundle } = serde_json::from_slice(&fs::read(path)?)?;
    let SpiffeBundle { bundle, .. } = SpiffeBundle::parse(trust_domain.clone(), &bundle)?;
    Ok(Kept { bundle, fetched_at })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use countersign_identity::testing::TestAuthority;

    use super::*;

    #[test]
    fn a_bundle_survives_and_goes_with_its_trust_domain() {
        let directory = tempfile::tempdir().unwrap();
        let names = ["partner.example", ".."].map(|name| TrustDomain::parse(name).unwrap());
        let kept = KeptBundles::new(directory.path());
        kept.forget_all_but(|_| false);
        for name in &names {
            assert_eq!(kept.load(name), None);
            let bundle = TestAuthority::new(name).unwrap().bundle().unwrap();
            let fetched_at = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
            kept.save(&bundle, fetched_at);
            kept.save(&bundle, fetched_at);
            assert_eq!(kept.load(name), Some(Kept { bundle, fetched_at }));
        }
        kept.forget_all_but(|name| name == "..");
        assert_eq!(kept.load(&names[0]), None);
        assert!(kept.load(&names[1]).is_some());
        fs::write(kept.file(&names[1]), "{}").unwrap();
        assert_eq!(kept.load(&names[1]), None);
    }
}
