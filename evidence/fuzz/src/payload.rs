//! Any text on the broker, under any topic: opened as each kind of payload, signed by a key that is
//! believed, so that everything behind the signature is reached.

use protocol::event::{Body, BolusDelivered, Head};
use protocol::hex::Hex;
use protocol::keys::{KeyPair, open_json};
use protocol::manifest::{Manifest, SignedManifest};
use protocol::message::Source;
use protocol::text;
use protocol::topics::{
    Alarms, CommandReply, DashAlive, EntryCommand, EvBatch, EventRow, Receipt, State, Status,
    Topics,
};
use std::sync::OnceLock;

fn pair() -> &'static KeyPair {
    static PAIR: OnceLock<KeyPair> = OnceLock::new();
    PAIR.get_or_init(|| KeyPair::from_seed([8; 32]))
}

pub(crate) fn body(input: &[u8]) -> bool {
    let text = String::from_utf8_lossy(input);
    let shown = text::clean(&text, 80);
    assert!(shown.chars().all(text::shows) && shown.chars().count() <= 80);
    let topics = Topics::of_site("site").expect("a name");
    let mut taken = topics.parse(&text).is_some();
    taken |= topics.parse(&format!("thecal/v1/site/{text}")).is_some();
    taken |= as_each(&text);
    // JSON that somebody believed has signed.
    if let Ok(value) = serde_json::from_str::<serde_json::Value>(&text)
        && value.is_object()
    {
        let signed = pair().sign_json(&value);
        let opened = open_json::<serde_json::Value>(&signed, |key| *key == pair().public());
        let twice = value.get("key").is_some() || value.get("sig").is_some();
        assert!(
            opened.is_ok() || twice,
            "our own signature is not believed: {signed}"
        );
        taken |= as_each(&signed);
    }
    taken |= SignedManifest::from_bytes(input).is_some();
    if let Ok(manifest) = Manifest::parse(&text) {
        assert!(!manifest.pump.as_str().is_empty());
        taken = true;
    }
    taken
}

/// Whether it opens as any kind of payload.
fn as_each(text: &str) -> bool {
    let mut taken = false;
    if let Ok((batch, _)) = open_json::<EvBatch>(text, |_| true) {
        for row in &batch.events {
            check_row(row);
        }
        taken = true;
    }
    if let Ok(row) = serde_json::from_str::<EventRow>(text) {
        taken |= check_row(&row);
    }
    taken |= open_json::<Receipt>(text, |_| true).is_ok();
    taken |= open_json::<EntryCommand>(text, |_| true).is_ok();
    taken |= open_json::<CommandReply>(text, |_| true).is_ok();
    taken |= open_json::<State>(text, |_| true).is_ok();
    taken |= open_json::<Alarms>(text, |_| true).is_ok();
    taken |= open_json::<Status>(text, |_| true).is_ok();
    taken |= open_json::<DashAlive>(text, |_| true).is_ok();
    taken
}

/// A row that passes says in JSON what its bytes say.
fn check_row(row: &EventRow) -> bool {
    let Ok((raw, fact)) = row.check() else {
        return false;
    };
    let head = raw.head().expect("checked");
    assert_eq!((row.boot, row.seq), (head.boot, head.seq));
    assert_eq!(row.kind, fact.kind());
    true
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let head = Head {
        boot: 1,
        seq: 5,
        tick_ms: 1_000,
    };
    let body = Body::from(BolusDelivered {
        requested_nl: 50_000,
        delivered_nl: 20_000,
        complete: false,
    });
    let raw = body.encode(head).expect("fits");
    let source = Source::new("EP-1").expect("a name");
    let row = EventRow::new(
        source,
        &raw,
        Hex([7; 16]),
        1_772_434_800_000,
        Some(12),
        1_772_434_800_500,
    );
    let row = row.expect("a whole row");
    let one = serde_json::to_string(&row).expect("plain");
    let batch = EvBatch {
        trial: "T-1".into(),
        bed: "07".into(),
        gw: "gw-07".into(),
        manifest: None,
        gateway_key: pair().public(),
        after_seq: Some(0),
        events: vec![row.clone(), row],
    };
    let entry = r#"{"entry_id":"e","bed":"07","trial":"T-1","by":"JM","role":"nurse","at_utc_ms":1772434800000,"entry":{"kind":"observation","what":"resp_rate","value_milli":14000}}"#;
    let receipt = r#"{"recorder":"ward","gw":"gw-07","made_at_utc_ms":1,"sources":[{"trial":"T-1","source":"EP-1","stored_through_seq":9,"holes":[[2,3]],"head":null}]}"#;
    let texts = [
        one,
        serde_json::to_string(&batch).expect("plain"),
        pair().sign_json(&batch),
        entry.into(),
        receipt.into(),
        "gw/gw-07/ev/EP-1".into(),
        "{\"trial\":\"\u{1b}[31m\u{202e}\",\"n\":1e999}".into(),
        "NaN".into(),
    ];
    texts.into_iter().map(String::into_bytes).collect()
}
