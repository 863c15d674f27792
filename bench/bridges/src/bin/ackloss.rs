//! Does this MQTT path lose acknowledged messages?
//!
//! Publishes numbered messages at `QoS` 1 through any MQTT 5 broker, breaks the path on the way,
//! and counts which of those that the broker acknowledged a subscriber with a kept session never
//! gets, gets twice, or gets in another order. `docs/bridges.md` has results.
#![forbid(unsafe_code)]

use anyhow::{Context, bail, ensure};
use bridges::process::{Part, free_port, wait_listening};
use bridges::proxy::Proxy;
use bridges::subscriber::Subscriber;
use bridges::tally::Tally;
use clap::{Parser, ValueEnum};
use device_sim::clock::{Wall, rest};
use rumqttc::mqttbytes::v5::PubAckReason;
use rumqttc::{AsyncClient, MqttOptions, PublishNoticeError, PublishOptions, PublishResult};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;

#[derive(Debug, Parser)]
#[command(
    about = "Does this MQTT path lose acknowledged messages?",
    after_help = "Exit codes: 0 nothing acknowledged was lost, 1 something was, 2 it could not be measured.

Examples:
  ackloss --broker-command 'mosquitto -c my.conf' --port 1884 --fault kill
  ackloss --broker-command 'thecal broker --listen 127.0.0.1:1884' --port 1884 --fault kill --subscriber offline
  ackloss --port 1883 --fault cut --times 3 --messages 20000
  ackloss --port 1883 --subscriber offline --messages 3000      # does its queue overflow in silence?"
)]
struct Args {
    /// The broker's port on this machine
    #[arg(long)]
    port: u16,
    /// Starts the broker; without it one must run already
    #[arg(long, value_name = "COMMAND")]
    broker_command: Option<String>,
    /// What breaks
    #[arg(long, value_enum, default_value = "none")]
    fault: Fault,
    /// How often, spread over the messages
    #[arg(long, default_value_t = 1)]
    times: u64,
    /// How long it stays broken, milliseconds
    #[arg(long, default_value_t = 500)]
    broken_ms: u64,
    /// Whether the subscriber is there while messages are published
    #[arg(long, value_enum, default_value = "online")]
    subscriber: Presence,
    /// How many messages
    #[arg(long, default_value_t = 2_000)]
    messages: u64,
    /// Messages without an answer at any time
    #[arg(long, default_value_t = 20)]
    window: u16,
    /// Messages a second at most; 0 for no limit
    #[arg(long, default_value_t = 0)]
    rate: u64,
    /// Bytes of a message
    #[arg(long, default_value_t = 200)]
    bytes: usize,
    /// What the broker says goes here
    #[arg(long, default_value = "/dev/null")]
    log: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Fault {
    /// Nothing.
    None,
    /// The broker is killed (SIGKILL) and started again.
    Kill,
    /// The broker is told to end (SIGTERM) and started again.
    Stop,
    /// The publisher's path to the broker is cut.
    Cut,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Presence {
    /// All the time.
    Online,
    /// It subscribed, left, and comes back at the end.
    Offline,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(e) => {
            eprintln!("ackloss: {e:#}");
            ExitCode::from(2)
        }
    }
}

/// An answer that has not come by then never will.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// What the broker said about messages.
#[derive(Debug, Default)]
struct Answers {
    acked: Mutex<BTreeSet<u64>>,
    nobody: AtomicU64,
    refused: AtomicU64,
    again: AtomicU64,
    never: AtomicU64,
}

fn run(args: &Args) -> anyhow::Result<bool> {
    let kills = matches!(args.fault, Fault::Kill | Fault::Stop);
    ensure!(
        !kills || args.broker_command.is_some(),
        "--fault {:?} needs --broker-command",
        args.fault
    );
    let mut broker = match &args.broker_command {
        Some(command) => {
            let words = vec!["-c".into(), format!("exec {command}")];
            let mut part = Part::new(
                "the broker",
                Path::new("/bin/sh"),
                words,
                Path::new(&args.log),
            );
            part.start()?;
            Some(part)
        }
        None => None,
    };
    wait_listening(args.port)?;
    let proxy = Proxy::start(args.port)?;
    // Names of their own, so that what an earlier run left is not counted.
    let name = format!("{}-{}", std::process::id(), free_port()?);
    let topic = format!("ackloss/{name}");
    let subscribe = || -> anyhow::Result<Subscriber> {
        let subscriber = Subscriber::start(args.port, &format!("ackloss-sub-{name}"), &topic)?;
        wait("a subscription", || subscriber.listening() > 0)?;
        Ok(subscriber)
    };
    let mut payloads = Vec::new();
    let mut subscriber = Some(subscribe()?);
    if args.subscriber == Presence::Offline
        && let Some(there) = subscriber.take()
    {
        payloads.extend(there.stop());
    }
    let answers = Arc::new(Answers::default());
    let done = Arc::new(AtomicU64::new(0));
    let publisher = {
        let (answers, done, topic) = (answers.clone(), done.clone(), topic.clone());
        let (messages, window, rate, bytes) = (args.messages, args.window, args.rate, args.bytes);
        let mut options =
            MqttOptions::new(format!("ackloss-pub-{name}"), ("127.0.0.1", proxy.port));
        options
            .set_keep_alive(5)
            .set_clean_start(false)
            .set_session_expiry_interval(Some(86_400));
        std::thread::spawn(move || {
            publish_all(
                options, topic, messages, window, rate, bytes, &answers, &done,
            )
        })
    };
    for time in 1..=args.times {
        if args.fault == Fault::None {
            break;
        }
        let when = args.messages * time / (args.times + 1);
        wait("progress of the publisher", || {
            done.load(Ordering::SeqCst) >= when
        })?;
        match (&mut broker, args.fault) {
            (Some(part), Fault::Kill | Fault::Stop) => {
                if args.fault == Fault::Kill {
                    part.kill();
                } else {
                    part.end();
                }
                rest(args.broken_ms);
                part.start()?;
                wait_listening(args.port)?;
            }
            (_, Fault::Cut) => {
                proxy.cut();
                rest(args.broken_ms);
                proxy.mend();
            }
            (_, Fault::None) | (None, Fault::Kill | Fault::Stop) => {}
        }
    }
    wait("the publisher's end", || publisher.is_finished())?;
    publisher
        .join()
        .map_err(|_| anyhow::anyhow!("the publisher failed"))??;
    let subscriber = match subscriber {
        Some(subscriber) => subscriber,
        None => subscribe()?,
    };
    wait_quiet(&subscriber);
    let sessions_lost = subscriber.sessions_lost();
    payloads.extend(subscriber.stop());
    // What the broker holds and does not send is not lost: whoever comes back gets it.
    let subscriber = subscribe()?;
    wait_quiet(&subscriber);
    let late = subscriber.stop();
    let came_late = late.len();
    payloads.extend(late);
    let mut tally = Tally::default();
    for payload in &payloads {
        let text = std::str::from_utf8(payload).context("a payload that is not ours")?;
        tally.note(
            text.trim_start_matches('0')
                .trim_end_matches('.')
                .parse()
                .context("a payload that is not ours")?,
        );
    }
    let acked = answers
        .acked
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    let (lost, _) = tally.lost_of(acked.iter().copied());
    println!(
        "{} acknowledged, {} of them lost, {} doubled, {} reordered; {} sent again by the publisher, {} answered \"nobody listens\", {} refused, {} never answered, session forgotten {} times, {} came only when the subscriber left and came back",
        acked.len(),
        lost,
        tally.doubled,
        tally.reordered,
        answers.again.load(Ordering::SeqCst),
        answers.nobody.load(Ordering::SeqCst),
        answers.refused.load(Ordering::SeqCst),
        answers.never.load(Ordering::SeqCst),
        sessions_lost,
        came_late
    );
    Ok(lost == 0)
}

/// Publishes each message until it is answered; a new session means that it is published again.
#[expect(clippy::too_many_arguments, reason = "one caller, one thread")]
fn publish_all(
    options: MqttOptions,
    topic: String,
    messages: u64,
    window: u16,
    rate: u64,
    bytes: usize,
    answers: &Arc<Answers>,
    done: &Arc<AtomicU64>,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async move {
        let (client, mut eventloop) = AsyncClient::builder(options).capacity(1).try_build()?;
        let poller = tokio::spawn(async move {
            loop {
                match eventloop.poll().await {
                    Ok(_) => {}
                    Err(rumqttc::ConnectionError::RequestsDone) => return,
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        });
        let room = Arc::new(Semaphore::new(usize::from(window)));
        let mut tasks = tokio::task::JoinSet::new();
        let wall = Wall::start();
        for number in 1..=messages {
            if let Some(due) = (number * 1_000).checked_div(rate) {
                let early = due.saturating_sub(wall.uptime().as_millis());
                tokio::time::sleep(Duration::from_millis(early)).await;
            }
            let permit = room.clone().acquire_owned().await?;
            let payload = format!("{:.<bytes$}", format!("{number:010}"));
            let mut notice = client
                .publish_tracked(
                    topic.clone(),
                    payload.clone(),
                    PublishOptions::at_least_once(),
                )
                .await?;
            let (client, topic, answers, done) =
                (client.clone(), topic.clone(), answers.clone(), done.clone());
            tasks.spawn(async move {
                loop {
                    let answer = tokio::time::timeout(ANSWER_WITHIN, notice.wait_async()).await;
                    let Ok(answer) = answer else {
                        answers.never.fetch_add(1, Ordering::SeqCst);
                        done.fetch_add(1, Ordering::SeqCst);
                        return;
                    };
                    match answer {
                        Ok(PublishResult::Qos1(ack))
                            if ack.reason == PubAckReason::NoMatchingSubscribers =>
                        {
                            answers.nobody.fetch_add(1, Ordering::SeqCst);
                        }
                        Err(PublishNoticeError::V5PubAck(PubAckReason::NoMatchingSubscribers)) => {
                            answers.nobody.fetch_add(1, Ordering::SeqCst);
                        }
                        Ok(_) => {
                            let mut acked =
                                answers.acked.lock().unwrap_or_else(PoisonError::into_inner);
                            acked.insert(number);
                        }
                        Err(PublishNoticeError::V5PubAck(_)) => {
                            answers.refused.fetch_add(1, Ordering::SeqCst);
                        }
                        Err(_) => {
                            answers.again.fetch_add(1, Ordering::SeqCst);
                            let again = client.publish_tracked(
                                topic.clone(),
                                payload.clone(),
                                PublishOptions::at_least_once(),
                            );
                            if let Ok(next) = again.await {
                                notice = next;
                                continue;
                            }
                        }
                    }
                    done.fetch_add(1, Ordering::SeqCst);
                    drop(permit);
                    return;
                }
            });
            while tasks.try_join_next().is_some() {}
        }
        while tasks.join_next().await.is_some() {}
        let _ = client.disconnect().await;
        drop(client);
        let _ = tokio::time::timeout(Duration::from_secs(2), poller).await;
        Ok(())
    })
}

/// Until nothing came for 5 s.
fn wait_quiet(subscriber: &Subscriber) {
    let (mut before, mut quiet) = (usize::MAX, 0);
    while quiet < 100 {
        let now = subscriber.count();
        quiet = if now == before { quiet + 1 } else { 0 };
        before = now;
        rest(50);
    }
}

fn wait(what: &str, mut is_so: impl FnMut() -> bool) -> anyhow::Result<()> {
    for _ in 0..60_000 {
        if is_so() {
            return Ok(());
        }
        rest(5);
    }
    bail!("never within five minutes: {what}")
}
