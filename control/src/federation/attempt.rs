//! One attempt to get a trust domain's bundle, and what is asked of the answer.

use std::time::{Duration, SystemTime};

use countersign_identity::bundle::{BundleJsonError, SpiffeBundle};
use countersign_identity::keys::{AddressRule, FetchError, Fetcher, Outgoing};
use countersign_identity::{Bundle, SpiffeId};
use countersign_policy::document::EndpointProfile;
use url::Url;

use super::Follower;

/// How long one request may take, from name resolution to the last byte.
const LIMIT: Duration = Duration::from_secs(10);

/// Why there is no newer bundle.
#[derive(Debug, thiserror::Error)]
pub(super) enum AttemptError {
    #[error(
        "the bundle endpoint's address {url:?} is not an https URL with a host and nothing secret in it"
    )]
    Url { url: String },
    #[error(
        "there is no bundle yet by which the endpoint's SVID of {id} could be verified; give the first one with \
         `federation: [{{trustDomain: {domain}, bundleFile: …}}]` in the control plane's configuration",
        domain = id.trust_domain()
    )]
    NoBundle { id: SpiffeId },
    #[error(transparent)]
    Fetch(Box<FetchError>),
    #[error("{url} answered {status}; expected 200 OK")]
    Status { url: Url, status: u16 },
    #[error(transparent)]
    Document(#[from] BundleJsonError),
    #[error(
        "the sequence of the bundle goes back from {held} to {sequence}: an old one is not taken"
    )]
    Older { held: u64, sequence: u64 },
    #[error(
        "none of the bundle's {authorities} X.509 authorities is valid now, so that it could verify nobody"
    )]
    NoneValid { authorities: usize },
}

impl From<FetchError> for AttemptError {
    fn from(error: FetchError) -> Self {
        Self::Fetch(Box::new(error))
    }
}

/// Fetches what the endpoint publishes.
pub(super) async fn fetch(follower: &Follower) -> Result<SpiffeBundle, AttemptError> {
    let endpoint = &follower.endpoint;
    let url = checked(&endpoint.url)?;
    let addresses = if follower.reach.allow_private_addresses {
        AddressRule::Any
    } else {
        AddressRule::PublicOnly
    };
    let fetcher = match &endpoint.profile {
        EndpointProfile::HttpsWeb => Fetcher::new(addresses, follower.reach.ca_file.clone(), LIMIT),
        EndpointProfile::HttpsSpiffe(id) => {
            let bundle = bundle_of(follower, id)?;
            Fetcher::of_spiffe(addresses, bundle, id.clone(), LIMIT)
        }
    };
    let reply = fetcher
        .send(Outgoing {
            url: &url,
            bearer: None,
            content: None,
        })
        .await?;
    if reply.status.as_u16() != 200 {
        let status = reply.status.as_u16();
        return Err(AttemptError::Status { url, status });
    }
    Ok(SpiffeBundle::parse(
        follower.trust_domain.clone(),
        &reply.text,
    )?)
}

/// The bundle that speaks for the endpoint's ID. Mostly it is the one that is followed, as it was last (SPIFFE Federation
/// §5.2.2); the endpoint may be of another trust domain, which is followed, too, or is the mesh's own.
fn bundle_of(follower: &Follower, id: &SpiffeId) -> Result<Bundle, AttemptError> {
    let world = follower.world.borrow();
    let own = world.bundle.as_ref();
    let own = own.filter(|bundle| bundle.trust_domain() == id.trust_domain());
    let foreign = || world.federation.get(id.trust_domain())?.bundle.as_ref();
    match own.or_else(foreign) {
        Some(bundle) => Ok(Bundle::clone(bundle)),
        None => Err(AttemptError::NoBundle { id: id.clone() }),
    }
}

fn checked(text: &str) -> Result<Url, AttemptError> {
    let is_plain = |url: &Url| {
        url.scheme() == "https"
            && url.host_str().is_some()
            && url.username().is_empty()
            && url.password().is_none()
            && url.fragment().is_none()
    };
    Url::parse(text).ok().filter(is_plain).ok_or_else(|| {
        // A user name or password in it is not for the log.
        let url = text.rsplit_once('@').map_or(text, |(_, host)| host);
        AttemptError::Url {
            url: url.to_owned(),
        }
    })
}

/// Whether a bundle may take the place of the one that is held.
///
/// That a trust domain may publish a bundle without keys, to say that none is believed any more (SPIFFE Trust Domain and
/// Bundle §4.1), is not followed here: an endpoint's mistake must not end every call. Taking the `TrustDomain` document out
/// of the policy does.
pub(super) fn check(
    bundle: &Bundle,
    held: Option<&Bundle>,
    now: SystemTime,
) -> Result<(), AttemptError> {
    let (sequence, held) = (bundle.sequence(), held.map_or(0, Bundle::sequence));
    if sequence != 0 && sequence < held {
        return Err(AttemptError::Older { held, sequence });
    }
    if !bundle.is_current(now) {
        let authorities = bundle.x509_authorities().len();
        return Err(AttemptError::NoneValid { authorities });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use countersign_identity::TrustDomain;
    use countersign_identity::testing::TestAuthority;

    use super::*;

    #[test]
    fn an_older_bundle_and_one_of_nobody_are_not_taken() {
        let trust_domain = TrustDomain::parse("partner.example").unwrap();
        let authority = TestAuthority::new(&trust_domain).unwrap();
        let of = |sequence| {
            let authorities = vec![authority.root().clone()];
            Bundle::new(trust_domain.clone(), authorities, sequence).unwrap()
        };
        let now = SystemTime::now();
        let held = of(7);
        for sequence in [7, 8, 0] {
            check(&of(sequence), Some(&held), now).unwrap();
        }
        let error = check(&of(6), Some(&held), now).unwrap_err();
        assert!(error.to_string().contains("from 7 to 6"), "{error}");
        check(&of(6), None, now).unwrap();
        check(&of(6), Some(&of(0)), now).unwrap();
        // The authority's certificate is valid from 2020 to 2120.
        let long_ago = SystemTime::UNIX_EPOCH;
        let error = check(&of(8), Some(&held), long_ago).unwrap_err();
        assert!(
            matches!(error, AttemptError::NoneValid { authorities: 1 }),
            "{error}"
        );
    }

    #[test]
    fn what_is_secret_in_an_address_is_not_told() {
        checked("https://partner.example/bundle?x=1").unwrap();
        for bad in [
            "https://me:hunter2@partner.example/",
            "http://partner.example/",
            "https://partner.example/#hunter2@x",
            "nothing",
        ] {
            let error = checked(bad).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
