//! All calls to a workload, as far as some rules tell them apart: the variables of the diagrams.
//!
//! Every fact that a rule may ask for is one variable or several, so that exactly the calls that all rules treat alike are
//! one point. What cannot be looked into, a CEL condition, is a variable of its own: true, false, or failing.

use std::collections::BTreeSet;
use std::sync::Arc;

use countersign_identity::{SpiffeId, TrustDomain};

use super::diagram::{ALL, Diagrams, NONE, Region, Set, TooLarge, Value, Variable};
use super::dimensions::{
    Addresses, Hosts, Methods, Paths, Peers, Ports, Requesters, Vocabulary, addresses, hosts,
    methods, paths, peers, ports, requesters,
};
use super::encode::text_of;
use super::headers::{ABSENT, FIRST_VALUE, Header};
use super::sequences::{
    grpc_sequence, id_matches, path_sequence, requester_sequence, source_sequences,
};
use super::tokens::Tokens;
use crate::arrival::Arrival;
use crate::document::{Action, OperationFields, SourceFields};
use crate::pattern::ClaimValue;
use crate::rule::CompiledRule;
use crate::workload_policy::WorkloadPolicy;

pub(super) const PEER: Variable = 0;
pub(super) const PORT: Variable = 1;
pub(super) const METHOD: Variable = 2;
pub(super) const PATH: Variable = 3;
pub(super) const HOST: Variable = 4;
pub(super) const SNI: Variable = 5;
pub(super) const ADDRESS: Variable = 6;
pub(super) const FORWARDED_FOR: Variable = 7;
const FIRST_FREE: Variable = 8;

/// How a [`Condition`] turns out.
pub(super) const FALSE: Value = 0;
pub(super) const TRUE: Value = 1;
pub(super) const FAILS: Value = 2;

/// What rules ask of a transaction token.
#[derive(Debug)]
pub(super) struct Intents {
    pub(super) requesters: Requesters,
    pub(super) requester: Variable,
    pub(super) scopes: Vec<(String, Variable)>,
    pub(super) context: Vec<(String, ClaimValue, Variable)>,
}

/// A CEL condition with all that its outcome depends on besides the call: equal ones turn out alike.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Condition {
    pub(super) expression: String,
    /// The tokens and the captured segments that it sees.
    bindings: String,
}

impl Condition {
    pub(super) fn of(rule: &CompiledRule) -> Option<Self> {
        let (when, roots) = (rule.rule.when.as_ref()?, rule.condition.as_ref()?.roots());
        let mut bindings = String::new();
        if roots.path {
            bindings.push_str(&text_of(&rule.rule.to));
        }
        if roots.subject {
            bindings.push_str(&super::tokens::meaning(rule));
        }
        Some(Self {
            expression: when.expression.clone(),
            bindings,
        })
    }
}

/// The variables.
#[derive(Debug)]
pub(super) struct Universe {
    pub(super) local: TrustDomain,
    pub(super) peers: Peers,
    pub(super) ports: Ports,
    pub(super) methods: Methods,
    pub(super) paths: Paths,
    pub(super) hosts: Hosts,
    pub(super) server_names: Hosts,
    pub(super) addresses: Addresses,
    pub(super) forwarded_for: Addresses,
    pub(super) headers: Vec<Header>,
    pub(super) tokens: Tokens,
    pub(super) intents: Option<Intents>,
    pub(super) conditions: Vec<(Condition, Variable)>,
    pub(super) diagrams: Diagrams,
}

#[derive(Default)]
struct Words {
    peers: Vocabulary<super::sequence::Sequence>,
    ports: Vocabulary<u16>,
    methods: Vocabulary<String>,
    paths: Vocabulary<super::sequence::Sequence>,
    hosts: Vocabulary<crate::pattern::HostPattern>,
    server_names: Vocabulary<crate::pattern::HostPattern>,
    addresses: Vocabulary<crate::pattern::Cidr>,
    forwarded_for: Vocabulary<crate::pattern::Cidr>,
    /// Name and value; and whether lines count.
    headers: std::collections::BTreeMap<String, (BTreeSet<String>, bool)>,
}

