//! Payment card numbers in a text: 13 to 19 digits with an issuer's prefix and a right check
//! digit, alone or among other words.

use std::ops::Range;

/// What people write between the groups of a number, once or twice.
const SEPARATORS: [char; 5] = [' ', '-', '.', '_', '\u{a0}'];
/// A run of groups with more digits than this is another kind of number (a fiscal key, the
/// code of a payment slip): a card is only looked for in it where its groups stand out.
const LONGEST_WITH_COMPANY: usize = 24;
/// How cards are printed, by digits in each group.
const PRINTED: [&[usize]; 4] = [&[4, 4, 4, 4], &[4, 4, 4, 4, 3], &[4, 6, 5], &[4, 6, 4]];
/// The longest telephone number with a country code, in digits (ITU-T E.164).
const LONGEST_PHONE: usize = 15;
/// A word of hexadecimal digits that is as long is a hash or an id.
const SHORTEST_HASH: usize = 24;

/// Where the text holds card numbers, as ranges of bytes that do not overlap.
pub(super) fn find(text: &str) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    for chain in chains(text) {
        if !is_phone_or_iban(text, &chain) {
            found.extend(in_chain(text, &chain));
        }
    }
    found.sort_by_key(|range| (range.start, std::cmp::Reverse(range.end)));
    found.dedup_by(|next, kept| next.start < kept.end);
    found
}

/// The text with its card numbers masked but for their last four digits; none where it has none.
pub(super) fn masked(text: &str) -> Option<String> {
    let found = find(text);
    if found.is_empty() {
        return None;
    }
    let mut masked = text.to_owned();
    for range in found {
        let digits = text[range.clone()].chars().filter(char::is_ascii_digit).count();
        let mut left = digits;
        let hide = |c: char| match c.is_ascii_digit() {
            true => {
                left -= 1;
                if left < 4 { c } else { '*' }
            }
            false => c,
        };
        // Digits and stars are one byte each: the ranges that follow stay where they are.
        let hidden: String = text[range.clone()].chars().map(hide).collect();
        masked.replace_range(range, &hidden);
    }
    Some(masked)
}

/// Groups of digits with nothing but separators between them, as ranges of bytes.
type Chain = Vec<Range<usize>>;

fn chains(text: &str) -> Vec<Chain> {
    let mut chains: Vec<Chain> = Vec::new();
    for group in groups(text) {
        match chains.last_mut() {
            Some(chain) if is_separator(&text[chain[chain.len() - 1].end..group.start]) => {
                chain.push(group);
            }
            _ => chains.push(vec![group]),
        }
    }
    chains
}

fn groups(text: &str) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    for (at, _) in text.char_indices().filter(|(_, c)| c.is_ascii_digit()) {
        match groups.last_mut() {
            Some(group) if group.end == at => group.end = at + 1,
            _ => groups.push(at..at + 1),
        }
    }
    groups
}

fn is_separator(between: &str) -> bool {
    (1..=2).contains(&between.chars().count()) && between.chars().all(|c| SEPARATORS.contains(&c))
}

/// `+49 170 …`, or two capital letters that begin the account number after them.
fn is_phone_or_iban(text: &str, chain: &Chain) -> bool {
    let before: Vec<char> = text[..chain[0].start].chars().rev().take(3).collect();
    let letters = before.iter().take_while(|c| c.is_ascii_uppercase()).count();
    let is_iban = letters == 2 && !before.get(2).is_some_and(|c| c.is_alphanumeric());
    is_iban || (before.first() == Some(&'+') && digits(chain) <= LONGEST_PHONE)
}

fn digits(chain: &[Range<usize>]) -> usize {
    chain.iter().map(ExactSizeIterator::len).sum()
}

fn in_chain(text: &str, chain: &Chain) -> Vec<Range<usize>> {
    let whole = chain[0].start..chain[chain.len() - 1].end;
    let is_all = text.trim() == &text[whole.clone()];
    let mut found = Vec::new();
    // Of 13 digits are the article numbers in every product's name, and hardly a card any more.
    let is_long = digits(chain) > 13 && !is_hash(text, &whole);
    if (is_long || is_all) && is_card(&text[whole.clone()]) {
        found.push(whole);
    }
    let alone = |group: &&Range<usize>| {
        group.len() > 13 && is_card(&text[(*group).clone()]) && !is_hash(text, group)
    };
    found.extend(chain.iter().filter(alone).cloned());
    for shape in PRINTED {
        for (at, window) in chain.windows(shape.len()).enumerate() {
            let fits = window.iter().map(ExactSizeIterator::len).eq(shape.iter().copied());
            let neighbours = [at.checked_sub(1), Some(at + shape.len())];
            let mut neighbours = neighbours.into_iter().flatten().filter_map(|at| chain.get(at));
            let stands_out = neighbours.all(|next| next.len() != 4);
            let range = window[0].start..window[shape.len() - 1].end;
            if fits
                && (stands_out || digits(chain) <= LONGEST_WITH_COMPANY)
                && is_card(&text[range.clone()])
            {
                found.push(range);
            }
        }
    }
    found
}

