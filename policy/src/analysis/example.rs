//! A point of a universe as a call that can be made, and the other way round.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use countersign_identity::SpiffeId;
use serde::Serialize;
use serde::ser::{SerializeMap as _, Serializer};

use super::claims::claims;
use super::diagram::{TooLarge, Value, Variable};
use super::headers::{ABSENT, OTHER_VALUE};
use super::sequences::{id_matches, path_matches};
use super::tokens::Token;
use super::universe::{ADDRESS, FORWARDED_FOR, HOST, METHOD, PATH, PEER, PORT, SNI, Universe};
use crate::call::{Call, Intent, Request, Subject, Workload};
use crate::decision::Decision;
use crate::document::AmbiguousPaths;
use crate::readings::Readings;
use crate::rule::Judged;
use crate::workload_policy::WorkloadPolicy;

/// A call that owns what [`Call`] borrows. Its JSON is what `countersign policy decide` reads.
#[derive(Clone, Debug, PartialEq)]
pub struct ExampleCall {
    /// Who calls.
    pub peer: Option<SpiffeId>,
    /// The address that the peer's connection comes from.
    pub source_ip: Option<IpAddr>,
    /// The called workload.
    pub workload: Workload,
    /// Its port.
    pub port: u16,
    /// The server name that an opaque connection asks for.
    pub sni: Option<String>,
    /// The request; `None` for an opaque connection.
    pub request: Option<ExampleRequest>,
    tokens: Vec<Token>,
    intent: Option<ExampleIntent>,
}

/// The head of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExampleRequest {
    /// The method.
    pub method: String,
    /// The host.
    pub host: String,
    /// The path.
    pub path: String,
    /// Header fields; two names that differ only in case are two lines of one field.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct ExampleIntent {
    scope: Vec<String>,
    tctx: serde_json::Map<String, serde_json::Value>,
    requester: String,
}

impl Serialize for ExampleCall {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(peer) = &self.peer {
            map.serialize_entry("peer", peer)?;
        }
        if let Some(address) = &self.source_ip {
            map.serialize_entry("source_ip", address)?;
        }
        let Workload {
            namespace,
            service_account,
            labels,
        } = &self.workload;
        let destination = serde_json::json!({
            "namespace": namespace,
            "workload": service_account,
            "labels": labels,
            "port": self.port,
        });
        map.serialize_entry("destination", &destination)?;
        if let Some(sni) = &self.sni {
            map.serialize_entry("sni", sni)?;
        }
        if let Some(request) = &self.request {
            map.serialize_entry("request", request)?;
        }
        let token =
            |token: &Token| serde_json::json!({"issuer": token.issuer, "claims": token.claims});
        match self.tokens.as_slice() {
            [] => {}
            [only] => map.serialize_entry("subject", &token(only))?,
            several => {
                let several: Vec<_> = several.iter().map(token).collect();
                map.serialize_entry("subjects", &several)?;
            }
        }
        if let Some(intent) = &self.intent {
            map.serialize_entry("intent", intent)?;
        }
        map.end()
    }
}

impl ExampleCall {
    /// What the engine decides.
    #[must_use]
    pub fn judged_by(&self, policy: &WorkloadPolicy) -> Decision {
        self.with_call(|call| policy.decide(call))
    }

