//! A compressor for rows of JSON that are in memory whole: raw deflate (RFC 1951) with the
//! codes that the format fixes, so that nothing is counted and no tree is sent. Why it is
//! our own: docs/decisions/0024-compressor.md.
//!
//! Rows repeat their names, and between them stand short values that rarely do. So a match
//! counts from [`MATCH_MIN`] bytes on, which passes over the chance matches within numbers,
//! and what is not matched is written several bytes at once. Each block is up to 64 KiB by
//! itself, or as it is where that is shorter. Fixed sizes and masks instead of checks of
//! every index.

/// Bits of a place in the table of earlier places.
const PLACE_BITS: u32 = 12;
/// The longest block: places in it are 16 bits, and so is the length of one as it is.
const BLOCK_MAX: usize = u16::MAX as usize;
const DISTANCE_MAX: usize = 32 << 10;
/// Shorter repetitions are written as they are.
const MATCH_MIN: usize = 6;
const MATCH_MAX: usize = 258;
/// The shortest match that there is a code for.
const LENGTH_MIN: usize = 3;
const END_OF_BLOCK: u32 = 256;
/// The codes of so many bytes below 128 fit into 64 bits, beside 7 that wait.
const LITERALS_AT_ONCE: usize = 7;
/// Holds what a block becomes at worst: 9 bits for a byte.
const OUT: usize = 1 << 17;

/// A word more, so that one can be read from and written to any place.
type Window = [u8; BLOCK_MAX + 1 + 8];
type Out = [u8; OUT + 8];
type Places = [u16; 1 << PLACE_BITS];

/// Compresses one body after the other, with memory that it keeps.
#[derive(Debug)]
pub struct Deflater {
    /// Where in the block bytes with this hash were seen last.
    places: Box<Places>,
    window: Box<Window>,
    out: Box<Out>,
}

impl Default for Deflater {
    fn default() -> Deflater {
        Deflater { places: zeroed(), window: zeroed(), out: zeroed() }
    }
}

/// On the heap from the beginning: too large for a stack.
fn zeroed<T: Copy + Default + std::fmt::Debug, const N: usize>() -> Box<[T; N]> {
    match vec![T::default(); N].into_boxed_slice().try_into() {
        Ok(array) => array,
        Err(_) => unreachable!("it has been made this long"),
    }
}

impl Deflater {
    /// Appends `body` compressed; the same bytes whatever came before.
    pub fn deflate(&mut self, body: &[u8], out: &mut Vec<u8>) {
        let mut bits = Bits { out: &mut self.out, at: 0, waiting: 0, count: 0 };
        let mut rest = body;
        loop {
            let (block, after) = rest.split_at(rest.len().min(BLOCK_MAX));
            let last = u32::from(after.is_empty());
            let before = (bits.waiting, bits.count);
            self.window[..block.len()].copy_from_slice(block);
            self.places.fill(0);
            bits.put(Code { bits: 0b010 | last, count: 3 });
            bits.write();
            compress(&mut self.places, &self.window, block.len(), &mut bits);
            bits.put(symbol(END_OF_BLOCK));
            bits.write();
            // Its header, what fills up a byte, and its length twice.
            if bits.at > block.len() + 5 {
                (bits.waiting, bits.count) = before;
                bits.at = 0;
                bits.put(Code { bits: last, count: 3 });
                bits.fill_up();
                out.extend_from_slice(&bits.out[..bits.at]);
                let length = u16::try_from(block.len()).unwrap_or(u16::MAX);
                out.extend_from_slice(&length.to_le_bytes());
                out.extend_from_slice(&(!length).to_le_bytes());
                out.extend_from_slice(block);
            } else {
                out.extend_from_slice(&bits.out[..bits.at]);
            }
            bits.at = 0;
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        bits.fill_up();
        out.extend_from_slice(&bits.out[..bits.at]);
    }
}

/// The first `end` bytes of `window` as one block, without its beginning and its end.
fn compress(places: &mut Places, window: &Window, end: usize, bits: &mut Bits<'_>) {
    // Up to where everything is written. A place of 0 is no place seen, or the first: either
    // way one that lies before.
    let (mut told, mut here) = (0, 1);
    while here + 8 <= end {
        let ahead = word(window, here);
        // Within a block: it fits.
        let before = usize::from(std::mem::replace(&mut places[hash(ahead)], here as u16));
        let differs = word(window, before) ^ ahead;
        if differs << (64 - 8 * MATCH_MIN) != 0 || here - before > DISTANCE_MAX {
            here += 1;
            continue;
        }
        let length = match differs {
            0 => same(window, before, here, MATCH_MAX.min(end - here)),
            _ => differs.trailing_zeros() as usize / 8,
        };
        put_literals(window, (told, here), bits);
        bits.put(LENGTHS[(length - LENGTH_MIN) & 0xff]);
        bits.put(distance(here - before));
        bits.write();
        here += length;
        told = here;
    }
    put_literals(window, (told, end), bits);
}

#[inline(always)]
fn hash(ahead: u64) -> usize {
    let text = ahead << (64 - 8 * MATCH_MIN);
    (text.wrapping_mul(0x9e37_79b1_85eb_ca87) >> (64 - PLACE_BITS)) as usize
}

/// How many bytes, at most `max`, are the same from both places on; the first 8 are.
#[inline(always)]
fn same(window: &Window, before: usize, here: usize, max: usize) -> usize {
    let mut length = 8;
    while length < max {
        let differs = word(window, before + length) ^ word(window, here + length);
        if differs != 0 {
            length += differs.trailing_zeros() as usize / 8;
            break;
        }
        length += 8;
    }
    length.min(max)
}

/// Writes bytes as they are.
#[inline(always)]
fn put_literals(window: &Window, (mut from, to): (usize, usize), bits: &mut Bits<'_>) {
    while from < to {
        let count = (to - from).min(LITERALS_AT_ONCE);
        let only = (1 << (8 * count)) - 1;
        let bytes = word(window, from) & only;
        if bytes & 0x8080_8080_8080_8080 == 0 {
            // The code of a byte below 144 is the byte and 0x30, its highest bit first.
            let codes = (bytes + 0x3030_3030_3030_3030).reverse_bits().swap_bytes() & only;
            bits.waiting |= codes << bits.count;
            bits.count += 8 * count as u32;
            bits.write();
        } else {
            for byte in &bytes.to_le_bytes()[..count] {
                bits.put(symbol(u32::from(*byte)));
                bits.write();
            }
        }
        from += count;
    }
}

/// The 8 bytes from a place in a block on; what is behind the block has no meaning.
#[inline(always)]
fn word(window: &Window, at: usize) -> u64 {
    let at = at & BLOCK_MAX;
    let mut word = [0; 8];
    word.copy_from_slice(&window[at..at + 8]);
    u64::from_le_bytes(word)
}

/// What is written, the lowest bit first.
struct Bits<'a> {
    out: &'a mut Out,
    at: usize,
    waiting: u64,
    count: u32,
}

