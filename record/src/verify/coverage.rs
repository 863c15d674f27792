//! Which rows a digest vouches for: the gateway's `stored` facts and the recorders' receipts, over
//! all columns of a range of rows.

use super::check::{Check, Seen};
use crate::store::Error;
use crate::trial_record::{RowsReceipt, SEALED_TABLES};
use protocol::chain::signature_holds;
use protocol::hex::{Digest, Hex};
use protocol::keys::fingerprint;
use std::collections::BTreeMap;

/// A claim that the rows of a range are these.
struct Claim {
    what: String,
    source: String,
    from: u64,
    to: u64,
    digest: Digest,
    /// By a recorder, who notes a hole before it signs.
    knows_holes: bool,
}

/// Ranges of seqs, by source, that a digest vouches for.
type Ranges = BTreeMap<String, Vec<(u64, u64)>>;

impl Check<'_> {
    /// All digests, then the first row of the pump that none covers.
    pub(super) fn coverage(&mut self) -> Result<(), Error> {
        let mut held = Ranges::new();
        for (id, range) in std::mem::take(&mut self.stored) {
            let what = format!(
                "{} seq {} to {}: not as {id} says that they were stored",
                range.source, range.from_seq, range.to_seq
            );
            let claim = Claim {
                what,
                source: range.source,
                from: range.from_seq,
                to: range.to_seq,
                digest: range.digest,
                knows_holes: false,
            };
            self.one_claim(claim, &mut held)?;
        }
        match self.record.receipts() {
            Ok(receipts) => self.all_receipts(receipts, &mut held)?,
            Err(e) => self.wrong(format!("table receipt: {e}")),
        }
        let Some(pump) = self.pump() else {
            return Ok(());
        };
        let Some(seen) = self.seen.get(&pump) else {
            return Ok(());
        };
        let first = if self.has_gateway() {
            first_uncovered(&seen.seqs, held.remove(&pump).unwrap_or_default())
        } else {
            seen.seqs.first().copied()
        };
        if let Some(seq) = first {
            self.report.times_not_proven_from.push((pump, seq));
        }
        Ok(())
    }

    /// Each receipt; those of tables come in groups of all of them, in their order.
    fn all_receipts(&mut self, receipts: Vec<RowsReceipt>, held: &mut Ranges) -> Result<(), Error> {
        let mut groups = SEALED_TABLES.iter().cycle();
        let mut sealed = BTreeMap::new();
        for receipt in receipts {
            if let Some(table) = receipt.source.strip_prefix("table ") {
                if groups.next() != Some(&table) {
                    self.wrong(format!("table {table}: its receipt is not in its place"));
                }
                // A receipt over the receipts before it is one more of them.
                let own = u64::from(table == "receipt");
                sealed.insert(table.to_owned(), receipt.to_seq.saturating_add(own));
            }
            self.one_receipt(receipt, held)?;
        }
        if groups.next() != SEALED_TABLES.first() {
            self.wrong("table receipt: receipts of tables are missing at its end".into());
        }
        self.report.tables_sealed = !sealed.is_empty();
        for (table, rows) in sealed {
            let (_, there) = self.record.table_digest(&table, u64::MAX >> 1)?;
            self.report.unsealed_rows += there.saturating_sub(rows);
        }
        Ok(())
    }

    fn one_receipt(&mut self, receipt: RowsReceipt, held: &mut Ranges) -> Result<(), Error> {
        let what = format!("receipt by {} of {}", receipt.recorder, receipt.source);
        let parts = (
            written(&receipt.key),
            written(&receipt.signature),
            written(&receipt.digest),
        );
        let (Some(key), Some(signature), Some(digest)) = parts else {
            self.wrong(format!("{what}: key, signature or digest is no lower hex"));
            return Ok(());
        };
        if !signature_holds(&key, receipt.message().as_bytes(), &signature) {
            self.wrong(format!("{what}: its signature does not hold"));
            return Ok(());
        }
        let by = (receipt.recorder, fingerprint(&key));
        if !self.report.sealed_by.contains(&by) {
            self.report.sealed_by.push(by);
        }
        if let Some(table) = receipt.source.strip_prefix("table ") {
            let (seen, rows) = self.record.table_digest(table, receipt.to_seq)?;
            if seen != digest || rows != receipt.to_seq || receipt.from_seq != 1 {
                self.wrong(format!(
                    "table {table}: not as the {what} says that it was stored"
                ));
            }
            return Ok(());
        }
        let claim = Claim {
            what: format!(
                "{} seq {} to {}: not as the {what} says that they were stored",
                receipt.source, receipt.from_seq, receipt.to_seq
            ),
            source: receipt.source,
            from: receipt.from_seq,
            to: receipt.to_seq,
            digest,
            knows_holes: true,
        };
        self.one_claim(claim, held)
    }

    fn one_claim(&mut self, claim: Claim, held: &mut Ranges) -> Result<(), Error> {
        let (from, to) = (claim.from, claim.to);
        let seen = self.seen.get(&claim.source);
        let last = seen.map_or(0, Seen::last);
        if last < to {
            // Rows that somebody had stored are gone from the end.
            self.missing_at_end(&claim.source, last.saturating_add(1).max(from), to);
            return Ok(());
        }
        let whole = seen.filter(|s| s.first() == from && s.last() == to);
        let digest = match whole.and_then(|s| s.digest) {
            Some(digest) => digest,
            None => self.record.rows_digest(&claim.source, from, to)?.0,
        };
        if digest == claim.digest {
            held.entry(claim.source).or_default().push((from, to));
        } else if !self.is_incomplete(&claim.source, from, to)
            || claim.knows_holes && self.is_noted(&claim.source, from, to)
        {
            self.wrong(claim.what);
        }
        Ok(())
    }
}

/// Hex as our programs write it: lower digits.
pub(super) fn written<const N: usize>(text: &str) -> Option<Hex<N>> {
    Hex::parse(text).filter(|hex| hex.to_string() == text)
}

/// The first of `seqs`, which ascend, that lies in none of `ranges`.
fn first_uncovered(seqs: &[u64], mut ranges: Vec<(u64, u64)>) -> Option<u64> {
    ranges.sort_unstable();
    let mut ranges = ranges.into_iter().peekable();
    let mut covered_to = 0;
    seqs.iter().copied().find(|seq| {
        while let Some((_, to)) = ranges.next_if(|(from, _)| from <= seq) {
            covered_to = covered_to.max(to);
        }
        *seq > covered_to
    })
}

#[cfg(test)]
mod tests {
    use super::first_uncovered;

    #[test]
    fn the_first_row_that_no_range_holds_is_found() {
        type Case<'a> = (&'a [u64], &'a [(u64, u64)], Option<u64>);
        let cases: [Case<'_>; 6] = [
            (&[1, 2, 3], &[(1, 3)], None),
            (&[1, 2, 3], &[(1, 2)], Some(3)),
            (&[1, 2, 3], &[(2, 3)], Some(1)),
            (&[1, 2, 5, 6], &[(5, 6), (1, 2)], None),
            (&[1, 2, 3, 4], &[(1, 1), (1, 4), (2, 2)], None),
            (&[1], &[], Some(1)),
        ];
        for (seqs, ranges, wanted) in cases {
            assert_eq!(
                first_uncovered(seqs, ranges.to_vec()),
                wanted,
                "{seqs:?} {ranges:?}"
            );
        }
    }
}
