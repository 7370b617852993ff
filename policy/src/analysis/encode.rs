//! Rules as sets of calls. It says the same as [`crate::rule`], about all calls at once: the tests compare the two.

use std::fmt::Write as _;

use fixedbitset::FixedBitSet;
use serde::Serialize;

use super::diagram::{ALL, NONE, Set, TooLarge, Variable};
use super::dimensions::Hosts;
use super::headers::{FIRST_VALUE, Header};
use super::sequence::Sequence;
use super::sequences::{
    any_identity, grpc_sequence, of_domain, path_sequence, requester_sequence, source_sequences,
};
use super::universe::{
    ADDRESS, Condition, FAILS, FORWARDED_FOR, HOST, METHOD, PATH, PEER, PORT, SNI, TRUE, Universe,
};
use crate::document::{
    Action, IntentMatch, Operation, OperationFields, PeerMode, Source, SourceFields,
};
use crate::pattern::{Cidr, HostPattern, TrustDomainPattern};
use crate::rule::CompiledRule;
use crate::workload_policy::{Otherwise, WorkloadPolicy};

/// What distinguishes parts of rules, as text.
pub(super) fn text_of<T: Serialize>(part: &T) -> String {
    // Documents can always be written.
    serde_json::to_string(part).unwrap_or_default()
}

impl Universe {
    /// The calls that a policy allows.
    pub(super) fn allowed(&mut self, policy: &WorkloadPolicy) -> Result<Set, TooLarge> {
        let (mut allow, mut deny) = (Vec::new(), Vec::new());
        for rule in policy.rules().iter().filter(|rule| !rule.observe) {
            match rule.rule.action {
                Action::Deny => deny.push(self.rule(rule)?),
                Action::Allow => allow.push(self.rule(rule)?),
                Action::Audit => {}
            }
        }
        let allowed = match policy.otherwise() {
            Otherwise::Allow(_) => ALL,
            Otherwise::Deny | Otherwise::NoPolicy | Otherwise::OnlyObserved => {
                self.diagrams.any(allow)?
            }
        };
        deny.push(self.refused(policy)?);
        let denied = self.diagrams.any(deny)?;
        self.diagrams.minus(allowed, denied)
    }

    /// The calls that are refused before rules are asked: of callers without an identity, on strict ports.
    pub(super) fn refused(&mut self, policy: &WorkloadPolicy) -> Result<Set, TooLarge> {
        let mut strict = self.ports.dimension.none();
        for (value, port) in self.ports.dimension.examples.iter().enumerate() {
            strict.set(value, policy.peer_mode(*port) == PeerMode::Strict);
        }
        let anonymous = self.diagrams.values(PEER, &self.anonymous())?;
        let strict = self.diagrams.values(PORT, &strict)?;
        self.diagrams.and(anonymous, strict)
    }

    fn anonymous(&self) -> FixedBitSet {
        let mut anonymous = self.peers.dimension.none();
        if let Some(value) = self.peers.unknown {
            anonymous.insert(value);
        }
        anonymous
    }

    /// The calls that a rule matches.
    pub(super) fn rule(&mut self, rule: &CompiledRule) -> Result<Set, TooLarge> {
        let structured = self.unconditioned(rule)?;
        let condition = match Condition::of(rule) {
            None => ALL,
            Some(condition) => self.condition(&condition, rule.unknown())?,
        };
        self.diagrams.and(structured, condition)
    }

    /// The calls that a rule would match without its condition.
    pub(super) fn unconditioned(&mut self, rule: &CompiledRule) -> Result<Set, TooLarge> {
        let from = self.callers(rule)?;
        let mut operations = Vec::with_capacity(rule.rule.to.len());
        for to in &rule.rule.to {
            operations.push(self.operation(to, rule.unknown())?);
        }
        let to = match operations.is_empty() {
            true => ALL,
            false => self.diagrams.any(operations)?,
        };
        let subject = self.tokens.rule(rule, &mut self.diagrams)?;
        let intent = match &rule.rule.intent {
            None => ALL,
            Some(wanted) => self.intent(wanted)?,
        };
        self.diagrams.all([from, to, subject, intent])
    }

    fn condition(&mut self, condition: &Condition, in_doubt: bool) -> Result<Set, TooLarge> {
        let found = self.conditions.iter().find(|(known, _)| known == condition);
        let Some((_, variable)) = found else {
            return Ok(NONE);
        };
        let mut holds = FixedBitSet::with_capacity(FAILS + 1);
        holds.insert(TRUE);
        holds.set(FAILS, in_doubt);
        self.diagrams.values(*variable, &holds)
    }

