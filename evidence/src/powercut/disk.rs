//! A disk whose power can go: what was synced stays; of the rest, any part may be there.
//!
//! A file's sync makes its bytes and length durable, not its name; a folder's sync makes names
//! durable. Between two syncs every sector may hold the bytes of any moment since the last one,
//! the length may be of any moment too, and each change of a name may be there or not. A write
//! never harms bytes beside its own range: SQLite asks that of a disk ("powersafe overwrite").

use super::recording::{Inode, Step};
use crate::chance::Chance;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

/// What is left of the things that were not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// Nothing.
    Dropped,
    /// All: the power was cut, the cache was lucky.
    Kept,
    /// The first so many, as on a disk that keeps their order.
    Prefix,
    /// Any subset, whole writes: late ones without earlier ones.
    Subset,
    /// Any moment's bytes, sector by sector of 512.
    Torn512,
    /// Any moment's bytes, sector by sector of 4096.
    Torn4096,
    /// As torn, and some of what was to be written is zeros.
    Zeroed,
}

/// All of them, in turn.
pub(crate) const STYLES: [Style; 7] = [
    Style::Dropped,
    Style::Kept,
    Style::Prefix,
    Style::Subset,
    Style::Torn512,
    Style::Torn4096,
    Style::Zeroed,
];

#[derive(Clone, Debug)]
enum Change {
    Write { at: usize, bytes: Arc<[u8]> },
    Resize(usize),
}

#[derive(Clone, Debug, Default)]
struct Content {
    durable: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Clone, Debug)]
enum NameChange {
    Link { name: String, inode: Inode },
    MakeFolder { name: String },
    Unlink { name: String },
    Rename { from: String, to: String },
}

/// What a name stands for.
#[derive(Clone, Copy, Debug)]
enum Named {
    File(Inode),
    Folder,
}

type Names = BTreeMap<String, Named>;

/// The disk after some steps.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    contents: BTreeMap<Inode, Content>,
    names: Names,
    pending: Vec<NameChange>,
}

impl Disk {
    /// One more step.
    pub(crate) fn apply(&mut self, step: &Step) {
        match step {
            Step::Start | Step::Ack(_) => {}
            Step::Write { inode, at, bytes } => {
                let (at, bytes) = (*at, bytes.clone());
                self.change(*inode, Change::Write { at, bytes });
            }
            Step::Resize { inode, len } => self.change(*inode, Change::Resize(*len)),
            Step::Link { name, inode } => {
                self.contents.entry(*inode).or_default();
                let (name, inode) = (name.clone(), *inode);
                self.pending.push(NameChange::Link { name, inode });
            }
            Step::MakeFolder { name } => {
                let name = name.clone();
                self.pending.push(NameChange::MakeFolder { name });
            }
            Step::Unlink { name } => self.pending.push(NameChange::Unlink { name: name.clone() }),
            Step::Rename { from, to } => self.pending.push(NameChange::Rename {
                from: from.clone(),
                to: to.clone(),
            }),
            Step::SyncFile { inode } => {
                let content = self.contents.entry(*inode).or_default();
                for change in std::mem::take(&mut content.pending) {
                    apply_to(&mut content.durable, &change);
                }
            }
            Step::SyncFolder { name } => {
                let mut others = Vec::new();
                for change in std::mem::take(&mut self.pending) {
                    if change.folder() == name {
                        rename(&mut self.names, &change);
                    } else {
                        others.push(change);
                    }
                }
                self.pending = others;
            }
        }
    }

    fn change(&mut self, inode: Inode, change: Change) {
        self.contents.entry(inode).or_default().pending.push(change);
    }

    /// Whether anything is not synced.
    pub(crate) fn has_pending(&self) -> bool {
        !self.pending.is_empty() || self.contents.values().any(|c| !c.pending.is_empty())
    }

