//! `storage`: which database.

use std::path::PathBuf;

use countersign_policy::yaml::Value;

use crate::store::{DatabaseUrl, PostgresConfig, UrlSource};

const URL: &str = "a URL of the form postgres://user@host:5432/database";

/// Reads `storage`: `{postgres: {…}}`.
pub(super) fn postgres(value: Value<'_>) -> Option<Option<PostgresConfig>> {
    value.mapping(|fields| Some(Some(fields.required("postgres", config)?)))
}

fn config(value: Value<'_>) -> Option<PostgresConfig> {
    value.mapping(|fields| {
        let url = fields.optional("url", url);
        let url_file = fields.optional("urlFile", Value::text);
        let password_file = fields.optional("passwordFile", Value::text);
        let ca_file = fields.optional("caFile", Value::text);
        let url = match (url?, url_file?) {
            (Some(url), None) => UrlSource::Inline(url),
            (None, Some(path)) => UrlSource::File(path.into()),
            _ => return value.mistake("expected either `url` or `urlFile`"),
        };
        Some(PostgresConfig {
            url,
            password_file: password_file?.map(PathBuf::from),
            ca_file: ca_file?.map(PathBuf::from),
        })
    })
}

/// The configuration is read by many, so no password may be in it. What is wrong is told without the text.
fn url(value: Value<'_>) -> Option<DatabaseUrl> {
    match value.text()?.parse::<DatabaseUrl>() {
        Ok(url) if url.has_password() => value.mistake(
            "a password does not belong into the configuration; put it into a private file, and that into `passwordFile`, \
             or the whole URL into one for `urlFile`, or set PGPASSWORD",
        ),
        Ok(url) => Some(url),
        Err(error) => value.mistake(format!("expected {URL}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_policy::yaml;

    fn read(text: &str) -> Result<Option<PostgresConfig>, String> {
        yaml::read("storage.yaml", text, postgres).map_err(|mistakes| mistakes.to_string())
    }

    #[test]
    fn postgresql_is_read_whole() {
        let config =
            read("postgres: {url: 'postgres://ca@db.example/ca', passwordFile: /p, caFile: /c}")
                .unwrap()
                .unwrap();
        assert_eq!(
            config.url,
            UrlSource::Inline("postgres://ca@db.example/ca".parse().unwrap())
        );
        assert_eq!(config.password_file, Some("/p".into()));
        assert_eq!(config.ca_file, Some("/c".into()));
        let config = read("postgres: {urlFile: /run/url}").unwrap().unwrap();
        assert_eq!(config.url, UrlSource::File("/run/url".into()));
    }

    #[test]
    fn a_password_in_it_is_a_mistake_and_not_repeated() {
        for url in [
            "postgres://ca:hunter2@db.example/ca",
            "postgres://ca:hunter2@db.example",
            "mysql://ca:hunter2@db.example/ca",
        ] {
            let mistakes = read(&format!("postgres: {{url: '{url}'}}")).unwrap_err();
            assert!(mistakes.contains("storage.yaml:1:"), "{mistakes}");
            assert!(!mistakes.contains("hunter2"), "{mistakes}");
        }
    }

    #[test]
    fn there_is_one_url() {
        for text in [
            "postgres: {}",
            "postgres: {url: 'postgres://ca@db/ca', urlFile: /f}",
        ] {
            let mistakes = read(text).unwrap_err();
            assert!(mistakes.contains("either `url` or `urlFile`"), "{mistakes}");
        }
        assert!(read("{}").unwrap_err().contains("missing field `postgres`"));
    }
}