/// Whether letters around it make it a part of something hexadecimal.
fn is_hash(text: &str, group: &Range<usize>) -> bool {
    let is_hex = |c: &char| c.is_ascii_hexdigit();
    let before = text[..group.start].chars().rev().take_while(is_hex).count();
    let after = text[group.end..].chars().take_while(is_hex).count();
    before + after > 0 && before + group.len() + after >= SHORTEST_HASH
}

fn is_card(text: &str) -> bool {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(10)).collect();
    has_issuer(&digits) && luhn(&digits)
}

/// Prefixes and lengths by issuer, as ISO/IEC 7812 registers and the issuers publish them.
fn has_issuer(digits: &[u32]) -> bool {
    let prefix = |count: usize| digits.iter().take(count).fold(0, |sum, digit| sum * 10 + digit);
    let visa = prefix(1) == 4;
    let diners = matches!(prefix(3), 300..=305 | 309) || matches!(prefix(2), 36 | 38 | 39);
    // JCB; Maestro, Elo, Hipercard, Aura and RuPay from 50 on; Discover; UnionPay.
    let long = matches!(prefix(2), 35 | 50 | 56..=69 | 81) || diners;
    // Mir; Uzcard, Troy and Humo.
    let national = matches!(prefix(4), 2200..=2205 | 8600 | 9792 | 9860);
    let mastercard = matches!(prefix(2), 51..=55) || matches!(prefix(4), 2221..=2720);
    match digits.len() {
        13 => visa,
        14 => diners,
        15 => matches!(prefix(2), 34 | 37), // American Express
        16 => visa || mastercard || long || national || prefix(4) == 3841, // Hipercard of old
        17 | 18 => long || national,
        19 => visa || long || national,
        _ => false,
    }
}

/// The check digit of ISO/IEC 7812-1.
fn luhn(digits: &[u32]) -> bool {
    let doubled = |(index, digit): (usize, &u32)| match (index % 2, digit * 2) {
        (0, _) => *digit,
        (_, twice) => twice - if twice > 9 { 9 } else { 0 },
    };
    digits.iter().rev().enumerate().map(doubled).sum::<u32>().is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The prefix, filled with zeros and given its check digit.
    fn with_check_digit(prefix: &str, length: usize) -> String {
        let body = format!("{prefix:0<width$}", width = length - 1);
        let complete = |check: &u32| {
            luhn(
                &format!("{body}{check}")
                    .chars()
                    .filter_map(|c| c.to_digit(10))
                    .collect::<Vec<_>>(),
            )
        };
        let check = (0..10).find(complete).expect("one of ten is right");
        format!("{body}{check}")
    }

    #[test]
    fn every_issuer_is_known() {
        for (prefix, length) in [
            ("4", 13),
            ("4", 16),
            ("4", 19),
            ("51", 16),
            ("2221", 16),
            ("2720", 16),
            ("34", 15),
            ("37", 15),
            ("3056", 14),
            ("36", 14),
            ("36", 16),
            ("6011", 16),
            ("644", 16),
            ("65", 19),
            ("3528", 16),
            ("6240", 16),
            ("8100", 17),
            ("5018", 18),
            ("6362", 16),
            ("5066", 16),
            ("6062", 16),
            ("3841", 16),
            ("2204", 16),
        ] {
            let number = with_check_digit(prefix, length);
            assert_eq!(find(&number).first(), Some(&(0..length)), "{number}");
            let last = number.len() - 1;
            let other = (number.as_bytes()[last] - b'0' + 1) % 10;
            let wrong = format!("{}{other}", &number[..last]);
            assert_eq!(masked(&wrong), None, "the check digit of {wrong} is wrong");
        }
    }

    #[test]
    fn a_number_is_found_among_other_words_and_masked() {
        for (text, expected) in [
            ("pay with 4111111111111111 please", "pay with ************1111 please"),
            ("visa4111111111111111", "visa************1111"),
            ("4111 1111 1111 1111 12/27 123", "**** **** **** 1111 12/27 123"),
            ("4111-1111-1111-1111", "****-****-****-1111"),
            ("4111.1111.1111.1111", "****.****.****.1111"),
            ("4111  1111  1111  1111", "****  ****  ****  1111"),
            ("(378282246310005)", "(***********0005)"),
            ("3782 822463 10005 x", "**** ****** *0005 x"),
            ("tel 11987654321 4111111111111111", "tel 11987654321 ************1111"),
            ("4111111111111111,5500000000000004", "************1111,************0004"),
            ("\u{fc}: 4111111111111111 \u{fc}", "\u{fc}: ************1111 \u{fc}"),
        ] {
            assert_eq!(masked(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn other_numbers_are_left_alone() {
        for text in [
            "",
            "2026-03-02T09:00:00Z",
            "2026-03-02 09:00:00.123",
            "+49 170 1234567",
            "+41 11 1111 1111 111",
            "550e8400-e29b-41d4-a716-446655440000",
            "e481f51cbdc54678b7cc49136f2d6af7",
            "a4111111111111111bcdef0123456789",
            "DE89 3704 0044 0532 0130 00",
            "FI5542345670000081",
            // A fiscal key: somewhere in it are four groups that look like a card.
            "3520 4111 1111 1111 1111 6600 0166 5500 1000 0000 0410",
            "41111111111111110000000000000000000000000000",
            "Pen 4006381333931",
            "0000 0000 0000 0000",
        ] {
            assert_eq!(masked(text), None, "{text}");
        }
    }
}
