//! `gateway`, `broker` and `recorder`.

use crate::args::{BrokerArgs, Common, GatewayArgs, RecorderArgs};
use crate::stop::Stop;
use anyhow::{Context, anyhow};
use gateway::config::{BedConfig, Config};
use gateway::gateway::Gateway;
use gateway::recorder::{self, Recorder};

pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("starting the runtime")
}

/// Errors of the gateway crate are whole sentences already.
#[expect(clippy::needless_pass_by_value, reason = "it is what map_err gives")]
pub(crate) fn said(error: gateway::gateway::StartError) -> anyhow::Error {
    anyhow!("{error}")
}

pub(crate) fn gateway(common: &Common, args: GatewayArgs) -> anyhow::Result<()> {
    let config = if let Some(path) = args.config {
        Config::load(&path)?
    } else {
        let missing = || anyhow!("--port, --bed, --trial, --broker and --spool are needed");
        let bed = args.bed.ok_or_else(missing)?;
        Config {
            site: common.site.clone(),
            gw: common.gw.clone().unwrap_or_else(|| format!("gw-{bed}")),
            beds: vec![BedConfig {
                port: args.port.ok_or_else(missing)?,
                bed,
                trial: args.trial.ok_or_else(missing)?,
                tag_key: args.tag_key,
            }],
            broker: args.broker.ok_or_else(missing)?,
            spool: args.spool.ok_or_else(missing)?,
            key: args.key,
            trust: args.trust,
            clock: common.clock,
        }
    };
    let stop = Stop::on_signals()?;
    runtime()?.block_on(async {
        let words = format!(
            "thecal gateway {}: broker {}, spool {}",
            config.gw,
            config.broker,
            config.spool.display()
        );
        let gateway = Gateway::start(config)
            .map_err(said)
            .context("starting the gateway")?;
        eprintln!("{words}");
        stop.wait().await;
        let failure = gateway.store_failure();
        gateway.stop().await;
        match failure {
            None => Ok(()),
            Some(why) => Err(anyhow!("{why}")).context("the spool could not be written"),
        }
    })
}

pub(crate) fn broker(args: &BrokerArgs) -> anyhow::Result<()> {
    let stop = Stop::on_signals()?;
    runtime()?.block_on(async {
        let broker = gateway::broker::start(args.listen, args.password_file.clone()).await?;
        eprintln!("thecal broker: mqtt://{}", broker.address());
        stop.wait().await;
        broker.stop().await;
        Ok(())
    })
}

pub(crate) fn recorder(common: &Common, args: RecorderArgs) -> anyhow::Result<()> {
    let stop = Stop::on_signals()?;
    runtime()?.block_on(async {
        let words = format!("thecal recorder {}: broker {}, records {}", args.name, args.broker, args.records.display());
        let mut recorder = Recorder::start(recorder::Config {
            site: common.site.clone(),
            name: args.name,
            broker: args.broker,
            records: args.records,
            key: args.key,
            trust: args.trust,
            clock: common.clock,
        })
        .map_err(said)
        .context("starting the recorder")?;
        eprintln!("{words}");
        tokio::select! {
            () = stop.wait() => {}
            failed = recorder.wait() => {
                return failed.map_err(|why| anyhow!("{why}")).context("the records can no longer be written; nothing more is confirmed");
            }
        }
        recorder.stop().await.map_err(|why| anyhow!("{why}"))
    })
}
