//! Where the wall is whose clock a cron schedule goes by: a time zone of the IANA list as
//! jiff knows it, for croner, which asks in chrono's words. One list of time zones in the
//! binary is enough: chrono-tz, the other one, is a megabyte of tables.

use std::fmt;

use chrono::{FixedOffset, MappedLocalTime, NaiveDate, NaiveDateTime, NaiveTime, Offset};
use jiff::Timestamp;
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};

/// A time zone with a name.
#[derive(Clone, PartialEq, Eq)]
pub struct Zone(TimeZone);

/// How far a zone is from UTC at some moment.
#[derive(Debug, Clone)]
pub struct ZoneOffset {
    zone: Zone,
    fixed: FixedOffset,
}

impl Zone {
    /// UTC.
    pub const UTC: Zone = Zone(TimeZone::UTC);

    /// The zone of this name, in whatever case, if the list that is compiled in has it.
    #[must_use]
    pub fn named(name: &str) -> Option<Zone> {
        let zone = TimeZoneDatabase::bundled().get(name).ok()?;
        (!zone.is_unknown()).then_some(Zone(zone))
    }

    /// All names.
    #[must_use]
    pub fn names() -> Vec<String> {
        TimeZoneDatabase::bundled().available().map(|name| name.as_str().to_owned()).collect()
    }

    fn offset(&self, offset: jiff::tz::Offset) -> ZoneOffset {
        // An offset of jiff's is at most 25:59:59, one of chrono's less than a day; no
        // zone of the list is more than 15 hours from UTC.
        let fixed = FixedOffset::east_opt(offset.seconds());
        ZoneOffset { zone: self.clone(), fixed: fixed.unwrap_or(chrono::Utc.fix()) }
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.iana_name().unwrap_or("UTC"))
    }
}

impl Offset for ZoneOffset {
    fn fix(&self) -> FixedOffset {
        self.fixed
    }
}

impl chrono::TimeZone for Zone {
    type Offset = ZoneOffset;

    fn from_offset(offset: &ZoneOffset) -> Zone {
        offset.zone.clone()
    }

    fn offset_from_local_date(&self, date: &NaiveDate) -> MappedLocalTime<ZoneOffset> {
        self.offset_from_local_datetime(&date.and_time(NaiveTime::MIN))
    }

    fn offset_from_local_datetime(&self, time: &NaiveDateTime) -> MappedLocalTime<ZoneOffset> {
        // As far as a clock on the wall is concerned, it is UTC that it shows.
        let Ok(as_utc) = Timestamp::from_second(time.and_utc().timestamp()) else {
            return MappedLocalTime::None;
        };
        let shown = TimeZone::UTC.to_datetime(as_utc);
        match self.0.to_ambiguous_timestamp(shown).offset() {
            AmbiguousOffset::Unambiguous { offset } => MappedLocalTime::Single(self.offset(offset)),
            AmbiguousOffset::Gap { .. } => MappedLocalTime::None,
            AmbiguousOffset::Fold { before, after } => {
                MappedLocalTime::Ambiguous(self.offset(before), self.offset(after))
            }
        }
    }

    fn offset_from_utc_date(&self, date: &NaiveDate) -> ZoneOffset {
        self.offset_from_utc_datetime(&date.and_time(NaiveTime::MIN))
    }

    fn offset_from_utc_datetime(&self, time: &NaiveDateTime) -> ZoneOffset {
        let moment = Timestamp::from_second(time.and_utc().timestamp());
        self.offset(self.0.to_offset(moment.unwrap_or(Timestamp::MAX)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
mod tests {
    use chrono::{DateTime, NaiveDateTime, TimeZone, Utc};
    use proptest::prelude::*;

    use super::Zone;

    fn local(zone: &str, time: &str) -> Vec<String> {
        let time: NaiveDateTime = time.parse().unwrap();
        let local = Zone::named(zone).unwrap().from_local_datetime(&time);
        let both = [local.clone().earliest(), local.latest()];
        let mut moments: Vec<String> = both
            .into_iter()
            .flatten()
            .map(|it| it.with_timezone(&Utc).format("%FT%H:%M").to_string())
            .collect();
        moments.dedup();
        moments
    }

    #[test]
    fn a_time_on_the_wall_is_one_moment_none_or_two() {
        let berlin = "Europe/Berlin";
        assert_eq!(local(berlin, "2026-07-01T12:00:00"), ["2026-07-01T10:00"]);
        assert_eq!(local(berlin, "2027-03-28T02:30:00"), [""; 0]);
        assert_eq!(local(berlin, "2027-10-31T02:30:00"), ["2027-10-31T00:30", "2027-10-31T01:30"]);
        assert_eq!(local("Asia/Kathmandu", "2026-11-21T05:45:00"), ["2026-11-21T00:00"]);
        assert_eq!(local("UTC", "2026-11-21T05:45:00"), ["2026-11-21T05:45"]);
    }

    #[test]
    fn names_are_those_of_the_list() {
        assert_eq!(Zone::named("europe/berlin").unwrap().to_string(), "Europe/Berlin");
        assert_eq!(Zone::named("UTC"), Some(Zone::UTC));
        for unknown in ["Mars/Olympus", "Etc/Unknown", ""] {
            assert_eq!(Zone::named(unknown), None);
        }
        let names = Zone::names();
        assert!(names.len() > 400 && names.iter().all(|name| Zone::named(name).is_some()));
    }

    proptest! {
        #[test]
        fn a_moment_is_among_those_of_its_time_on_the_wall(
            second in 0_i64..4_102_444_800,
            zone in prop::sample::select(vec![
                "Europe/Berlin", "America/Sao_Paulo", "Australia/Lord_Howe", "Africa/Casablanca",
                "Pacific/Apia", "UTC",
            ]),
        ) {
            let moment: DateTime<Utc> = DateTime::from_timestamp(second, 0).unwrap();
            let zone = Zone::named(zone).unwrap();
            let shown = moment.with_timezone(&zone);
            let local = zone.from_local_datetime(&shown.naive_local());
            prop_assert!([local.clone().earliest(), local.latest()].contains(&Some(shown)));
        }
    }
}
