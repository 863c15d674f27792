//! Sets of seqs.

/// The most seqs of a model.
pub(crate) const SEQ_MAX: u8 = 15;

/// A set of seqs, 1 to 15.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Seqs(u16);

impl Seqs {
    fn bit(seq: u8) -> u16 {
        1u16.checked_shl(seq.into()).unwrap_or(0)
    }

    /// Whether `seq` is in it.
    pub(crate) fn has(self, seq: u8) -> bool {
        self.0 & Self::bit(seq) != 0
    }

    pub(super) fn and(self, seq: u8) -> Self {
        Self(self.0 | Self::bit(seq))
    }

    pub(super) fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(super) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(super) fn through(self, seq: u8) -> Self {
        Self(self.0 & (Self::bit(seq) | (Self::bit(seq).wrapping_sub(1))))
    }

    /// How many.
    pub(crate) fn count(self) -> u8 {
        u8::try_from(self.0.count_ones()).unwrap_or(u8::MAX)
    }

    /// Whether there is none.
    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// All of them, smallest first.
    pub(crate) fn iter(self) -> impl Iterator<Item = u8> {
        (1..=SEQ_MAX).filter(move |seq| self.has(*seq))
    }

    /// The greatest; 0 where there is none.
    pub(crate) fn last(self) -> u8 {
        u8::try_from(15u32.saturating_sub(self.0.leading_zeros())).unwrap_or(0)
    }

    pub(super) fn parts(self) -> impl Iterator<Item = Self> {
        let all = self.0;
        // Every submask of a mask, the empty one last.
        let mut next = Some(all);
        std::iter::from_fn(move || {
            let part = next?;
            next = (part != 0).then(|| (part - 1) & all);
            Some(Self(part))
        })
    }
}

impl FromIterator<u8> for Seqs {
    fn from_iter<T: IntoIterator<Item = u8>>(seqs: T) -> Self {
        seqs.into_iter().fold(Self::default(), Self::and)
    }
}

impl std::fmt::Debug for Seqs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}