impl Universe {
    /// The calls to one workload, as the rules of some policies tell them apart.
    pub(super) fn new(local: &TrustDomain, policies: &[&WorkloadPolicy]) -> Result<Self, TooLarge> {
        let enforced =
            |rule: &&Arc<CompiledRule>| !rule.observe && rule.rule.action != Action::Audit;
        let rules = policies.iter().flat_map(|policy| policy.rules());
        let rules: Vec<&Arc<CompiledRule>> = rules.filter(enforced).collect();
        Self::of_rules(local, policies, &rules)
    }

    /// The calls to one workload, as these rules of some policies tell them apart.
    pub(super) fn of_rules(
        local: &TrustDomain,
        policies: &[&WorkloadPolicy],
        rules: &[&Arc<CompiledRule>],
    ) -> Result<Self, TooLarge> {
        let issuers = policies.iter().flat_map(|policy| policy.token_issuers());
        let issuers: BTreeSet<String> = issuers.map(|issuer| issuer.metadata.to_string()).collect();
        let arrivals = policies.iter().map(|policy| policy.arrival());
        let mut words = Words::default();
        for rule in rules {
            for source in &*rule.rule.from {
                for fields in std::iter::once(&source.is).chain(&source.not) {
                    words.source(local, fields, source.is.trust_domain.as_ref());
                }
            }
            for to in &rule.rule.to {
                words.operation(&to.is, rule.unknown());
                words.operation(&to.not, !rule.unknown());
            }
        }
        for port in arrivals.flat_map(Arrival::named_ports) {
            words.ports.add(port, || port.to_string());
        }
        // Where both are asked for, an opaque connection has the same address for both.
        if !words.forwarded_for.is_empty() {
            words.share_addresses();
        }
        let mut variables = Variables::default();
        let (peers, paths) = (peers(words.peers, local)?, paths(words.paths)?);
        let (ports, methods) = (ports(words.ports), methods(words.methods));
        let server_names = hosts(words.server_names, "no server name");
        let hosts = hosts(words.hosts, "a host that is none");
        let (addresses, forwarded_for) =
            (addresses(words.addresses), addresses(words.forwarded_for));
        variables.sizes = vec![
            peers.dimension.size(),
            ports.dimension.size(),
            methods.dimension.size(),
            paths.dimension.size(),
            hosts.dimension.size(),
            server_names.dimension.size(),
            addresses.dimension.size(),
            forwarded_for.dimension.size(),
        ];
        debug_assert_eq!(variables.sizes.len(), FIRST_FREE);
        let headers = words
            .headers
            .into_iter()
            .map(|(name, (values, lines_count))| {
                let whole = variables.add(FIRST_VALUE + values.len());
                let lines = match lines_count {
                    true => values.iter().map(|_| variables.add(2)).collect(),
                    false => Vec::new(),
                };
                Header {
                    name,
                    values: values.into_iter().collect(),
                    whole,
                    lines,
                }
            })
            .collect();
        let tokens = Tokens::new(rules, &issuers, &mut |size| variables.add(size))?;
        let intents = Intents::new(local, rules, &mut variables)?;
        let conditions: BTreeSet<Condition> = rules
            .iter()
            .filter_map(|rule| Condition::of(rule))
            .collect();
        let conditions = conditions
            .into_iter()
            .map(|condition| (condition, variables.add(3)))
            .collect();
        Ok(Self {
            local: local.clone(),
            peers,
            ports,
            methods,
            paths,
            hosts,
            server_names,
            addresses,
            forwarded_for,
            headers,
            tokens,
            intents,
            conditions,
            diagrams: Diagrams::new(variables.sizes),
        })
    }

    /// The points that no call has.
    pub(super) fn impossible(&mut self) -> Result<Set, TooLarge> {
        let mut impossible = vec![
            self.impossible_opaque()?,
            self.tokens.impossible(&mut self.diagrams)?,
        ];
        for header in &self.headers {
            impossible.push(header.impossible(&mut self.diagrams)?);
        }
        if let Some(intents) = &self.intents {
            impossible.push(intents.impossible(&mut self.diagrams)?);
        }
        self.diagrams.any(impossible)
    }

