//! Bytes between an interrupt and the loop.

use core::sync::atomic::{AtomicU8, AtomicU32, AtomicUsize, Ordering};

/// A queue of at most `N` bytes. One side puts, the other takes; what finds it full is dropped and
/// counted.
#[derive(Debug)]
pub struct Ring<const N: usize> {
    bytes: [AtomicU8; N],
    put: AtomicUsize,
    taken: AtomicUsize,
    dropped: AtomicU32,
}

impl<const N: usize> Ring<N> {
    /// An empty one. The counts of bytes run over in place only where `N` is a power of two.
    #[expect(
        clippy::new_without_default,
        reason = "always a static, which Default cannot make"
    )]
    pub const fn new() -> Self {
        const {
            assert!(N.is_power_of_two());
        }
        Self {
            bytes: [const { AtomicU8::new(0) }; N],
            put: AtomicUsize::new(0),
            taken: AtomicUsize::new(0),
            dropped: AtomicU32::new(0),
        }
    }

    /// Whether there is nothing to take.
    pub fn is_empty(&self) -> bool {
        self.put.load(Ordering::Acquire) == self.taken.load(Ordering::Relaxed)
    }

    /// Bytes that were dropped since the start.
    pub fn dropped(&self) -> u32 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn is_full(&self) -> bool {
        let put = self.put.load(Ordering::Relaxed);
        put.wrapping_sub(self.taken.load(Ordering::Acquire)) >= N
    }

    /// To be called by one side alone.
    pub fn put(&self, byte: u8) {
        let at = self.put.load(Ordering::Relaxed);
        let full = self.is_full();
        match self.bytes.get(at % N).filter(|_| !full) {
            Some(room) => {
                room.store(byte, Ordering::Relaxed);
                self.put.store(at.wrapping_add(1), Ordering::Release);
            }
            None => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// The byte that was put first; to be called by the other side alone.
    pub fn take(&self) -> Option<u8> {
        let at = self.taken.load(Ordering::Relaxed);
        if self.put.load(Ordering::Acquire) == at {
            return None;
        }
        let byte = self.bytes.get(at % N)?.load(Ordering::Relaxed);
        self.taken.store(at.wrapping_add(1), Ordering::Release);
        Some(byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_taken_in_order_and_what_finds_it_full_is_counted() {
        let ring = Ring::<4>::new();
        assert!(ring.is_empty());
        for turn in 0..3 {
            for byte in 0..6 {
                ring.put(10 * turn + byte);
            }
            assert!(!ring.is_empty());
            assert_eq!(ring.dropped(), 2 * (u32::from(turn) + 1));
            let taken: [Option<u8>; 5] = core::array::from_fn(|_| ring.take());
            let of = |byte| Some(10 * turn + byte);
            assert_eq!(taken, [of(0), of(1), of(2), of(3), None]);
            assert!(ring.is_empty());
        }
    }

    #[test]
    fn two_threads_lose_double_and_reorder_nothing_while_there_is_room() {
        static RING: Ring<16> = Ring::new();
        let bytes = || (0..20_000_u32).map(|n| u8::try_from(n % 251).unwrap_or(0));
        let putting = std::thread::spawn(move || {
            for byte in bytes() {
                // The only side that puts: what it sees as full may be less so, never more.
                while RING.is_full() {
                    std::hint::spin_loop();
                }
                RING.put(byte);
            }
        });
        for byte in bytes() {
            let taken = std::iter::repeat_with(|| RING.take()).flatten().next();
            assert_eq!(taken, Some(byte));
        }
        putting.join().unwrap();
        assert_eq!((RING.take(), RING.dropped()), (None, 0));
    }
}
