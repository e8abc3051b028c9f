//! A moment as text, for chat templates that ask for the date. UTC, the Gregorian calendar, English names.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970: the environment's `SOURCE_DATE_EPOCH` (reproducible-builds.org) where it is set, else the clock.
pub fn now_seconds() -> i64 {
    let fixed = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.trim().parse().ok());
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
    fixed.unwrap_or_else(clock)
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];

/// Year, month (1 to 12) and day (1 to 31) of a day counted from 1970-01-01.
fn civil(days: i64) -> (i64, usize, i64) {
    // Years begin in March, so that the leap day is their last (Hinnant, "chrono-compatible low-level date algorithms").
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = (shifted + 2) % 12 + 1;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month as usize, day_of_year - (153 * shifted + 2) / 5 + 1)
}

/// C's strftime for a moment in seconds since 1970.
///
/// # Errors
/// Names a conversion that is not known.
pub fn format(seconds: i64, pattern: &str) -> Result<String, String> {
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    let weekday = DAYS[days.rem_euclid(7) as usize];
    let mut text = String::new();
    let mut letters = pattern.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            text.push(letter);
            continue;
        }
        let mut conversion = letters.next();
        // `%-d` is glibc's day without its zero.
        let is_short = conversion == Some('-');
        if is_short {
            conversion = letters.next();
        }
        let number =
            |value: i64, width: usize| if is_short { value.to_string() } else { format!("{value:0width$}") };
        text += &match conversion {
            Some('Y') => year.to_string(),
            Some('y') => number(year.rem_euclid(100), 2),
            Some('m') => number(month as i64, 2),
            Some('B') => MONTHS[month - 1].to_string(),
            Some('b' | 'h') => MONTHS[month - 1][..3].to_string(),
            Some('d') => number(day, 2),
            Some('e') => format!("{day:2}"),
            Some('A') => weekday.to_string(),
            Some('a') => weekday[..3].to_string(),
            Some('H') => number(hour, 2),
            Some('I') => number((hour + 11) % 12 + 1, 2),
            Some('p') => if hour < 12 { "AM" } else { "PM" }.to_string(),
            Some('M') => number(minute, 2),
            Some('S') => number(second % 60, 2),
            Some('Z') => "UTC".to_string(),
            Some('F') => format!("{year}-{month:02}-{day:02}"),
            Some('T') => format!("{hour:02}:{minute:02}:{:02}", second % 60),
            Some('%') => "%".to_string(),
            other => {
                let name = other.map(String::from).unwrap_or_default();
                return Err(format!("'%{name}' is not a date conversion that is known"));
            }
        };
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_read_as_strftime_writes_them() {
        let write = |seconds, pattern: &str| format(seconds, pattern).unwrap();
        assert_eq!(write(0, "%A %d %B %Y %H:%M:%S"), "Thursday 01 January 1970 00:00:00");
        assert_eq!(write(1_709_210_096, "%d %b %Y, %a %I:%M %p"), "29 Feb 2024, Thu 12:34 PM");
        assert_eq!(write(951_782_399, "%F %T"), "2000-02-28 23:59:59");
        assert_eq!(write(951_782_400 + 86_400, "%-d.%-m.%y %%"), "1.3.00 %");
        assert_eq!(write(-1, "%F %T"), "1969-12-31 23:59:59");
        assert!(format(0, "%Q").unwrap_err().contains("%Q"));
    }
}
