//! Who calls: the terms of a source as `from`, `subject` and conditions.

use super::cel::{self, Part};
use super::identity::{self, Identity, anywhere, own};
use super::{Context, product, token};
use crate::document::{Action, Claims, Source, SourceFields};
use crate::istio::budget::{TooMany, Weigh};
use crate::istio::term::{Account, Term, Values};
use crate::pattern::{Cidr, TextPattern, TrustDomainPattern, WorkloadPattern};

/// One way for a source to hold: all of it has to.
#[derive(Clone, Debug, Default)]
pub(super) struct Callers {
    pub(super) from: Vec<Source>,
    pub(super) claims: Claims,
    pub(super) conditions: Vec<Part>,
}

/// What is collected of one way before it becomes a [`Callers`].
#[derive(Clone, Default)]
struct Collected {
    /// The identity, by fields of which one has to hold.
    identity: Option<Vec<SourceFields>>,
    addresses: Option<Vec<Cidr>>,
    remote: Option<Vec<Cidr>>,
    not: Vec<Not>,
    claims: Claims,
    conditions: Vec<Part>,
}

/// A field of `not`, and where its names are read.
#[derive(Clone)]
enum Not {
    /// It has no names, or only those of SPIFFE.
    Fields(SourceFields),
    /// Names of any trust domain.
    Anywhere(SourceFields),
    /// A workload of the mesh's own trust domain.
    Own(WorkloadPattern),
}

impl Weigh for Collected {
    fn weight(&self) -> usize {
        let lists = [
            self.identity.as_ref().map_or(0, Vec::len),
            self.addresses.as_ref().map_or(0, Vec::len),
            self.remote.as_ref().map_or(0, Vec::len),
            self.not.len(),
            self.claims.len(),
            self.conditions.len(),
        ];
        lists.into_iter().fold(1, usize::saturating_add)
    }
}

impl Weigh for Callers {
    fn weight(&self) -> usize {
        let not = self
            .from
            .iter()
            .map(|source| source.not.len().saturating_add(1));
        not.fold(self.conditions.len(), usize::saturating_add)
    }
}

impl Weigh for SourceFields {
    fn weight(&self) -> usize {
        1
    }
}

impl Weigh for Option<Cidr> {
    fn weight(&self) -> usize {
        1
    }
}

impl Weigh for Add {
    fn weight(&self) -> usize {
        let positive = match &self.positive {
            Positive::Nothing => 1,
            Positive::Identity(fields, _) => fields.len(),
            Positive::Addresses(ranges) | Positive::Remote(ranges) => ranges.len(),
            Positive::Claims(claims, _) => {
                claims.values().map(Vec::len).fold(0, usize::saturating_add)
            }
        };
        positive
            .saturating_add(self.not.len())
            .saturating_add(self.conditions.len())
    }
}

/// The ways in which all terms hold.
pub(super) fn callers(terms: &[&Term], context: &Context<'_>) -> Result<Vec<Callers>, TooMany> {
    let mut ways = vec![Collected::default()];
    for term in terms {
        let alternatives = alternatives(term, context);
        ways = product(context.budget, ways, &alternatives, |way, add| {
            add.apply(way)
        })?;
    }
    let mut callers = Vec::with_capacity(ways.len());
    for way in ways {
        callers.push(way.finish(context)?);
    }
    Ok(callers)
}

/// What a term adds to a way.
#[derive(Clone)]
struct Add {
    positive: Positive,
    not: Vec<Not>,
    conditions: Vec<Part>,
}

#[derive(Clone)]
enum Positive {
    Nothing,
    /// With the condition that says the same, for where another term has the fields already.
    Identity(Vec<SourceFields>, String),
    Addresses(Vec<Cidr>),
    Remote(Vec<Cidr>),
    /// With the condition that says the same.
    Claims(Claims, String),
}

impl Add {
    /// `None` if the term cannot hold together with what is there.
    fn apply(&self, mut way: Collected) -> Option<Collected> {
        match &self.positive {
            Positive::Nothing => {}
            Positive::Identity(fields, _) if way.identity.is_none() => {
                way.identity = Some(fields.clone());
            }
            Positive::Identity(_, condition) => way.conditions.push(about_peer(condition.clone())),
            Positive::Addresses(ranges) => {
                way.addresses = Some(both(way.addresses.as_deref(), ranges)?);
            }
            Positive::Remote(ranges) => way.remote = Some(both(way.remote.as_deref(), ranges)?),
            Positive::Claims(claims, condition) => {
                if claims.keys().any(|path| way.claims.contains_key(path)) {
                    way.conditions.push(about_token(condition.clone()));
                } else {
                    way.claims.extend(claims.clone());
                }
            }
        }
        way.not.extend(self.not.iter().cloned());
        way.conditions.extend(self.conditions.iter().cloned());
        Some(way)
    }
}

fn about_peer(expression: String) -> Part {
    Part {
        expression,
        is_http: false,
    }
}

fn about_token(expression: String) -> Part {
    Part {
        expression,
        is_http: true,
    }
}

