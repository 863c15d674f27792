//! The recorder of a simulated trial: its start, what it hears and commits, its end.

use super::{Due, GW, RECORDER, RECORDER_TICK_MS, Recorder, World};
use crate::simulate::bed::TRIAL;
use crate::simulate::broker::{Mail, Who};
use crate::simulate::disk::Crash;
use crate::simulate::files::SimFolder;
use gateway::key_files::Trust;
use gateway::recorder::files::{Files, GROUP_MAX};
use gateway::recorder::intake::open_batch;
use protocol::time::Now;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

impl World {
    pub(super) fn start_recorder(&mut self) {
        self.record.light();
        let folder = SimFolder {
            disk: self.record.clone(),
            trial: TRIAL.into(),
        };
        let opened = Files::open(Box::new(folder), RECORDER, self.recorder_keys.clone());
        match opened {
            Ok(files) => {
                self.note(|| "the recorder starts".into());
                self.recorder = Some(Recorder {
                    files,
                    started_ms: self.now_ms,
                    inbox: VecDeque::new(),
                    connected: false,
                    commit_ms: self.now_ms,
                });
                self.broker.set_runs(self.now_ms, Who::Recorder, true);
            }
            Err(e) => {
                self.note(|| format!("the recorder does not start: {e}"));
                self.end_recorder(Crash::Killed);
            }
        }
    }

    pub(super) fn end_recorder(&mut self, crash: Crash) {
        self.note(|| format!("the recorder ends: {crash:?}"));
        self.record.end(crash);
        self.recorder = None;
        self.broker.set_runs(self.now_ms, Who::Recorder, false);
        let rest = if self.calm {
            500
        } else {
            self.dice.spread(200, 20_000)
        };
        self.plan_due(self.now_ms + rest, Due::RecorderStarts);
    }

    fn recorder_ended(&mut self) -> bool {
        if self.recorder.is_none() {
            return true;
        }
        let killed = self.dice.happens(self.plan.crash_a_step);
        if killed || self.record.down() {
            self.end_recorder(Crash::Killed);
            return true;
        }
        false
    }

    pub(super) fn recorder_hears(&mut self, mail: &Mail) {
        let Some(recorder) = &mut self.recorder else {
            return;
        };
        let trust = Trust::Folder(BTreeMap::from([(
            self.gateway_keys.public(),
            GW.to_owned(),
        )]));
        match open_batch(&self.topics, &trust, &mail.0, mail.1.as_bytes()) {
            Ok(batch) => {
                recorder.inbox.push_back((batch, ()));
                recorder.commit_ms = recorder.commit_ms.min(self.now_ms);
            }
            Err(why) => {
                self.broker.acknowledge(self.now_ms);
                self.note(|| format!("the recorder does not believe: {why}"));
            }
        }
    }

    pub(super) fn recorder_commits(&mut self) {
        let Some(started_ms) = self.recorder.as_ref().map(|r| r.started_ms) else {
            return;
        };
        let now = Now {
            utc: self.now_at(started_ms).utc + -self.skew_ms,
            ..self.now_at(started_ms)
        };
        let Some(recorder) = &mut self.recorder else {
            return;
        };
        let group = recorder.inbox.len().min(GROUP_MAX);
        let batches: Vec<_> = recorder.inbox.drain(..group).collect();
        let more = !recorder.inbox.is_empty();
        let rest = if more { 0 } else { RECORDER_TICK_MS };
        recorder.commit_ms = self.now_ms + rest;
        let connected = std::mem::take(&mut recorder.connected);
        let done = recorder.files.commit(now, batches, connected);
        if self.recorder_ended() {
            return;
        }
        for conflict in &done.conflicts {
            self.note(|| format!("the recorder sets aside {conflict}"));
        }
        for () in done.answered {
            self.broker.acknowledge(self.now_ms);
            if self.recorder_ended() {
                return;
            }
        }
        for receipt in done.receipts {
            let topic = self.topics.receipt(&receipt.gw, RECORDER);
            let mail = Arc::new((topic, self.recorder_keys.sign_json(&receipt)));
            self.broker.publish(self.now_ms, Who::Recorder, 0, &mail);
            if self.recorder_ended() {
                return;
            }
        }
        if let Some(why) = done.failed {
            self.note(|| format!("the recorder stops: {why}"));
            self.end_recorder(Crash::Killed);
        }
    }
}
