//! Key files: secrets that their owner alone can read, public halves beside them, and the folder
//! of those that are trusted.

use protocol::hex::{Hex, PublicKey};
use protocol::keys::{KeyPair, fingerprint};
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Why a key file is not used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system said no.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Others could read a secret.
    #[error("{path}: others can read this secret (mode {mode:o}); run `chmod 600 {path}`")]
    Readable {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Not a key.
    #[error("{path}: not a {wanted}: one line of 64 hex digits")]
    Form {
        /// The file.
        path: PathBuf,
        /// What it should be.
        wanted: &'static str,
    },
    /// The machine gives no random bytes.
    #[error("no random bytes from the system: {0}")]
    Random(getrandom::Error),
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_path_buf();
    move |source| Error::Io { path, source }
}

/// A new pair from the system's random bytes.
///
/// # Errors
/// Where the system gives none.
pub fn generate() -> Result<KeyPair, Error> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(Error::Random)?;
    Ok(KeyPair::from_seed(seed))
}

/// Writes `<path>` (secret), `<path>.pub` and, for pumps, `<path>.tag` (secret of the tags).
///
/// # Errors
/// Where a file is there already or cannot be written.
pub fn save(path: &Path, pair: &KeyPair, with_tag: bool) -> Result<(), Error> {
    if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
        fs::create_dir_all(folder).map_err(io(folder))?;
    }
    write_new(path, &Hex(pair.seed()).to_string(), 0o600)?;
    write_new(&beside(path, "pub"), &pair.public().to_string(), 0o644)?;
    if with_tag {
        write_new(
            &beside(path, "tag"),
            &Hex(pair.tag_secret()).to_string(),
            0o600,
        )?;
    }
    Ok(())
}

/// `<path>.<ending>`
pub fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

fn write_new(path: &Path, line: &str, mode: u32) -> Result<(), Error> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(io(path))?;
    writeln!(file, "{line}")
        .and_then(|()| file.sync_all())
        .map_err(io(path))
}

/// The pair in a secret file.
///
/// # Errors
/// Where others can read it, or it is no secret.
pub fn load(path: &Path) -> Result<KeyPair, Error> {
    load_secret(path).map(KeyPair::from_seed)
}

/// 32 secret bytes: a seed, or a pump's tag secret.
///
/// # Errors
/// Where others can read it, or it is no secret.
pub fn load_secret(path: &Path) -> Result<[u8; 32], Error> {
    let mode = fs::metadata(path).map_err(io(path))?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(Error::Readable {
            path: path.into(),
            mode,
        });
    }
    let text = fs::read_to_string(path).map_err(io(path))?;
    let wanted = "secret key";
    Hex::<32>::parse(text.trim())
        .map(|h| h.0)
        .ok_or(Error::Form {
            path: path.into(),
            wanted,
        })
}

/// The pair in a secret file, made where there is none.
///
/// # Errors
/// Where it cannot be read or made.
pub fn load_or_create(path: &Path) -> Result<KeyPair, Error> {
    if path.exists() {
        return load(path);
    }
    let pair = generate()?;
    save(path, &pair, false)?;
    Ok(pair)
}

/// The key in a public file, or in 64 hex digits on the command line.
///
/// # Errors
/// Where it is neither.
pub fn load_public(text: &str) -> Result<PublicKey, Error> {
    if let Some(key) = Hex::parse(text) {
        return Ok(key);
    }
    let path = Path::new(text);
    let line = fs::read_to_string(path).map_err(io(path))?;
    let wanted = "public key";
    Hex::parse(line.trim()).ok_or(Error::Form {
        path: path.into(),
        wanted,
    })
}

/// Which senders are believed.
#[derive(Debug)]
pub enum Trust {
    /// The `*.pub` files of a folder, and no others.
    Folder(BTreeMap<PublicKey, String>),
    /// The first key that each name is seen with, for as long as the program runs.
    FirstUse(Mutex<BTreeMap<String, PublicKey>>),
}

impl Trust {
    /// From the folder, or by first use where there is none.
    ///
    /// # Errors
    /// Where the folder or a key in it cannot be read.
    pub fn load(folder: Option<&Path>) -> Result<Self, Error> {
        let Some(folder) = folder else {
            return Ok(Self::FirstUse(Mutex::default()));
        };
        let mut keys = BTreeMap::new();
        for entry in fs::read_dir(folder).map_err(io(folder))? {
            let path = entry.map_err(io(folder))?.path();
            if path.extension().is_some_and(|e| e == "pub") {
                let key = load_public(&path.to_string_lossy())?;
                let name = path
                    .file_stem()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                keys.insert(key, name);
            }
        }
        Ok(Self::Folder(keys))
    }

    /// Whether `key` may speak as `name`.
    pub fn accepts(&self, name: &str, key: &PublicKey) -> bool {
        match self {
            Self::Folder(keys) => keys.contains_key(key),
            Self::FirstUse(seen) => {
                let mut seen = seen
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner);
                if let Some(first) = seen.get(name) {
                    return first == key;
                }
                let print = fingerprint(key);
                eprintln!("thecal: no --trust folder: believing {name} by its first key, {print}");
                seen.insert(name.to_owned(), *key);
                true
            }
        }
    }

    /// For a reader that only shows: whether `key` is believed, by whatever name it speaks.
    /// Without a folder everybody is; the caller says so.
    pub fn accepts_reader(&self, key: &PublicKey) -> bool {
        match self {
            Self::Folder(keys) => keys.contains_key(key),
            Self::FirstUse(_) => true,
        }
    }
}
