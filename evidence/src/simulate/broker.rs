//! A broker that keeps no promise it does not have to: it forgets, drops what it said yes to,
//! refuses, doubles, overtakes, is mute, and throws out clients whose name another one has.
//! Sessions are clean, as the product asks for.

use super::dice::Dice;
use gateway::mqtt::Answer;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// What may happen to a publish. Probabilities.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Harm {
    pub(crate) drops_and_says_yes: f64,
    pub(crate) refuses: f64,
    pub(crate) doubles: f64,
    pub(crate) overtakes: f64,
    pub(crate) late_ms: u64,
}

/// Unanswered messages toward a client; then the broker waits.
const RECEIVE_MAXIMUM: usize = 64;
/// Messages that wait beyond it; then the broker drops, having said yes.
const QUEUE_MAX: usize = 1_000;
const RETRY_MS: u64 = 100;

/// Who talks to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Gateway,
    Recorder,
}

/// A payload with its topic.
pub(crate) type Mail = Arc<(String, String)>;

/// What reaches a client.
#[derive(Debug)]
pub(crate) enum Delivery {
    Connected(Who),
    Disconnected(Who),
    /// The answer to the gateway's publish of this number.
    Answer(u64, Answer),
    /// A message.
    Message(Who, Mail),
}

#[derive(Debug, Default)]
struct Client {
    /// The process runs.
    runs: bool,
    /// Counts connections.
    epoch: u64,
    up: bool,
    subscribed: bool,
    unanswered: usize,
    waiting: VecDeque<Mail>,
}

#[derive(Debug)]
enum Due {
    Connect(Who),
    Subscribe(Who, u64),
    Deliver(Option<(Who, u64)>, Delivery),
}

#[derive(Debug)]
pub(crate) struct Broker {
    pub(crate) harm: Harm,
    dice: Dice,
    queue: BTreeMap<(u64, u64), Due>,
    order: u64,
    up: bool,
    pub(crate) mute: bool,
    gateway: Client,
    recorder: Client,
    retained: VecDeque<Mail>,
    /// Promises broken so far.
    pub(crate) broken: u64,
}

impl Broker {
    pub(crate) fn new(seed: u64, harm: Harm) -> Self {
        Self {
            harm,
            dice: Dice::new(seed, 5),
            queue: BTreeMap::new(),
            order: 0,
            up: true,
            mute: false,
            gateway: Client::default(),
            recorder: Client::default(),
            retained: VecDeque::new(),
            broken: 0,
        }
    }

    fn client(&mut self, who: Who) -> &mut Client {
        match who {
            Who::Gateway => &mut self.gateway,
            Who::Recorder => &mut self.recorder,
        }
    }

    fn put(&mut self, at_ms: u64, due: Due) {
        self.order += 1;
        self.queue.insert((at_ms, self.order), due);
    }

    fn tell(&mut self, at_ms: u64, who: Who, delivery: Delivery) {
        let epoch = self.client(who).epoch;
        self.put(at_ms, Due::Deliver(Some((who, epoch)), delivery));
    }

    fn late(&mut self) -> u64 {
        1 + self.dice.whole(0, self.harm.late_ms)
    }

    pub(crate) fn next_ms(&self) -> u64 {
        self.queue
            .first_key_value()
            .map_or(u64::MAX, |((at, _), _)| *at)
    }

    /// A client's process begins, or has ended.
    pub(crate) fn set_runs(&mut self, now_ms: u64, who: Who, runs: bool) {
        self.client(who).runs = runs;
        self.drop_connection(who);
        if runs {
            self.put(now_ms + RETRY_MS, Due::Connect(who));
        }
    }

    fn drop_connection(&mut self, who: Who) {
        let client = self.client(who);
        client.up = false;
        client.subscribed = false;
        client.epoch += 1;
        client.unanswered = 0;
        client.waiting.clear();
    }

    /// A connection breaks; the client sees it and comes back.
    pub(crate) fn cut(&mut self, now_ms: u64, who: Who) {
        if !self.client(who).up {
            return;
        }
        self.drop_connection(who);
        self.tell(now_ms, who, Delivery::Disconnected(who));
        let retry = RETRY_MS + self.dice.whole(0, 400);
        self.put(now_ms + retry, Due::Connect(who));
    }

    /// The broker ends. What it kept is gone, or it comes back with something older.
    pub(crate) fn end(&mut self, now_ms: u64) {
        self.up = false;
        self.cut(now_ms, Who::Gateway);
        self.cut(now_ms, Who::Recorder);
        let kept = self.dice.whole(0, 2);
        if kept == 0 {
            self.retained.clear();
        } else if kept == 1 {
            self.retained.truncate(1);
        }
    }