    /// Shows it as the engine is asked.
    pub(super) fn with_call<T>(&self, ask: impl FnOnce(&Call<'_>) -> T) -> T {
        let now = SystemTime::now();
        let expires_at = now.checked_add(Duration::from_secs(3600)).unwrap_or(now);
        let subjects: Vec<Arc<Subject>> = self
            .tokens
            .iter()
            .map(|token| {
                Arc::new(Subject {
                    issuer: token.issuer.clone(),
                    claims: token.claims.clone(),
                    expires_at,
                })
            })
            .collect();
        let intent = self.intent.as_ref().map(|intent| Intent {
            scope: intent.scope.clone(),
            tctx: intent.tctx.clone(),
            req_wl: intent.requester.clone(),
            expires_at,
        });
        ask(&Call {
            peer: self.peer.as_ref(),
            source_ip: self.source_ip,
            // No field asks for it, and conditions are asked of no fact here.
            destination_ip: None,
            port: self.port,
            sni: self.sni.as_deref(),
            request: self.request.as_ref().map(|request| Request {
                method: &request.method,
                host: &request.host,
                path: &request.path,
                headers: &request.headers,
            }),
            subjects: &subjects,
            intent: intent.as_ref(),
            time: now,
        })
    }
}

impl Universe {
    /// How little one would like to see a value in an example.
    pub(super) fn rank(&self, variable: Variable, value: Value) -> usize {
        let last = |unknown: Option<Value>| match unknown {
            Some(unknown) if unknown == value => usize::MAX,
            _ => 0,
        };
        match variable {
            PEER => match self.peers.dimension.examples.get(value) {
                Some(Some(peer)) => {
                    let named = value != 0 && peer.workload().is_some();
                    let local = *peer.trust_domain() == self.local;
                    usize::from(!named) + 2 * usize::from(!local)
                }
                _ => usize::MAX,
            },
            METHOD => usize::from(value == 0).max(last(self.methods.unknown)),
            PATH => match self.paths.dimension.examples.get(value) {
                Some(Some(path)) => path.len(),
                _ => usize::MAX,
            },
            HOST => last(self.hosts.unknown),
            ADDRESS => last(self.addresses.unknown),
            FORWARDED_FOR => last(self.forwarded_for.unknown),
            _ if self.headers.iter().any(|header| header.whole == variable) => match value {
                ABSENT => 0,
                OTHER_VALUE => usize::MAX,
                other => other,
            },
            _ => value,
        }
    }

    /// [`rank`](Self::rank) of all values.
    pub(super) fn ranks(&self) -> Vec<Vec<usize>> {
        let of = |variable: Variable| {
            let values = 0..self.diagrams.size(variable);
            values.map(|value| self.rank(variable, value)).collect()
        };
        (0..self.diagrams.variables()).map(of).collect()
    }

    /// A call at a point. `None` if none can be there, because no tokens are so.
    pub(super) fn realize(
        &mut self,
        point: &[Value],
        workload: &Workload,
    ) -> Result<Option<ExampleCall>, TooLarge> {
        let Some(tokens) = self.tokens.realize(point)? else {
            return Ok(None);
        };
        let at = |variable: Variable| point.get(variable).copied().unwrap_or(0);
        let source_ip = example(&self.addresses.dimension.examples, at(ADDRESS)).flatten();
        let method = example(&self.methods.dimension.examples, at(METHOD)).flatten();
        let request = method.map(|method| {
            let mut headers = BTreeMap::new();
            self.add_forwarded_for(&mut headers, at(FORWARDED_FOR), source_ip);
            for header in &self.headers {
                header.add(&mut headers, point);
            }
            let path = example(&self.paths.dimension.examples, at(PATH)).flatten();
            let host = example(&self.hosts.dimension.examples, at(HOST)).flatten();
            ExampleRequest {
                method,
                // What is no host, and a path that is none.
                host: host.unwrap_or_else(|| "?".to_owned()),
                path: path.unwrap_or_else(|| "*".to_owned()),
                headers,
            }
        });
        Ok(Some(ExampleCall {
            peer: example(&self.peers.dimension.examples, at(PEER)).flatten(),
            source_ip,
            workload: workload.clone(),
            port: example(&self.ports.dimension.examples, at(PORT)).unwrap_or(8080),
            sni: match request {
                // Where no rule asks for names, none is needed.
                None if self.server_names.unknown.is_some() => {
                    example(&self.server_names.dimension.examples, at(SNI)).flatten()
                }
                _ => None,
            },
            request,
            tokens,
            intent: self.example_intent(point),
        }))
    }

    fn add_forwarded_for(
        &self,
        headers: &mut BTreeMap<String, String>,
        value: Value,
        source_ip: Option<IpAddr>,
    ) {
        if self.forwarded_for.dimension.size() < 2 {
            return;
        }
        let wanted = example(&self.forwarded_for.dimension.examples, value).flatten();
        if wanted != source_ip {
            let text = wanted.map_or_else(|| "unknown".to_owned(), |address| address.to_string());
            headers.insert("x-forwarded-for".to_owned(), text);
        }
    }

    fn example_intent(&self, point: &[Value]) -> Option<ExampleIntent> {
        let intents = self.intents.as_ref()?;
        let holds = |variable: Variable| point.get(variable) == Some(&1);
        let requester = point.get(intents.requester).copied().unwrap_or(0);
        let requester = example(&intents.requesters.dimension.examples, requester).flatten()?;
        let scopes = intents.scopes.iter();
        let context = intents.context.iter();
        let context = context.filter(|(.., variable)| holds(*variable));
        Some(ExampleIntent {
            scope: scopes
                .filter(|(_, variable)| holds(*variable))
                .map(|(scope, _)| scope.clone())
                .collect(),
            tctx: claims(context.map(|(path, value, _)| (path.as_str(), value))),
            requester: requester.as_str().to_owned(),
        })
    }

