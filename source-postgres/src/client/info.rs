//! Where a server is, who connects to it and how: the parameters of a connection.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use setpiece_core::{Error, ErrorKind, Result};

use super::uri;
use crate::dialect::Dialect;

/// How long a try to connect to one address may take when `connect_timeout` does not say it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whether the connection is encrypted and what the server has to prove, as libpq's `sslmode`.
///
/// Where `sslrootcert` is given the server's certificate must be signed by it in every mode that encrypts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslMode {
    /// Never encrypted.
    Disable,
    /// Encrypted if the server insists.
    Allow,
    /// Encrypted if the server can. Protects from nobody who can change what is sent.
    Prefer,
    /// Encrypted; protects from those who only listen, unless `sslrootcert` is given.
    Require,
    /// Encrypted, with a certificate that `sslrootcert` has signed.
    VerifyCa,
    /// As `VerifyCa`, and the certificate must be for the host that was asked for.
    VerifyFull,
}

const SSL_MODES: [(&str, SslMode); 6] = [
    ("disable", SslMode::Disable),
    ("allow", SslMode::Allow),
    ("prefer", SslMode::Prefer),
    ("require", SslMode::Require),
    ("verify-ca", SslMode::VerifyCa),
    ("verify-full", SslMode::VerifyFull),
];

/// One of the places at which the server may be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Place {
    host: String,
    port: Option<u16>,
}

/// The parameters of a connection, from a URI such as `postgresql://user@host:5432/database?sslmode=require`.
///
/// The environment is not looked at: what libpq takes from it is given by [`ConnectInfo::set_default`], by the same
/// names as in the URI: `host`, `port`, `user`, `password`, `passfile`, `dbname`, `application_name`, `sslmode`,
/// `sslrootcert`, `sslcert`, `sslkey`, `connect_timeout`. An empty value is none. Several hosts or ports are separated by
/// commas, and are tried in their order. A host that begins with `/` is the directory of a Unix socket.
///
/// Its text is the URI without the password, which nothing shows.
#[derive(Clone, PartialEq, Eq)]
pub struct ConnectInfo {
    dialect: Dialect,
    places: Vec<Place>,
    user: Option<String>,
    password: Option<String>,
    passfile: Option<PathBuf>,
    database: Option<String>,
    application_name: Option<String>,
    ssl_mode: Option<SslMode>,
    ssl_root_cert: Option<PathBuf>,
    ssl_cert: Option<PathBuf>,
    ssl_key: Option<PathBuf>,
    /// Seconds; 0 is for ever.
    connect_timeout: Option<u32>,
}

impl ConnectInfo {
    /// Sets the parameter `name`, whatever it was before.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when there is no such parameter or the value is none for it.
    pub fn set(&mut self, name: &str, value: &str) -> Result<()> {
        if value.contains('\0') {
            return Err(unfit(name, "it cannot hold a zero byte"));
        }
        let text = Some(value.to_owned()).filter(|value| !value.is_empty());
        match name {
            "host" => self.set_hosts(value)?,
            "port" => self.set_ports(value)?,
            "user" => self.user = text,
            "password" => self.password = text,
            "passfile" => self.passfile = text.map(PathBuf::from),
            "dbname" => self.database = text,
            "application_name" => self.application_name = text,
            "sslmode" => self.ssl_mode = text.as_deref().map(ssl_mode).transpose()?,
            "sslrootcert" => self.ssl_root_cert = text.map(root_certificates).transpose()?,
            "sslcert" => self.ssl_cert = text.map(PathBuf::from),
            "sslkey" => self.ssl_key = text.map(PathBuf::from),
            "connect_timeout" => self.connect_timeout = text.as_deref().map(seconds).transpose()?,
            _ => return Err(unknown(name)),
        }
        Ok(())
    }

    /// Sets the parameter `name` if nothing has set it yet.
    ///
    /// # Errors
    /// As [`ConnectInfo::set`].
    pub fn set_default(&mut self, name: &str, value: &str) -> Result<()> {
        let given = match name {
            "host" => true,
            "port" => self.places.iter().any(|place| place.port.is_some()),
            "user" => self.user.is_some(),
            "password" => self.password.is_some(),
            "passfile" => self.passfile.is_some(),
            "dbname" => self.database.is_some(),
            "application_name" => self.application_name.is_some(),
            "sslmode" => self.ssl_mode.is_some(),
            "sslrootcert" => self.ssl_root_cert.is_some(),
            "sslcert" => self.ssl_cert.is_some(),
            "sslkey" => self.ssl_key.is_some(),
            "connect_timeout" => self.connect_timeout.is_some(),
            _ => return Err(unknown(name)),
        };
        if given { Ok(()) } else { self.set(name, value) }
    }

