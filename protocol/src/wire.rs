//! Values to bytes and back, in the form of [postcard](https://postcard.jamesmunns.com/wire-format):
//! fields one after the other, no names; integers as LEB128 (signed ones zigzag), one byte for a
//! `bool`, for whether there is a value and for a `u8`; fixed bytes as they are; a variant by its
//! place. `tests/wire.rs` holds every type against that library.
//!
//! Written here and not derived, because a pump's image has room for one reader and one writer and
//! not for one of each for every type. So both remember a failure instead of handing it up: what
//! is read or written after it counts for nothing, and [`decode`] and [`Writer::written`] say so at
//! the end.

/// Puts values one after the other into given room.
#[derive(Debug)]
pub struct Writer<'a> {
    room: &'a mut [u8],
    len: usize,
    full: bool,
}

impl<'a> Writer<'a> {
    /// Begins at the start of `room`.
    pub fn new(room: &'a mut [u8]) -> Self {
        Self {
            room,
            len: 0,
            full: false,
        }
    }

    /// Bytes as they are.
    #[inline(never)]
    pub fn bytes(&mut self, bytes: &[u8]) {
        let room = self.room.get_mut(self.len..);
        match room.and_then(|room| room.get_mut(..bytes.len())) {
            Some(room) if !self.full => {
                room.copy_from_slice(bytes);
                self.len += bytes.len();
            }
            Some(_) | None => self.full = true,
        }
    }

    /// One byte as it is.
    #[inline(never)]
    pub fn byte(&mut self, byte: u8) {
        self.bytes(&[byte]);
    }

    /// Seven bits a byte, the low ones first; the top bit says that more follow.
    #[inline(never)]
    pub fn varint(&mut self, value: u64) {
        let mut left = value;
        while left > 0x7F {
            let [low, ..] = left.to_le_bytes();
            self.byte(low | 0x80);
            left >>= 7;
        }
        let [low, ..] = left.to_le_bytes();
        self.byte(low);
    }

    /// So many bytes, behind their number.
    pub fn counted(&mut self, bytes: &[u8]) {
        self.varint(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        self.bytes(bytes);
    }

    /// How many bytes were written; `None` where the room was too small.
    pub fn written(&self) -> Option<usize> {
        (!self.full).then_some(self.len)
    }
}

/// Takes values one after the other from given bytes. After a failure it gives zeros.
#[derive(Debug)]
pub struct Reader<'a> {
    left: &'a [u8],
    failed: bool,
}

impl<'a> Reader<'a> {
    /// Begins at the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self {
            left: bytes,
            failed: false,
        }
    }

    /// What was read is no value.
    pub fn fail(&mut self) {
        self.failed = true;
        self.left = &[];
    }

    /// The next byte.
    #[inline(never)]
    pub fn byte(&mut self) -> u8 {
        if let Some((first, left)) = self.left.split_first() {
            self.left = left;
            return *first;
        }
        self.fail();
        0
    }

    /// As many bytes as `into` has.
    #[inline(never)]
    pub fn fill(&mut self, into: &mut [u8]) {
        if let Some((first, left)) = self.left.split_at_checked(into.len()) {
            into.copy_from_slice(first);
            self.left = left;
            return;
        }
        self.fail();
    }

    /// What [`Writer::counted`] wrote.
    pub fn counted(&mut self) -> &'a [u8] {
        let len = usize::try_from(self.varint(u64::MAX)).ok();
        if let Some((first, left)) = len.and_then(|len| self.left.split_at_checked(len)) {
            self.left = left;
            return first;
        }
        self.fail();
        &[]
    }

    /// What [`Writer::varint`] wrote; fails above `most`, and where there are more bytes than
    /// `most` needs.
    #[inline(never)]
    pub fn varint(&mut self, most: u64) -> u64 {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = self.byte();
            let part = u64::from(byte & 0x7F);
            let moved = part << shift;
            value |= moved;
            if moved >> shift != part || most >> shift == 0 || value > most {
                break;
            }
            if byte & 0x80 == 0 {
                return value;
            }
            shift += 7;
            if shift > 63 {
                break;
            }
        }
        self.fail();
        0
    }

    /// The place of a variant.
    pub fn place(&mut self) -> u64 {
        self.varint(u64::from(u32::MAX))
    }

    /// What [`Writer::byte`] wrote for yes or no.
    #[inline(never)]
    pub fn flag(&mut self) -> bool {
        let byte = self.byte();
        if byte > 1 {
            self.fail();
        }
        byte == 1
    }

    /// What is left; `None` after a failure.
    pub fn rest(self) -> Option<&'a [u8]> {
        (!self.failed).then_some(self.left)
    }
}