    pub(crate) fn begin(&mut self) {
        self.up = true;
    }

    /// What has happened by now: the next thing that reaches a client.
    pub(crate) fn poll(&mut self, now_ms: u64) -> Option<Delivery> {
        while let Some(entry) = self.queue.first_entry() {
            if entry.key().0 > now_ms {
                return None;
            }
            match entry.remove() {
                Due::Connect(who) => {
                    if self.connect(now_ms, who) {
                        return Some(Delivery::Connected(who));
                    }
                }
                Due::Subscribe(who, epoch) => self.subscribe(now_ms, who, epoch),
                Due::Deliver(Some((who, epoch)), delivery) => {
                    let client = self.client(who);
                    if client.epoch == epoch && client.runs {
                        return Some(delivery);
                    }
                }
                Due::Deliver(None, delivery) => return Some(delivery),
            }
        }
        None
    }

    fn connect(&mut self, now_ms: u64, who: Who) -> bool {
        let up = self.up;
        let client = self.client(who);
        if !client.runs || client.up {
            return false;
        }
        if !up {
            self.put(now_ms + 4 * RETRY_MS, Due::Connect(who));
            return false;
        }
        client.up = true;
        client.epoch += 1;
        let epoch = client.epoch;
        let after = self.late();
        self.put(now_ms + after, Due::Subscribe(who, epoch));
        true
    }

    fn subscribe(&mut self, now_ms: u64, who: Who, epoch: u64) {
        let client = self.client(who);
        if client.epoch != epoch || !client.up {
            return;
        }
        client.subscribed = true;
        if who == Who::Gateway
            && let Some(mail) = self.retained.back().cloned()
        {
            self.tell(now_ms, who, Delivery::Message(who, mail));
        }
    }

    /// A client publishes; the gateway's publishes are answered by their number.
    pub(crate) fn publish(&mut self, now_ms: u64, from: Who, number: u64, mail: &Mail) {
        if !self.client(from).up {
            return;
        }
        let answer = if self.dice.happens(self.harm.refuses) {
            self.broken += 1;
            Answer::Refused("QuotaExceeded".into())
        } else if self.dice.happens(self.harm.drops_and_says_yes) {
            self.broken += 1;
            Answer::Taken
        } else {
            self.forward(now_ms, from, mail)
        };
        if from == Who::Gateway && !self.mute {
            let at_ms = now_ms + self.late();
            self.tell(at_ms, from, Delivery::Answer(number, answer));
        }
    }

    fn forward(&mut self, now_ms: u64, from: Who, mail: &Mail) -> Answer {
        let to = match from {
            Who::Gateway => Who::Recorder,
            Who::Recorder => Who::Gateway,
        };
        if from == Who::Recorder {
            self.retained.push_back(mail.clone());
            if self.retained.len() > 8 {
                self.retained.pop_front();
            }
        }
        if !self.client(to).subscribed {
            return Answer::NobodyListens;
        }
        let times = if self.dice.happens(self.harm.doubles) {
            2
        } else {
            1
        };
        for _ in 0..times {
            self.send(now_ms, to, mail.clone());
        }
        self.broken += times - 1;
        Answer::Taken
    }

    fn send(&mut self, now_ms: u64, to: Who, mail: Mail) {
        let client = self.client(to);
        if to == Who::Recorder && client.unanswered >= RECEIVE_MAXIMUM {
            if client.waiting.len() < QUEUE_MAX {
                client.waiting.push_back(mail);
            } else {
                self.broken += 1;
            }
            return;
        }
        if to == Who::Recorder {
            client.unanswered += 1;
        }
        let mut at_ms = now_ms + self.late();
        if self.dice.happens(self.harm.overtakes) {
            self.broken += 1;
            at_ms += self.dice.whole(1, 2_000);
        }
        self.tell(at_ms, to, Delivery::Message(to, mail));
    }

    /// The recorder answers a message.
    pub(crate) fn acknowledge(&mut self, now_ms: u64) {
        let client = self.client(Who::Recorder);
        client.unanswered = client.unanswered.saturating_sub(1);
        if let Some(mail) = client.waiting.pop_front() {
            self.send(now_ms, Who::Recorder, mail);
        }
    }

    /// Tells the gateway something whatever becomes of its connection.
    pub(crate) fn tell_anyway(&mut self, at_ms: u64, delivery: Delivery) {
        self.put(at_ms, Due::Deliver(None, delivery));
    }
}