    /// The points at which a call is, one for every reading of its path. `None` if a condition decides where: that is
    /// not looked into; or if the path is refused.
    pub(super) fn place(&self, call: &Call<'_>, workload: &Workload) -> Option<Vec<Vec<Value>>> {
        if !self.conditions.is_empty() {
            return None;
        }
        let judged = Judged::new(call, workload);
        let readings = match call.request {
            Some(request) => Readings::of(request.path, AmbiguousPaths::Refuse).ok()?,
            None => Readings::One(None),
        };
        let mut point = vec![0; self.diagrams.variables()];
        let mut set = |variable: Variable, value: Option<Value>| -> Option<()> {
            *point.get_mut(variable)? = value?;
            Some(())
        };
        set(
            PEER,
            match call.peer {
                None => self.peers.unknown,
                Some(peer) => self.peers.place(|sequence| id_matches(sequence, peer)),
            },
        )?;
        set(PORT, self.ports.place(|port| *port == call.port))?;
        let known_or = |unknown: Option<Value>, value: Option<Option<Value>>| match value {
            Some(value) => value,
            None => unknown.or(Some(0)),
        };
        let request = call.request;
        set(
            METHOD,
            known_or(
                self.methods.unknown,
                request.map(|request| self.methods.place(|method| method == request.method)),
            ),
        )?;
        let host = judged
            .host
            .map(|host| self.hosts.place(|pattern| pattern.matches(host)));
        set(HOST, known_or(self.hosts.unknown, host))?;
        let name = call.sni.filter(|_| request.is_none());
        let name = name.map(|name| self.server_names.place(|pattern| pattern.matches(name)));
        set(SNI, known_or(self.server_names.unknown, name))?;
        let address = call
            .source_ip
            .map(|address| self.addresses.place(|range| range.contains(address)));
        set(ADDRESS, known_or(self.addresses.unknown, address))?;
        let forwarded = judged
            .forwarded_for()
            .map(|address| self.forwarded_for.place(|range| range.contains(address)));
        set(
            FORWARDED_FOR,
            known_or(self.forwarded_for.unknown, forwarded),
        )?;
        for header in &self.headers {
            let (whole, lines) = header.place(request.as_ref());
            set(header.whole, Some(whole))?;
            for (variable, value) in header.lines.iter().zip(&header.values) {
                set(*variable, Some(usize::from(lines.contains(value))))?;
            }
        }
        for wanted in &self.tokens.wanted {
            let met = wanted.rule.subject_matches(&judged);
            set(wanted.variable, Some(usize::from(met)))?;
        }
        if let Some(intents) = &self.intents {
            intents.place(&judged, &mut set)?;
        }
        let points = readings.iter().map(|path| {
            let value = path.map(|path| self.paths.place(|sequence| path_matches(sequence, path)));
            let mut point = point.clone();
            *point.get_mut(PATH)? = known_or(self.paths.unknown, value)?;
            Some(point)
        });
        points.collect()
    }
}

fn example<T: Clone>(examples: &[T], value: Value) -> Option<T> {
    examples.get(value).cloned()
}

impl super::universe::Intents {
    fn place(
        &self,
        judged: &Judged<'_>,
        set: &mut impl FnMut(Variable, Option<Value>) -> Option<()>,
    ) -> Option<()> {
        let Some(intent) = judged.intent() else {
            return set(self.requester, self.requesters.unknown);
        };
        // What is no SPIFFE ID is accepted by no word.
        let id = intent.req_wl.parse::<SpiffeId>().ok();
        set(
            self.requester,
            self.requesters
                .place(|sequence| id.as_ref().is_some_and(|id| id_matches(sequence, id))),
        )?;
        for (scope, variable) in &self.scopes {
            set(*variable, Some(usize::from(intent.scope.contains(scope))))?;
        }
        for (path, value, variable) in &self.context {
            let claim = crate::pattern::find_claim(&intent.tctx, path);
            let has = claim.is_some_and(|claim| value.accepts(claim));
            set(*variable, Some(usize::from(has)))?;
        }
        Some(())
    }
}
