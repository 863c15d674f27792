//! Frames built by hand, for what our own encoder refuses to make.

/// COBS of header, body and checksum, without the closing zero. The body may hold a tag.
pub(crate) fn framed(version: u8, number: u8, len: usize, body: &[u8]) -> Vec<u8> {
    let len = u8::try_from(len).unwrap_or(u8::MAX);
    let mut plain = vec![version, number, len];
    plain.extend_from_slice(body);
    let crc = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI).checksum(&plain);
    plain.extend_from_slice(&crc.to_le_bytes());
    let mut out = Vec::new();
    for run in plain.split(|byte| *byte == 0) {
        out.push(u8::try_from(run.len() + 1).unwrap_or(u8::MAX));
        out.extend_from_slice(run);
    }
    out
}
