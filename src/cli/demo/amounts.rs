//! Sums of money as people say them: `15000元`, `一万五`, `2.5w`, `15k`, `twenty grand`, `just under 20,000`.
//!
//! Half of the sums lie near 20,000, the border between the two withdrawals, where digits and words decide.

use rand::{Rng, RngExt as _, seq::IndexedRandom as _};

/// The border between the two withdrawals, in yuan; exactly this much is still below.
const BORDER: u32 = 20_000;

/// The names that a phrase may use.
pub(super) const NAMES: [&str; 9] = [
    "below_zh",
    "above_zh",
    "amount_zh",
    "large_zh",
    "below_en",
    "above_en",
    "amount_en",
    "large_en",
    "last4",
];

/// What a name stands for this time; nothing for an unknown name.
pub(super) fn draw(name: &str, rng: &mut impl Rng) -> Option<String> {
    Some(match name {
        "below_zh" => hedged(rng, &BELOW_ZH).unwrap_or_else(|| chinese(below(rng), rng)),
        "above_zh" => hedged(rng, &ABOVE_ZH).unwrap_or_else(|| chinese(above(rng), rng)),
        "amount_zh" => chinese(any(rng), rng),
        "large_zh" => chinese(spread(rng, 5000, 800_000), rng),
        "below_en" => hedged(rng, &BELOW_EN).unwrap_or_else(|| english(below(rng), rng)),
        "above_en" => hedged(rng, &ABOVE_EN).unwrap_or_else(|| english(above(rng), rng)),
        "amount_en" => english(any(rng), rng),
        "large_en" => english(spread(rng, 5000, 800_000), rng),
        "last4" => format!("{:04}", rng.random_range(0..10_000)),
        _ => return None,
    })
}

const BELOW_ZH: [&str; 8] =
    ["不到两万", "两万以内", "将近两万", "快两万", "两万以下", "不超过2万", "一万多", "小两万"];
const ABOVE_ZH: [&str; 8] =
    ["两万多", "两万出头", "超过两万", "两万以上", "2万多一点", "两三万", "好几万", "不止两万"];
const BELOW_EN: [&str; 7] = [
    "just under 20k",
    "almost twenty thousand",
    "no more than 20,000",
    "less than twenty grand",
    "nearly 20k",
    "under 20000",
    "a few thousand",
];
const ABOVE_EN: [&str; 7] = [
    "a bit over 20k",
    "more than twenty thousand",
    "just above 20,000",
    "over twenty grand",
    "20k plus",
    "at least 20000",
    "twenty-something thousand",
];

/// One sum in nine is told against the border instead of as a number.
fn hedged(rng: &mut impl Rng, words: &[&str]) -> Option<String> {
    rng.random_ratio(1, 9).then(|| words.choose(rng).copied().unwrap_or_default().to_owned())
}

fn below(rng: &mut impl Rng) -> u32 {
    if rng.random_bool(0.5) {
        let step = *[100, 500, 1000, 1000].choose(rng).unwrap_or(&1000);
        rng.random_range(14_000 / step..=BORDER / step) * step
    } else {
        spread(rng, 200, 14_000)
    }
}

fn above(rng: &mut impl Rng) -> u32 {
    // People who ask for exactly 20,000 are not sure themselves on which side they are.
    if rng.random_bool(0.05) {
        BORDER
    } else if rng.random_bool(0.5) {
        let step = *[100, 500, 1000, 1000].choose(rng).unwrap_or(&1000);
        rng.random_range(BORDER / step + 1..=29_000 / step) * step
    } else {
        spread(rng, 28_000, 300_000)
    }
}

fn any(rng: &mut impl Rng) -> u32 {
    spread(rng, 100, 200_000)
}

/// A sum spread evenly over the orders of magnitude, with one or two digits that are not zero.
fn spread(rng: &mut impl Rng, from: u32, to: u32) -> u32 {
    let drawn = rng.random_range(f64::from(from).ln()..f64::from(to).ln()).exp();
    let unit = 10f64.powi(drawn.log10().floor() as i32 - i32::from(rng.random_bool(0.5)));
    ((drawn / unit).round() * unit) as u32
}

fn chinese(yuan: u32, rng: &mut impl Rng) -> String {
    let spoken = chinese_numeral(yuan);
    let unit = ["", "", "元", "块", "块钱"].choose(rng).copied().unwrap_or_default();
    let tens = f64::from(yuan) / 10_000.0;
    match rng.random_range(0..8) {
        0 | 1 => format!("{yuan}{unit}"),
        2 => format!("{}{unit}", grouped(yuan)),
        3 if yuan >= 10_000 => format!("{tens}万"),
        4 if yuan >= 10_000 => format!("{tens}w"),
        3 | 4 if yuan >= 1000 => format!("{}k", f64::from(yuan) / 1000.0),
        5 => shortened(&spoken),
        6 => format!("{}{unit}", digits_and_units(yuan)),
        _ => format!("{spoken}{unit}"),
    }
}

/// `1万5`, `3千`, the way people type; plain digits where that would not be shorter.
fn digits_and_units(yuan: u32) -> String {
    match (yuan / 10_000, yuan % 10_000) {
        (0, rest) if rest % 1000 == 0 => format!("{}千", rest / 1000),
        (ten, 0) if ten > 0 => format!("{ten}万"),
        (ten, rest) if ten > 0 && rest % 1000 == 0 => format!("{ten}万{}", rest / 1000),
        _ => yuan.to_string(),
    }
}

