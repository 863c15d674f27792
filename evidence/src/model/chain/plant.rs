//! Ways in which the chain could be built wrong.

/// A way in which the chain could be built wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Plant {
    AckBeforeSync,
    AckOfNewest,
    PubackAsDurable,
    RepeatsKept,
    GapTaken,
    ReceiptBeforeSync,
    ReceiptOfNewest,
    GatewayOpensUnsynced,
    RecorderOpensUnsynced,
    GatewayRetriesSync,
    RecorderRetriesSync,
    OpenTrustsCache,
    BootNotRaised,
    SeqStartsAgain,
    AckFreesJournal,
    OverrunSilent,
    FailedWriteSilent,
    LossFromOne,
    DeclaredLossBelieved,
    ForgedReceiptTaken,
    ForeignReceiptTaken,
    ForgedEventTaken,
    PrunedWhenSent,
    ReceiptNeverLess,
}

impl Plant {
    /// All of them.
    pub(crate) const ALL: &[Self] = &[
        Self::AckBeforeSync,
        Self::AckOfNewest,
        Self::PubackAsDurable,
        Self::RepeatsKept,
        Self::GapTaken,
        Self::ReceiptBeforeSync,
        Self::ReceiptOfNewest,
        Self::GatewayOpensUnsynced,
        Self::RecorderOpensUnsynced,
        Self::GatewayRetriesSync,
        Self::RecorderRetriesSync,
        Self::OpenTrustsCache,
        Self::BootNotRaised,
        Self::SeqStartsAgain,
        Self::AckFreesJournal,
        Self::OverrunSilent,
        Self::FailedWriteSilent,
        Self::LossFromOne,
        Self::DeclaredLossBelieved,
        Self::ForgedReceiptTaken,
        Self::ForeignReceiptTaken,
        Self::ForgedEventTaken,
        Self::PrunedWhenSent,
        Self::ReceiptNeverLess,
    ];

    /// In words.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::AckBeforeSync => "the gateway acknowledges before its sync",
            Self::AckOfNewest => "the gateway acknowledges the newest seq, holes or not",
            Self::PubackAsDurable => "a PUBACK counts as a receipt",
            Self::RepeatsKept => "the recorder keeps repeats",
            Self::GapTaken => "the gateway takes what comes after a gap",
            Self::ReceiptBeforeSync => "the recorder gives a receipt before its sync",
            Self::ReceiptOfNewest => "a receipt names the newest seq, holes or not",
            Self::GatewayOpensUnsynced => "the gateway does not sync its spool when it opens it",
            Self::RecorderOpensUnsynced => "the recorder does not sync its record when it opens it",
            Self::GatewayRetriesSync => "the gateway tries a failed sync again",
            Self::RecorderRetriesSync => "the recorder tries a failed sync again",
            Self::OpenTrustsCache => "after a failed sync, opening syncs but does not write again",
            Self::BootNotRaised => "a start of the pump is not counted",
            Self::SeqStartsAgain => "seqs begin again at a start of the pump",
            Self::AckFreesJournal => "the pump forgets what is acknowledged, forged or not",
            Self::OverrunSilent => "the ring turns over without a word",
            Self::FailedWriteSilent => "an event that found no room is not declared lost",
            Self::LossFromOne => "a turn of the ring declares all before it lost",
            Self::DeclaredLossBelieved => "the recorder counts as lost what the gateway still has",
            Self::ForgedReceiptTaken => "the signature of a receipt is not checked",
            Self::ForeignReceiptTaken => "a receipt for another gateway is believed",
            Self::ForgedEventTaken => "the signature of a batch is not checked",
            Self::PrunedWhenSent => "rows are removed when they were sent",
            Self::ReceiptNeverLess => "a receipt that shows less than before is ignored",
        }
    }
}