/// The addresses that are in one of the ranges of both lists. `None` if there is none.
fn both(before: Option<&[Cidr]>, ranges: &[Cidr]) -> Option<Vec<Cidr>> {
    let Some(before) = before else {
        return Some(ranges.to_vec());
    };
    let overlaps: Vec<Cidr> = before
        .iter()
        .flat_map(|one| ranges.iter().filter_map(move |other| one.overlap(other)))
        .collect();
    (!overlaps.is_empty()).then_some(overlaps)
}

/// The ways in which a term holds.
fn alternatives(term: &Term, context: &Context<'_>) -> Vec<Add> {
    match term {
        Term::Principal(values) => identities(
            values,
            "peer.id",
            identity::principal,
            identity::principal_pattern,
        ),
        Term::Namespace(values) => {
            identities(values, "peer.namespace", identity::namespace, as_it_is)
        }
        Term::TrustDomain(values) => {
            identities(values, "peer.trustDomain", identity::trust_domain, as_it_is)
        }
        Term::ServiceAccount(values) => accounts(values),
        Term::SourceIp(values) => vec![addresses(values, Positive::Addresses, |cidr| {
            SourceFields {
                cidr: Some(cidr),
                ..SourceFields::default()
            }
        })],
        Term::RemoteIp(values) => vec![addresses(values, Positive::Remote, |cidr| SourceFields {
            forwarded_for: Some(cidr),
            ..SourceFields::default()
        })],
        Term::RequestPrincipal(values) => {
            let field = token::principal_field(&values.any_of, context.action);
            token_fact(&token::principal(), values, field)
        }
        Term::Claim(names, values) => {
            let field = token::claim_field(names, &values.any_of, context.action);
            token_fact(&token::claim(names), values, field)
        }
        // The others are not about the caller.
        _ => vec![nothing()],
    }
}

/// The expression of a pattern for texts.
fn as_it_is(pattern: &TextPattern) -> String {
    cel::quoted(&pattern.to_string())
}

fn nothing() -> Add {
    Add {
        positive: Positive::Nothing,
        not: Vec::new(),
        conditions: Vec::new(),
    }
}

fn addresses(
    values: &Values<Cidr>,
    positive: impl Fn(Vec<Cidr>) -> Positive,
    field: impl Fn(Cidr) -> SourceFields,
) -> Add {
    Add {
        positive: match values.any_of.is_empty() {
            true => Positive::Nothing,
            false => positive(values.any_of.clone()),
        },
        not: values
            .none_of
            .iter()
            .map(|cidr| Not::Fields(field(*cidr)))
            .collect(),
        conditions: Vec::new(),
    }
}

/// Values of a fact of the peer: those that fields can say, and those that need conditions.
fn identities(
    values: &Values<TextPattern>,
    fact: &str,
    identity: impl Fn(&TextPattern) -> Option<Identity>,
    pattern: impl Fn(&TextPattern) -> String,
) -> Vec<Add> {
    let mut not = Vec::new();
    let mut unsaid = Vec::new();
    for value in &values.none_of {
        match identity(value) {
            Some(Identity::Fields(fields)) => not.push(Not::Fields(fields)),
            Some(Identity::Anywhere(fields)) => not.push(Not::Anywhere(fields)),
            Some(Identity::Own(workload)) => not.push(Not::Own(workload)),
            None => unsaid.push(pattern(value)),
        }
    }
    let conditions: Vec<Part> = cel::lists(unsaid)
        .iter()
        .map(|list| about_peer(format!("!(peer != null && {})", cel::like(fact, list))))
        .collect();
    let add = |positive| Add {
        positive,
        not: not.clone(),
        conditions: conditions.clone(),
    };
    if values.any_of.is_empty() {
        return vec![add(Positive::Nothing)];
    }
    let mut fields = Vec::new();
    let mut said = Vec::new();
    let mut unsaid = Vec::new();
    for value in &values.any_of {
        match identity(value) {
            Some(Identity::Fields(one)) => fields.push(one),
            Some(Identity::Anywhere(one)) => fields.push(anywhere(one)),
            Some(Identity::Own(workload)) => fields.push(own(workload)),
            None => {
                unsaid.push(pattern(value));
                continue;
            }
        }
        said.push(pattern(value));
    }
    let mut ways = Vec::new();
    if !fields.is_empty() {
        let lists: Vec<String> = cel::lists(said)
            .iter()
            .map(|list| cel::like(fact, list))
            .collect();
        let condition = format!("peer != null && {}", cel::any(&lists));
        ways.push(add(Positive::Identity(fields, condition)));
    }
    for list in cel::lists(unsaid) {
        let condition = format!("peer != null && {}", cel::like(fact, &list));
        // Some identity of any trust domain, of which the condition says more.
        let any = vec![anywhere(SourceFields::default())];
        let mut way = add(Positive::Identity(any, "peer != null".to_owned()));
        way.conditions.push(about_peer(condition));
        ways.push(way);
    }
    ways
}

