#!/usr/bin/env python3
"""Verifies trial records a second time, with nothing of ours: hashlib, hmac, sqlite3, json, and the
package `cryptography` for Ed25519. Written from docs/record.md and docs/protocol.md alone.

    python3 verify.py RECORD... [--key PUB] [--tag-key FILE] [--json]
    python3 verify.py --stdin [...]    paths from standard input, one JSON answer a line

0 complete and unaltered, 3 holes or not closed, 4 altered or forged, 5 imported, 1 cannot be read.
"""

import argparse
import functools
import hashlib
import hmac
import json
import os
import re
import sqlite3
import sys
from urllib.parse import quote

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

WORDS = {
    "complete": (0, "COMPLETE, unaltered since the pump stored it"),
    "imported": (5, "IMPORTED, NOT CHAINED"),
    "open": (3, "OPEN, not closed"),
    "gaps": (3, "COMPLETE WITH NAMED GAPS"),
    "unreadable": (1, "cannot be read"),
    "altered": (4, "NOT VERIFIED, altered or forged"),
}
COLUMNS = (
    "source, boot, seq, tick_ms, at_utc_ms, at_uncertainty_ms, kind, body, raw, tag, "
    "received_at_utc_ms"
)
NUMBER = "INTEGER NOT NULL"
SCHEMA = f"""
CREATE TABLE event (
    source TEXT NOT NULL,
    boot {NUMBER},
    seq {NUMBER},
    tick_ms {NUMBER},
    at_utc_ms {NUMBER},
    at_uncertainty_ms INTEGER,
    kind TEXT NOT NULL,
    body TEXT NOT NULL,
    raw BLOB NOT NULL,
    tag BLOB NOT NULL,
    received_at_utc_ms {NUMBER},
    PRIMARY KEY (source, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE trial (key TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE hole (
    source TEXT NOT NULL,
    from_seq {NUMBER},
    to_seq {NUMBER},
    reason TEXT NOT NULL,
    noted_at_utc_ms {NUMBER}
) STRICT;
CREATE TABLE receipt (
    source TEXT NOT NULL,
    from_seq {NUMBER},
    to_seq {NUMBER},
    digest TEXT NOT NULL,
    recorder TEXT NOT NULL,
    key TEXT NOT NULL,
    signature TEXT NOT NULL,
    made_at_utc_ms {NUMBER}
) STRICT;
CREATE TABLE quarantine (
    source TEXT NOT NULL,
    boot {NUMBER},
    seq {NUMBER},
    raw BLOB NOT NULL,
    tag BLOB NOT NULL,
    reason TEXT NOT NULL,
    noted_at_utc_ms {NUMBER}
) STRICT;
"""
SEALED = ["trial", "hole", "quarantine", "receipt"]
NAME = re.compile(r"[A-Za-z0-9._-]{1,32}\Z")


class Altered(Exception):
    """The first thing that is wrong: place, reason."""


class Unreadable(Exception):
    """Nothing can be said of the file."""


class Text(bytes):
    """What SQLite holds as TEXT; a BLOB is plain bytes."""


# --- signatures and keys ----------------------------------------------------------------------

SMALL_ORDER = {  # encodings of y, the sign bit taken away
    "00" * 32,
    "01" + "00" * 31,
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "ec" + "ff" * 30 + "7f",
    "ed" + "ff" * 30 + "7f",
    "ee" + "ff" * 30 + "7f",
}


@functools.lru_cache(maxsize=65536)
def holds(key, message, signature):
    for point in (key, signature[:32]):
        if (point[:31] + bytes([point[31] & 0x7F])).hex() in SMALL_ORDER:
            return False
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def mac(key, data):
    return hmac.new(key, data, hashlib.sha256).digest()


def hkdf(salt, secret, info):
    return mac(mac(salt or bytes(32), secret), info + b"\x01")


def sha256(data):
    return hashlib.sha256(data).digest()


def fingerprint(key):
    digest = sha256(key).hex()
    return "-".join(digest[i : i + 4] for i in range(0, 16, 4))


def from_hex(text, size):
    """Lower hex of so many bytes, or None."""
    good = re.fullmatch("[0-9a-f]{%d}" % (2 * size), text)
    return bytes.fromhex(text) if good else None


# --- raw: events as bytes ---------------------------------------------------------------------