impl Bits<'_> {
    /// There is room for a match, or for one literal, behind the 7 bits that `write` leaves.
    #[inline(always)]
    fn put(&mut self, code: Code) {
        self.waiting |= u64::from(code.bits) << self.count;
        self.count += code.count;
    }

    /// Writes whole bytes.
    #[inline(always)]
    fn write(&mut self) {
        let at = self.at & (OUT - 1);
        self.out[at..at + 8].copy_from_slice(&self.waiting.to_le_bytes());
        self.at += (self.count / 8) as usize;
        self.waiting >>= self.count & !7;
        self.count &= 7;
    }

    /// Writes what is left, and zeros up to the end of its byte.
    fn fill_up(&mut self) {
        self.count = self.count.next_multiple_of(8);
        self.write();
    }
}

/// Bits as they are written, and how many.
#[derive(Debug, Clone, Copy)]
struct Code {
    bits: u32,
    count: u32,
}

/// The fixed code of a literal, an end or a length (RFC 1951, 3.2.6).
const fn symbol(symbol: u32) -> Code {
    let (code, count) = match symbol {
        0..=143 => (0x30 + symbol, 8),
        144..=255 => (0x190 + symbol - 144, 9),
        256..=279 => (symbol - 256, 7),
        _ => (0xc0 + symbol - 280, 8),
    };
    Code { bits: code.reverse_bits() >> (32 - count), count }
}

/// The codes of lengths, from [`LENGTH_MIN`] on, with their extra bits (RFC 1951, 3.2.5).
const LENGTHS: [Code; 256] = lengths();

const fn lengths() -> [Code; 256] {
    let mut codes = [symbol(0); 256];
    let mut over: u32 = 0;
    while over < 256 {
        let (number, extra) = match over {
            0..=7 => (257 + over, 0),
            255 => (285, 0),
            _ => {
                let extra = over.ilog2() - 2;
                (261 + 4 * extra + ((over >> extra) & 3), extra)
            }
        };
        let code = symbol(number);
        let bits = code.bits | (over & ((1 << extra) - 1)) << code.count;
        codes[over as usize] = Code { bits, count: code.count + extra };
        over += 1;
    }
    codes
}

/// The code of a distance with its extra bits (RFC 1951, 3.2.5).
#[inline(always)]
fn distance(distance: usize) -> Code {
    // At most 32 KiB: it fits.
    let over = distance as u32 - 1;
    let extra = over.max(2).ilog2() - 1;
    let number = if over < 2 { over } else { 2 * extra + 2 + ((over >> extra) & 1) };
    let code = number.reverse_bits() >> (32 - 5);
    Code { bits: code | (over & ((1 << extra) - 1)) << 5, count: 5 + extra }
}
