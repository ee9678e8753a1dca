//! SipHash-1-3 with 128 bits, of an account and a request id.
//!
//! The same function as the crate's, for the one shape of message that every command needs: the id's text, padded with
//! zeros to whole words (no id contains a zero byte, so padding makes no two the same), then the account.

use types::{AccountId, RequestId};

/// The hash of the request under this key.
#[inline]
pub(crate) fn request(key: (u64, u64), account: AccountId, request_id: &RequestId) -> [u64; 2] {
    let (words, _) = request_id.as_padded_bytes().as_chunks::<8>();
    let words = &words[..request_id.as_bytes().len().div_ceil(8)];
    let mut state = State::new(key);
    for word in words {
        state.take(u64::from_le_bytes(*word));
    }
    let length = 8 * words.len() as u64 + 4;
    state.take(length << 56 | u64::from(account.0));
    state.finish()
}

struct State([u64; 4]);

impl State {
    #[inline(always)]
    fn new((first, second): (u64, u64)) -> Self {
        Self([
            first ^ 0x736f_6d65_7073_6575,
            second ^ 0x646f_7261_6e64_6f6d ^ 0xee,
            first ^ 0x6c79_6765_6e65_7261,
            second ^ 0x7465_6462_7974_6573,
        ])
    }

    #[inline(always)]
    fn take(&mut self, word: u64) {
        self.0[3] ^= word;
        self.round();
        self.0[0] ^= word;
    }

    #[inline(always)]
    fn finish(mut self) -> [u64; 2] {
        self.0[2] ^= 0xee;
        let first = self.mixed();
        self.0[1] ^= 0xdd;
        [first, self.mixed()]
    }

    #[inline(always)]
    fn mixed(&mut self) -> u64 {
        self.round();
        self.round();
        self.round();
        let [a, b, c, d] = self.0;
        a ^ b ^ c ^ d
    }

    #[inline(always)]
    fn round(&mut self) {
        let [mut a, mut b, mut c, mut d] = self.0;
        a = a.wrapping_add(b);
        c = c.wrapping_add(d);
        b = b.rotate_left(13) ^ a;
        d = d.rotate_left(16) ^ c;
        a = a.rotate_left(32);
        c = c.wrapping_add(b);
        a = a.wrapping_add(d);
        b = b.rotate_left(17) ^ c;
        d = d.rotate_left(21) ^ a;
        c = c.rotate_left(32);
        self.0 = [a, b, c, d];
    }
}

#[cfg(test)]
mod tests {
    use siphasher::sip128::SipHasher13;

    use super::*;

    #[test]
    fn is_the_same_function_as_the_crates() {
        for length in 1..=64 {
            let id: RequestId = "client-0123456789_abc".repeat(4)[..length].parse().expect("an id");
            for (account, key) in [(2, (0, 0)), (u32::MAX, (1 << 63 | 5, u64::MAX - 3))] {
                let mut message = id.as_padded_bytes()[..length.next_multiple_of(8)].to_vec();
                message.extend(u32::to_le_bytes(account));
                let hash = SipHasher13::new_with_keys(key.0, key.1).hash(&message);
                assert_eq!(request(key, AccountId(account), &id), [hash.h1, hash.h2], "{id}");
            }
        }
    }
}