LISTS = {
    "BootReason": "power_on brown_out watchdog fault",
    "Purpose": "therapy prime purge",
    "StopReason": "keypad alarm empty closed power_lost",
    "ChangedBy": "day_part keypad",
    "Condition": "rest movement",
    "ReservoirChange": "changed low empty reading",
    "AlarmCode": "downstream_occlusion upstream_occlusion air_in_line reservoir_low "
    "reservoir_empty battery_low battery_flat over_delivery under_delivery door_open key_stuck "
    "supervisor_stop storage self_test",
    "Priority": "low medium high",
    "Phase": "start end",
    "Key": "0 1 2 3 4 5 6 7 8 9 confirm clear bolus movement",
    "Refusal": "lockout limit alarm empty",
    "CloseReason": "planned safety patients_wish technical",
}
KINDS = {
    0x40: "powered_on reason:BootReason firmware:3u8 own_clock_utc_ms:?u64",
    0x41: "infusion_started purpose:Purpose programmed_nl_per_h:u32",
    0x42: "infusion_stopped reason:StopReason",
    0x43: "rate_changed previous_nl_per_h:u32 programmed_nl_per_h:u32 by:ChangedBy",
    0x44: "delivered delivered_nl:u64 programmed_nl:u64 strokes:u64 encoder_counts:u64",
    0x45: "bolus_requested decision:Decision",
    0x46: "bolus_delivered requested_nl:u64 delivered_nl:u64 complete:bool",
    0x47: "pain_score score:u8 confirmed:bool condition:Condition prompt_id:?u32 "
    "answer_delay_ms:?u32 corrects_seq:?u64",
    0x48: "prompt_not_answered prompt_id:u32 condition:Condition prompted_at_tick_ms:u64",
    0x49: "reservoir what:ReservoirChange measured_nl:?u64 computed_nl:u64",
    0x4A: "alarm code:AlarmCode priority:Priority phase:Phase",
    0x4B: "battery percent:u8 minutes_left:u32",
    0x4C: "key_stuck key:Key phase:Phase",
    0x4D: "door open:bool",
    0x4E: "program_changed revision:u32 programmed_nl_per_h:u32 concentration_mcg_per_ml:u32 "
    "bolus_nl:u32 lockout_ms:u32",
    0x4F: "clock_set before_utc_ms:?u64 after_utc_ms:u64 offset_min:i16",
    0x50: "self_test passed:bool failed_parts:u8",
    0x51: "journal_lost from_seq:u64 to_seq:u64",
    0x52: "checkpoint through_seq:u64 count:u64 key_index:u32 head:b32 signature:b64",
    0x53: "trial_closed reason:CloseReason",
    0x80: "gateway_started software:text bed:text trial:text pump:text",
    0x81: "link_changed pump:text up:bool silent_ms:u64",
    0x82: "clock_stepped by_ms:i64",
    0x83: "observation what:text value_milli:i64 at_utc_ms:i64 by:text role:text entry_id:text",
    0x84: "rescue drug:text dose_mcg:u64 route:text reason:text scheduled:bool at_utc_ms:i64 "
    "by:text role:text entry_id:text",
    0x85: "alarm_changed alarm:text priority:Priority change:text text:text",
    0x86: "stored source:text from_seq:u64 to_seq:u64 digest:b32",
    0x87: "score_entry score:?u8 asleep:bool condition:Condition scored_by:text prompted:bool "
    "at_utc_ms:i64 by:text entry_id:text",
    0x88: "quarantined source:text seq:u64 reason:text",
    0x89: "boot_anchored source:text boot:u32 at_utc_ms:i64 uncertainty_ms:u64",
}
KINDS = {
    number: (spec.split()[0], [field.split(":") for field in spec.split()[1:]])
    for number, spec in KINDS.items()
}


