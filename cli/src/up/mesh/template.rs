//! Text of the mesh file with placeholders: `${ip}`, and `${SERVICE}` for a service that is called.

use std::net::Ipv4Addr;

/// Text whose placeholders are filled in when addresses are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    /// What stood between `${` and `}`.
    Placeholder(String),
}

/// A `${` that has no `}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`${{` without `}}`; write `$${{` for a plain `${{`")]
pub(crate) struct Unclosed;

/// A placeholder that stands for nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nothing is known as `${{{0}}}`")]
pub(crate) struct UnknownPlaceholder(String);

impl Template {
    /// Takes text apart. `$${` is a plain `${`.
    pub(super) fn parse(text: &str) -> Result<Self, Unclosed> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            if let Some(before) = before.strip_suffix('$') {
                plain.push_str(before);
                plain.push_str("${");
                rest = after;
                continue;
            }
            let (name, after) = after.split_once('}').ok_or(Unclosed)?;
            plain.push_str(before);
            parts.push(Part::Text(std::mem::take(&mut plain)));
            parts.push(Part::Placeholder(name.to_owned()));
            rest = after;
        }
        plain.push_str(rest);
        parts.push(Part::Text(plain));
        parts.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
        Ok(Self(parts))
    }

    /// The placeholders that are not `ip`: services.
    pub(super) fn services(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Placeholder(name) if name != "ip" => Some(name.as_str()),
            _ => None,
        })
    }

    /// The text for a workload with the address `ip`; `service` tells where a service is reached.
    pub(crate) fn fill(
        &self,
        ip: Ipv4Addr,
        service: impl Fn(&str) -> Option<String>,
    ) -> Result<String, UnknownPlaceholder> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(plain) => text.push_str(plain),
                Part::Placeholder(name) if name == "ip" => text.push_str(&ip.to_string()),
                Part::Placeholder(name) => {
                    text.push_str(&service(name).ok_or_else(|| UnknownPlaceholder(name.clone()))?)
                }
            }
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str) -> Result<String, UnknownPlaceholder> {
        Template::parse(text)
            .unwrap()
            .fill(Ipv4Addr::new(127, 1, 2, 10), |service| {
                (service == "pay.shop:9090").then(|| "127.1.2.10:16001".to_owned())
            })
    }

    #[test]
    fn placeholders_are_filled_in() {
        for (text, expected) in [
            ("", ""),
            ("plain $HOME", "plain $HOME"),
            ("${ip}:8080", "127.1.2.10:8080"),
            (
                "a=${pay.shop:9090},b=${ip}",
                "a=127.1.2.10:16001,b=127.1.2.10",
            ),
            ("$${ip}", "${ip}"),
            ("$${x}${ip}", "${x}127.1.2.10"),
        ] {
            assert_eq!(filled(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_stands_for_nothing_is_refused() {
        assert_eq!(
            filled("${pay}").unwrap_err().to_string(),
            "nothing is known as `${pay}`"
        );
        assert_eq!(Template::parse("${ip"), Err(Unclosed));
        assert_eq!(
            Unclosed.to_string(),
            "`${` without `}`; write `$${` for a plain `${`"
        );
    }
}
