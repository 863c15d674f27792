//! A subscriber as careful as MQTT lets one be: a session that outlives its connection, `QoS` 1.

use anyhow::Context;
use device_sim::clock::rest;
use rumqttc::mqttbytes::v5::{Packet, SubscribeFilter};
use rumqttc::{Client, Event, MqttOptions, QoS};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// The broker is to keep the session so long, seconds.
const SESSION_S: u32 = 86_400;

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    subscribed: AtomicU64,
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
                        let filter = SubscribeFilter::new(filter.clone(), QoS::AtLeastOnce);
                        // Said again each time: a broker may have forgotten.
                        let _ = handle.try_subscribe(filter.path, QoS::AtLeastOnce);
                    }
                    Ok(Ok(Event::Incoming(Packet::SubAck(_)))) => {
                        inner.subscribed.fetch_add(1, Ordering::SeqCst);
                    }
                    Ok(Ok(Event::Incoming(Packet::Publish(publish)))) => {
                        let mut payloads = lock(&inner.payloads);
                        payloads.push(publish.payload.to_vec());
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

    /// How often a subscription was granted.
    pub fn subscribed(&self) -> u64 {
        self.shared.subscribed.load(Ordering::SeqCst)
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
