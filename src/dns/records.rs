//! Makes the record of a claimed domain, where the zone is the platform's own.

use daybook_domain::Hostname;

#[cfg(feature = "route53")]
use super::route53::Route53;
use crate::config::Settings;

/// Whether a record was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// It was.
    Yes,
    /// It is not ours to make: the tenant publishes it.
    NotOurs,
    /// It is ours to make, and could not be; the reason is logged.
    Failed,
}

/// Makes records, if a zone and credentials are configured. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct DnsRecords {
    #[cfg(feature = "route53")]
    zone: Option<Zone>,
}

#[cfg(feature = "route53")]
#[derive(Clone, Debug)]
struct Zone {
    client: Route53,
    id: String,
    name: std::sync::Arc<tokio::sync::OnceCell<String>>,
}

impl DnsRecords {
    /// As the settings say.
    #[cfg_attr(not(feature = "route53"), expect(unused_variables, reason = "no other maker is configured"))]
    pub fn from_settings(settings: &Settings) -> Self {
        #[cfg(feature = "route53")]
        match (Route53::from_settings(settings), &settings.route53_zone_id) {
            (Ok(Some(client)), Some(id)) => return Self::route53(client, id.clone()),
            (Ok(_), _) => {}
            (Err(error), _) => {
                tracing::error!(error = &error as &dyn std::error::Error, "records of domains are not made");
            }
        }
        Self::default()
    }

    /// In a hosted zone of Route 53.
    #[cfg(feature = "route53")]
    pub fn route53(client: Route53, zone_id: String) -> Self {
        Self { zone: Some(Zone { client, id: zone_id, name: Default::default() }) }
    }

    /// Makes the TXT record of a host, if the host is of the zone and of the tenant with this slug.
    #[cfg_attr(not(feature = "route53"), expect(unused_variables, reason = "no other maker is configured"))]
    pub async fn make(&self, slug: &str, host: &Hostname, value: &str) -> Made {
        #[cfg(feature = "route53")]
        if let Some(zone) = &self.zone {
            return zone.make(slug, host, value).await.unwrap_or_else(|error| {
                tracing::warn!(%host, error = &error as &dyn std::error::Error, "a record was not made");
                Made::Failed
            });
        }
        Made::NotOurs
    }
}

#[cfg(feature = "route53")]
impl Zone {
    async fn make(
        &self,
        slug: &str,
        host: &Hostname,
        value: &str,
    ) -> Result<Made, super::route53::Route53Error> {
        let name = self.name.get_or_try_init(|| self.client.zone_name(&self.id)).await?;
        if !is_of(host.as_str(), slug, name) {
            return Ok(Made::NotOurs);
        }
        self.client.upsert_txt(&self.id, &super::challenge_name(host), value).await?;
        Ok(Made::Yes)
    }
}

/// Whether a host is `slug.zone` or below it. Not any host of the zone: a record that we make proves the host, so that
/// whoever claimed a name of the platform's or of another tenant's would have it by asking.
#[cfg_attr(not(feature = "route53"), cfg(test))]
fn is_of(host: &str, slug: &str, zone: &str) -> bool {
    let zone = zone.strip_suffix('.').unwrap_or(zone).to_ascii_lowercase();
    let Some(below) = host.strip_suffix(&zone).and_then(|rest| rest.strip_suffix('.')) else { return false };
    !zone.is_empty() && below.rsplit('.').next() == Some(slug)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_the_tenants_own_are_proved_for_it() {
        for host in ["camp.daybook.example", "book.camp.daybook.example"] {
            assert!(is_of(host, "camp", "daybook.example."), "{host}");
        }
        for host in [
            "daybook.example",
            "www.daybook.example",
            "hotel.daybook.example",
            "camp.hotel.daybook.example",
            "camp.daybook.example.net",
            "camp.notdaybook.example",
            "xcamp.daybook.example",
        ] {
            assert!(!is_of(host, "camp", "daybook.example."), "{host}");
        }
        assert!(!is_of("camp.daybook.example", "camp", ""));
    }
}