/// Chinese numeral below a hundred million: 15000 is 一万五千, 20500 is 两万零五百.
fn chinese_numeral(number: u32) -> String {
    let (ten_thousands, rest) = (number / 10_000, number % 10_000);
    let mut out = String::new();
    if ten_thousands > 0 {
        out += &below_ten_thousand(ten_thousands);
        out += "万";
        if rest > 0 && rest < 1000 {
            out += "零";
        }
    }
    if rest > 0 || number == 0 {
        out += &below_ten_thousand(rest);
    }
    out
}

fn below_ten_thousand(number: u32) -> String {
    const DIGITS: [&str; 10] = ["零", "一", "二", "三", "四", "五", "六", "七", "八", "九"];
    const UNITS: [(u32, &str); 4] = [(1000, "千"), (100, "百"), (10, "十"), (1, "")];
    let mut out = String::new();
    let mut skipped = false;
    for (unit, name) in UNITS {
        let digit = (number / unit % 10) as usize;
        if digit == 0 {
            skipped = !out.is_empty();
            continue;
        }
        if std::mem::take(&mut skipped) {
            out += "零";
        }
        // 两 before 千 and 万, 二 elsewhere; 十二 rather than 一十二 at the beginning.
        match (digit, unit) {
            (2, 1000 | 100) => out += "两",
            (2, 1) if number == 2 => out += "两",
            (1, 10) if out.is_empty() => {}
            _ => out += DIGITS[digit],
        }
        out += name;
    }
    if out.is_empty() { DIGITS[0].to_owned() } else { out }
}

/// Leaves out the last unit where the one before it says enough: 一万五千 is 一万五, 三千两百 is 三千二.
fn shortened(numeral: &str) -> String {
    for (long, last) in [("万", "千"), ("千", "百")] {
        if let Some((head, tail)) = numeral.split_once(long)
            && let Some(digit) = tail.strip_suffix(last)
            && digit.chars().count() == 1
        {
            return format!("{head}{long}{}", if digit == "两" { "二" } else { digit });
        }
    }
    numeral.to_owned()
}

fn english(yuan: u32, rng: &mut impl Rng) -> String {
    let thousands = f64::from(yuan) / 1000.0;
    match rng.random_range(0..8) {
        0 => yuan.to_string(),
        1 => grouped(yuan),
        2 => format!("{} yuan", grouped(yuan)),
        3 => format!("{yuan} RMB"),
        4 | 5 if yuan >= 1000 && yuan.is_multiple_of(100) => format!("{thousands}k"),
        6 if yuan >= 1000 && yuan.is_multiple_of(1000) => {
            format!(
                "{} grand",
                if rng.random_bool(0.5) { english_numeral(yuan / 1000) } else { thousands.to_string() }
            )
        }
        _ if yuan.is_multiple_of(100) => english_numeral(yuan),
        _ => yuan.to_string(),
    }
}

/// English numeral below a million, without the rest below a hundred where it is zero.
fn english_numeral(number: u32) -> String {
    const SMALL: [&str; 20] = [
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
        "thirteen",
        "fourteen",
        "fifteen",
        "sixteen",
        "seventeen",
        "eighteen",
        "nineteen",
    ];
    const TENS: [&str; 10] =
        ["", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];
    let with_rest = |head: String, rest: u32| match rest {
        0 => head,
        rest => format!("{head} {}", english_numeral(rest)),
    };
    match number {
        0..20 => SMALL[number as usize].to_owned(),
        20..100 if number.is_multiple_of(10) => TENS[number as usize / 10].to_owned(),
        20..100 => format!("{}-{}", TENS[number as usize / 10], SMALL[number as usize % 10]),
        100..1000 => with_rest(format!("{} hundred", english_numeral(number / 100)), number % 100),
        _ => with_rest(format!("{} thousand", english_numeral(number / 1000)), number % 1000),
    }
}

fn grouped(number: u32) -> String {
    if number >= 1000 { format!("{},{:03}", number / 1000, number % 1000) } else { number.to_string() }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn numerals_are_those_people_use() {
        for (number, chinese, short) in [
            (15_000, "一万五千", "一万五"),
            (20_000, "两万", "两万"),
            (20_500, "两万零五百", "两万零五百"),
            (12_300, "一万两千三百", "一万两千三"),
            (2200, "两千两百", "两千二"),
            (120_000, "十二万", "十二万"),
            (250_000, "二十五万", "二十五万"),
            (300, "三百", "三百"),
        ] {
            assert_eq!(chinese_numeral(number), chinese);
            assert_eq!(shortened(chinese), short);
        }
        assert_eq!(english_numeral(15_500), "fifteen thousand five hundred");
        assert_eq!(english_numeral(42_000), "forty-two thousand");
        assert_eq!(digits_and_units(15_000), "1万5");
    }

    #[test]
    fn sums_stay_on_their_side_of_the_border() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        for _ in 0..2000 {
            assert!((100..=BORDER).contains(&below(&mut rng)));
            assert!((BORDER..=310_000).contains(&above(&mut rng)));
        }
    }

    #[test]
    fn every_name_draws_something() {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        for name in NAMES {
            assert!((0..200).all(|_| draw(name, &mut rng).is_some_and(|sum| !sum.is_empty())), "{name}");
        }
        assert_eq!(draw("nothing", &mut rng), None);
    }
}