    /// Which relative the URI names.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The user, if one is named.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The database: the one named, or else that of the user's name, as the server takes it.
    #[must_use]
    pub fn database(&self) -> Option<&str> {
        self.database.as_deref().or(self.user())
    }

    /// The hosts and ports in the order in which they are tried. A host that begins with `/` is a directory.
    pub fn servers(&self) -> impl Iterator<Item = (&str, u16)> {
        self.places.iter().map(|place| (place.host.as_str(), place.port.unwrap_or(self.dialect.port())))
    }

    /// How the connection is to be encrypted.
    #[must_use]
    pub fn ssl_mode(&self) -> SslMode {
        self.ssl_mode.unwrap_or(SslMode::Prefer)
    }

    pub(super) fn password(&self) -> Option<&str> {
        self.password.as_deref()
    }

    pub(super) fn passfile(&self) -> Option<&Path> {
        self.passfile.as_deref()
    }

    pub(super) fn application_name(&self) -> &str {
        self.application_name.as_deref().unwrap_or("setpiece")
    }

    pub(super) fn ssl_root_cert(&self) -> Option<&Path> {
        self.ssl_root_cert.as_deref()
    }

    pub(super) fn ssl_cert(&self) -> Option<&Path> {
        self.ssl_cert.as_deref()
    }

    pub(super) fn ssl_key(&self) -> Option<&Path> {
        self.ssl_key.as_deref()
    }

    /// How long a try to connect to one address may take; `None` is for ever.
    pub(super) fn connect_patience(&self) -> Option<Duration> {
        match self.connect_timeout {
            None => Some(PATIENCE),
            Some(0) => None,
            Some(seconds) => Some(Duration::from_secs(seconds.into())),
        }
    }

    /// Other hosts keep the ports that were there, if each has one or all have the same.
    fn set_hosts(&mut self, value: &str) -> Result<()> {
        let hosts: Vec<&str> = value.split(',').collect();
        if hosts.contains(&"") {
            return Err(no_host());
        }
        let port = self.places.first().and_then(|place| place.port);
        let alike = self.places.iter().all(|place| place.port == port);
        if !alike && hosts.len() != self.places.len() {
            return Err(unfit("host", "there are as many hosts as ports, or only one port"));
        }
        let old = if alike { Vec::new() } else { std::mem::take(&mut self.places) };
        let port_of = |at: usize| old.get(at).map_or(port, |place| place.port);
        let place = |(at, host): (usize, &&str)| Place { host: (*host).to_owned(), port: port_of(at) };
        self.places = hosts.iter().enumerate().map(place).collect();
        Ok(())
    }

    fn set_ports(&mut self, value: &str) -> Result<()> {
        let ports = value.split(',').map(port).collect::<Result<Vec<_>>>()?;
        if ports.len() != 1 && ports.len() != self.places.len() {
            return Err(unfit("port", "there are as many ports as hosts, or only one"));
        }
        let ports = ports.iter().cycle();
        self.places.iter_mut().zip(ports).for_each(|(place, port)| place.port = *port);
        Ok(())
    }
}

impl FromStr for ConnectInfo {
    type Err = Error;

    /// Reads a URI; see [`ConnectInfo`].
    fn from_str(text: &str) -> Result<Self> {
        let pieces = uri::split(text)?;
        let dialect = match pieces.scheme.as_str() {
            "postgres" | "postgresql" => Dialect::Postgresql,
            "kingbase" => Dialect::Kingbase,
            _ => {
                let error = Error::new(ErrorKind::Usage, "the scheme of the connection URI is not known");
                return Err(error.remedy("known are postgresql://, postgres:// and kingbase://"));
            }
        };
        let place = |(host, text): (String, String)| port(&text).map(|port| Place { host, port });
        let mut info = ConnectInfo {
            dialect,
            places: pieces.hosts.into_iter().map(place).collect::<Result<_>>()?,
            user: None,
            password: None,
            passfile: None,
            database: None,
            application_name: None,
            ssl_mode: None,
            ssl_root_cert: None,
            ssl_cert: None,
            ssl_key: None,
            connect_timeout: None,
        };
        info.set("user", &pieces.user)?;
        info.set("password", &pieces.password)?;
        info.set("dbname", &pieces.database)?;
        // How many ports are right depends on the hosts.
        let (hosts, others): (Vec<_>, Vec<_>) = pieces.parameters.iter().partition(|(name, _)| name == "host");
        for (name, value) in hosts.into_iter().chain(others) {
            info.set(name, value)?;
        }
        if info.places.iter().any(|place| place.host.is_empty()) {
            return Err(no_host());
        }
        Ok(info)
    }
}

