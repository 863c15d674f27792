#!/usr/bin/env python3
"""Computes every vector of vectors.txt a second time, from the same values, with nothing of ours:
hashlib and hmac of Python, and COBS, CRC-32C and postcard's numbers written out below.

    python3 vectors_check.py           compares, exit 0 where all agree
    python3 vectors_check.py --print   prints the vectors that this script computes

The Ed25519 signature is computed where the package `cryptography` is installed; without it its
three vectors are read, used and counted as not checked.
"""

import hashlib
import hmac
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent


# --- postcard ---------------------------------------------------------------------------------


def num(n):
    """Unsigned integer of 16 bits and more, length, or place of an enum's variant."""
    out = bytearray()
    while n >= 0x80:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def signed(n):
    """Signed integer of 16 bits and more: zigzag, so that small ones are short."""
    return num(2 * n if n >= 0 else -2 * n - 1)


def byte(n):
    return bytes([n])


def flag(b):
    return bytes([1 if b else 0])


def text(s):
    return num(len(s.encode())) + s.encode()


def some(b):
    return b"\x01" + b


NONE = b"\x00"

# --- frame ------------------------------------------------------------------------------------


def crc32c(data):
    crc = 0xFFFFFFFF
    for b in data:
        crc ^= b
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


assert crc32c(b"123456789") == 0xE3069283, "published check value of CRC-32C"


def cobs(data):
    """For fewer than 254 bytes, so one run never reaches the longest."""
    return b"".join(bytes([len(run) + 1]) + run for run in data.split(b"\x00"))


def frame(plain):
    return cobs(plain + crc32c(plain).to_bytes(4, "little")) + b"\x00"


def message(number, body):
    assert len(body) <= 192
    return frame(bytes([1, number, len(body)]) + body)


def event(number, head, body):
    body = b"".join(num(n) for n in head) + body
    assert len(body) <= 192
    return bytes([1, number, len(body)]) + body


# --- the values of examples/mod.rs and vectors.rs ---------------------------------------------

HEAD = (3, 18274, 86400123)
REST, MOVEMENT = byte(0), byte(1)

POWERED_ON = byte(2) + bytes([0, 1, 200]) + some(num(1767225600000))
DELIVERED = num(40031950) + num(40032000) + num(800639) + num(12810224)
PAIN_SCORE = byte(10) + flag(True) + MOVEMENT + some(num(12)) + some(num(4250)) + some(num(18270))

EVENTS = [
    (0x40, "powered_on", POWERED_ON),
    (0x41, "infusion_started", byte(0) + num(417000)),
    (0x42, "infusion_stopped", byte(1)),
    (0x43, "rate_changed", num(417000) + num(300000) + byte(1)),
    (0x44, "delivered", DELIVERED),
    (0x45, "bolus_requested", byte(0) + num(200000)),
    (0x45, "bolus_requested.denied", byte(1) + byte(1) + some(num(1800000))),
    (0x46, "bolus_delivered", num(200000) + num(149950) + flag(False)),
    (0x47, "pain_score", PAIN_SCORE),
    (0x47, "pain_score.spontaneous", byte(3) + flag(False) + REST + NONE + NONE + NONE),
    (0x48, "prompt_not_answered", num(13) + REST + num(86000000)),
    (0x49, "reservoir", byte(3) + some(num(59900000)) + num(59968050)),
    (0x4A, "alarm", byte(11) + byte(2) + byte(0)),
    (0x4B, "battery", byte(0) + num(300)),
    (0x4C, "key_stuck", byte(13) + byte(1)),
    (0x4D, "door", flag(True)),
    (0x4E, "program_changed", num(2) + num(300000) + num(500) + num(200000) + num(3600000)),
    (0x4F, "clock_set", NONE + num(1767225600000) + signed(-210)),
    (0x50, "self_test", flag(False) + byte(0b00100001)),
    (0x51, "journal_lost", num(1) + num(18273)),
    (
        0x52,
        "checkpoint",
        num(18273) + num(18273) + num(99) + bytes(range(32)) + bytes(255 - i for i in range(64)),
    ),
    (0x53, "trial_closed", byte(2)),
    (0x80, "gateway_started", text("thecal 0.1.0") + text("07") + text("T-0042") + text("EP-0193")),
    (0x81, "link_changed", text("EP-0193") + flag(False) + num(5000)),
    (0x82, "clock_stepped", signed(-3600000)),
    (
        0x83,
        "observation",
        text("temperature")
        + signed(37400)
        + signed(1767225600000)
        + text("n.okafor")
        + text("nurse")
        + text("e-000001"),
    ),
    (
        0x84,
        "rescue",
        text("morphine")
        + num(10000)
        + text("oral")
        + text("trial_pain")
        + flag(False)
        + signed(-1)
        + text("n.okafor")
        + text("nurse")
        + text("e-000002"),
    ),
    (
        0x85,
        "alarm_changed",
        text("link_lost") + byte(1) + text("raised") + text("No word from the pump for 5 s"),
    ),
    (0x86, "stored", text("EP-0193") + num(18211) + num(18274) + b"\xa5" * 32),
    (
        0x87,
        "score_entry",
        some(byte(4))
        + flag(False)
        + REST
        + text("nurse")
        + flag(True)
        + signed(1767225600000)
        + text("n.okafor")
        + text("e-000003"),
    ),
    (0x88, "quarantined", text("EP-0999") + num(7) + text("another body under this identity")),
    (0x89, "boot_anchored", text("EP-0193") + num(3) + signed(1767139200000) + num(12)),
]


