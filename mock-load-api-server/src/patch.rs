//! Settings as JSON: how `POST /faults` changes some of them and shows all.

use serde_json::{Map, Value};

use crate::config::SettingsError;
use crate::faults::Faults;

impl Faults {
    /// All settings as JSON, the token masked.
    pub(crate) fn view(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(settings)) => settings,
            // A struct of plain fields always becomes an object.
            _ => Map::new(),
        }
    }

    /// These settings with those named in `patch` changed; `null` unsets one that may be
    /// unset. Refuses unknown names and wrong values, naming them, and changes nothing then.
    pub(crate) fn patched(&self, patch: &[u8]) -> Result<Self, SettingsError> {
        let patch: Map<String, Value> = serde_json::from_slice(patch)
            .map_err(|error| SettingsError::NotAnObject { why: error.to_string() })?;
        let mut settings = self.view();
        let mut changed = self.clone();
        for (key, value) in patch {
            let Some(place) = settings.get_mut(&key) else {
                let known = settings.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
                return Err(SettingsError::Unknown { key, known });
            };
            *place = value;
            // One at a time, so that an error belongs to a name.
            let token = (key != "token").then(|| changed.token.take());
            changed = serde_json::from_value(Value::Object(settings.clone()))
                .map_err(|error| SettingsError::Invalid { key, why: error.to_string() })?;
            if let Some(kept) = token {
                // The view masks the token; only a patch that names it may change it.
                changed.token = kept;
            }
        }
        changed.validate()?;
        Ok(changed)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::faults::Token;
    use std::time::Duration;

    #[test]
    fn absent_names_stay_as_they_are() {
        let before = Faults {
            delay: Duration::from_secs(2),
            token: Some(Token::new("s3cret")),
            ..Faults::default()
        };
        let after = before
            .patched(br#"{"fail": {"503": "20%", "429": 0.1}, "outage": ["5s..15s"], "max_body": "1MiB"}"#)
            .unwrap();
        assert_eq!(after.fail, [(429, 0.1), (503, 0.2)].into());
        assert_eq!(after.max_body, 1 << 20);
        assert_eq!((after.delay, after.token.clone()), (before.delay, before.token));
        assert_eq!(after.patched(b"{}").unwrap(), after);
    }

    #[test]
    fn every_setting_survives_the_way_to_json_and_back() {
        let settings = Faults {
            retry_after: Some(Duration::from_secs(1)),
            poison: Some("bad".to_owned()),
            max_records: Some(7),
            appliance_delay: "100ms..900ms".parse().unwrap(),
            source_rate: Some(5),
            ..Faults::default()
        };
        let view = serde_json::to_vec(&settings.view()).unwrap();
        assert_eq!(Faults::default().patched(&view).unwrap(), settings);
    }

    #[test]
    fn the_token_can_be_changed_and_unset_but_is_never_shown() {
        let before = Faults { token: Some(Token::new("s3cret")), ..Faults::default() };
        assert_eq!(before.view()["token"], "***");
        let changed = before.patched(br#"{"token": "other", "reset": 0.1}"#).unwrap();
        assert_eq!(changed.token, Some(Token::new("other")));
        assert_eq!(before.patched(br#"{"token": null}"#).unwrap().token, None);
    }

    #[test]
    fn errors_name_the_setting() {
        let refused = |patch: &str| Faults::default().patched(patch.as_bytes()).unwrap_err();
        assert!(refused(r#"{"resett": 1}"#).to_string().contains("`resett`"));
        assert!(refused(r#"{"reset": 2}"#).to_string().contains("`reset`"));
        assert!(refused(r#"{"delay": "soon"}"#).to_string().contains("`delay`"));
        assert!(refused(r#"{"reset": 0.6, "hang": 0.6}"#).to_string().contains("1.2"));
        assert!(matches!(refused("[]"), SettingsError::NotAnObject { .. }));
    }
}
