//! What line, uplink and entries of a bedside box share: the spool, the outbox, the beds. No I/O but
//! through the spool.

use crate::alarms::{Alarms, Technical};
use crate::bed::Bed;
use crate::clock::Mode;
use crate::config::BedConfig;
use crate::gateway::lock;
use crate::outbox::Outbox;
use crate::own_chain::OwnChain;
use crate::spool_file::SpoolFile;
use crate::store::Store;
use protocol::manifest::SignedManifest;
use protocol::time::{Now, Uptime};
use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;

/// The parts that a start of the gateway is made of.
#[derive(Clone, Debug)]
pub struct Bedside {
    /// The spool.
    pub store: Store,
    /// What waits for a receipt.
    pub outbox: Arc<Mutex<Outbox>>,
    /// The beds, as configured.
    pub beds: Vec<Arc<BedParts>>,
    /// Counts the starts of this spool's gateway.
    pub session: u32,
    pub(crate) changed: Arc<Notify>,
    pub(crate) stop: Arc<AtomicBool>,
}

impl Bedside {
    /// Goes on from what an open spool holds.
    ///
    /// # Errors
    /// Where the spool cannot be read or written.
    pub fn open(
        mut spool: Box<dyn SpoolFile>,
        gw: &str,
        beds: &[BedConfig],
        mode: Mode,
        now: Now,
    ) -> Result<Self, record::Error> {
        let session = spool.begin_session(now.utc.as_unix_millis())?;
        let kept: Vec<&str> = beds.iter().map(|bed| bed.trial.as_str()).collect();
        spool.prune(now.utc.as_unix_millis(), &kept)?;
        let outbox = Arc::new(Mutex::new(read_outbox(spool.as_ref(), now.uptime)?));
        let mut bedside = Self {
            store: Store::new(spool),
            outbox,
            beds: Vec::new(),
            session,
            changed: Arc::new(Notify::new()),
            stop: Arc::new(AtomicBool::new(false)),
        };
        let parts = beds.iter().map(|bed| bedside.part(gw, bed, mode, now));
        bedside.beds = parts.collect();
        Ok(bedside)
    }

    fn part(&self, gw: &str, bed: &BedConfig, mode: Mode, now: Now) -> Arc<BedParts> {
        Arc::new(BedParts {
            config: bed.clone(),
            gw: gw.to_owned(),
            store: self.store.clone(),
            view: Mutex::new(View {
                bed: Bed::new(gw, &bed.bed, &bed.trial, mode.speed()),
                alarms: Alarms::default(),
                technical: Technical::default(),
                frame_age_ms: 0,
                frame_seen_at: now.uptime,
                announced_seq: 0,
                stored_through_seq: 0,
                damaged_frames: 0,
                repeats: 0,
                manifest: None,
                entries: BTreeSet::new(),
                last_entry_at: None,
            }),
            own: Mutex::new(None),
            outbox: self.outbox.clone(),
            changed: self.changed.clone(),
            news: AtomicBool::new(false),
            stop: self.stop.clone(),
        })
    }

    /// Every trial here is closed on both chains and at a recorder.
    pub fn is_done(&self) -> bool {
        let closed = |bed: &Arc<BedParts>| lock(&bed.own).as_ref().is_some_and(OwnChain::is_closed);
        self.beds.iter().all(closed) && lock(&self.outbox).is_empty()
    }
}

fn read_outbox(spool: &dyn SpoolFile, now: Uptime) -> Result<Outbox, record::Error> {
    let mut outbox = Outbox::default();
    for (trial, source) in spool.sources()? {
        let stored = spool.last_seq(&trial, &source)?;
        let recorded = spool.receipted(&trial, &source)?;
        outbox.open(now, (trial, source), stored, recorded);
    }
    Ok(outbox)
}

/// What is shown of a bed; everything in it is on disk.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) bed: Bed,
    pub(crate) alarms: Alarms,
    pub(crate) technical: Technical,
    pub(crate) frame_age_ms: u64,
    pub(crate) frame_seen_at: Uptime,
    pub(crate) announced_seq: u64,
    pub(crate) stored_through_seq: u64,
    pub(crate) damaged_frames: u64,
    pub(crate) repeats: u64,
    pub(crate) manifest: Option<SignedManifest>,
    pub(crate) entries: BTreeSet<String>,
    pub(crate) last_entry_at: Option<Uptime>,
}

/// What line, publisher and entries of one bed share.
#[derive(Debug)]
pub struct BedParts {
    pub(crate) config: BedConfig,
    pub(crate) gw: String,
    pub(crate) store: Store,
    pub(crate) view: Mutex<View>,
    pub(crate) own: Mutex<Option<OwnChain>>,
    pub(crate) outbox: Arc<Mutex<Outbox>>,
    pub(crate) changed: Arc<Notify>,
    /// Something happened that a nurse waits for.
    pub(crate) news: AtomicBool,
    pub(crate) stop: Arc<AtomicBool>,
}

impl BedParts {
    /// Rows of a source are on disk: they may be shown and sent.
    pub(crate) fn note_stored(&self, now: Uptime, source: &str, seq: u64) {
        let key = (self.config.trial.clone(), source.to_owned());
        lock(&self.outbox).note_stored(now, &key, seq);
        self.changed.notify_one();
    }
}
