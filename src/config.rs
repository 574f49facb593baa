//! The one typed configuration: flags, then the environment, then `daybook.toml`, then the defaults.
//!
//! Each source is read into a [`SettingsPatch`] and laid over the one below; only the outcome is a
//! [`Settings`]. A key that means nothing is an error that names it, because a typing mistake in a
//! timeout would otherwise be noticed the day it matters.

mod span;

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use secrecy::SecretString;
use serde::Deserialize;

pub use span::Span;

use crate::http::cors::Origins;

/// Why the configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file was named, and cannot be read.
    #[error("cannot read the configuration file {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not TOML, has an unknown key or a wrong value.
    #[error("the configuration file {path}, line {line}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// Where, counted from 1.
        line: usize,
        /// What is wrong; never a value, which may be a secret.
        reason: String,
    },
    /// An environment variable has a wrong value.
    #[error("the environment variable {name}: {reason}")]
    Environment {
        /// The variable.
        name: String,
        /// What is expected.
        reason: String,
    },
    /// A value that cannot work.
    #[error("{key} {reason}")]
    Invalid {
        /// The key, as in `daybook.toml`.
        key: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl FromStr for LogFormat {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("expected `text` or `json`"),
        }
    }
}

/// What an environment variable can be read as.
trait FromVariable: Sized {
    fn from_variable(text: String) -> Result<Self, String>;
}

macro_rules! from_variable {
    ($($type:ty),*) => {$(
        impl FromVariable for $type {
            fn from_variable(text: String) -> Result<Self, String> {
                text.parse().map_err(|error| format!("{error}"))
            }
        }
    )*};
}

from_variable!(String, PathBuf, SocketAddr, bool, u8, u32, usize, Span, LogFormat, Origins);

impl FromVariable for SecretString {
    fn from_variable(text: String) -> Result<Self, String> {
        Ok(Self::from(text))
    }
}

/// The cores of this machine, at least two.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from).max(2)
}

