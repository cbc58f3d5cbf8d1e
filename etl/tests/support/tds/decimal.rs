//! Decimals of up to 38 digits, exactly, and how they are stored so that bytes sort as numbers.

const INTEGER_DIGITS: usize = 39;
const FRACTION_DIGITS: usize = 38;

/// `units` divided by ten to the power of `scale`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decimal {
    pub units: i128,
    pub scale: u8,
}

impl Decimal {
    pub fn parse(text: &str) -> Option<Decimal> {
        let text = text.trim();
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let joined = format!("{whole}{fraction}");
        if joined.is_empty() || !joined.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let units: i128 = joined.parse().ok()?;
        let scale = u8::try_from(fraction.len()).ok()?;
        Some(Decimal { units: if negative { -units } else { units }, scale })
    }

    /// The same with `scale` digits after the point, rounded half away from zero as SQL Server
    /// does; `None` when that is more than `precision` digits.
    pub fn rescale(self, precision: u8, scale: u8) -> Option<Decimal> {
        let units = if scale >= self.scale {
            self.units.checked_mul(10i128.checked_pow(u32::from(scale - self.scale))?)?
        } else {
            let divisor = 10i128.checked_pow(u32::from(self.scale - scale))?;
            let rest = (self.units % divisor).abs();
            self.units / divisor + if rest * 2 >= divisor { self.units.signum() } else { 0 }
        };
        (units.unsigned_abs() < 10u128.pow(u32::from(precision)))
            .then_some(Decimal { units, scale })
    }

    /// The digits before and after the point, without a sign.
    fn digits(self) -> (String, String) {
        let scale = usize::from(self.scale);
        let digits = format!("{:0>width$}", self.units.unsigned_abs(), width = scale + 1);
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        (whole.to_owned(), fraction.to_owned())
    }

    /// A sign and all digits that could be; a negative number's digits are turned around, so
    /// that bytes compare as numbers whatever their scales.
    pub fn sortable(self) -> Vec<u8> {
        let (whole, fraction) = self.digits();
        let all = format!("{whole:0>INTEGER_DIGITS$}{fraction:0<FRACTION_DIGITS$}");
        let negative = self.units < 0;
        let turned = all.bytes().map(|digit| if negative { b'9' - (digit - b'0') } else { digit });
        std::iter::once(if negative { b'0' } else { b'1' }).chain(turned).collect()
    }

    /// Reads what `sortable` wrote, with as many digits after the point as are needed.
    pub fn from_sortable(bytes: &[u8]) -> Decimal {
        let negative = bytes[0] != b'1';
        let digits: String = bytes[1..]
            .iter()
            .map(|digit| char::from(if negative { b'9' - (digit - b'0') } else { *digit }))
            .collect();
        let (whole, fraction) = digits.split_at(INTEGER_DIGITS);
        let fraction = fraction.trim_end_matches('0');
        let sign = if negative { "-" } else { "" };
        Decimal::parse(&format!("{sign}{whole}.{fraction}")).expect("digits that we wrote")
    }
}

impl std::fmt::Display for Decimal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (whole, fraction) = self.digits();
        let sign = if self.units < 0 { "-" } else { "" };
        match fraction.is_empty() {
            true => write!(f, "{sign}{whole}"),
            false => write!(f, "{sign}{whole}.{fraction}"),
        }
    }
}
