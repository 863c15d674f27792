//! `watch`: joins the broker's messages with the dashboard.

use crate::args::{Common, WatchArgs};
use crate::bedside::runtime;
use crate::stop::Stop;
use anyhow::{Context, anyhow};
use gateway::clock::Clock;
use gateway::key_files::{self, Trust};
use gateway::mqtt::Url;
use gateway::watch::Heard;
use protocol::keys::KeyPair;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;
use tui::keymap::Key;
use tui::{Incoming, Palette};

pub(crate) fn watch(common: &Common, args: &WatchArgs) -> anyhow::Result<()> {
    let trust = Trust::load(args.trust.as_deref()).context("--trust")?;
    if args.trust.is_none() {
        eprintln!("thecal watch: no --trust folder: every sender at this broker is believed");
    }
    let pair = match &args.key {
        Some(file) => key_files::load(file).context("--key")?,
        None => key_files::generate()?,
    };
    let stop = Stop::on_signals()?;
    let runtime = runtime()?;
    let dashboard =
        runtime.block_on(async { Dashboard::connect(&args.broker, &common.site, pair) })?;
    if let Some(path) = &args.picture {
        let trusted = move |key: &_| trust.accepts_reader(key);
        return picture(common, args.bed.as_deref(), path, &dashboard, &trusted);
    }
    let options = tui::Options {
        site: common.site.clone(),
        id: dashboard.id.clone(),
        beds: Vec::new(),
        trial_now: Box::new({
            let clock = Clock::start(common.clock);
            move || clock.now().utc
        }),
        speed: common.clock.speed(),
        trust: Box::new(move |key| trust.accepts_reader(key)),
        palette: tui::choose_palette(args.palette.as_deref().and_then(palette)),
        ascii: args.ascii,
        lines: args.lines,
        stop: Some(stop.flag()),
    };
    dashboard.show(&runtime, options)?;
    Ok(())
}

/// Hears for a few seconds what a dashboard would, and draws one screen of it.
fn picture(
    common: &Common,
    bed: Option<&str>,
    path: &Path,
    dashboard: &Dashboard,
    trusted: &dyn Fn(&protocol::hex::PublicKey) -> bool,
) -> anyhow::Result<()> {
    const LISTEN_MS: u64 = 4_000;
    let clock = Clock::start(common.clock);
    let setup = tui::Setup {
        site: common.site.clone(),
        beds: Vec::new(),
        speed: common.clock.speed(),
        theme: tui::Theme::new(Palette::Rgb, false),
    };
    let mut app = tui::App::new(setup, clock.now());
    while clock.now().uptime.as_millis() < LISTEN_MS {
        let news = dashboard.incoming.recv_timeout(Duration::from_millis(100));
        if let Some(event) = news.ok().and_then(|news| tui::feed::open(news, trusted)) {
            app.update(clock.now(), event);
        }
    }
    if let Some(bed) = bed {
        for key in bed.chars().map(Key::Char).chain([Key::Enter]) {
            app.update(clock.now(), tui::Event::Key(key));
        }
    }
    let svg = tui::export::svg::picture(&app, clock.now(), 120, 40);
    std::fs::write(path, svg).with_context(|| path.display().to_string())
}

/// The palette of a name.
pub(crate) fn palette(name: &str) -> Option<Palette> {
    match name {
        "mono" => Some(Palette::Mono),
        "ansi16" => Some(Palette::Ansi16),
        "rgb" => Some(Palette::Rgb),
        _ => None,
    }
}

/// A dashboard that listens to a broker.
pub(crate) struct Dashboard {
    pub(crate) id: String,
    watch: gateway::watch::Watch,
    incoming: Receiver<Incoming>,
    /// For news that come from this program itself.
    #[cfg_attr(
        not(all(feature = "sim", feature = "analysis")),
        expect(dead_code, reason = "the demo's")
    )]
    pub(crate) tell: Sender<Incoming>,
}

impl Dashboard {
    /// Connects and signs its heartbeats with `pair`; within a runtime.
    pub(crate) fn connect(url: &Url, site: &str, pair: KeyPair) -> anyhow::Result<Self> {
        let id = format!("dash-{}", std::process::id());
        let (tell, incoming) = channel();
        let heard_by = tell.clone();
        let hear = move |heard| {
            let news = match heard {
                Heard::Broker { connected, detail } => Incoming::Broker { connected, detail },
                Heard::Payload {
                    topic,
                    retained,
                    payload,
                } => Incoming::Payload {
                    topic,
                    retained,
                    text: payload,
                },
            };
            heard_by.send(news).is_ok()
        };
        let watch = gateway::watch::watch(url.clone(), site, &id, pair, hear)
            .map_err(|why| anyhow!("{why}"))?;
        Ok(Self {
            id,
            watch,
            incoming,
            tell,
        })
    }

    /// Draws until somebody ends it.
    pub(crate) fn show(
        self,
        runtime: &tokio::runtime::Runtime,
        options: tui::Options,
    ) -> anyhow::Result<tui::Exit> {
        let watch = self.watch.clone();
        let handle = runtime.handle().clone();
        let heartbeat = move |alive: protocol::topics::DashAlive| {
            let watch = watch.clone();
            handle.spawn(async move { watch.alive(alive.drawing).await });
        };
        let exit = tui::run(options, self.incoming, heartbeat).context("the dashboard");
        runtime.block_on(self.watch.disconnect());
        exit
    }
}

/// The beds that a dashboard waits for from the start.
#[cfg(all(feature = "sim", feature = "analysis"))]
pub(crate) fn beds(gateways: &[(String, String)]) -> Vec<tui::BedKey> {
    gateways
        .iter()
        .map(|(gw, bed)| tui::BedKey {
            gw: gw.clone(),
            bed: bed.clone(),
        })
        .collect()
}