/// Declares every setting once: its key in the file, its variable in the environment, its type and default.
macro_rules! settings {
    ($($(#[$doc:meta])* $name:ident: $type:ty => $out:ty = $default:expr, $env:literal, $convert:expr;)*) => {
        /// What the program runs with.
        #[derive(Clone, Debug)]
        pub struct Settings {
            $($(#[$doc])* pub $name: $out,)*
        }

        /// One source's part of the configuration; what it leaves out comes from the source below.
        #[derive(Clone, Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct SettingsPatch {
            $($(#[$doc])* pub $name: Option<$type>,)*
        }

        impl SettingsPatch {
            /// The part that the environment gives. An empty variable counts as unset.
            fn from_environment(variable: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
                Ok(Self {
                    $($name: match variable($env).filter(|value| !value.is_empty()) {
                        None => None,
                        Some(value) => Some(<$type>::from_variable(value).map_err(|reason| {
                            ConfigError::Environment { name: $env.to_owned(), reason }
                        })?),
                    },)*
                })
            }

            /// `self`, and `below` for what `self` leaves out.
            fn over(self, below: Self) -> Self {
                Self { $($name: self.$name.or(below.$name),)* }
            }

            fn resolve(self) -> Settings {
                Settings { $($name: self.$name.map_or_else(|| $default, $convert),)* }
            }
        }

        /// Every environment variable that is a setting, with its key in the file.
        #[cfg(test)]
        const VARIABLES: &[(&str, &str)] = &[$(($env, stringify!($name)),)*];
    };
}

settings! {
    /// Where the private PostgreSQL, the keys and everything else on disk lives.
    data_dir: PathBuf => PathBuf = PathBuf::from("./data"), "DAYBOOK_DATA_DIR", |v| v;
    /// The address the server listens on.
    listen: SocketAddr => SocketAddr = SocketAddr::from(([127, 0, 0, 1], 8080)), "DAYBOOK_LISTEN", |v| v;
    /// An external PostgreSQL, as the application's role; unset means the private one.
    database_url: SecretString => Option<SecretString> = None, "DATABASE_URL", Some;
    /// The same PostgreSQL as the role that owns the database; defaults to `database_url`.
    admin_database_url: SecretString => Option<SecretString> = None, "DAYBOOK_ADMIN_DATABASE_URL", Some;
    /// The keys file; [`Settings::keys_file`] has the default.
    keys_file: PathBuf => Option<PathBuf> = None, "DAYBOOK_KEYS_FILE", Some;
    /// Most connections of the application's pool. More would not be faster, but each read slower.
    pool_size: u32 => u32 = 5 * u32::try_from(cores()).unwrap_or(4), "DAYBOOK_POOL_SIZE", |v| v;
    /// Connections of the writers; a tenant keeps to one.
    write_connections: usize => usize = 24, "DAYBOOK_WRITE_CONNECTIONS", |v| v;
    /// The most batches of commands in progress at once, each of another tenant; those that wait grow meanwhile. Twice as
    /// many while batches are of single commands, which do not grow.
    /// Three for each core: PostgreSQL waits for its disk during part of one, and this process for PostgreSQL.
    concurrent_batches: usize => usize = 3 * cores(), "DAYBOOK_CONCURRENT_BATCHES", |v| v;
    /// Most connections of the owner's pool (migrations, provisioning).
    admin_pool_size: u32 => u32 = 4, "DAYBOOK_ADMIN_POOL_SIZE", |v| v;
    /// How long a request waits for a connection.
    pool_timeout: Span => Duration = Duration::from_secs(5), "DAYBOOK_POOL_TIMEOUT", |v: Span| v.0;
    /// Most bytes of a request body.
    body_limit: usize => usize = 1024 * 1024, "DAYBOOK_BODY_LIMIT", |v| v;
    /// How long one request may take.
    request_timeout: Span => Duration = Duration::from_secs(30), "DAYBOOK_REQUEST_TIMEOUT", |v: Span| v.0;
    /// Most connections from one address at once (an IPv6 network of 64 bits), where no proxies are trusted; 0 is no limit.
    connections_per_address: usize => usize = 512, "DAYBOOK_CONNECTIONS_PER_ADDRESS", |v| v;
    /// How long a client may take to send its request's head.
    header_timeout: Span => Duration = Duration::from_secs(10), "DAYBOOK_HEADER_TIMEOUT", |v: Span| v.0;
    /// How long one statement may take in the database.
    statement_timeout: Span => Duration = Duration::from_secs(15), "DAYBOOK_STATEMENT_TIMEOUT", |v: Span| v.0;
    /// How long an access token is valid.
    access_token_lifetime: Span => Duration = Duration::from_secs(30 * 60), "DAYBOOK_ACCESS_TOKEN_LIFETIME", |v: Span| v.0;
    /// How long a refresh token is valid; it is replaced at every use.
    refresh_token_lifetime: Span => Duration = Duration::from_secs(7 * 86_400), "DAYBOOK_REFRESH_TOKEN_LIFETIME",
        |v: Span| v.0;
    /// How long a session lasts at most, however often it is refreshed.
    session_lifetime: Span => Duration = Duration::from_secs(30 * 86_400), "DAYBOOK_SESSION_LIFETIME", |v: Span| v.0;
    /// How long a sign-in takes at least that fails. Longer than comparing any password that was imported.
    failed_login_time: Span => Duration = Duration::from_millis(500), "DAYBOOK_FAILED_LOGIN_TIME", |v: Span| v.0;
    /// Memory of one password hash, in KiB.
    argon2_memory_kib: u32 => u32 = 19 * 1024, "DAYBOOK_ARGON2_MEMORY_KIB", |v| v;
    /// Passes of one password hash.
    argon2_iterations: u32 => u32 = 2, "DAYBOOK_ARGON2_ITERATIONS", |v| v;
    /// Password hashes at once; more wait.
    argon2_parallel: usize => usize = cores(), "DAYBOOK_ARGON2_PARALLEL", |v| v;
    /// How log lines are written.
    log_format: LogFormat => LogFormat = LogFormat::Text, "DAYBOOK_LOG_FORMAT", |v| v;
    /// How often expired holds are swept.
    hold_sweep_interval: Span => Duration = Duration::from_secs(5), "DAYBOOK_HOLD_SWEEP_INTERVAL", |v: Span| v.0;
    /// How often catch-up projections look for new events.
    projection_poll_interval: Span => Duration = Duration::from_millis(200), "DAYBOOK_PROJECTION_POLL_INTERVAL",
        |v: Span| v.0;
    /// How many proxies in front of the server are ours: that many hops of X-Forwarded-For are believed.
    trusted_proxy_hops: u8 => u8 = 0, "DAYBOOK_TRUSTED_PROXY_HOPS", |v| v;
    /// Sign-ins a minute from one address.
    login_limit_per_minute: u32 => u32 = 10, "DAYBOOK_LOGIN_LIMIT_PER_MINUTE", |v| v;
    /// Requests for a new password an hour from one address.
    reset_limit_per_hour: u32 => u32 = 5, "DAYBOOK_RESET_LIMIT_PER_HOUR", |v| v;
    /// Invitations an hour by one tenant.
    invitation_limit_per_hour: u32 => u32 = 100, "DAYBOOK_INVITATION_LIMIT_PER_HOUR", |v| v;
    /// Requests an hour to delete one account.
    account_deletion_limit_per_hour: u32 => u32 = 3, "DAYBOOK_ACCOUNT_DELETION_LIMIT_PER_HOUR", |v| v;
    /// Leads an hour from one address.
    leads_limit_per_hour: u32 => u32 = 20, "DAYBOOK_LEADS_LIMIT_PER_HOUR", |v| v;
    /// Sign-ups an hour from one address.
    signup_limit_per_hour: u32 => u32 = 5, "DAYBOOK_SIGNUP_LIMIT_PER_HOUR", |v| v;
    /// Sign-ups a day with e-mail addresses of one domain.
    signup_domain_limit_per_day: u32 => u32 = 20, "DAYBOOK_SIGNUP_DOMAIN_LIMIT_PER_DAY", |v| v;
    /// Bookings an hour by the public, from one address.
    public_bookings_limit_per_hour: u32 => u32 = 30, "DAYBOOK_PUBLIC_BOOKINGS_LIMIT_PER_HOUR", |v| v;
    /// Reads a minute of what is free by the public, from one address; 0 is no limit.
    public_availability_limit_per_minute: u32 => u32 = 60, "DAYBOOK_PUBLIC_AVAILABILITY_LIMIT_PER_MINUTE", |v| v;
    /// Requests a minute to one route from one address; 0 is no limit.
    read_limit_per_minute: u32 => u32 = 6_000, "DAYBOOK_READ_LIMIT_PER_MINUTE", |v| v;
    /// The web pages of the platform that may call from a browser, as origins separated by commas.
    cors_origins: Origins => Origins = Origins::default(), "DAYBOOK_CORS_ORIGINS", |v| v;
    /// The certificate chain to serve TLS with, PEM; only with `tls_key`.
    tls_certificate: PathBuf => Option<PathBuf> = None, "DAYBOOK_TLS_CERTIFICATE", Some;
    /// The certificate's private key, PEM; only with `tls_certificate`.
    tls_key: PathBuf => Option<PathBuf> = None, "DAYBOOK_TLS_KEY", Some;
    /// Lets `database_url` name another machine without `sslmode=verify-full`.
    allow_insecure_database: bool => bool = false, "DAYBOOK_ALLOW_INSECURE_DATABASE", |v| v;
    /// The address people reach the server at, which links in mail begin with; [`Settings::public_url`] has the default.
    public_url: String => Option<String> = None, "DAYBOOK_PUBLIC_URL", Some;
    /// The mail server, such as `smtps://user:password@mail.example:465`; unset means a mailbox of files.
    smtp_url: SecretString => Option<SecretString> = None, "DAYBOOK_SMTP_URL", Some;
    /// Whom mail comes from.
    mail_from: String => String = "Daybook <noreply@localhost>".to_owned(), "DAYBOOK_MAIL_FROM", |v| v;
    /// The mailbox of files; [`Settings::mail_dir`] has the default.
    mail_dir: PathBuf => Option<PathBuf> = None, "DAYBOOK_MAIL_DIR", Some;
    /// The DNS server that is asked about claimed domains; unset means those of the system.
    dns_server: SocketAddr => Option<SocketAddr> = None, "DAYBOOK_DNS_SERVER", Some;
    /// How often the record of each verified domain is looked for again.
    domain_recheck_interval: Span => Duration = Duration::from_secs(86_400), "DAYBOOK_DOMAIN_RECHECK_INTERVAL",
        |v: Span| v.0;
    /// How long after midnight (UTC, by the clock of the database) the sample tenant is made anew.
    sample_reset_time: Span => Duration = Duration::from_secs(3 * 3_600), "DAYBOOK_SAMPLE_RESET_TIME", |v: Span| v.0;
    /// How many schemas are kept ready for tenants that are not there yet; without one, making a tenant takes longer.
    spare_schemas: usize => usize = 2, "DAYBOOK_SPARE_SCHEMAS", |v| v;
    /// How long after an event the tree of its log is extended.
    ledger_seal_interval: Span => Duration = Duration::from_secs(1), "DAYBOOK_LEDGER_SEAL_INTERVAL", |v: Span| v.0;
    /// How often at most the head of a log that changes is signed.
    ledger_sign_interval: Span => Duration = Duration::from_secs(10), "DAYBOOK_LEDGER_SIGN_INTERVAL", |v: Span| v.0;
    /// How often the heads of all logs are signed together.
    head_log_interval: Span => Duration = Duration::from_secs(60), "DAYBOOK_HEAD_LOG_INTERVAL", |v: Span| v.0;
    /// Where the log of heads is copied to: a folder, `s3://bucket/prefix` (feature `s3`), or `none`;
    /// [`Settings::ledger_copy`] has the default.
    ledger_copy: String => Option<String> = None, "DAYBOOK_LEDGER_COPY", Some;
    /// How often the open support sessions and hijacks are looked at, to note the end of those that are over.
    masquerade_sweep_interval: Span => Duration = Duration::from_secs(60), "DAYBOOK_MASQUERADE_SWEEP_INTERVAL",
        |v: Span| v.0;
    /// The Route 53 hosted zone that records of claimed domains are made in (feature `route53`).
    route53_zone_id: String => Option<String> = None, "DAYBOOK_ROUTE53_ZONE_ID", Some;
    /// Another endpoint of Route 53 than AWS's own (feature `route53`).
    route53_endpoint: String => Option<String> = None, "DAYBOOK_ROUTE53_ENDPOINT", Some;
}

/// Each takes PostgreSQL some 240 relations and 3 MB.
const MOST_SPARE_SCHEMAS: usize = 100;

/// The configuration file that is read when none is named.
pub const DEFAULT_FILE: &str = "daybook.toml";

impl Settings {
    /// The settings of this process: `flags` over its environment over `file`. The file is `file`, or
    /// `DAYBOOK_CONFIG`, or `./daybook.toml`; only the last may be absent.
    ///
    /// # Errors
    /// When a source cannot be read, has an unknown key or a wrong value, or the outcome cannot work.
    pub fn load(file: Option<&Path>, flags: SettingsPatch) -> Result<Self, ConfigError> {
        Self::load_with(file, &|name| std::env::var(name).ok(), flags)
    }

    /// [`Self::load`] with the environment as an argument.
    ///
    /// # Errors
    /// The same.
    pub fn load_with(
        file: Option<&Path>,
        variable: &dyn Fn(&str) -> Option<String>,
        flags: SettingsPatch,
    ) -> Result<Self, ConfigError> {
        let named = file
            .map(Path::to_owned)
            .or_else(|| variable("DAYBOOK_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from));
        let from_file = match named {
            Some(path) => read_file(&path, true)?,
            None => read_file(Path::new(DEFAULT_FILE), false)?,
        };
        let settings = flags.over(SettingsPatch::from_environment(variable)?).over(from_file).resolve();
        settings.check()?;
        Ok(settings)
    }

    /// The keys file: as configured, else `keys.toml` in the data directory.
    #[must_use]
    pub fn keys_file(&self) -> PathBuf {
        self.keys_file.clone().unwrap_or_else(|| self.data_dir.join("keys.toml"))
    }

    /// What links begin with, without a slash at the end: as configured, else the address listened on, or this
    /// machine where that is every address.
    #[must_use]
    pub fn public_url(&self) -> String {
        match &self.public_url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None if self.listen.ip().is_unspecified() => format!("http://localhost:{}", self.listen.port()),
            None => format!("http://{}", self.listen),
        }
    }

    /// The mailbox of files: as configured, else `mail` in the data directory.
    #[must_use]
    pub fn mail_dir(&self) -> PathBuf {
        self.mail_dir.clone().unwrap_or_else(|| self.data_dir.join("mail"))
    }

    /// Where the log of heads is copied to: as configured, else `ledger` in the data directory.
    #[must_use]
    pub fn ledger_copy(&self) -> String {
        self.ledger_copy
            .clone()
            .unwrap_or_else(|| self.data_dir.join("ledger").to_string_lossy().into_owned())
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.check_numbers()?;
        let invalid = |key, reason: &str| Err(ConfigError::Invalid { key, reason: reason.into() });
        if self.admin_database_url.is_some() && self.database_url.is_none() {
            return invalid(
                "admin_database_url",
                "is set without database_url (DATABASE_URL), so the private PostgreSQL would be used",
            );
        }
        if self.tls_certificate.is_some() != self.tls_key.is_some() {
            return invalid("tls_certificate", "and tls_key are needed both, or neither");
        }
        if self.public_url.as_deref().is_some_and(|url| !is_base_url(url)) {
            return invalid(
                "public_url",
                "must be http:// or https://, a host and perhaps a path, without a question mark or a hash",
            );
        }
        if self.mail_from.parse::<lettre::message::Mailbox>().is_err() {
            return invalid("mail_from", "must be an address such as `Daybook <noreply@example.org>`");
        }
        Ok(())
    }

    fn check_numbers(&self) -> Result<(), ConfigError> {
        let spans = [
            ("pool_timeout", self.pool_timeout),
            ("request_timeout", self.request_timeout),
            ("header_timeout", self.header_timeout),
            ("statement_timeout", self.statement_timeout),
            ("hold_sweep_interval", self.hold_sweep_interval),
            ("domain_recheck_interval", self.domain_recheck_interval),
            ("masquerade_sweep_interval", self.masquerade_sweep_interval),
            ("ledger_seal_interval", self.ledger_seal_interval),
            ("ledger_sign_interval", self.ledger_sign_interval),
            ("head_log_interval", self.head_log_interval),
            ("projection_poll_interval", self.projection_poll_interval),
            ("access_token_lifetime", self.access_token_lifetime),
            ("refresh_token_lifetime", self.refresh_token_lifetime),
            ("session_lifetime", self.session_lifetime),
            ("failed_login_time", self.failed_login_time),
        ];
        let numbers = [
            ("pool_size", self.pool_size == 0),
            ("write_connections", self.write_connections == 0),
            ("concurrent_batches", self.concurrent_batches == 0),
            ("admin_pool_size", self.admin_pool_size == 0),
            ("body_limit", self.body_limit == 0),
            ("argon2_memory_kib", self.argon2_memory_kib < 8),
            ("argon2_iterations", self.argon2_iterations == 0),
            ("argon2_parallel", self.argon2_parallel == 0),
            ("login_limit_per_minute", self.login_limit_per_minute == 0),
            ("reset_limit_per_hour", self.reset_limit_per_hour == 0),
            ("invitation_limit_per_hour", self.invitation_limit_per_hour == 0),
            ("account_deletion_limit_per_hour", self.account_deletion_limit_per_hour == 0),
            ("leads_limit_per_hour", self.leads_limit_per_hour == 0),
            ("signup_limit_per_hour", self.signup_limit_per_hour == 0),
            ("signup_domain_limit_per_day", self.signup_domain_limit_per_day == 0),
            ("public_bookings_limit_per_hour", self.public_bookings_limit_per_hour == 0),
        ];
        if self.sample_reset_time >= Duration::from_secs(86_400) {
            let reason = "must be less than a day".into();
            return Err(ConfigError::Invalid { key: "sample_reset_time", reason });
        }
        if self.spare_schemas > MOST_SPARE_SCHEMAS {
            let reason = format!("must be at most {MOST_SPARE_SCHEMAS}");
            return Err(ConfigError::Invalid { key: "spare_schemas", reason });
        }
        let zero =
            spans.iter().map(|(key, span)| (*key, span.is_zero())).chain(numbers).find(|(_, zero)| *zero);
        match zero {
            Some((key, _)) => Err(ConfigError::Invalid { key, reason: "must be more than zero".into() }),
            None => Ok(()),
        }
    }
}

/// Whether a path can be put after it to make a link.
fn is_base_url(text: &str) -> bool {
    let Ok(url) = text.parse::<http::Uri>() else { return false };
    let host = url.host().is_some_and(|host| !host.is_empty());
    let user = url.authority().is_some_and(|authority| authority.as_str().contains('@'));
    matches!(url.scheme_str(), Some("http" | "https")) && host && !user && !text.contains(['?', '#'])
}

fn read_file(path: &Path, required: bool) -> Result<SettingsPatch, ConfigError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !required => {
            return Ok(SettingsPatch::default());
        }
        Err(source) => return Err(ConfigError::Read { path: path.to_owned(), source }),
    };
    // `message()` and the line, not the whole error: that quotes the line, which may hold a password.
    toml::from_str(&text).map_err(|error| ConfigError::File {
        path: path.to_owned(),
        line: error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count()),
        reason: error.message().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    fn load(file: &str, environment: &[(&str, &str)], flags: SettingsPatch) -> Result<Settings, ConfigError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("daybook.toml");
        fs::write(&path, file).unwrap();
        let variable = |name: &str| {
            environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        Settings::load_with(Some(&path), &variable, flags)
    }

    #[test]
    fn nothing_configured_gives_the_defaults() {
        let settings = load("", &[], SettingsPatch::default()).unwrap();
        assert_eq!(settings.data_dir, Path::new("./data"));
        assert_eq!(settings.listen.to_string(), "127.0.0.1:8080");
        assert_eq!(settings.keys_file(), Path::new("./data/keys.toml"));
        assert_eq!(settings.body_limit, 1_048_576);
        assert!(settings.database_url.is_none());
    }

    #[test]
    fn flags_beat_the_environment_which_beats_the_file() {
        let file = "listen = \"127.0.0.1:1\"\npool_size = 1\nrequest_timeout = \"7s\"\nlog_format = \"json\"";
        let environment = [("DAYBOOK_LISTEN", "127.0.0.1:2"), ("DAYBOOK_POOL_SIZE", "2")];
        let flags =
            SettingsPatch { listen: Some("127.0.0.1:3".parse().unwrap()), ..SettingsPatch::default() };
        let settings = load(file, &environment, flags).unwrap();
        assert_eq!(settings.listen.port(), 3);
        assert_eq!(settings.pool_size, 2);
        assert_eq!(settings.request_timeout, Duration::from_secs(7));
        assert_eq!(settings.log_format, LogFormat::Json);
    }

    #[test]
    fn an_unknown_key_is_named() {
        let error = load("pool_size = 3\npool_sise = 3", &[], SettingsPatch::default()).unwrap_err();
        assert!(error.to_string().contains("line 2: unknown field `pool_sise`"), "{error}");
    }

    #[test]
    fn a_wrong_value_in_the_environment_names_its_variable() {
        for (name, value) in
            [("DAYBOOK_REQUEST_TIMEOUT", "soon"), ("DAYBOOK_POOL_SIZE", "-1"), ("DAYBOOK_LOG_FORMAT", "xml")]
        {
            let error = load("", &[(name, value)], SettingsPatch::default()).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
        let settings = load("", &[("DAYBOOK_POOL_SIZE", "")], SettingsPatch::default()).unwrap();
        assert_eq!(settings.pool_size as usize, 5 * cores(), "an empty variable is an unset one");
    }

    #[test]
    fn durations_have_units() {
        for (text, expected) in
            [("250ms", 250), ("2s", 2_000), ("2", 2_000), ("5m", 300_000), ("1h", 3_600_000)]
        {
            assert_eq!(text.parse(), Ok(Span(Duration::from_millis(expected))));
        }
        for text in ["", "s", "-1s", "1d", "1.5s", "18446744073709551615h"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
        let settings = load("header_timeout = 3", &[], SettingsPatch::default()).unwrap();
        assert_eq!(settings.header_timeout, Duration::from_secs(3));
    }

    #[test]
    fn values_that_cannot_work_are_refused() {
        for file in [
            "pool_size = 0",
            "spare_schemas = 101",
            "request_timeout = 0",
            "admin_database_url = \"postgres://x\"",
            "tls_key = \"x\"",
            "login_limit_per_minute = 0",
            "public_url = \"book.example\"",
            "public_url = \"ftp://book.example\"",
            "public_url = \"https://u:p@book.example\"",
            "public_url = \"https://book.example/?a\"",
            "public_url = \"https://book.example/#a\"",
            "mail_from = \"nobody\"",
        ] {
            assert!(matches!(load(file, &[], SettingsPatch::default()), Err(ConfigError::Invalid { .. })));
        }
    }

    #[test]
    fn links_and_mail_have_defaults() {
        let settings = load("listen = \"127.0.0.1:1\"", &[], SettingsPatch::default()).unwrap();
        assert_eq!(settings.public_url(), "http://127.0.0.1:1");
        assert_eq!(settings.mail_dir(), Path::new("./data/mail"));
        let settings = load("listen = \"[::]:1\"", &[], SettingsPatch::default()).unwrap();
        assert_eq!(settings.public_url(), "http://localhost:1");
        let file = "public_url = \"https://book.example/app/\"\nmail_dir = \"/m\"";
        let settings = load(file, &[], SettingsPatch::default()).unwrap();
        assert_eq!(settings.public_url(), "https://book.example/app");
        assert_eq!(settings.mail_dir(), Path::new("/m"));
    }

    #[test]
    fn passwords_are_never_shown() {
        let url = "postgres://a:hunter2@h/d";
        let settings = load("", &[("DATABASE_URL", url)], SettingsPatch::default()).unwrap();
        assert_eq!(settings.database_url.as_ref().unwrap().expose_secret(), url);
        assert!(!format!("{settings:?}").contains("hunter2"));
        let error = load(&format!("database_url = \"{url}\nlisten = 3"), &[], SettingsPatch::default());
        let error = error.unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    }

    #[test]
    fn every_setting_has_a_variable_of_its_name() {
        for (variable, key) in VARIABLES {
            let expected = match *key {
                "database_url" => "DATABASE_URL".to_owned(),
                key => format!("DAYBOOK_{}", key.to_uppercase()),
            };
            assert_eq!(*variable, expected);
        }
    }

    #[test]
    fn a_named_file_must_exist() {
        let missing = Path::new("/nonexistent/daybook.toml");
        let error = Settings::load_with(Some(missing), &|_| None, SettingsPatch::default()).unwrap_err();
        assert!(matches!(error, ConfigError::Read { .. }));
    }
}
