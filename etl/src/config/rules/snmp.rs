//! Rules of `extract.snmp`.

use std::collections::BTreeSet;

use super::super::address::Address;
use super::super::mask::quoted;
use super::super::pipeline::{CsvSource, Named, Secret, SnmpExtract, SnmpUser, SnmpVersion};
use super::super::suggest::{did_you_mean, nearest};
use super::Rules;
use crate::extract::Oid;

/// RFC 3414 wants no shorter password, and agents take none.
const PASSWORD_MIN: usize = 8;

impl Rules<'_> {
    pub(super) fn extract_snmp(&mut self, snmp: &SnmpExtract, csv: Option<&CsvSource>) {
        self.snmp_host(&snmp.host, csv);
        self.snmp_version(snmp);
        if let Some(user) = &snmp.v3 {
            self.snmp_user(user);
        }
        self.snmp_wanted(snmp);
        self.longer_than_nothing("extract.snmp.resend", snmp.resend);
        self.longer_than_nothing("extract.snmp.sample_interval", snmp.sample_interval);
        self.not_empty("extract.snmp.max_bytes", snmp.max_bytes.0);
    }

    fn snmp_host(&mut self, host: &str, csv: Option<&CsvSource>) {
        let key = "extract.snmp.host";
        let address = Address::with_placeholders(&format!("http://{host}"));
        match address {
            Ok((_, names)) if !host.contains(['/', '?', '#']) => {
                self.placeholders(key, &names, csv);
            }
            _ => {
                let message = format!("{key} is not a host, or host and port");
                self.fault(&[key], &message, "for example {ip}, or {ip}:1161");
            }
        }
    }

    fn snmp_version(&mut self, snmp: &SnmpExtract) {
        let [version, community, v3] =
            ["extract.snmp.version", "extract.snmp.community", "extract.snmp.v3"];
        match (snmp.version, &snmp.v3) {
            (Some(SnmpVersion::V3), None) => {
                let help = "for example v3: { user: monitor, auth: { … }, privacy: { … } }";
                self.fault(&[version], "version 3 of SNMP needs a user", help);
            }
            (Some(SnmpVersion::V2c), Some(_)) => {
                let message = "extract.snmp has version 2c and a user of version 3";
                self.fault(&[version, v3], message, "`version: 3`, or no `v3`");
            }
            _ => {}
        }
        let given = snmp.community.as_ref().map(Secret::expose);
        if given.is_some() && (snmp.v3.is_some() || snmp.version == Some(SnmpVersion::V3)) {
            let message = "extract.snmp has a community, which version 3 does not use";
            self.fault(&[community, v3], message, "`community` or `v3`, not both");
        }
        if given.is_some_and(str::is_empty) {
            self.fault(&[community], "extract.snmp.community is empty", "most agents have one");
        }
    }

    fn snmp_user(&mut self, user: &SnmpUser) {
        let key = "extract.snmp.v3.user";
        // RFC 3414 allows no longer name.
        if user.user.is_empty() || user.user.len() > 32 {
            self.fault(&[key], &format!("{key} has not 1 to 32 bytes"), "as the agent has it");
        }
        if user.privacy.is_some() && user.auth.is_none() {
            let message = "extract.snmp.v3 has privacy without auth";
            let keys = ["extract.snmp.v3.privacy", "extract.snmp.v3"];
            self.fault(&keys, message, "SNMP encrypts only what it signs: add `auth`");
        }
        let passwords = [
            ("auth", user.auth.as_ref().map(|auth| &auth.password)),
            ("privacy", user.privacy.as_ref().map(|privacy| &privacy.password)),
        ];
        for (part, password) in passwords {
            if password.is_some_and(|password| password.expose().len() < PASSWORD_MIN) {
                let key = format!("extract.snmp.v3.{part}.password");
                let message = format!("{key} is shorter than {PASSWORD_MIN} characters");
                self.fault(&[&key], &message, "SNMP allows no shorter one");
            }
        }
    }

    fn snmp_wanted(&mut self, snmp: &SnmpExtract) {
        let snmp_key = "extract.snmp";
        let given = [
            ("cpu", snmp.cpu.is_some()),
            ("table", snmp.table.is_some()),
            ("walk", snmp.walk.is_some()),
        ];
        let given: Vec<String> = given
            .iter()
            .filter(|(_, given)| *given)
            .map(|(key, _)| format!("extract.snmp.{key}"))
            .collect();
        if let [first, second, ..] = given.as_slice() {
            let message = format!("{first} and {second}: each makes records of its own");
            self.fault(&[second, first], &message, "one of them in a pipeline");
        }
        let oids = snmp.oids.as_ref().map_or(&[][..], |oids| &oids.0);
        if given.is_empty() && oids.is_empty() {
            let help = "`cpu: ucd`, `oids: { uptime: 1.3.6.1.2.1.1.3.0 }`, `table` or `walk`";
            self.fault(&[snmp_key], "extract.snmp asks for nothing", help);
        }
        if let Some(root) = &snmp.walk {
            self.oid("extract.snmp.walk", root);
        }
        let mut names: BTreeSet<&str> = oids.iter().map(|(name, _)| name.as_str()).collect();
        if let Some(oids) = &snmp.oids {
            self.oids("extract.snmp.oids", oids);
        }
        if let Some(table) = &snmp.table {
            let key = "extract.snmp.table.columns";
            self.oids(key, &table.columns);
            if table.columns.0.is_empty() {
                let help = "name one: { in_octets: 1.3.6.1.2.1.31.1.1.1.6 }";
                self.fault(&[key], &format!("{key} is empty"), help);
            }
            let fields = table.columns.0.iter().map(|(name, _)| name.as_str());
            for name in fields.chain([table.index.as_str()]) {
                if !names.insert(name) {
                    let message =
                        format!("extract.snmp: two values for the field {}", quoted(name));
                    self.fault(&[key, snmp_key], &message, "give one of them another name");
                }
            }
        }
        for (index, name) in snmp.hex.iter().enumerate() {
            if !names.contains(name.as_str()) {
                let key = format!("extract.snmp.hex.{index}");
                let near = nearest(name, names.iter().copied());
                self.fault(&[&key], "extract.snmp.hex names no field", &did_you_mean(&near));
            }
        }
    }

    fn oids(&mut self, key: &str, oids: &Named<String>) {
        for (name, text) in &oids.0 {
            // A name may hold dots, which `locate` would take for steps: point at the list.
            let place = if name.contains('.') { key.to_owned() } else { format!("{key}.{name}") };
            self.oid(&place, text);
        }
    }

    fn oid(&mut self, key: &str, text: &str) {
        if let Err(problem) = Oid::parse(text) {
            self.fault(&[key], &format!("{key} is {problem}"), "snmptranslate -On gives numbers");
        }
    }
}
