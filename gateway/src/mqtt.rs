//! The link to any MQTT 5 broker. The only file that knows the client library.
//!
//! Sessions are always clean: what a broker forgets, receipts and the outbox bring back, so no
//! broker has to remember anything for us. One task polls and nothing else; it never waits for a
//! publish. Guards from `facts/gateway-mqtt.md` §1.2: no topic alias, a limit of 256 KiB both
//! ways, `TCP_NODELAY`, keep-alive 5 s, every publish tracked to its PUBACK and reason.

use bytes::Bytes;
use protocol::topics::PAYLOAD_MAX;
use rumqttc::mqttbytes::v5::{LastWill, Packet, PubAckReason, PublishProperties, SubscribeFilter};
use rumqttc::{
    AckMode, AsyncClient, Event, IncomingPacketSizeLimit, MqttOptions, NetworkOptions,
    PublishNoticeError, PublishOptions, PublishResult, QoS, Transport,
};
use std::time::Duration;
use tokio::sync::mpsc;

const KEEP_ALIVE_S: u16 = 5;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(2);
/// Unanswered messages toward us; a broker then waits.
const RECEIVE_MAXIMUM: u16 = 64;
/// Our messages that a broker has not answered. The client looks at a slot for each of them at every
/// flush: with the 65,535 that it takes by itself, that was half of what a silent gateway used.
const IN_FLIGHT_MAX: u16 = 256;
const REQUESTS: usize = 64;

/// Where a broker is: `mqtt://[user:password@]host[:port]`, or `mqtts://`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    host: String,
    port: u16,
    tls: bool,
    login: Option<(String, String)>,
}

impl std::str::FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            let shown = protocol::text::clean(text, 80);
            format!("{shown:?} is no broker: wanted mqtt://HOST[:PORT] or mqtts://HOST[:PORT]")
        };
        let (tls, rest) = match (text.strip_prefix("mqtt://"), text.strip_prefix("mqtts://")) {
            (Some(rest), _) => (false, rest),
            (None, Some(rest)) => (true, rest),
            (None, None) => return Err(wrong()),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (login, place) = match rest.rsplit_once('@') {
            Some((login, place)) => (Some(login.split_once(':').ok_or_else(wrong)?), place),
            None => (None, rest),
        };
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().map_err(|_| wrong())?),
            None => (place, if tls { 8883 } else { 1883 }),
        };
        if host.is_empty() || port == 0 || host.contains(['/', ' ']) {
            return Err(wrong());
        }
        let login = login.map(|(user, password)| (user.into(), password.into()));
        Ok(Self {
            host: host.into(),
            port,
            tls,
            login,
        })
    }
}

impl std::fmt::Display for Url {
    /// Without the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "mqtt{}://{}:{}",
            if self.tls { "s" } else { "" },
            self.host,
            self.port
        )
    }
}

/// How to connect.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where.
    pub url: Url,
    /// As whom; no patient's name.
    pub client_id: String,
    /// Topic and payload that the broker says for us when we are gone; retained.
    pub will: Option<(String, String)>,
    /// Answer publishes only when told to.
    pub manual_ack: bool,
}

/// What the link tells.
#[derive(Debug)]
pub enum Incoming {
    /// The connection stands; the broker remembers nothing of an earlier one.
    Connected,
    /// It does not, and why; told once until it stands again.
    Disconnected(String),
    /// A message.
    Message(Box<Message>),
}

/// A message from the broker.
#[derive(Debug)]
pub struct Message {
    /// Its topic.
    pub topic: String,
    /// Its payload.
    pub payload: Bytes,
    /// From the broker's memory, not from a sender now.
    pub retained: bool,
    /// Where the answer goes.
    pub response_topic: Option<String>,
    /// What the answer must carry.
    pub correlation: Option<Bytes>,
    publish: rumqttc::mqttbytes::v5::Publish,
}

/// What became of a publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The broker took it. No proof that anybody stored it.
    Taken,
    /// The broker took it, and nobody listens (reason 16).
    NobodyListens,
    /// The broker said no.
    Refused(String),
    /// The connection broke first.
    Gone,
}

/// Publishes and subscribes. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Link {
    client: AsyncClient,
}

/// Connects for as long as the link or the inbox lives; connects again by itself.
///
/// # Errors
/// Where TLS cannot be set up, or the options cannot be.
pub fn connect(options: Options) -> Result<(Link, mpsc::UnboundedReceiver<Incoming>), String> {
    let address = (options.url.host.clone(), options.url.port);
    let mut mqtt = MqttOptions::new(options.client_id, address);
    mqtt.set_keep_alive(KEEP_ALIVE_S)
        .set_clean_start(true)
        .set_connect_timeout(CONNECT_TIMEOUT)
        .set_receive_maximum(Some(RECEIVE_MAXIMUM))
        .set_outgoing_inflight_upper_limit(IN_FLIGHT_MAX)
        .set_max_packet_size(u32::try_from(PAYLOAD_MAX).ok())
        .set_incoming_packet_size_limit(IncomingPacketSizeLimit::Bytes(
            u32::try_from(PAYLOAD_MAX).unwrap_or(u32::MAX),
        ));
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    mqtt.set_network_options(network);
    if options.manual_ack {
        mqtt.set_ack_mode(AckMode::Manual);
    }
    if let Some((user, password)) = options.url.login.clone() {
        mqtt.set_credentials(user, password);
    }
    if let Some((topic, payload)) = options.will {
        mqtt.set_last_will(LastWill::new(topic, payload, QoS::AtLeastOnce, true, None));
    }
    if options.url.tls {
        let tls = Transport::try_tls_with_default_config().map_err(|e| format!("TLS: {e}"))?;
        mqtt.set_transport(tls);
    }
    let builder = AsyncClient::builder(mqtt).capacity(REQUESTS);
    let (client, eventloop) = builder.try_build().map_err(|e| e.to_string())?;
    let (tell, inbox) = mpsc::unbounded_channel();
    tokio::spawn(poll(eventloop, tell));
    Ok((Link { client }, inbox))
}

