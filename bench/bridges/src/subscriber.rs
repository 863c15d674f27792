//! A subscriber as careful as MQTT lets one be: a session that outlives its connection, `QoS` 1.

use anyhow::Context;
use device_sim::clock::rest;
use rumqttc::mqttbytes::v5::{Packet, SubscribeFilter};
use rumqttc::{AckMode, BrokerSessionResumePolicy, Client, Event, MqttOptions, QoS};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// The broker is to keep the session so long, seconds.
const SESSION_S: u32 = 86_400;

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    listening: AtomicU64,
    sessions_lost: AtomicU64,
    payloads: Mutex<Vec<Vec<u8>>>,
}

/// Receives in a thread of its own until it is stopped.
pub struct Subscriber {
    shared: Arc<Shared>,
    client: Client,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Subscriber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscriber")
            .field("count", &self.count())
            .finish_non_exhaustive()
    }
}

impl Subscriber {
    /// Connects, and connects again for as long as it lives.
    ///
    /// # Errors
    /// Where the client cannot be made.
    pub fn start(port: u16, client_id: &str, filter: &str) -> anyhow::Result<Self> {
        let mut options = MqttOptions::new(client_id, ("127.0.0.1", port));
        options
            .set_keep_alive(5)
            .set_clean_start(false)
            // A new program with the name of one that left finds what was kept for that one. A client
            // that is strict would refuse the session for ever.
            .set_broker_session_resume_policy(BrokerSessionResumePolicy::AllowBrokerOnly)
            // Answered once it is counted: what the client had read and not given out when a connection
            // ended would be lost by the client and laid at the broker's door.
            .set_ack_mode(AckMode::Manual)
            .set_session_expiry_interval(Some(SESSION_S));
        let (client, mut connection) = Client::builder(options)
            .capacity(16)
            .try_build()
            .context("a subscriber")?;
        let shared = Arc::new(Shared::default());
        let (inner, handle, filter) = (shared.clone(), client.clone(), filter.to_owned());
        let thread = std::thread::spawn(move || {
            let mut before = false;
            while !inner.stop.load(Ordering::SeqCst) {
                match connection.recv() {
                    Ok(Ok(Event::Incoming(Packet::ConnAck(ack)))) => {
                        if before && !ack.session_present {
                            inner.sessions_lost.fetch_add(1, Ordering::SeqCst);
                        }
                        before = true;
                        if ack.session_present {
                            // Its subscription is part of it; the client may not be let subscribe.
                            inner.listening.fetch_add(1, Ordering::SeqCst);
                        }
                        let filter = SubscribeFilter::new(filter.clone(), QoS::AtLeastOnce);
                        // Said again each time: a broker may have forgotten.
                        let _ = handle.try_subscribe(filter.path, QoS::AtLeastOnce);
                    }
                    Ok(Ok(Event::Incoming(Packet::SubAck(_)))) => {
                        inner.listening.fetch_add(1, Ordering::SeqCst);
                    }
                    Ok(Ok(Event::Incoming(Packet::Publish(publish)))) => {
                        lock(&inner.payloads).push(publish.payload.to_vec());
                        // Where the connection is gone, it is sent again and counted as doubled.
                        let _ = handle.try_ack(&publish);
                    }
                    Ok(Ok(_)) => {}
                    Ok(Err(_)) => rest(100),
                    Err(_) => return,
                }
            }
        });
        Ok(Self {
            shared,
            client,
            thread: Some(thread),
        })
    }

    /// How often a subscription was granted, or found as it was left.
    pub fn listening(&self) -> u64 {
        self.shared.listening.load(Ordering::SeqCst)
    }

    /// How often the broker had forgotten the session.
    pub fn sessions_lost(&self) -> u64 {
        self.shared.sessions_lost.load(Ordering::SeqCst)
    }

    /// How many messages came so far.
    pub fn count(&self) -> usize {
        lock(&self.shared.payloads).len()
    }

    /// What came, in order.
    pub fn payloads(&self) -> Vec<Vec<u8>> {
        lock(&self.shared.payloads).clone()
    }

    /// Disconnects; the session stays at the broker.
    pub fn stop(mut self) -> Vec<Vec<u8>> {
        self.end();
        self.payloads()
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        let _ = self.client.try_disconnect();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.end();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process;

    fn until(what: &str, mut is_so: impl FnMut() -> bool) {
        for _ in 0..3_000 {
            if is_so() {
                return;
            }
            rest(10);
        }
        panic!("never within half a minute: {what}");
    }

    #[test]
    #[ignore = "needs mosquitto"]
    fn who_left_and_comes_back_gets_what_was_kept_for_him() {
        let folder = tempfile::tempdir().unwrap();
        let port = process::free_port().unwrap();
        let config = process::mosquitto_as_debian_has_it(folder.path(), port).unwrap();
        let program = process::find_mosquitto().unwrap();
        let args = ["-c".into(), config.display().to_string()];
        let log = folder.path().join("log");
        let mut broker = process::Part::new("mosquitto", &program, args.into(), &log);
        broker.start().unwrap();
        process::wait_listening(port).unwrap();
        let subscriber = Subscriber::start(port, "kept", "kept/topic").unwrap();
        until("a subscription", || subscriber.listening() > 0);
        assert_eq!(subscriber.stop(), Vec::<Vec<u8>>::new());

        let options = MqttOptions::new("sender", ("127.0.0.1", port));
        let (sender, mut connection) = Client::builder(options).capacity(16).try_build().unwrap();
        for number in 1..=3_u8 {
            sender
                .publish(
                    "kept/topic",
                    vec![number],
                    rumqttc::PublishOptions::at_least_once(),
                )
                .unwrap();
        }
        let is_ack = |event: &Event| matches!(event, Event::Incoming(Packet::PubAck(_)));
        let acks = connection.iter().filter_map(Result::ok).filter(is_ack);
        assert_eq!(acks.take(3).count(), 3);

        let subscriber = Subscriber::start(port, "kept", "kept/topic").unwrap();
        until("a subscription", || subscriber.listening() > 0);
        until("three messages", || subscriber.count() >= 3);
        assert_eq!(subscriber.stop(), [[1], [2], [3]]);
    }
}