    fn callers(&mut self, rule: &CompiledRule) -> Result<Set, TooLarge> {
        let allows = rule.rule.action == Action::Allow;
        let local = self.word_of_peers(&of_domain(&self.local));
        if rule.rule.from.is_empty() {
            return match allows {
                true => self.diagrams.values(PEER, &local),
                false => Ok(ALL),
            };
        }
        let mut sources = Vec::with_capacity(rule.rule.from.len());
        for source in &*rule.rule.from {
            // Who has proved no identity is let in only where a rule says so, and who is from elsewhere only where
            // named.
            let named = source.is.spiffe.is_some() || source.is.trust_domain.is_some();
            let mut may = self.peers.dimension.all();
            if allows {
                may = match (source.is.anonymous, named) {
                    (true, _) => self.anonymous(),
                    (false, true) => self.word_of_peers(&any_identity()),
                    (false, false) => local.clone(),
                };
            }
            let may = self.diagrams.values(PEER, &may)?;
            let set = self.source(source, !allows)?;
            sources.push(self.diagrams.and(may, set)?);
        }
        self.diagrams.any(sources)
    }

    fn word_of_peers(&self, sequence: &Sequence) -> FixedBitSet {
        let dimension = &self.peers.dimension;
        match self.peers.word(sequence) {
            Some(word) => dimension.accepted(word),
            None => dimension.none(),
        }
    }

    fn source(&mut self, source: &Source, unknown: bool) -> Result<Set, TooLarge> {
        let domain = source.is.trust_domain.as_ref();
        let is = self.source_fields(&source.is, domain, unknown)?;
        let is = self.diagrams.all(is)?;
        let mut not = Vec::new();
        for fields in &source.not {
            not.extend(self.source_fields(fields, domain, !unknown)?);
        }
        let not = self.diagrams.any(not)?;
        self.diagrams.minus(is, not)
    }

    /// The calls that each field accepts.
    fn source_fields(
        &mut self,
        fields: &SourceFields,
        domain: Option<&TrustDomainPattern>,
        unknown: bool,
    ) -> Result<Vec<Set>, TooLarge> {
        let mut sets = Vec::new();
        if fields.anonymous {
            sets.push(self.diagrams.values(PEER, &self.anonymous())?);
        }
        for (sequence, _) in source_sequences(&self.local, fields, domain) {
            let accepted = self.word_of_peers(&sequence);
            sets.push(self.diagrams.values(PEER, &accepted)?);
        }
        for (variable, range) in [
            (ADDRESS, fields.cidr),
            (FORWARDED_FOR, fields.forwarded_for),
        ] {
            if let Some(range) = range {
                sets.push(self.range(variable, &range, unknown)?);
            }
        }
        Ok(sets)
    }

    fn range(&mut self, variable: Variable, range: &Cidr, unknown: bool) -> Result<Set, TooLarge> {
        let addresses = match variable {
            ADDRESS => &self.addresses,
            _ => &self.forwarded_for,
        };
        let mut accepted = match addresses.word(range) {
            Some(word) => addresses.dimension.accepted(word),
            None => addresses.dimension.none(),
        };
        if let Some(value) = addresses.unknown {
            accepted.set(value, unknown);
        }
        self.diagrams.values(variable, &accepted)
    }

    fn operation(&mut self, to: &Operation, unknown: bool) -> Result<Set, TooLarge> {
        let is = self.operation_fields(&to.is, unknown)?;
        let is = self.diagrams.all(is)?;
        let not = self.operation_fields(&to.not, !unknown)?;
        let not = self.diagrams.any(not)?;
        self.diagrams.minus(is, not)
    }

    /// The calls that each field accepts.
    fn operation_fields(
        &mut self,
        fields: &OperationFields,
        unknown: bool,
    ) -> Result<Vec<Set>, TooLarge> {
        let OperationFields {
            ports,
            methods,
            hosts,
            paths,
            grpc,
            headers,
            sni,
        } = fields;
        let mut sets = Vec::new();
        if !ports.is_empty() {
            let words = ports.iter().filter_map(|port| self.ports.word(port));
            let accepted = union(self.ports.dimension.none(), words, |word| {
                self.ports.dimension.accepted(word)
            });
            sets.push(self.diagrams.values(PORT, &accepted)?);
        }
        if !methods.is_empty() {
            let words = methods
                .iter()
                .filter_map(|method| self.methods.word(&method.as_str().to_owned()));
            let mut accepted = union(self.methods.dimension.none(), words, |word| {
                self.methods.dimension.accepted(word)
            });
            if let Some(opaque) = self.methods.unknown {
                accepted.set(opaque, unknown);
            }
            sets.push(self.diagrams.values(METHOD, &accepted)?);
        }
        if !hosts.is_empty() {
            let accepted = accepted_hosts(&self.hosts, hosts, unknown);
            let set = self.diagrams.values(HOST, &accepted)?;
            sets.push(self.of_requests(set, unknown)?);
        }
        for sequences in [
            paths.iter().map(path_sequence).collect::<Vec<_>>(),
            grpc.iter().map(|method| grpc_sequence(method).0).collect(),
        ] {
            if !sequences.is_empty() {
                let words = sequences.iter().filter_map(|path| self.paths.word(path));
                let mut accepted = union(self.paths.dimension.none(), words, |word| {
                    self.paths.dimension.accepted(word)
                });
                if let Some(value) = self.paths.unknown {
                    accepted.set(value, unknown);
                }
                let set = self.diagrams.values(PATH, &accepted)?;
                sets.push(self.of_requests(set, unknown)?);
            }
        }
        if !headers.is_empty() {
            let mut all = Vec::with_capacity(headers.len());
            for (name, accepted) in headers {
                all.push(self.header(name.as_str(), accepted, unknown)?);
            }
            let set = self.diagrams.all(all)?;
            sets.push(self.of_requests(set, unknown)?);
        }
        if !sni.is_empty() {
            let accepted = accepted_hosts(&self.server_names, sni, unknown);
            let set = self.diagrams.values(SNI, &accepted)?;
            // A request asks for no server name.
            sets.push(self.of_opaque(set)?);
        }
        Ok(sets)
    }