    /// The region without values that none of its calls has: regions grow over what is impossible, but people should not
    /// read of it.
    pub(super) fn without_impossible(&mut self, region: &Region) -> Result<Region, TooLarge> {
        let impossible = self.impossible()?;
        let calls = self.diagrams.region(region)?;
        let possible = self.diagrams.minus(calls, impossible)?;
        let mut region = region.clone();
        let headers = self.headers.iter().map(|header| header.whole);
        for variable in headers.chain([METHOD]) {
            let Some(Some(values)) = region.get_mut(variable) else {
                continue;
            };
            for value in values.clone().ones() {
                let having = self.diagrams.value(variable, value)?;
                if self.diagrams.and(possible, having)? == NONE {
                    values.remove(value);
                }
            }
        }
        Ok(region)
    }

    /// What is known of no connection that is not HTTP, and a server name of no request.
    fn impossible_opaque(&mut self) -> Result<Set, TooLarge> {
        let diagrams = &mut self.diagrams;
        let Some(opaque) = self.methods.unknown else {
            return Ok(NONE);
        };
        let is_opaque = diagrams.value(METHOD, opaque)?;
        let mut impossible = Vec::new();
        for (variable, unknown) in [(PATH, self.paths.unknown), (HOST, self.hosts.unknown)] {
            if let Some(unknown) = unknown {
                let is_unknown = diagrams.value(variable, unknown)?;
                impossible.push(diagrams.minus(is_opaque, is_unknown)?);
            }
        }
        for header in &self.headers {
            // Without a request there is no header; rules are told by the method that it is not known.
            let is_absent = diagrams.value(header.whole, ABSENT)?;
            impossible.push(diagrams.minus(is_opaque, is_absent)?);
        }
        if let Some(unknown) = self.server_names.unknown {
            let is_unknown = diagrams.value(SNI, unknown)?;
            let has_name = diagrams.not(is_unknown)?;
            impossible.push(diagrams.minus(has_name, is_opaque)?);
        }
        if self.forwarded_for.dimension.size() > 1 {
            // Both have the same values: without a request it is the peer's own address.
            let mut same = Vec::new();
            for value in 0..self.addresses.dimension.size() {
                let own = diagrams.value(ADDRESS, value)?;
                let forwarded = diagrams.value(FORWARDED_FOR, value)?;
                same.push(diagrams.and(own, forwarded)?);
            }
            let same = diagrams.any(same)?;
            impossible.push(diagrams.minus(is_opaque, same)?);
        }
        diagrams.any(impossible)
    }

    /// The class of a peer; `None` is one without an identity.
    pub(super) fn peer(&self, peer: Option<&SpiffeId>) -> Option<Value> {
        match peer {
            None => self.peers.unknown,
            Some(peer) => self.peers.place(|sequence| id_matches(sequence, peer)),
        }
    }

    /// The calls that have no token that some rule wants.
    pub(super) fn without_tokens(&mut self) -> Result<Set, TooLarge> {
        let mut without = ALL;
        for wanted in self.tokens.wanted.iter().rev() {
            let none = self.diagrams.value(wanted.variable, 0)?;
            without = self.diagrams.and(none, without)?;
        }
        Ok(without)
    }

    /// The calls that have no transaction token.
    pub(super) fn without_intent(&mut self) -> Result<Set, TooLarge> {
        let intents = self.intents.as_ref();
        match intents.and_then(|intents| Some((intents.requester, intents.requesters.unknown?))) {
            Some((variable, nobody)) => self.diagrams.value(variable, nobody),
            None => Ok(ALL),
        }
    }

    /// Whether something depends on the outcome of a condition.
    pub(super) fn is_condition(&self, variable: Variable) -> bool {
        self.conditions.iter().any(|(_, other)| *other == variable)
    }
}