class Reader:
    """A body, field by field; ValueError where it is not written as it must be."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        if self.at + count > len(self.data):
            raise ValueError("too short")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, bits):
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                break
            if shift > bits + 7:
                raise ValueError("number is too long")
        if value >> bits or (shift > 7 and byte == 0):
            raise ValueError("number does not fit, or is not in the shortest form")
        return value

    def choice(self, count):
        place = self.number(32)
        if place >= count:
            raise ValueError("no such place")
        return place

    def field(self, kind):
        if kind.startswith("?"):
            return self.field(kind[1:]) if self.choice(2) else None
        if kind in ("u16", "u32", "u64"):
            return self.number(int(kind[1:]))
        if kind in ("i16", "i64"):
            zigzag = self.number(int(kind[1:]))
            return zigzag >> 1 if zigzag % 2 == 0 else -(zigzag >> 1) - 1
        if kind == "u8":
            return self.take(1)[0]
        if kind == "3u8":
            return list(self.take(3))
        if kind == "bool":
            return bool(self.choice(2))
        if kind == "text":
            return self.take(self.number(64)).decode()
        if kind in ("b32", "b64"):
            return self.take(int(kind[1:])).hex()
        if kind == "Decision":
            if self.choice(2) == 0:
                return {"granted": {"requested_nl": self.number(64)}}
            return {"denied": {"reason": self.field("Refusal"), "wait_ms": self.field("?u32")}}
        words = LISTS[kind].split()
        return words[self.choice(len(words))]


def decode(raw):
    """Kind, (boot, seq, tick_ms), fields."""
    if len(raw) < 3 or raw[0] != 1 or raw[1] < 0x40 or raw[2] != len(raw) - 3 or raw[2] > 192:
        raise ValueError("no event")
    reader = Reader(raw[3:])
    head = (reader.number(32), reader.number(64), reader.number(64))
    if raw[1] not in KINDS:
        return "unknown", head, {"type_number": raw[1]}
    kind, fields = KINDS[raw[1]]
    body = {name: reader.field(form) for name, form in fields}
    if reader.at != len(reader.data):
        raise ValueError("bytes are left over")
    return kind, head, body


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


# --- JSON that must be of a form --------------------------------------------------------------


def strict_json(text):
    def members(pairs):
        if len({name for name, _ in pairs}) != len(pairs):
            raise ValueError("a member twice")
        return dict(pairs)

    def integer(digits):
        return float(digits) if digits == "-0" else int(digits)

    def refuse(word):
        raise ValueError(word)

    value = json.loads(
        text, object_pairs_hook=members, parse_int=integer, parse_constant=refuse
    )
    json.dumps(value, ensure_ascii=False).encode()  # refuses half a surrogate pair
    return value


def whole(low, high):
    return lambda v: type(v) is int and low <= v < high


def text_of(v):
    return isinstance(v, str)


def name_of(v):
    return isinstance(v, str) and bool(NAME.match(v)) and v not in (".", "..")


def hex_of(v):
    return isinstance(v, str) and bool(re.fullmatch("[0-9a-fA-F]{64}", v))


def or_null(form):
    def either(v):
        return v is None or form(v)

    either.optional = True
    return either


def shaped(**forms):
    def check(v):
        return (
            isinstance(v, dict)
            and all(name in forms for name in v)
            and all(
                form(v[name]) if name in v else hasattr(form, "optional")
                for name, form in forms.items()
            )
        )

    return check


U32, U64, I64 = whole(0, 2**32), whole(0, 2**64), whole(-(2**63), 2**63)
MANIFEST = shaped(
    schema=lambda v: v == "thecal.manifest/1",
    trial_id=or_null(name_of),
    bed=or_null(name_of),
    pump=lambda v: isinstance(v, str) and bool(NAME.match(v)),
    pump_key=hex_of,
    gateway_key=or_null(hex_of),
    drug=text_of,
    concentration_mcg_per_ml=whole(1, 2**32),
    route=text_of,
    zone=text_of,
    baseline_start_utc_ms=I64,
    run_in_h=or_null(U32),
    protocol=text_of,
    limits=shaped(
        bolus_nl=U32, lockout_ms=U32, max_1h_nl=U64, max_4h_nl=U64, max_24h_nl=U64
    ),
    simulated=or_null(shaped(patient=text_of, seed=U64, speed=U32)),
)
ALSO = shaped(drug=text_of, concentration_mcg_per_ml=U32)
IMPORT = shaped(
    trial_id=text_of,
    bed=text_of,
    drug=text_of,
    concentration_mcg_per_ml=U32,
    route=text_of,
    zone=text_of,
    baseline_start_utc_ms=I64,
    trial_start_utc_ms=I64,
    trial_end_utc_ms=I64,
    protocol=text_of,
    run_in_h=U32,
    accepts_implant=or_null(lambda v: isinstance(v, bool)),
    also=lambda v: isinstance(v, list) and all(map(ALSO, v)),
    context=lambda v: isinstance(v, dict),
)


# --- one chain --------------------------------------------------------------------------------


class Chain:
    def __init__(self, manifest_text, key, secret):
        self.genesis = self.head = sha256(manifest_text)
        self.key, self.secret = key, secret
        self.tag_key, self.index = (hkdf(self.genesis, secret, b"thecal tag"), 0) if secret else (None, 0)
        self.boot = self.seq = self.proven = self.not_proven = self.since = 0
        self.closing = self.closed = False

    def turn(self, times):
        if self.secret:
            for _ in range(times):
                self.tag_key, self.index = mac(self.tag_key, b"next"), self.index + 1

    def event(self, place, raw, kind, head, body, tag):
        """Gives the hole before this event, or None."""
        boot, seq, tick = head
        if seq <= self.seq or boot < self.boot or boot == 0:
            raise Altered(place, "seq or boot goes backwards")
        if self.closed:
            raise Altered(place, "an event follows the closing checkpoint")
        hole = None
        if seq > self.seq + 1:
            hole = (self.seq + 1, seq - 1)
            self.not_proven += 0 if self.secret else self.since
            self.head, self.since = None, 0
        self.turn(min(boot - self.boot, 100_000))
        self.boot, self.seq = boot, seq
        if kind == "checkpoint":
            self.checkpoint(place, raw, boot, seq, tick, body, tag)
            return hole
        self.closing |= kind == "trial_closed"
        if self.head is None:
            self.not_proven += 1
            return hole
        self.since += 1
        self.head = sha256(self.head + raw)
        self.check_tag(place, tag)
        return hole

    def checkpoint(self, place, raw, boot, seq, tick, body, tag):
        head, signature = bytes.fromhex(body["head"]), bytes.fromhex(body["signature"])

        def message(label, *numbers):
            plain = b"".join(n.to_bytes(size, "little") for n, size in numbers)
            return label.ljust(24, b"\0") + self.genesis + plain + head

        rest = [(body["through_seq"], 8), (body["count"], 8), (body["key_index"], 4)]
        now = message(b"thecal checkpoint v2", (boot, 4), (tick, 8), *rest)
        once = message(b"thecal checkpoint v1", (boot, 4), *rest)
        if not (holds(self.key, now, signature) or holds(self.key, once, signature)):
            raise Altered(place, "the checkpoint's signature is not by this key")
        if self.head is not None and self.head != head:
            where = f"somewhere in seq {self.proven + 1} to {seq - 1}"
            raise Altered(place, f"an event since the last checkpoint was altered ({where})")
        if body["through_seq"] + 1 != seq or body["count"] != body["through_seq"]:
            raise Altered(place, "the checkpoint counts other events than there are")
        self.head = sha256(head + raw)
        if body["key_index"] - self.index <= 1_000_000:
            self.turn(max(0, body["key_index"] - self.index))
        self.check_tag(place, tag)
        self.turn(1)
        self.proven, self.since = seq, 0
        self.closed = self.closing

    def check_tag(self, place, tag):
        if self.secret and mac(self.tag_key, self.head)[:16] != tag:
            raise Altered(place, "the tag is not by this pump's key")


# --- one record -------------------------------------------------------------------------------


def add_columns(digest, row):
    for value in row:
        if value is None:
            digest.update(b"\xff\xff\xff\xff")
            continue
        data = value if isinstance(value, bytes) else str(value).encode()
        digest.update(len(data).to_bytes(4, "little") + data)


def shown(value):
    return value.decode(errors="replace") if isinstance(value, Text) else "?"


def utf8(value):
    """The text in a TEXT column, or None where there is none."""
    try:
        return value.decode() if isinstance(value, Text) else None
    except UnicodeDecodeError:
        return None


IN_SCHEMA = (
    "SELECT type, name, ifnull(sql, '') FROM sqlite_schema "
    "WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY type, name"
)


@functools.cache
def fresh_schema():
    """What a record's file holds when it is made."""
    fresh = sqlite3.connect(":memory:")
    fresh.text_factory = Text
    fresh.executescript(SCHEMA)
    for table in ("event", "trial", "hole", "receipt", "quarantine"):
        for act in ("UPDATE", "DELETE"):
            fresh.execute(
                f"CREATE TRIGGER {table}_no_{act.lower()} BEFORE {act} ON {table} "
                "BEGIN SELECT RAISE(ABORT, 'a record only grows'); END"
            )
    return fresh.execute(IN_SCHEMA).fetchall()


