//! The broker's side of a dashboard and of a person who enters: messages for whoever draws them.

use crate::mqtt::{self, Incoming, Link, Url};
use bytes::Bytes;
use protocol::keys::{KeyPair, open_json};
use protocol::topics::{CommandReply, DashAlive, EntryCommand, Topic, Topics};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// What a dashboard hears.
#[derive(Debug)]
pub enum Heard {
    /// The broker is there, or not and why.
    Broker {
        /// Whether it is.
        connected: bool,
        /// Why not.
        detail: String,
    },
    /// A payload.
    Payload {
        /// What it is about.
        topic: Topic,
        /// From the broker's memory.
        retained: bool,
        /// Its text, not checked yet.
        payload: Vec<u8>,
    },
}

/// A dashboard's link.
#[derive(Clone, Debug)]
pub struct Watch {
    link: Link,
    topics: Topics,
    id: String,
    pair: KeyPair,
}

/// Connects a dashboard; `hear` is called for everything, in order, and says whether to go on.
///
/// # Errors
/// Where site or link cannot be.
pub fn watch(
    url: Url,
    site: &str,
    id: &str,
    pair: KeyPair,
    mut hear: impl FnMut(Heard) -> bool + Send + 'static,
) -> Result<Watch, String> {
    let topics = Topics::of_site(site).ok_or("the site is not a name")?;
    let (link, mut inbox) = mqtt::connect(mqtt::Options {
        url,
        client_id: format!("thecal-dash-{id}"),
        will: None,
        manual_ack: false,
    })?;
    let (own, at) = (link.clone(), topics.clone());
    tokio::spawn(async move {
        while let Some(news) = inbox.recv().await {
            let heard = match news {
                Incoming::Connected => {
                    let filters = vec![at.status("+"), at.state("+", "+"), at.alarms("+", "+")];
                    let subscribed = own.subscribe(filters).await;
                    Heard::Broker {
                        connected: subscribed.is_ok(),
                        detail: subscribed.err().unwrap_or_default(),
                    }
                }
                Incoming::Disconnected(detail) => Heard::Broker {
                    connected: false,
                    detail,
                },
                Incoming::Message(message) => match at.parse(&message.topic) {
                    Some(topic) => Heard::Payload {
                        topic,
                        retained: message.retained,
                        payload: message.payload.to_vec(),
                    },
                    None => continue,
                },
            };
            if !hear(heard) {
                return;
            }
        }
    });
    Ok(Watch {
        link,
        topics,
        id: id.into(),
        pair,
    })
}

impl Watch {
    /// Says that this dashboard lives.
    pub async fn alive(&self, drawing: bool) {
        let payload = self.pair.sign_json(&DashAlive {
            id: self.id.clone(),
            drawing,
        });
        self.link
            .publish(self.topics.dash_alive(&self.id), payload, false)
            .await;
    }

    /// Says goodbye.
    pub async fn disconnect(&self) {
        self.link.disconnect().await;
    }
}

/// Enters readings and doses at gateways, and waits for each to be stored.
#[derive(Debug)]
pub struct EntryClient {
    link: Link,
    topics: Topics,
    id: String,
    pair: KeyPair,
    waiting: mpsc::UnboundedSender<(Bytes, oneshot::Sender<CommandReply>)>,
    next: AtomicU64,
}

impl EntryClient {
    /// Connects.
    ///
    /// # Errors
    /// Where site or link cannot be.
    pub fn connect(url: Url, site: &str, id: &str, pair: KeyPair) -> Result<Self, String> {
        let topics = Topics::of_site(site).ok_or("the site is not a name")?;
        let (link, mut inbox) = mqtt::connect(mqtt::Options {
            url,
            client_id: format!("thecal-entry-{id}"),
            will: None,
            manual_ack: false,
        })?;
        let (waiting, mut asked) =
            mpsc::unbounded_channel::<(Bytes, oneshot::Sender<CommandReply>)>();
        let (own, filter) = (link.clone(), topics.reply("+", id));
        tokio::spawn(async move {
            let mut open = Vec::new();
            loop {
                tokio::select! {
                    news = inbox.recv() => match news {
                        Some(Incoming::Connected) => drop(own.subscribe(vec![filter.clone()]).await),
                        Some(Incoming::Disconnected(_)) => {}
                        Some(Incoming::Message(message)) => {
                            let text = String::from_utf8_lossy(&message.payload);
                            let reply = open_json::<CommandReply>(&text, |_| true);
                            let place = open.iter().position(|(id, _): &(Bytes, _)| Some(id) == message.correlation.as_ref());
                            if let (Ok((reply, _)), Some(place)) = (reply, place) {
                                let (_, tell): (Bytes, oneshot::Sender<CommandReply>) = open.swap_remove(place);
                                let _ = tell.send(reply);
                            }
                        }
                        None => return,
                    },
                    ask = asked.recv() => match ask {
                        Some(ask) => open.push(ask),
                        None => return,
                    },
                }
                open.retain(|(_, tell)| !tell.is_closed());
            }
        });
        Ok(Self {
            link,
            topics,
            id: id.into(),
            pair,
            waiting,
            next: AtomicU64::new(1),
        })
    }

    /// Sends an entry until a gateway says that it is stored or refused; its id makes it count
    /// once. `None` where no answer came within `patience`.
    pub async fn enter(
        &self,
        gw: &str,
        command: &EntryCommand,
        patience: Duration,
    ) -> Option<CommandReply> {
        let attempts = async {
            loop {
                let number = self.next.fetch_add(1, Ordering::Relaxed);
                let correlation = Bytes::from(number.to_be_bytes().to_vec());
                let (tell, answer) = oneshot::channel();
                if self.waiting.send((correlation.clone(), tell)).is_err() {
                    return None;
                }
                let topic = self.topics.cmd(gw, "entry");
                let back = self.topics.reply(gw, &self.id);
                let payload = self.pair.sign_json(command);
                self.link
                    .publish_command(topic, payload, back, correlation)
                    .await;
                let waited = tokio::time::timeout(Duration::from_secs(2), answer);
                if let Ok(Ok(reply)) = waited.await {
                    return Some(reply);
                }
            }
        };
        tokio::time::timeout(patience, attempts)
            .await
            .ok()
            .flatten()
    }
}