    /// Writes into an empty folder what a power cut may leave.
    pub(crate) fn cut(
        &self,
        style: Style,
        chance: &mut Chance,
        folder: &Path,
    ) -> std::io::Result<()> {
        // In order of their names: a folder comes before what is in it.
        for (name, named) in self.names_left(style, chance) {
            let path = folder.join(name);
            // A folder whose name is gone takes all in it along.
            if !path.parent().is_some_and(Path::is_dir) {
                continue;
            }
            match named {
                Named::Folder => std::fs::create_dir(path)?,
                Named::File(inode) => {
                    if let Some(content) = self.contents.get(&inode) {
                        content.write(style, chance, &path)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Two names of one file hold the same bytes only where nothing is pending; no writer here
    /// writes a file that has two.
    fn names_left(&self, style: Style, chance: &mut Chance) -> Names {
        let mut names = self.names.clone();
        let all = self.pending.len();
        let prefix = chance.below(all + 1);
        for (at, change) in self.pending.iter().enumerate() {
            let kept = match style {
                Style::Dropped => false,
                Style::Kept => true,
                Style::Prefix => at < prefix,
                Style::Subset | Style::Torn512 | Style::Torn4096 | Style::Zeroed => {
                    chance.below(2) == 0
                }
            };
            if kept {
                rename(&mut names, change);
            }
        }
        names
    }
}

impl NameChange {
    /// The folder that holds the name.
    fn folder(&self) -> &str {
        let (Self::Link { name, .. }
        | Self::MakeFolder { name }
        | Self::Unlink { name }
        | Self::Rename { from: name, .. }) = self;
        name.rsplit_once('/').map_or("", |(folder, _)| folder)
    }
}

fn rename(names: &mut Names, change: &NameChange) {
    match change {
        NameChange::Link { name, inode } => {
            names.insert(name.clone(), Named::File(*inode));
        }
        NameChange::MakeFolder { name } => {
            names.insert(name.clone(), Named::Folder);
        }
        NameChange::Unlink { name } => {
            names.remove(name);
        }
        NameChange::Rename { from, to } => {
            if let Some(named) = names.remove(from) {
                names.insert(to.clone(), named);
            }
        }
    }
}

fn apply_to(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Resize(len) => bytes.resize(*len, 0),
        Change::Write { at, bytes: new } => {
            let end = at + new.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            if let Some(place) = bytes.get_mut(*at..end) {
                place.copy_from_slice(new);
            }
        }
    }
}

impl Content {
    fn write(&self, style: Style, chance: &mut Chance, path: &Path) -> std::io::Result<()> {
        let mut new = File::options();
        // Modes are not the disk's matter; a key is read only where others cannot.
        let file = new.write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all_at(&self.durable, 0)?;
        let all = self.pending.len();
        let len = match style {
            Style::Dropped => self.durable.len(),
            Style::Kept => self.overlay(&file, |_| true)?,
            Style::Prefix => {
                let prefix = chance.below(all + 1);
                self.overlay(&file, |at| at < prefix)?
            }
            Style::Subset => {
                let kept: Vec<bool> = self.pending.iter().map(|_| chance.below(2) == 0).collect();
                self.overlay(&file, |at| kept.get(at) == Some(&true))?
            }
            Style::Torn512 => self.tear(&file, 512, false, chance)?,
            Style::Torn4096 => self.tear(&file, 4096, false, chance)?,
            Style::Zeroed => self.tear(&file, 512, true, chance)?,
        };
        file.set_len(to_u64(len))
    }

    /// Whole changes; gives the length after them.
    fn overlay(&self, file: &File, kept: impl Fn(usize) -> bool) -> std::io::Result<usize> {
        let mut len = self.durable.len();
        for (at, change) in self.pending.iter().enumerate() {
            if !kept(at) {
                continue;
            }
            match change {
                Change::Write { at, bytes } => {
                    file.write_all_at(bytes, to_u64(*at))?;
                    len = len.max(at + bytes.len());
                }
                Change::Resize(to) => {
                    file.set_len(to_u64(*to))?;
                    len = *to;
                }
            }
        }
        Ok(len)
    }

    /// Each sector as it was at a moment of its own; gives a length of some moment.
    fn tear(
        &self,
        file: &File,
        sector: usize,
        zeros: bool,
        chance: &mut Chance,
    ) -> std::io::Result<usize> {
        // Pending writes seldom meet; one that does not is there or not, sector by sector.
        let mut moments: BTreeMap<usize, usize> = BTreeMap::new();
        let all = self.pending.len();
        let bias = chance.below(3);
        let mut lens = vec![self.durable.len()];
        let mut len = self.durable.len();
        for (index, change) in self.pending.iter().enumerate() {
            match change {
                Change::Resize(to) => len = *to,
                Change::Write { at, bytes } => {
                    len = len.max(at + bytes.len());
                    let mut from = *at;
                    while from < at + bytes.len() {
                        let number = from / sector;
                        let end = ((number + 1) * sector).min(at + bytes.len());
                        // Some images lose a few sectors, some keep a few, some are even.
                        let moment = *moments.entry(number).or_insert_with(|| {
                            let whole = chance.below(8);
                            match (bias, whole) {
                                (0, 1..) => all,
                                (1, 1..) => 0,
                                _ => chance.below(all + 1),
                            }
                        });
                        if index < moment
                            && let Some(part) = bytes.get(from - at..end - at)
                        {
                            if zeros && chance.below(6) == 0 {
                                file.write_all_at(&vec![0; part.len()], to_u64(from))?;
                            } else {
                                file.write_all_at(part, to_u64(from))?;
                            }
                        }
                        from = end;
                    }
                }
            }
            lens.push(len);
        }
        let moment = if chance.below(4) > 0 {
            lens.len() - 1
        } else {
            chance.below(lens.len())
        };
        Ok(lens.get(moment).copied().unwrap_or(len))
    }
}

fn to_u64(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn write(inode: Inode, at: usize, text: &str) -> Step {
        let bytes = Arc::from(text.as_bytes());
        Step::Write { inode, at, bytes }
    }

    fn link(name: &str, inode: Inode) -> Step {
        let name = name.to_owned();
        Step::Link { name, inode }
    }

    fn sync_folder() -> Step {
        let name = String::new();
        Step::SyncFolder { name }
    }

    /// Everything that cuts after these steps leave, over many seeds.
    fn seen(steps: &[Step], style: Style) -> BTreeSet<BTreeMap<String, String>> {
        let mut disk = Disk::default();
        for step in steps {
            disk.apply(step);
        }
        let one = |seed| {
            let dir = tempfile::tempdir().unwrap();
            disk.cut(style, &mut Chance::new(seed), dir.path()).unwrap();
            let files = std::fs::read_dir(dir.path()).unwrap().map(|entry| {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                let bytes = std::fs::read(path).unwrap();
                (name, String::from_utf8_lossy(&bytes).into_owned())
            });
            files.collect()
        };
        (0..400).map(one).collect()
    }

    fn files(list: &[(&str, &str)]) -> BTreeMap<String, String> {
        let pair = |(a, b): &(&str, &str)| ((*a).to_owned(), (*b).to_owned());
        list.iter().map(pair).collect()
    }

    #[test]
    fn a_synced_file_without_a_synced_name_may_be_gone() {
        let steps = [link("a", 0), write(0, 0, "x"), Step::SyncFile { inode: 0 }];
        let wanted = BTreeSet::from([files(&[]), files(&[("a", "x")])]);
        assert_eq!(seen(&steps, Style::Subset), wanted);
        let synced = [&steps[..], &[sync_folder()]].concat();
        let wanted = BTreeSet::from([files(&[("a", "x")])]);
        for style in STYLES {
            assert_eq!(seen(&synced, style), wanted, "{style:?}");
        }
    }

    #[test]
    fn a_folder_without_a_synced_name_takes_its_files_along() {
        let mut disk = Disk::default();
        let name = || "records".to_owned();
        disk.apply(&Step::MakeFolder { name: name() });
        disk.apply(&link("records/a", 0));
        disk.apply(&Step::SyncFolder { name: name() });
        let left = |disk: &Disk| {
            let dir = tempfile::tempdir().unwrap();
            let style = Style::Dropped;
            disk.cut(style, &mut Chance::new(1), dir.path()).unwrap();
            dir.path().join("records/a").exists()
        };
        assert!(!left(&disk));
        disk.apply(&sync_folder());
        assert!(left(&disk));
    }

    #[test]
    fn of_two_writes_any_subset_is_there_and_a_prefix_keeps_their_order() {
        let steps = [
            link("a", 0),
            write(0, 0, "--"),
            Step::SyncFile { inode: 0 },
            sync_folder(),
            write(0, 0, "1"),
            write(0, 1, "2"),
        ];
        let left = |style| -> BTreeSet<String> {
            let all = seen(&steps, style).into_iter();
            all.map(|mut files| files.remove("a").unwrap()).collect()
        };
        let set = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect();
        assert_eq!(left(Style::Dropped), set(&["--"]));
        assert_eq!(left(Style::Kept), set(&["12"]));
        assert_eq!(left(Style::Prefix), set(&["--", "1-", "12"]));
        assert_eq!(left(Style::Subset), set(&["--", "1-", "-2", "12"]));
        // Both lie in one sector: it has the bytes of one moment.
        assert_eq!(left(Style::Torn512), set(&["--", "1-", "12"]));
        assert!(left(Style::Zeroed).contains("\0-"));
    }

    #[test]
    fn a_long_write_is_torn_at_sectors_and_the_length_may_be_old() {
        let long = "x".repeat(1024);
        let steps = [link("a", 0), sync_folder(), write(0, 0, &long)];
        let all = seen(&steps, Style::Torn512);
        let texts: BTreeSet<&str> = all.iter().map(|f| f["a"].as_str()).collect();
        let half = "x".repeat(512);
        let zeros = "\0".repeat(512);
        let first = format!("{half}{zeros}");
        let second = format!("{zeros}{half}");
        for wanted in ["", &long, &first, &second] {
            assert!(texts.contains(wanted), "{}", wanted.len());
        }
        let all = seen(&steps, Style::Torn4096);
        let texts: BTreeSet<&str> = all.iter().map(|f| f["a"].as_str()).collect();
        assert!(!texts.contains(first.as_str()) && texts.contains(long.as_str()));
    }
}