/// The URI without the password.
impl fmt::Display for ConnectInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.dialect {
            Dialect::Postgresql => "postgresql://",
            Dialect::Kingbase => "kingbase://",
        })?;
        if let Some(user) = &self.user {
            write!(f, "{}@", uri::encode(user, ""))?;
        }
        for (at, place) in self.places.iter().enumerate() {
            f.write_str(if at == 0 { "" } else { "," })?;
            match place.host.parse::<Ipv6Addr>() {
                Ok(_) => write!(f, "[{}]", place.host)?,
                Err(_) => f.write_str(&uri::encode(&place.host, ""))?,
            }
            if let Some(port) = place.port {
                write!(f, ":{port}")?;
            }
        }
        if let Some(database) = &self.database {
            write!(f, "/{}", uri::encode(database, ""))?;
        }
        self.write_parameters(f)
    }
}

impl ConnectInfo {
    fn write_parameters(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.to_string_lossy().into_owned());
        let mode = SSL_MODES.iter().find(|(_, mode)| Some(*mode) == self.ssl_mode);
        let parameters = [
            ("application_name", self.application_name.clone()),
            ("sslmode", mode.map(|(name, _)| (*name).to_owned())),
            ("sslrootcert", path(&self.ssl_root_cert)),
            ("sslcert", path(&self.ssl_cert)),
            ("sslkey", path(&self.ssl_key)),
            ("connect_timeout", self.connect_timeout.map(|seconds| seconds.to_string())),
            ("passfile", path(&self.passfile)),
        ];
        let given = parameters.iter().filter_map(|(name, value)| value.as_ref().map(|value| (name, value)));
        for (at, (name, value)) in given.enumerate() {
            write!(f, "{}{name}={}", if at == 0 { '?' } else { '&' }, uri::encode(value, "/:"))?;
        }
        Ok(())
    }
}

/// As the text: without the password.
impl fmt::Debug for ConnectInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ConnectInfo").field(&self.to_string()).finish()
    }
}

/// A port as it is written; none is the usual one.
fn port(text: &str) -> Result<Option<u16>> {
    match text.parse() {
        _ if text.is_empty() => Ok(None),
        Ok(0) | Err(_) => Err(unfit("port", "it is a number from 1 to 65535")),
        Ok(port) => Ok(Some(port)),
    }
}

fn ssl_mode(text: &str) -> Result<SslMode> {
    let mode = SSL_MODES.iter().find(|(name, _)| *name == text).map(|(_, mode)| *mode);
    mode.ok_or_else(|| unfit("sslmode", "it is disable, allow, prefer, require, verify-ca or verify-full"))
}

/// libpq 16 has a word for the certificates of the system. Taking it for a file of that name would only confuse.
fn root_certificates(text: String) -> Result<PathBuf> {
    if text == "system" {
        let what = "it is the path of a file, such as the system's own /etc/ssl/certs/ca-certificates.crt";
        return Err(unfit("sslrootcert", what));
    }
    Ok(PathBuf::from(text))
}

fn seconds(text: &str) -> Result<u32> {
    text.parse().map_err(|_| unfit("connect_timeout", "it is a number of seconds; 0 is for ever"))
}

fn unknown(name: &str) -> Error {
    let remedy = "known are host, port, user, password, passfile, dbname, application_name, sslmode, sslrootcert, \
                  sslcert, sslkey and connect_timeout";
    Error::new(ErrorKind::Usage, format!("there is no connection parameter `{name}`")).remedy(remedy)
}

fn unfit(name: &str, rule: &str) -> Error {
    Error::new(ErrorKind::Usage, format!("the connection parameter `{name}` cannot have this value")).remedy(rule)
}

fn no_host() -> Error {
    Error::new(ErrorKind::Usage, "the connection URI names no host")
        .remedy("write postgresql://host/database, or postgresql:///database?host=/directory for a Unix socket")
}

#[cfg(test)]
mod tests;
