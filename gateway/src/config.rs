//! What a gateway is told at its start, by options or by a TOML file.

use crate::clock::Mode;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// One bed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BedConfig {
    /// The serial port; by a stable name, such as one under `/dev/serial/by-id`.
    pub port: PathBuf,
    /// The bed.
    pub bed: String,
    /// The trial.
    pub trial: String,
    /// The pump's tag secret, where the gateway shall look at each event by itself.
    pub tag_key: Option<PathBuf>,
}

/// A gateway.
#[derive(Clone, Debug)]
pub struct Config {
    /// The site.
    pub site: String,
    /// The gateway's name.
    pub gw: String,
    /// Its beds.
    pub beds: Vec<BedConfig>,
    /// The broker.
    pub broker: crate::mqtt::Url,
    /// The spool's file.
    pub spool: PathBuf,
    /// The gateway's secret key; `<spool>.key`, made at the first start, where none is given.
    pub key: Option<PathBuf>,
    /// Folder of the keys that are believed.
    pub trust: Option<PathBuf>,
    /// The trial's clock.
    pub clock: Mode,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
    site: Option<String>,
    gw: String,
    broker: String,
    spool: PathBuf,
    key: Option<PathBuf>,
    trust: Option<PathBuf>,
    clock: Option<String>,
    bed: Vec<BedConfig>,
}

/// Why a gateway is not configured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not what is wanted, with line and column.
    #[error("{path}: {why}")]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong and where.
        why: String,
    },
    /// A name that cannot be.
    #[error("{what} {name:?} is not 1 to 32 of A-Z a-z 0-9 . _ -")]
    Name {
        /// Of what.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// No bed, or one twice.
    #[error("{0}")]
    Beds(String),
}

impl Config {
    /// From a TOML file.
    ///
    /// # Errors
    /// Where it cannot be read or says something that cannot be.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::Io {
            path: path.into(),
            source,
        })?;
        let form = |why: String| Error::Form {
            path: path.into(),
            why,
        };
        let file: ConfigFile = toml::from_str(&text).map_err(|e| form(e.to_string()))?;
        let config = Self {
            site: file.site.unwrap_or_else(|| "demo".into()),
            gw: file.gw,
            beds: file.bed,
            broker: file.broker.parse().map_err(form)?,
            spool: file.spool,
            key: file.key,
            trust: file.trust,
            clock: file
                .clock
                .as_deref()
                .unwrap_or("wall")
                .parse()
                .map_err(form)?,
        };
        config.check()?;
        Ok(config)
    }

    /// Whether all names can be, and no bed stands twice.
    ///
    /// # Errors
    /// The first that cannot.
    pub fn check(&self) -> Result<(), Error> {
        let name = |what, name: &str| {
            if protocol::text::is_name(name) {
                Ok(())
            } else {
                Err(Error::Name {
                    what,
                    name: protocol::text::clean(name, 40),
                })
            }
        };
        name("site", &self.site)?;
        name("gateway", &self.gw)?;
        if self.beds.is_empty() {
            return Err(Error::Beds("no bed is configured".into()));
        }
        for (i, bed) in self.beds.iter().enumerate() {
            name("bed", &bed.bed)?;
            name("trial", &bed.trial)?;
            name(
                "gateway and trial together",
                &format!("{}.{}", self.gw, bed.trial),
            )?;
            let twice = self
                .beds
                .iter()
                .take(i)
                .any(|b| b.bed == bed.bed || b.trial == bed.trial || b.port == bed.port);
            if twice {
                return Err(Error::Beds(format!(
                    "bed {}: bed, trial or port stands twice",
                    bed.bed
                )));
            }
        }
        Ok(())
    }

    /// Where the gateway's secret is.
    pub fn key_path(&self) -> PathBuf {
        self.key
            .clone()
            .unwrap_or_else(|| crate::key_files::beside(&self.spool, "key"))
    }
}