def vectors(kept):
    out = {}
    hello = byte(1) + byte(1) + text("EP-0193") + num(3) + b"\x11" * 32 + num(700) + b"\x22" * 32
    out["message.hello"] = message(0x01, hello + flag(True))
    out["message.heartbeat"] = message(0x02, num(3) + num(86400123) + num(18274) + flag(True))
    out["message.time_reply"] = message(0x03, num(77) + num(3) + num(86400123) + num(86400125))
    part = (128).to_bytes(2, "little") + b'{"schema":\x00\xff'
    out["message.manifest_part"] = message(0x04, part)
    out["message.ack"] = message(0x20, num(18274))
    out["message.resume"] = message(0x21, num(18210) + flag(True) + flag(False))
    out["message.time_request"] = message(0x22, num(77))

    for number, name, body in EVENTS:
        out["event." + name] = event(number, HEAD, body)
    tag = bytes(i * 16 for i in range(16))
    out["frame.delivered"] = frame(event(0x44, HEAD, DELIVERED) + tag)

    seed = b"\x07" * 32
    public, sign = ed25519(seed, kept)
    out["chain.public_key"] = public
    secret = hkdf(b"", seed, b"thecal tag secret")
    out["chain.tag_secret"] = secret
    genesis = hashlib.sha256(b"thecal vector manifest").digest()
    out["chain.genesis"] = genesis
    key = hkdf(genesis, secret, b"thecal tag")
    out["chain.key_0"] = key
    key = mac(key, b"next")
    out["chain.key_1"] = key
    head = genesis
    three = [(0x40, POWERED_ON), (0x47, PAIN_SCORE), (0x44, DELIVERED)]
    for seq, (number, body) in enumerate(three, 1):
        head = hashlib.sha256(head + event(number, (1, seq, seq * 1000), body)).digest()
        out[f"chain.head_{seq}"] = head
        out[f"chain.tag_{seq}"] = mac(key, head)[:16]
    # Version 1 is read and never written any more; version 2 also covers the event's own tick.
    for prefix, label, covered in [
        ("chain", b"thecal checkpoint v1", [(1, 4), (3, 8), (3, 8), (1, 4)]),
        ("chain2", b"thecal checkpoint v2", [(1, 4), (4000, 8), (3, 8), (3, 8), (1, 4)]),
    ]:
        numbers = b"".join(n.to_bytes(size, "little") for n, size in covered)
        signed_part = label.ljust(24, b"\x00") + genesis + numbers + head
        out[prefix + ".checkpoint_message"] = signed_part
        signature = sign(prefix, signed_part)
        out[prefix + ".signature"] = signature
        raw = event(0x52, (1, 4, 4000), num(3) + num(3) + num(1) + head + signature)
        out[prefix + ".checkpoint_raw"] = raw
        after = hashlib.sha256(head + raw).digest()
        out[prefix + ".head_4"] = after
        out[prefix + ".tag_4"] = mac(key, after)[:16]
    out["chain.key_2"] = mac(key, b"next")
    return out


def mac(key, data):
    return hmac.new(key, data, hashlib.sha256).digest()


def hkdf(salt, secret, info):
    """RFC 5869 with SHA-256, the first 32 bytes."""
    return mac(mac(salt or b"\x00" * 32, secret), info + b"\x01")


SIGNATURES = "not checked: no package `cryptography`"


def ed25519(seed, kept):
    global SIGNATURES
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
    except ImportError:
        return kept["chain.public_key"], lambda prefix, _: kept[prefix + ".signature"]
    SIGNATURES = "checked"
    pair = Ed25519PrivateKey.from_private_bytes(seed)
    return pair.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw), lambda _, part: pair.sign(part)


def main():
    lines = (HERE / "vectors.txt").read_text().splitlines()
    pairs = (line.split(" ") for line in lines if line and not line.startswith("#"))
    kept = {name: bytes.fromhex(value) for name, value in pairs}
    mine = vectors(kept)
    if sys.argv[1:] == ["--print"]:
        for name, value in mine.items():
            print(name, value.hex())
        return 0
    wrong = [name for name in {**kept, **mine} if kept.get(name) != mine.get(name)]
    for name in wrong:
        kept_hex, mine_hex = (d.get(name, b"").hex() or "nothing" for d in (kept, mine))
        print(f"{name}\n  kept     {kept_hex}\n  computed {mine_hex}")
    print(f"{len(mine) - len(wrong)} of {len(mine)} vectors agree; signature {SIGNATURES}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