#[derive(Default)]
struct Variables {
    sizes: Vec<usize>,
}

impl Variables {
    fn add(&mut self, size: usize) -> Variable {
        self.sizes.push(size);
        self.sizes.len() - 1
    }
}

impl Words {
    fn source(
        &mut self,
        local: &TrustDomain,
        fields: &SourceFields,
        domain: Option<&crate::pattern::TrustDomainPattern>,
    ) {
        for (sequence, text) in source_sequences(local, fields, domain) {
            self.peers.add(sequence, || text);
        }
        if let Some(range) = fields.cidr {
            self.addresses.add(range, || range.to_string());
        }
        if let Some(range) = fields.forwarded_for {
            self.forwarded_for.add(range, || range.to_string());
        }
    }

    fn operation(&mut self, fields: &OperationFields, in_doubt: bool) {
        for port in &fields.ports {
            self.ports.add(*port, || port.to_string());
        }
        for method in &fields.methods {
            self.methods
                .add(method.as_str().to_owned(), || method.to_string());
        }
        for path in &fields.paths {
            self.paths.add(path_sequence(path), || path.to_string());
        }
        for method in &fields.grpc {
            let (sequence, text) = grpc_sequence(method);
            self.paths.add(sequence, || text);
        }
        for host in &fields.hosts {
            self.hosts.add(host.clone(), || host.to_string());
        }
        for name in &fields.sni {
            self.server_names.add(name.clone(), || name.to_string());
        }
        for (name, accepted) in &fields.headers {
            let (values, lines) = self.headers.entry(name.as_str().to_owned()).or_default();
            values.extend(accepted.iter().cloned());
            *lines |= in_doubt;
        }
    }

    fn share_addresses(&mut self) {
        let mut all = Vocabulary::default();
        let ranges = self.addresses.keys().chain(self.forwarded_for.keys());
        for range in ranges.copied() {
            all.add(range, || range.to_string());
        }
        let mut again = Vocabulary::default();
        for range in all.keys().copied() {
            again.add(range, || range.to_string());
        }
        (self.addresses, self.forwarded_for) = (all, again);
    }
}

impl Intents {
    fn new(
        local: &TrustDomain,
        rules: &[&Arc<CompiledRule>],
        variables: &mut Variables,
    ) -> Result<Option<Self>, TooLarge> {
        let wanted = || rules.iter().filter_map(|rule| rule.rule.intent.as_ref());
        if wanted().next().is_none() {
            return Ok(None);
        }
        let mut words = Vocabulary::default();
        for requester in wanted().filter_map(|intent| intent.requester.as_ref()) {
            let (sequence, text) = requester_sequence(local, requester);
            words.add(sequence, || text);
        }
        let requesters = requesters(words)?;
        let scopes: BTreeSet<&String> = wanted().flat_map(|intent| &intent.scope).collect();
        let context: BTreeSet<(&String, &ClaimValue)> = wanted()
            .flat_map(|intent| &intent.context)
            .flat_map(|(path, values)| values.iter().map(move |value| (path, value)))
            .collect();
        Ok(Some(Self {
            requester: variables.add(requesters.dimension.size()),
            requesters,
            scopes: scopes
                .into_iter()
                .map(|scope| (scope.clone(), variables.add(2)))
                .collect(),
            context: context
                .into_iter()
                .map(|(path, value)| (path.clone(), value.clone(), variables.add(2)))
                .collect(),
        }))
    }

    /// Without a token there is nothing in it.
    fn impossible(&self, diagrams: &mut Diagrams) -> Result<Set, TooLarge> {
        let Some(nobody) = self.requesters.unknown else {
            return Ok(NONE);
        };
        let without = diagrams.value(self.requester, nobody)?;
        let scopes = self.scopes.iter().map(|(_, variable)| *variable);
        let context = self.context.iter().map(|(.., variable)| *variable);
        let mut something = Vec::new();
        for variable in scopes.chain(context) {
            something.push(diagrams.value(variable, 1)?);
        }
        let something = diagrams.any(something)?;
        diagrams.and(without, something)
    }
}