class Record:
    def __init__(self, path, key=None, secret=None):
        self.path, self.given, self.secret = path, key, secret
        self.missing, self.unsigned, self.unproven_times = [], [], []
        self.events = self.not_proven = self.unsealed = 0
        self.seen, self.stored, self.beds, self.sealed_by = {}, [], set(), []
        self.manifest = None
        self.db = self.open()

    # 1. Open
    def open(self):
        if os.path.isdir(self.path) or not os.path.isfile(self.path):
            raise Unreadable("no such file")
        if os.path.getsize(self.path) == 0:
            raise Unreadable("the file is empty")
        uri = "file:" + quote(os.path.abspath(self.path)) + "?mode=ro"
        if not os.path.exists(self.path + "-wal"):
            uri += "&immutable=1"
        db = sqlite3.connect(uri, uri=True)
        db.text_factory = Text
        for pragma, wanted in (("application_id", 0x54484543), ("user_version", 1)):
            (seen,) = db.execute("PRAGMA " + pragma).fetchone()
            if seen != wanted:
                raise Unreadable(f"{pragma} is {seen}")
        return db

    def verify(self):
        self.file()
        self.trial()
        self.holes = self.read_holes()
        self.rows()
        if self.manifest:
            self.digests()
            self.holes_at_the_end()
            self.gateway_words()
        self.missing.sort(key=lambda m: m[:2])
        if not self.manifest:
            return "imported"
        if self.missing:
            return "gaps"
        return "open" if self.unsigned or self.unproven_times else "complete"

    # 2. File
    def file(self):
        wanted = fresh_schema()
        try:
            there = self.db.execute(IN_SCHEMA).fetchall()
        except (sqlite3.DatabaseError, UnicodeDecodeError) as e:  # of what it says, too
            raise Altered("the file is damaged", str(e)) from e
        for kind, name, text in wanted:
            if (kind, name, text) not in there:
                raise Altered(f"{shown(kind)} {shown(name)}", "is missing or changed")
        names = {name for _, name, _ in wanted}
        for kind, name, _ in there:
            if name not in names:
                raise Altered(f"{shown(kind)} {shown(name)}", "was added to the file")
        try:
            (sound,) = self.db.execute("PRAGMA quick_check(1)").fetchone()
        except (sqlite3.DatabaseError, UnicodeDecodeError) as e:
            raise Altered("the file is damaged", str(e)) from e
        if sound != b"ok":
            raise Altered("the file is damaged", shown(sound))

    def word(self, key):
        row = self.db.execute("SELECT value FROM trial WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        text = utf8(row[0])
        if text is None:
            raise Altered("trial " + key, "is no text")
        return text

    # 3. Trial
    def trial(self):
        self.trial_id = self.word("trial_id") or ""
        origin = self.word("origin")
        text = self.word("manifest")
        if text is None:
            if origin != "import":
                raise Altered("trial manifest", "missing, so nothing can be held against it")
            return self.import_words()
        try:
            signed = strict_json(text)
            again = canonical_signed(signed)
            body, key, signature = signed["text"], signed["key"], signed["sig"]
            key, signature = bytes.fromhex(key), bytes.fromhex(signature)
            plain = b"thecal manifest v1\n" + body.encode()
            if len(key) != 32 or len(signature) != 64 or not holds(key, plain, signature):
                raise ValueError("its signature does not hold")
            if len(body.encode()) > 2048:
                raise ValueError("longer than 2048 bytes")
            manifest = strict_json(body)
            if not MANIFEST(manifest):
                raise ValueError("not of the expected form")
            if manifest.get("trial_id") is None and manifest.get("simulated") is None:
                raise ValueError("trial_id is missing, and the pump is not simulated")
            if text != again:
                raise ValueError("is not written as it was stored")
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            raise Altered("trial manifest", str(e)) from e
        if manifest.get("trial_id") not in (None, self.trial_id):
            raise Altered("trial trial_id", "the manifest says otherwise")
        if self.word("zone") not in (None, manifest["zone"]):
            raise Altered("trial zone", "the manifest says otherwise")
        self.pump, self.pump_key = manifest["pump"], bytes.fromhex(manifest["pump_key"])
        if self.given not in (None, self.pump_key):
            raise Altered("trial manifest", "it names another pump key")
        if origin != "pump":
            raise Altered("trial origin", 'not "pump", though a manifest is there')
        self.manifest, self.root = manifest, body.encode()

    def import_words(self):
        text = self.word("import")
        try:
            word = strict_json(text)
            if not IMPORT(word):
                raise ValueError("not of the expected form")
        except (ValueError, TypeError) as e:
            raise Altered("trial import", str(e)) from e
        if word["trial_id"] != self.trial_id:
            raise Altered("trial trial_id", "the import says otherwise")
        if self.word("zone") != word["zone"]:
            raise Altered("trial zone", "the import says otherwise")

    # 4. Table hole
    def read_holes(self):
        sql = "SELECT source, from_seq, to_seq, reason, noted_at_utc_ms FROM hole ORDER BY source, from_seq, rowid"
        holes = []
        for row in self.db.execute(sql):
            source, first, last, reason, at = row
            numbers = all(type(n) is int for n in (first, last, at))
            if None in (utf8(source), utf8(reason)) or not numbers or min(first, last) < 0:
                raise Altered("table hole", "cannot be read")
            holes.append((source.decode(), first, last))
        return holes

    # 5. Rows
    def is_gateway(self, source):
        return source.endswith("." + self.trial_id)

    def chain_of(self, source):
        if source == self.pump:
            return Chain(self.root, self.given or self.pump_key, self.secret)
        key = None
        if self.is_gateway(source):
            named = self.manifest.get("gateway_key")
            named = named.lower() if named else self.word("gateway_key." + source)
            key = from_hex(named or "", 32)
        if key is None:
            raise Altered(source, "events of a source whose key nobody names")
        return Chain(self.root, key, None)

    def rows(self):
        now = chain = digest = None
        for row in self.db.execute(f"SELECT {COLUMNS} FROM event ORDER BY source, seq"):
            source = shown(row[0])
            if source != now:
                self.end_of_source(now, chain, digest)
                chain = self.chain_of(source) if self.manifest else None
                now, digest = source, hashlib.sha256()
                self.seen[source] = []
            self.events += 1
            add_columns(digest, row)
            self.row(source, row, chain)
        self.end_of_source(now, chain, digest)
        if not self.manifest:
            self.end_of_import(digest if now == "import" else hashlib.sha256())
            return
        gw = self.word("gw")
        gateway = [] if gw is None else [f"{gw}.{self.trial_id}"]
        for source in [self.pump, *gateway]:
            if source not in self.seen:
                self.unsigned.append((source, 1))

    def end_of_source(self, source, chain, digest):
        if chain is None:
            return
        self.not_proven += chain.not_proven
        if not chain.closed:
            self.unsigned.append((source, chain.proven + 1))

    def row(self, source, row, chain):
        _, boot, seq, tick, at, uncertainty, kind, body, raw, tag, received = row

        def number(value, end):
            return type(value) is int and 0 <= value < end

        place = ":".join(
            [source, str(boot if number(boot, 2**32) else 0), str(seq if number(seq, 2**63) else 0)]
        )
        typed = (
            NAME.match(utf8(row[0]) or "")
            and number(boot, 2**32)
            and number(seq, 2**63)
            and number(tick, 2**63)
            and type(at) is int
            and (uncertainty is None or number(uncertainty, 2**63))
            and utf8(kind) is not None
            and utf8(body) is not None
            and type(raw) is bytes
            and type(tag) is bytes
            and len(tag) == 16
            and type(received) is int
        )
        if not typed:
            raise Altered(place, "a column is not of its type or range")
        try:
            is_kind, head, fields = decode(raw)
        except ValueError as e:
            raise Altered(place, f"raw is no event: {e}") from e
        same = (boot, seq, tick) == head and utf8(kind) == is_kind
        if not same or utf8(body) != canonical(fields):
            raise Altered(place, "a column differs from raw")
        self.seen[source].append(seq)
        if self.manifest is None:
            return self.imported_row(place, source, row, is_kind)
        if source != self.pump:
            self.gateway_row(place, row, is_kind, fields)
        hole = chain.event(place, raw, is_kind, head, fields, tag)
        if hole:
            self.missing.append((source, *hole))

    def gateway_row(self, place, row, kind, fields):
        _, _, _, tick, at, uncertainty, *_, received = row
        if not tick == at == received or uncertainty != 0:
            raise Altered(place, "a gateway's times differ from raw")
        if kind == "gateway_started":
            if fields["trial"] != self.trial_id:
                raise Altered(place, "the gateway bound it to another trial")
            self.beds.add(fields["bed"])
        if kind == "stored":
            self.stored.append((place, fields))

    def imported_row(self, place, source, row, kind):
        _, boot, _, tick, at, uncertainty, _, _, _, tag, received = row
        diary = kind in ("score_entry", "observation", "rescue", "delivered")
        form = source == "import" and boot == 1 and tag == bytes(16)
        if not (diary and form and tick == at == received and uncertainty == 0):
            raise Altered(place, 'no row of an import, though origin is "import"')

    def end_of_import(self, digest):
        seqs = self.seen.get("import", [])
        if len(seqs) != (seqs[-1] if seqs else 0):
            raise Altered("import", "rows were removed after the import")
        if self.word("import_digest") != digest.hexdigest():
            raise Altered("trial import_digest", "the rows are not as they were imported")

    # 6. Digests
    def last(self, source):
        return (self.seen.get(source) or [0])[-1]

    def incomplete(self, source, first, last):
        return any(s == source and a <= last and b >= first for s, a, b in self.missing)

    def digests(self):
        covered = []
        for place, body in self.stored:
            claim = (body["source"], body["from_seq"], body["to_seq"], body["digest"])
            self.claim(*claim, f"not as {place} says that they were stored", covered, False)
        self.receipts(covered)
        seqs = self.seen.get(self.pump)
        if not seqs:
            return
        pump = [(a, b) for source, a, b in covered if source == self.pump]
        if not self.has_gateway():
            pump = []
        for seq in seqs:
            if not any(a <= seq <= b for a, b in pump):
                self.unproven_times.append((self.pump, seq))
                return

    def has_gateway(self):
        return any(s != self.pump and self.is_gateway(s) for s in self.seen)

    def noted(self, source, first, last):
        """Whether all that is missing of the range is in the table of holes."""
        for of, a, b in self.missing:
            if of != source or a > last or b < first:
                continue
            until = max(a, first)
            for where, c, d in self.holes:
                if where == source and c <= until:
                    until = max(until, d + 1)
            if until <= min(b, last):
                return False
        return True

    def claim(self, source, first, last, digest, why, covered, knows_holes):
        end = self.last(source)
        if end < last:
            return self.missing_at_end(source, max(end + 1, first), last)
        rows = self.db.execute(
            f"SELECT {COLUMNS} FROM event WHERE source = ? AND seq BETWEEN ? AND ? ORDER BY seq",
            (source, min(first, 2**63 - 1), min(last, 2**63 - 1)),
        )
        mine = hashlib.sha256()
        for row in rows:
            add_columns(mine, row)
        if mine.hexdigest() == digest:
            covered.append((source, first, last))
        elif not self.incomplete(source, first, last) or (
            knows_holes and self.noted(source, first, last)
        ):
            raise Altered(f"{source} seq {first} to {last}", why)

    def missing_at_end(self, source, first, last):
        first = max(first, 1)
        for at, (of, a, b) in enumerate(self.missing):
            if of == source and b >= first - 1:
                self.missing[at] = (of, min(a, first), max(b, last))
                return
        if first <= last:
            self.missing.append((source, first, last))

    def receipts(self, covered):
        rows = self.db.execute("SELECT * FROM receipt ORDER BY rowid").fetchall()
        for row in rows:
            texts = [utf8(row[i]) for i in (0, 3, 4, 5, 6)]
            numbers = [row[1], row[2], row[7]]
            typed = all(type(n) is int for n in numbers)
            if None in texts or not typed or min(numbers[:2]) < 0:
                raise Altered("table receipt", "cannot be read")
        group, sealed = 0, {}
        for row in rows:
            source, digest, recorder, key, signature = (utf8(row[i]) for i in (0, 3, 4, 5, 6))
            first, last, at = row[1], row[2], row[7]
            table = source[6:] if source.startswith("table ") else None
            if table is not None:
                if table != SEALED[group % 4]:
                    raise Altered(f"table {table}", "its receipt is not in its place")
                group += 1
                sealed[table] = last + (table == "receipt")
            what = f"receipt by {recorder} of {source}"
            key, signature = from_hex(key, 32), from_hex(signature, 64)
            if None in (key, signature, from_hex(digest, 32)):
                raise Altered(what, "key, signature or digest is no lower hex")
            message = f"thecal receipt v1\n{source}\n{first}\n{last}\n{digest}\n{recorder}\n{at}"
            if not holds(key, message.encode(), signature):
                raise Altered(what, "its signature does not hold")
            if (recorder, fingerprint(key)) not in self.sealed_by:
                self.sealed_by.append((recorder, fingerprint(key)))
            if table is not None:
                self.table(table, first, last, digest)
            else:
                why = f"not as the {what} says that they were stored"
                self.claim(source, first, last, digest, why, covered, True)
        if group % 4:
            raise Altered("table receipt", "receipts of tables are missing at its end")
        for table, known in sealed.items():
            (there,) = self.db.execute(f"SELECT count(*) FROM {table}").fetchone()
            self.unsealed += max(0, there - known)

    def table(self, name, first, last, digest):
        order = "key" if name == "trial" else "rowid"
        mine, count = hashlib.sha256(), 0
        for row in self.db.execute(f"SELECT * FROM {name} ORDER BY {order} LIMIT ?", (last,)):
            add_columns(mine, row)
            count += 1
        if (mine.hexdigest(), count, first) != (digest, last, 1):
            raise Altered(f"table {name}", "not as it was stored")

    # 8. Holes after the last row
    def holes_at_the_end(self):
        for source, first, last in self.holes:
            first = max(first, self.last(source) + 1)
            if first <= last and not self.incomplete(source, first, last):
                self.missing.append((source, first, last))

    # 9. Gateway
    def gateway_words(self):
        bed, gw = self.word("bed"), self.word("gw")
        if bed is not None and self.beds and bed not in self.beds:
            raise Altered("trial bed", "the gateway's chain says otherwise")
        if gw is not None and self.has_gateway() and f"{gw}.{self.trial_id}" not in self.seen:
            raise Altered("trial gw", f"no event is of {gw}.{self.trial_id}")


def canonical_signed(signed):
    quoted = [json.dumps(signed[name], ensure_ascii=False) for name in ("text", "key", "sig")]
    return '{"text":%s,"key":%s,"sig":%s}' % tuple(
        text if at == 0 else text.lower() for at, text in enumerate(quoted)
    )


def check(path, key, secret):
    answer = {"record": path, "first": None, "why": None}
    record = None
    try:
        record = Record(path, key, secret)
        word = record.verify()
        firsts = [(m[0], f"seq {m[1]} to {m[2]}", "missing") for m in record.missing]
        firsts += [(s, f"seq {n}", "unsigned from here") for s, n in record.unsigned]
        firsts += [(s, f"seq {n}", "times not proven from here") for s, n in record.unproven_times]
        if firsts:
            answer["first"], answer["why"] = f"{firsts[0][0]} {firsts[0][1]}", firsts[0][2]
        answer["holes"] = record.missing
        answer["unsigned_from"] = record.unsigned
        answer["times_not_proven_from"] = record.unproven_times
        answer["not_proven"] = record.not_proven
        answer["events"] = record.events
        answer["unsealed_rows"] = record.unsealed
        answer["sealed_by"] = record.sealed_by
    except Altered as e:
        word = "altered"
        answer["first"], answer["why"] = e.args
    except (Unreadable, sqlite3.Error, UnicodeDecodeError) as e:
        word, answer["why"] = "unreadable", str(e)
    finally:
        if record is not None:
            record.db.close()
    answer["evidence"] = word
    answer["exit"], answer["words"] = WORDS[word]
    return answer


def secret_or_key(text):
    """64 hex digits, or a file of one such line."""
    if not re.fullmatch("[0-9a-fA-F]{64}", text):
        with open(text) as file:
            text = file.read().strip()
    if not re.fullmatch("[0-9a-fA-F]{64}", text):
        raise SystemExit("verify.py: a key is one line of 64 hex digits")
    return bytes.fromhex(text)


def main():
    parser = argparse.ArgumentParser(description="Verifies trial records.")
    parser.add_argument("records", nargs="*")
    parser.add_argument("--key", help="the pump's public key: hex, or a file of it")
    parser.add_argument("--tag-key", help="file of the pump's tag secret")
    parser.add_argument("--json", action="store_true", help="one JSON object a record")
    parser.add_argument("--stdin", action="store_true", help="paths from standard input, answers as JSON")
    args = parser.parse_args()
    key = secret_or_key(args.key) if args.key else None
    secret = secret_or_key(args.tag_key) if args.tag_key else None
    if args.stdin:
        for line in sys.stdin:
            print(json.dumps(check(line.rstrip("\n"), key, secret)), flush=True)
        return 0
    codes = set()
    for path in args.records:
        answer = check(path, key, secret)
        codes.add(answer["exit"])
        if args.json:
            print(json.dumps(answer))
        else:
            parts = [path, answer["words"]]
            parts += [f"first: {answer['first']}"] if answer["first"] else []
            parts += [answer["why"]] if answer["why"] else []
            print(": ".join(parts))
    return next((code for code in (4, 1, 3, 5) if code in codes), 0)


if __name__ == "__main__":
    sys.exit(main())