/// What can be written and read back.
pub trait Wire {
    /// Writes it.
    fn put(&self, to: &mut Writer<'_>);

    /// Reads one. After a failure of `from` it is any value, and to be thrown away.
    fn take(from: &mut Reader<'_>) -> Self;
}

/// The one value that `bytes` are; `None` where they are none, or more.
pub fn decode<T: Wire>(bytes: &[u8]) -> Option<T> {
    let mut from = Reader::new(bytes);
    let value = T::take(&mut from);
    from.rest()?.is_empty().then_some(value)
}

/// Writes a value into `room`; gives its length, or `None` where the room is too small.
pub fn encode<T: Wire>(value: &T, room: &mut [u8]) -> Option<usize> {
    let mut to = Writer::new(room);
    value.put(&mut to);
    to.written()
}

impl Wire for () {
    fn put(&self, _: &mut Writer<'_>) {}
    fn take(_: &mut Reader<'_>) -> Self {}
}

impl Wire for u8 {
    fn put(&self, to: &mut Writer<'_>) {
        to.byte(*self);
    }
    fn take(from: &mut Reader<'_>) -> Self {
        from.byte()
    }
}

impl Wire for bool {
    fn put(&self, to: &mut Writer<'_>) {
        to.byte(u8::from(*self));
    }
    fn take(from: &mut Reader<'_>) -> Self {
        from.flag()
    }
}

macro_rules! unsigned {
    ($($name:ident)*) => {$(
        impl Wire for $name {
            fn put(&self, to: &mut Writer<'_>) {
                to.varint(u64::from(*self));
            }
            fn take(from: &mut Reader<'_>) -> Self {
                // Not above the most, so it always fits.
                Self::try_from(from.varint(u64::from(Self::MAX))).unwrap_or(0)
            }
        }
    )*};
}

unsigned! { u16 u32 u64 }

macro_rules! signed {
    ($($name:ident $unsigned:ident)*) => {$(
        impl Wire for $name {
            fn put(&self, to: &mut Writer<'_>) {
                // Zigzag: the sign is the lowest bit, so that small numbers are short.
                ((*self << 1) ^ (*self >> (Self::BITS - 1))).cast_unsigned().put(to);
            }
            fn take(from: &mut Reader<'_>) -> Self {
                let value = $unsigned::take(from);
                (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
            }
        }
    )*};
}

signed! { i16 u16 i64 u64 }

impl<T: Wire> Wire for Option<T> {
    fn put(&self, to: &mut Writer<'_>) {
        to.byte(u8::from(self.is_some()));
        if let Some(value) = self {
            value.put(to);
        }
    }
    fn take(from: &mut Reader<'_>) -> Self {
        from.flag().then(|| T::take(from))
    }
}

impl<T: Wire, const N: usize> Wire for [T; N] {
    fn put(&self, to: &mut Writer<'_>) {
        for value in self {
            value.put(to);
        }
    }
    fn take(from: &mut Reader<'_>) -> Self {
        core::array::from_fn(|_| T::take(from))
    }
}

#[cfg(feature = "host")]
impl Wire for String {
    fn put(&self, to: &mut Writer<'_>) {
        to.counted(self.as_bytes());
    }
    fn take(from: &mut Reader<'_>) -> Self {
        if let Ok(text) = core::str::from_utf8(from.counted()) {
            return text.to_owned();
        }
        from.fail();
        Self::new()
    }
}

/// Says that a struct is its fields, in this order; a field that is missing is a build error.
#[macro_export]
macro_rules! wire_struct {
    ($name:ident { $($field:ident),* $(,)? }) => {
        impl $crate::wire::Wire for $name {
            fn put(&self, to: &mut $crate::wire::Writer<'_>) {
                let Self { $($field),* } = self;
                $($crate::wire::Wire::put($field, to);)*
            }
            fn take(from: &mut $crate::wire::Reader<'_>) -> Self {
                Self { $($field: $crate::wire::Wire::take(from)),* }
            }
        }
    };
}

/// Says that an enum is the place of its variant, then its fields. Places never change.
#[macro_export]
macro_rules! wire_enum {
    ($name:ident { $($place:literal $variant:ident $({ $($field:ident),* $(,)? })? $(($inner:ident))?),* $(,)? }) => {
        impl $crate::wire::Wire for $name {
            fn put(&self, to: &mut $crate::wire::Writer<'_>) {
                match self {
                    $(Self::$variant $({ $($field),* })? $(($inner))? => {
                        to.byte($place);
                        $($($crate::wire::Wire::put($field, to);)*)?
                        $($crate::wire::Wire::put($inner, to);)?
                    })*
                }
            }
            fn take(from: &mut $crate::wire::Reader<'_>) -> Self {
                match from.place() {
                    $($place => Self::$variant
                        $({ $($field: $crate::wire::Wire::take(from)),* })?
                        $(({ let $inner = $crate::wire::Wire::take(from); $inner }))?,)*
                    // A reader that failed gives zeros, and there is always a variant 0.
                    _ => {
                        from.fail();
                        Self::take(from)
                    }
                }
            }
        }
    };
}
