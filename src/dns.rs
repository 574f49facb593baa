//! Proof of a domain by DNS: the record its owner publishes, and the look-up that finds it.

pub mod records;
#[cfg(feature = "route53")]
pub mod route53;

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use daybook_domain::{DomainError, Hostname};
use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts},
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::{
        ProtoError,
        rr::{Name, RData, RecordType},
    },
};
use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};

/// How long one question waits for its answer.
const TIMEOUT: Duration = Duration::from_secs(3);
/// How long a look-up may take with every server and repetition.
const LONGEST: Duration = Duration::from_secs(15);
const DEFAULT_PORT: u16 = 53;
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// As the system's own resolver, which asks no more of them.
const MOST_SERVERS: usize = 3;
const CHALLENGE: &str = "_daybook-challenge.";
const VALUE: &str = "daybook-verification=";
/// The longest name DNS carries, written out.
const LONGEST_NAME: usize = 253;

/// Why it is not known what DNS says. Never that a record is absent: that is an answer.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// No server answered, or none could: to be tried again.
    #[error("DNS gave no answer")]
    Unavailable(#[source] Box<NetError>),
    /// No answer in the time a look-up may take: to be tried again.
    #[error("DNS gave no answer in time")]
    Timeout,
    /// The name cannot be asked for.
    #[error("not a name of DNS")]
    Name(#[source] ProtoError),
    /// The system's list of servers cannot be read.
    #[error("cannot read the system's DNS servers")]
    System(#[source] io::Error),
}

/// Reads a host's name as people write it, in any script, with or without a trailing dot.
///
/// # Errors
/// `invalid_hostname` at `/hostname`: not a public name, or too long for its challenge to be published.
pub fn hostname(text: &str) -> Result<Hostname, DomainError> {
    const POINTER: &str = "/hostname";
    let text = text.trim();
    let text = text.strip_suffix('.').unwrap_or(text);
    let ascii = Uts46::new()
        .to_ascii(text.as_bytes(), AsciiDenyList::STD3, Hyphens::CheckFirstLast, DnsLength::Verify)
        .map_err(|_| DomainError::field(POINTER, "invalid_hostname", "not a host name"))?;
    let host = Hostname::new(&ascii, POINTER)?;
    if CHALLENGE.len() + host.as_str().len() > LONGEST_NAME {
        return Err(DomainError::field(POINTER, "invalid_hostname", "the host name is too long"));
    }
    Ok(host)
}

/// The name of the TXT record that proves a host.
pub fn challenge_name(host: &Hostname) -> String {
    format!("{CHALLENGE}{host}")
}

/// The value of the TXT record that proves a host.
pub fn challenge_value(token: &str) -> String {
    format!("{VALUE}{token}")
}

/// Whether one of the records is the one that was asked for. Other records beside it do no harm.
pub fn proves(records: &[String], token: &str) -> bool {
    // An absent token must never be proved by a record without one.
    !token.is_empty() && records.iter().any(|record| record.trim().strip_prefix(VALUE) == Some(token))
}

/// Looks TXT records up. Keeps nothing, so that a record counts as soon as the servers asked know of it.
#[derive(Clone, Debug)]
pub struct TxtLookup {
    server: Option<SocketAddr>,
    timeout: Duration,
}

impl TxtLookup {
    /// Asks this server, or those of the system, read anew for each look-up.
    pub fn new(server: Option<SocketAddr>) -> Self {
        Self { server, timeout: TIMEOUT }
    }

    /// With another time to wait for an answer.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// The TXT records of a name, each with its parts joined; none when there is no such name or record.
    ///
    /// # Errors
    /// When it is not known: no server answered or one answered that it cannot, or the name is none.
    pub async fn txt(&self, name: &str) -> Result<Vec<String>, DnsError> {
        let mut name = Name::from_ascii(name).map_err(DnsError::Name)?;
        // Never completed with the search domains of this machine.
        name.set_fqdn(true);
        let resolver = self.resolver()?;
        let lookup = match tokio::time::timeout(LONGEST, resolver.lookup(name, RecordType::TXT)).await {
            Err(_) => return Err(DnsError::Timeout),
            Ok(Err(error)) if error.is_no_records_found() => return Ok(Vec::new()),
            Ok(Err(error)) => return Err(DnsError::Unavailable(Box::new(error))),
            Ok(Ok(lookup)) => lookup,
        };
        let texts = lookup.answers().iter().filter_map(|record| match &record.data {
            RData::TXT(txt) => Some(String::from_utf8_lossy(&txt.txt_data.concat()).into_owned()),
            _ => None,
        });
        Ok(texts.collect())
    }

    fn resolver(&self) -> Result<TokioResolver, DnsError> {
        let servers = match self.server {
            Some(server) => vec![server],
            None => system_servers(&fs::read_to_string(RESOLV_CONF).map_err(DnsError::System)?),
        };
        let servers = servers.into_iter().map(name_server).collect();
        let config = ResolverConfig::from_name_servers(servers);
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let mut options = ResolverOpts::default();
        options.timeout = self.timeout;
        // Once more after the first time.
        options.attempts = 1;
        options.cache_size = 0;
        *builder.options_mut() = options;
        builder.build().map_err(|error| DnsError::Unavailable(Box::new(error)))
    }
}

fn name_server(address: SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.into())
}

/// The servers of a `resolv.conf`; the local one where it names none, as resolv.conf(5) has it. Search domains and
/// options are of no use: the names asked for are whole.
fn system_servers(text: &str) -> Vec<SocketAddr> {
    let mut servers: Vec<_> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let address = words.next().filter(|&word| word == "nameserver").and(words.next())?;
            Some(SocketAddr::new(address.parse::<IpAddr>().ok()?, DEFAULT_PORT))
        })
        .take(MOST_SERVERS)
        .collect();
    if servers.is_empty() {
        servers.push(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), DEFAULT_PORT));
    }
    servers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_of_any_script_become_a_labels() {
        for (text, expected) in [
            ("Bücher.Example", "xn--bcher-kva.example"),
            ("例え。テスト", "xn--r8jz45g.xn--zckzah"),
            ("book.example.", "book.example"),
            ("r3---sn.example", "r3---sn.example"),
        ] {
            assert_eq!(hostname(text).unwrap().as_str(), expected);
        }
        for wrong in
            ["", "１２７.0.0.1", "a.localhost", "a_b.example", "a.example:80", "xn--a.example", "a..b"]
        {
            assert!(hostname(wrong).is_err(), "{wrong}");
        }
        let long = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "b".repeat(61));
        assert!(Hostname::new(&long, "").is_ok());
        assert!(hostname(&long).is_err(), "its challenge has no name");
    }

    #[test]
    fn only_the_exact_record_proves() {
        let host = hostname("book.example").unwrap();
        assert_eq!(challenge_name(&host), "_daybook-challenge.book.example");
        let records = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        assert!(proves(&records(&["v=spf1 -all", &challenge_value("abc")]), "abc"));
        for wrong in
            ["daybook-verification=abcd", "daybook-verification=", "abc", "x daybook-verification=abc"]
        {
            assert!(!proves(&records(&[wrong]), "abc"), "{wrong}");
        }
        assert!(!proves(&records(&["daybook-verification="]), ""));
        assert!(!proves(&[], "abc"));
    }

    #[test]
    fn the_servers_of_the_system_are_read() {
        let text = "# a comment\nsearch lan\nnameserver 10.0.0.2\nnameserver fe80::1%eth0\n nameserver ::1 x\noptions edns0";
        let servers: Vec<_> = system_servers(text).iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["10.0.0.2:53", "[::1]:53"]);
        assert_eq!(system_servers("")[0].to_string(), "127.0.0.1:53");
    }
}