fn accounts(values: &Values<Account>) -> Vec<Add> {
    let field = |account: &Account| {
        own(WorkloadPattern::exact(
            &account.namespace,
            &account.service_account,
        ))
    };
    let expression = |account: &Account| {
        format!(
            "(peer.namespace == {} && peer.workload == {})",
            cel::quoted(account.namespace.as_str()),
            cel::quoted(account.service_account.as_str())
        )
    };
    let fields: Vec<SourceFields> = values.any_of.iter().map(|a| anywhere(field(a))).collect();
    let expressions: Vec<String> = values.any_of.iter().map(expression).collect();
    vec![Add {
        positive: match fields.is_empty() {
            true => Positive::Nothing,
            false => Positive::Identity(
                fields,
                format!("peer != null && {}", cel::any(&expressions)),
            ),
        },
        not: values
            .none_of
            .iter()
            .map(|account| Not::Anywhere(field(account)))
            .collect(),
        conditions: Vec::new(),
    }]
}

/// Values of a fact of the token, with the field that says as much as `any_of`, if there is one.
fn token_fact(fact: &str, values: &Values<TextPattern>, field: Option<Claims>) -> Vec<Add> {
    let conditions: Vec<Part> = cel::texts(&values.none_of)
        .iter()
        .map(|list| about_token(format!("!{}", cel::like(fact, list))))
        .collect();
    let add = |positive, more: Option<Part>| Add {
        positive,
        not: Vec::new(),
        conditions: conditions.iter().cloned().chain(more).collect(),
    };
    let lists = cel::texts(&values.any_of);
    if lists.is_empty() {
        return vec![add(Positive::Nothing, None)];
    }
    let likes = lists.iter().map(|list| cel::like(fact, list));
    match field {
        Some(field) => {
            let likes: Vec<String> = likes.collect();
            vec![add(Positive::Claims(field, cel::any(&likes)), None)]
        }
        None => likes
            .map(|like| add(Positive::Nothing, Some(about_token(like))))
            .collect(),
    }
}

impl Collected {
    fn finish(mut self, context: &Context<'_>) -> Result<Callers, TooMany> {
        let allow = context.action == Action::Allow;
        let anywhere_nots = self.not.iter().any(|not| matches!(not, Not::Anywhere(_)));
        // Own workloads can be named under `not` only where names are read in the own trust domain.
        let reads_own = match &self.identity {
            Some(fields) => fields.iter().all(|fields| fields.trust_domain.is_none()),
            None => !allow,
        };
        let reads_own = reads_own && !anywhere_nots;
        let mut not = Vec::new();
        let mut unsaid = Vec::new();
        for entry in std::mem::take(&mut self.not) {
            match entry {
                Not::Fields(fields) | Not::Anywhere(fields) => not.push(fields),
                Not::Own(workload) if reads_own => not.push(own(workload)),
                Not::Own(workload) => unsaid.push(identity::own_pattern(&workload)),
            }
        }
        self.conditions.extend(
            cel::lists(unsaid).iter().map(|list| {
                about_peer(format!("!(peer != null && {})", cel::like("peer.id", list)))
            }),
        );
        let callers = match self.identity.take() {
            Some(mut fields) => {
                if anywhere_nots {
                    // Who is named in full is so in any trust domain, and names under `not` are then, too.
                    for fields in fields.iter_mut().filter(|fields| fields.spiffe.is_some()) {
                        fields.trust_domain = Some(TrustDomainPattern::Any);
                    }
                }
                fields
            }
            // Anybody: in an allow rule, those without an identity and those of any trust domain have to be named.
            None if allow || anywhere_nots => vec![
                SourceFields {
                    anonymous: true,
                    ..SourceFields::default()
                },
                anywhere(SourceFields::default()),
            ],
            None => vec![SourceFields::default()],
        };
        let from = self.sources(callers, &not, context)?;
        Ok(Callers {
            from,
            claims: self.claims,
            conditions: self.conditions,
        })
    }

    /// Every caller with every address.
    fn sources(
        &self,
        callers: Vec<SourceFields>,
        not: &[SourceFields],
        context: &Context<'_>,
    ) -> Result<Vec<Source>, TooMany> {
        let addresses = options(self.addresses.as_deref());
        let callers = product(context.budget, callers, &addresses, |is, cidr| {
            Some(SourceFields { cidr: *cidr, ..is })
        })?;
        let remote = options(self.remote.as_deref());
        let callers = product(context.budget, callers, &remote, |is, cidr| {
            Some(SourceFields {
                forwarded_for: *cidr,
                ..is
            })
        })?;
        context
            .budget
            .take(callers.len().saturating_mul(not.len()))?;
        let sources = callers.into_iter().map(|is| {
            // Who is anonymous is none of those that have an identity.
            let counts = |fields: &&SourceFields| !is.anonymous || !has_identity(fields);
            let not = not.iter().filter(counts).cloned().collect();
            Source { is, not }
        });
        Ok(sources.collect())
    }
}

fn has_identity(fields: &SourceFields) -> bool {
    fields.workload.is_some()
        || fields.namespace.is_some()
        || fields.spiffe.is_some()
        || fields.trust_domain.is_some()
}

fn options(ranges: Option<&[Cidr]>) -> Vec<Option<Cidr>> {
    match ranges {
        None => vec![None],
        Some(ranges) => ranges.iter().copied().map(Some).collect(),
    }
}
