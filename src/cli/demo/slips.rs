//! Slips of the hand: wrong homophones, letters swapped, left out or typed twice.
//!
//! Digits are left alone: a slip there would change what is asked for.

use rand::{Rng, RngExt as _, seq::IndexedRandom as _};

/// Characters that input methods offer for the same sound.
const HOMOPHONES: [(char, &[char]); 36] = [
    ('款', &['歀', '宽']),
    ('取', &['娶', '去']),
    ('账', &['帐', '张']),
    ('转', &['传', '专']),
    ('密', &['蜜']),
    ('码', &['吗', '马']),
    ('余', &['于']),
    ('额', &['俄']),
    ('挂', &['卦']),
    ('失', &['师']),
    ('卡', &['咔']),
    ('银', &['寅']),
    ('信', &['心']),
    ('用', &['永']),
    ('利', &['力']),
    ('息', &['吸']),
    ('贷', &['代', '带']),
    ('汇', &['会', '惠']),
    ('兑', &['对']),
    ('换', &['还']),
    ('存', &['村']),
    ('定', &['订']),
    ('预', &['予']),
    ('约', &['跃']),
    ('网', &['往']),
    ('登', &['灯']),
    ('录', &['陆']),
    ('盗', &['到']),
    ('户', &['护']),
    ('销', &['消']),
    ('申', &['伸']),
    ('请', &['情']),
    ('查', &['察']),
    ('现', &['线']),
    ('机', &['鸡']),
    ('办', &['半']),
];

/// Rows of the keyboard; neighbours are hit by mistake.
const KEYS: [&str; 3] = ["qwertyuiop", "asdfghjkl", "zxcvbnm"];

/// Makes one slip, if the text has a place for it.
pub(super) fn slip(text: &str, rng: &mut impl Rng) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    let places: Vec<usize> = (0..chars.len()).filter(|&i| chars[i].is_alphabetic()).collect();
    // A text of one or two letters would be lost by a slip.
    let Some(&at) = places.choose(rng).filter(|_| places.len() > 3) else { return text.to_owned() };
    if !chars[at].is_ascii()
        && rng.random_bool(0.6)
        && let Some((at, wrong)) = homophone(&chars, rng)
    {
        chars[at] = wrong;
        return chars.into_iter().collect();
    }
    match rng.random_range(0..4) {
        0 => {
            chars.remove(at);
        }
        1 => chars.insert(at, chars[at]),
        2 if at + 1 < chars.len() && chars[at + 1].is_alphabetic() => chars.swap(at, at + 1),
        _ => match neighbour(chars[at], rng) {
            Some(key) => chars[at] = key,
            None => {
                chars.remove(at);
            }
        },
    }
    chars.into_iter().collect()
}

fn homophone(chars: &[char], rng: &mut impl Rng) -> Option<(usize, char)> {
    let places: Vec<_> = chars
        .iter()
        .enumerate()
        .filter_map(|(i, c)| HOMOPHONES.iter().find(|(right, _)| right == c).map(|(_, wrong)| (i, *wrong)))
        .collect();
    let (at, wrong) = places.choose(rng)?;
    Some((*at, *wrong.choose(rng)?))
}

fn neighbour(key: char, rng: &mut impl Rng) -> Option<char> {
    let (row, at) = KEYS.iter().find_map(|row| row.find(key).map(|at| (row.as_bytes(), at)))?;
    let near = [at.checked_sub(1), Some(at + 1)];
    let near: Vec<u8> = near.into_iter().flatten().filter_map(|i| row.get(i).copied()).collect();
    near.choose(rng).map(|&key| char::from(key))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn a_slip_changes_letters_and_never_digits() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let digits = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>();
        let mut changed = 0;
        for text in ["我要取款15000元现金", "withdraw 20000 in cash"] {
            for _ in 0..300 {
                let wrong = slip(text, &mut rng);
                assert_eq!(digits(&wrong), digits(text));
                assert!(wrong.chars().count().abs_diff(text.chars().count()) <= 1, "{wrong}");
                changed += usize::from(wrong != text);
            }
        }
        assert!(changed > 500, "{changed}");
        assert_eq!(slip("20k", &mut rng), "20k");
    }
}
