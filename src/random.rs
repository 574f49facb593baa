//! Randomness from the operating system, in one place so that everything else takes it as an argument.

use secrecy::SecretString;
use zeroize::Zeroizing;

/// The operating system gave no randomness.
#[derive(Debug, thiserror::Error)]
#[error("the operating system gave no randomness")]
pub struct RandomError(#[source] getrandom::Error);

/// `N` random bytes.
///
/// # Errors
/// When the operating system's generator fails; there is no weaker fallback.
pub fn bytes<const N: usize>() -> Result<[u8; N], RandomError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(RandomError)?;
    Ok(bytes)
}

/// A bearer secret: `prefix`, then 256 random bits as 43 base62 characters.
///
/// # Errors
/// When the operating system's generator fails.
pub fn token(prefix: &str) -> Result<SecretString, RandomError> {
    let random = Zeroizing::new(bytes::<32>()?);
    let mut token = String::with_capacity(prefix.len() + TOKEN_DIGITS);
    token.push_str(prefix);
    token.extend(base62(&random).iter().map(|&digit| char::from(digit)));
    Ok(SecretString::from(token))
}

/// ceil(256 / log2(62)): every 256-bit number fits.
const TOKEN_DIGITS: usize = 43;

/// The number as fixed-width base62, most significant digit first: one division of the whole number a digit.
fn base62(number: &[u8; 32]) -> Zeroizing<[u8; TOKEN_DIGITS]> {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut rest = Zeroizing::new(*number);
    let mut digits = Zeroizing::new([b'0'; TOKEN_DIGITS]);
    for digit in digits.iter_mut().rev() {
        let mut remainder = 0_usize;
        for byte in rest.iter_mut() {
            let value = remainder * 256 + usize::from(*byte);
            // The remainder is below 62, so the quotient is below 256.
            *byte = (value / 62) as u8;
            remainder = value % 62;
        }
        *digit = ALPHABET[remainder];
    }
    digits
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn base62_covers_the_whole_range() {
        assert_eq!(base62(&[0; 32]).as_slice(), [b'0'; 43]);
        let mut one = [0; 32];
        one[31] = 62;
        assert_eq!(&base62(&one)[41..], b"10");
        // 2^256 - 1 in base 62.
        assert_eq!(base62(&[0xff; 32]).as_slice(), b"yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp1");
    }

    #[test]
    fn tokens_carry_their_prefix_and_differ() {
        let tokens: HashSet<String> =
            (0..100).map(|_| token("ck_").unwrap().expose_secret().to_owned()).collect();
        assert_eq!(tokens.len(), 100);
        assert!(tokens.iter().all(|t| t.starts_with("ck_") && t.len() == 46));
        assert!(tokens.iter().all(|t| t[3..].bytes().all(|b| b.is_ascii_alphanumeric())));
    }
}
