//! Makes the record of a claimed domain in Route 53, for domains whose zone is ours.

use std::{env, fmt, time::Duration};

use aws_sdk_route53::{
    Client, Config,
    config::{
        BehaviorVersion, Credentials, Region, SharedCredentialsProvider, retry::RetryConfig,
        timeout::TimeoutConfig,
    },
    error::{ProvideErrorMetadata as _, SdkError},
    types::{Change, ChangeAction, ChangeBatch, ResourceRecord, ResourceRecordSet, RrType},
};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, rustls_provider::CryptoMode},
};

use crate::config::Settings;

/// How long resolvers may keep the record: it is looked for soon after it is made, and perhaps made again.
const TTL_SECONDS: i64 = 60;
/// The longest part of a TXT record.
const LONGEST_PART: usize = 255;
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(15);

/// Why a record was not made.
#[derive(Debug, thiserror::Error)]
pub enum Route53Error {
    /// A zone is configured, but no credentials are.
    #[error("route53_zone_id is set without AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")]
    NoCredentials,
    /// The value has characters that a record is not made of.
    #[error("the value of a record is printable ASCII")]
    Value,
    /// Route 53 refused; the code is its own, such as `NoSuchHostedZone`.
    #[error("Route 53 refused: {0}")]
    Refused(String),
    /// Route 53 was not reached or did not answer.
    #[error("Route 53 was not reached")]
    Unavailable,
}

/// A client of Route 53.
#[derive(Clone)]
pub struct Route53 {
    client: Client,
}

impl fmt::Debug for Route53 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Route53")
    }
}

impl Route53 {
    /// With the credentials of the environment; `None` where no zone is configured.
    ///
    /// # Errors
    /// When there are no credentials.
    pub fn from_settings(settings: &Settings) -> Result<Option<Self>, Route53Error> {
        if settings.route53_zone_id.is_none() {
            return Ok(None);
        }
        let variable = |name| env::var(name).ok().filter(|value| !value.is_empty());
        let (Some(key), Some(secret)) = (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY"))
        else {
            return Err(Route53Error::NoCredentials);
        };
        let credentials = Credentials::new(key, secret, variable("AWS_SESSION_TOKEN"), None, "environment");
        Ok(Some(Self::new(credentials, settings.route53_endpoint.as_deref())))
    }

    /// With these credentials, at AWS's own endpoint or another.
    pub fn new(credentials: Credentials, endpoint: Option<&str>) -> Self {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(ATTEMPT_TIMEOUT)
            .operation_attempt_timeout(ATTEMPT_TIMEOUT)
            .operation_timeout(TIMEOUT)
            .build();
        let http = Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
        let mut config = Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            // Route 53 is one for the world; requests are signed for this region.
            .region(Region::from_static("us-east-1"))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .timeout_config(timeouts)
            .retry_config(RetryConfig::standard().with_max_attempts(2))
            .http_client(http);
        if let Some(endpoint) = endpoint {
            config = config.endpoint_url(endpoint);
        }
        Self { client: Client::from_conf(config.build()) }
    }

    /// The name of a hosted zone, with the dot at its end.
    ///
    /// # Errors
    /// When Route 53 refuses or is not reached.
    pub async fn zone_name(&self, zone_id: &str) -> Result<String, Route53Error> {
        match self.client.get_hosted_zone().id(zone_id).send().await {
            Ok(found) => found.hosted_zone.map(|zone| zone.name).ok_or(Route53Error::Unavailable),
            Err(SdkError::ServiceError(refused)) => {
                Err(Route53Error::Refused(refused.err().code().unwrap_or("unknown").to_owned()))
            }
            Err(_) => Err(Route53Error::Unavailable),
        }
    }

    /// Makes a TXT record in a hosted zone, in place of what the name had.
    ///
    /// # Errors
    /// When the value cannot be a record's, or Route 53 refuses or is not reached.
    pub async fn upsert_txt(&self, zone_id: &str, name: &str, value: &str) -> Result<(), Route53Error> {
        let invalid = |_| Route53Error::Value;
        let record = ResourceRecord::builder().value(quoted(value)?).build().map_err(invalid)?;
        let set = ResourceRecordSet::builder()
            .name(name)
            .r#type(RrType::Txt)
            .ttl(TTL_SECONDS)
            .resource_records(record)
            .build()
            .map_err(invalid)?;
        let change = Change::builder()
            .action(ChangeAction::Upsert)
            .resource_record_set(set)
            .build()
            .map_err(invalid)?;
        let batch = ChangeBatch::builder().changes(change).build().map_err(invalid)?;
        let request = self.client.change_resource_record_sets().hosted_zone_id(zone_id).change_batch(batch);
        match request.send().await {
            Ok(_) => Ok(()),
            Err(SdkError::ServiceError(refused)) => {
                Err(Route53Error::Refused(refused.err().code().unwrap_or("unknown").to_owned()))
            }
            Err(_) => Err(Route53Error::Unavailable),
        }
    }
}

/// A value as Route 53 takes it: in quotes, in parts that are short enough.
fn quoted(value: &str) -> Result<String, Route53Error> {
    if !value.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) {
        return Err(Route53Error::Value);
    }
    let parts: Vec<_> = value
        .as_bytes()
        .chunks(LONGEST_PART)
        .map(|part| {
            let text = String::from_utf8_lossy(part).replace('\\', "\\\\").replace('"', "\\\"");
            format!("\"{text}\"")
        })
        .collect();
    Ok(parts.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted() {
        assert_eq!(quoted("daybook-verification=a").unwrap(), "\"daybook-verification=a\"");
        assert_eq!(quoted("a\"b\\c").unwrap(), "\"a\\\"b\\\\c\"");
        assert_eq!(quoted(&"x".repeat(256)).unwrap(), format!("\"{}\" \"x\"", "x".repeat(255)));
        assert!(quoted("a\nb").is_err() && quoted("é").is_err());
    }

    #[test]
    fn a_client_does_not_show_its_credentials() {
        let credentials = Credentials::new("AKID", "hunter2", None, None, "test");
        assert_eq!(format!("{:?}", Route53::new(credentials, None)), "Route53");
    }
}