async fn poll(mut eventloop: rumqttc::EventLoop, tell: mpsc::UnboundedSender<Incoming>) {
    let mut retry = RETRY_MIN;
    let mut down = false;
    loop {
        let news = match eventloop.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                (retry, down) = (RETRY_MIN, false);
                Some(Incoming::Connected)
            }
            Ok(Event::Incoming(Packet::Publish(publish))) => {
                Some(Incoming::Message(Box::new(message(publish))))
            }
            Ok(Event::Incoming(_) | Event::Outgoing(_) | Event::Auth(_)) => None,
            Err(rumqttc::ConnectionError::RequestsDone) => return,
            Err(error) => {
                let first = !std::mem::replace(&mut down, true);
                if first
                    && tell
                        .send(Incoming::Disconnected(error.to_string()))
                        .is_err()
                {
                    return;
                }
                tokio::time::sleep(retry).await;
                retry = (retry * 2).min(RETRY_MAX);
                None
            }
        };
        if let Some(news) = news
            && tell.send(news).is_err()
        {
            return;
        }
        if tell.is_closed() {
            return;
        }
    }
}

fn message(publish: rumqttc::mqttbytes::v5::Publish) -> Message {
    let properties = publish.properties.as_ref();
    Message {
        topic: String::from_utf8_lossy(&publish.topic).into_owned(),
        payload: publish.payload.clone(),
        retained: publish.retain,
        response_topic: properties.and_then(|p| p.response_topic.clone()),
        correlation: properties.and_then(|p| p.correlation_data.clone()),
        publish,
    }
}

impl Link {
    /// Publishes at `QoS` 1 and waits for the broker's answer.
    pub async fn publish(&self, topic: String, payload: String, retained: bool) -> Answer {
        self.publish_with(topic, payload, retained, PublishProperties::default())
            .await
    }

    /// Publishes a command: with a topic for the answer, and what the answer will carry.
    pub async fn publish_command(
        &self,
        topic: String,
        payload: String,
        response_topic: String,
        correlation: Bytes,
    ) -> Answer {
        let properties = PublishProperties {
            response_topic: Some(response_topic),
            correlation_data: Some(correlation),
            ..PublishProperties::default()
        };
        self.publish_with(topic, payload, false, properties).await
    }

    /// Publishes the answer to a command, where it asked for one.
    pub async fn answer(&self, command: &Message, payload: String) -> Answer {
        let Some(topic) = command.response_topic.clone() else {
            return Answer::Taken;
        };
        let properties = PublishProperties {
            correlation_data: command.correlation.clone(),
            ..PublishProperties::default()
        };
        self.publish_with(topic, payload, false, properties).await
    }

    async fn publish_with(
        &self,
        topic: String,
        payload: String,
        retained: bool,
        properties: PublishProperties,
    ) -> Answer {
        let properties = PublishProperties {
            payload_format_indicator: Some(1),
            content_type: Some("application/json".into()),
            ..properties
        };
        let options = PublishOptions::at_least_once()
            .retain(retained)
            .properties(properties);
        let Ok(notice) = self.client.publish_tracked(topic, payload, options).await else {
            return Answer::Gone;
        };
        match notice.wait_async().await {
            Ok(PublishResult::Qos1(ack)) if ack.reason == PubAckReason::NoMatchingSubscribers => {
                Answer::NobodyListens
            }
            Ok(_) => Answer::Taken,
            Err(PublishNoticeError::V5PubAck(PubAckReason::NoMatchingSubscribers)) => {
                Answer::NobodyListens
            }
            Err(PublishNoticeError::V5PubAck(reason)) => Answer::Refused(format!("{reason:?}")),
            Err(_) => Answer::Gone,
        }
    }

    /// Subscribes at `QoS` 1. To be said again after each [`Incoming::Connected`].
    ///
    /// # Errors
    /// Where the link has ended.
    pub async fn subscribe(&self, filters: Vec<String>) -> Result<(), String> {
        let filters: Vec<_> = filters
            .into_iter()
            .map(|f| SubscribeFilter::new(f, QoS::AtLeastOnce))
            .collect();
        self.client
            .subscribe_many(filters)
            .await
            .map_err(|e| e.to_string())
    }

    /// Answers a message, where the link was opened with `manual_ack`. In the order of arrival.
    pub async fn acknowledge(&self, message: &Message) {
        // Where the connection is gone the broker has forgotten the message; the sender has not.
        let _ = self.client.ack(&message.publish).await;
    }

    /// Says goodbye: the will is then not said.
    pub async fn disconnect(&self) {
        let _ = self
            .client
            .disconnect_with_timeout(Duration::from_secs(1))
            .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broker_urls_are_read_and_others_are_named() {
        let url: Url = "mqtt://127.0.0.1:1884".parse().unwrap();
        assert_eq!(url.to_string(), "mqtt://127.0.0.1:1884");
        let url: Url = "mqtts://nurse:se:cret@broker.ward".parse().unwrap();
        assert_eq!(url.to_string(), "mqtts://broker.ward:8883");
        assert_eq!(url.login, Some(("nurse".into(), "se:cret".into())));
        for bad in [
            "",
            "broker",
            "http://x",
            "mqtt://",
            "mqtt://x:y",
            "mqtt://a b",
        ] {
            assert!(
                bad.parse::<Url>().unwrap_err().contains("mqtt://HOST"),
                "{bad}"
            );
        }
    }
}