    /// The requests of a set, and, where that is the answer to what is not known, what is no request.
    fn of_requests(&mut self, set: Set, unknown: bool) -> Result<Set, TooLarge> {
        let opaque = self.opaque()?;
        match unknown {
            true => self.diagrams.or(set, opaque),
            false => self.diagrams.minus(set, opaque),
        }
    }

    fn of_opaque(&mut self, set: Set) -> Result<Set, TooLarge> {
        let opaque = self.opaque()?;
        self.diagrams.and(set, opaque)
    }

    fn opaque(&mut self) -> Result<Set, TooLarge> {
        match self.methods.unknown {
            Some(opaque) => self.diagrams.value(METHOD, opaque),
            None => Ok(NONE),
        }
    }

    /// Requests whose header has one of the values; where in doubt, on any of its lines.
    fn header(&mut self, name: &str, accepted: &[String], in_doubt: bool) -> Result<Set, TooLarge> {
        let Some(Header {
            values,
            whole,
            lines,
            ..
        }) = self.headers.iter().find(|header| header.name == name)
        else {
            return Ok(NONE);
        };
        let numbered = values.iter().enumerate();
        let numbers: Vec<usize> = numbered
            .filter(|(_, value)| accepted.contains(value))
            .map(|(number, _)| number)
            .collect();
        let mut wholes = FixedBitSet::with_capacity(values.len() + FIRST_VALUE);
        for number in &numbers {
            wholes.insert(number + FIRST_VALUE);
        }
        let mut sets = vec![self.diagrams.values(*whole, &wholes)?];
        if in_doubt {
            for number in &numbers {
                if let Some(line) = lines.get(*number) {
                    sets.push(self.diagrams.value(*line, 1)?);
                }
            }
        }
        self.diagrams.any(sets)
    }

    fn intent(&mut self, wanted: &IntentMatch) -> Result<Set, TooLarge> {
        let (Some(intents), diagrams) = (&self.intents, &mut self.diagrams) else {
            return Ok(NONE);
        };
        let dimension = &intents.requesters.dimension;
        let mut requesters = match &wanted.requester {
            None => dimension.all(),
            Some(requester) => {
                let (sequence, _) = requester_sequence(&self.local, requester);
                match intents.requesters.word(&sequence) {
                    Some(word) => dimension.accepted(word),
                    None => dimension.none(),
                }
            }
        };
        if let Some(nobody) = intents.requesters.unknown {
            requesters.remove(nobody);
        }
        let mut all = vec![diagrams.values(intents.requester, &requesters)?];
        for (scope, variable) in &intents.scopes {
            if wanted.scope.contains(scope) {
                all.push(diagrams.value(*variable, 1)?);
            }
        }
        for (path, accepted) in &wanted.context {
            let mut any = Vec::new();
            for (known, value, variable) in &intents.context {
                if known == path && accepted.contains(value) {
                    any.push(diagrams.value(*variable, 1)?);
                }
            }
            all.push(diagrams.any(any)?);
        }
        diagrams.all(all)
    }
}

fn union(
    mut all: FixedBitSet,
    words: impl Iterator<Item = usize>,
    accepted: impl Fn(usize) -> FixedBitSet,
) -> FixedBitSet {
    for word in words {
        all.union_with(&accepted(word));
    }
    all
}

fn accepted_hosts(hosts: &Hosts, patterns: &[HostPattern], unknown: bool) -> FixedBitSet {
    let words = patterns.iter().filter_map(|pattern| hosts.word(pattern));
    let mut accepted = union(hosts.dimension.none(), words, |word| {
        hosts.dimension.accepted(word)
    });
    if let Some(value) = hosts.unknown {
        accepted.set(value, unknown);
    }
    accepted
}

/// Several names as one text.
pub(super) fn joined(names: impl IntoIterator<Item = impl std::fmt::Display>, by: &str) -> String {
    let mut text = String::new();
    for name in names {
        if !text.is_empty() {
            text.push_str(by);
        }
        // Writing to a String cannot fail.
        let _ = write!(text, "{name}");
    }
    text
}
