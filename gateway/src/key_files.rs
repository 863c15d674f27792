//! Key files: secrets that their owner alone can read, public halves beside them, and the folder
//! of those that are trusted.

use protocol::hex::{Hex, PublicKey};
use protocol::keys::{KeyPair, fingerprint};
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
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
    if let Some(folder) = path.parent() {
        record::store::make_folder(folder).map_err(|e| io(folder)(std::io::Error::other(e)))?;
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

/// A file that is there whole, also after a power cut, or not at all: under another name until its
/// bytes are on the disk.
fn write_new(path: &Path, line: &str, mode: u32) -> Result<(), Error> {
    let partial = beside(path, "partial");
    match fs::remove_file(&partial) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(io(&partial)(e)),
        Ok(()) | Err(_) => {}
    }
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&partial)
        .and_then(|mut file| {
            writeln!(file, "{line}")?;
            file.sync_all()
        })
        // Unlike a rename, this takes no other file's place.
        .and_then(|()| fs::hard_link(&partial, path));
    let removed = fs::remove_file(&partial);
    written.and(removed).map_err(io(path))?;
    record::store::sync_folder_of(path).map_err(|e| io(path)(std::io::Error::other(e)))
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
        let pair = load(path)?;
        let public = beside(path, "pub");
        if !public.exists() {
            // Its maker was stopped before it came to this. In a folder that cannot be written
            // it is missed by nobody.
            let _ = write_new(&public, &pair.public().to_string(), 0o644);
        }
        return Ok(pair);
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
                crate::say!(
                    "thecal: no --trust folder: believing {name} by its first key, {print}"
                );
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_what_a_stopped_maker_left_is_mended() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys").join("gw.key");
        // A maker that was stopped half way through its first file.
        fs::create_dir(dir.path().join("keys")).unwrap();
        fs::write(beside(&path, "partial"), "12").unwrap();
        let pair = load_or_create(&path).unwrap();
        let names: Vec<_> = fs::read_dir(dir.path().join("keys"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names.len(), 2, "{names:?}");
        // One that was stopped before it came to the public half.
        fs::remove_file(beside(&path, "pub")).unwrap();
        assert_eq!(load_or_create(&path).unwrap().public(), pair.public());
        let shown = load_public(&beside(&path, "pub").to_string_lossy()).unwrap();
        assert_eq!(shown, pair.public());
        let refused = save(&path, &generate().unwrap(), false).unwrap_err();
        assert!(matches!(refused, Error::Io { source, .. }
            if source.kind() == ErrorKind::AlreadyExists));
        assert_eq!(load(&path).unwrap().public(), pair.public());
    }
}
