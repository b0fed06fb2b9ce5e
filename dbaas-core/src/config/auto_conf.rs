//! [`AutoConf`]: `postgresql.auto.conf`, the node's part in the failover protocol.

use super::conf_file::{Line, Setting, parse_line, push_setting};
use super::{EPOCH_SETTING, InvalidConfLine, REBUILD_SETTING, parse_conf};
use crate::cluster::Epoch;

/// The content of `postgresql.auto.conf`. What is `None` is left out, which leaves PostgreSQL at its default:
/// no synchronous standby, nobody to follow, no slot.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AutoConf {
    /// The epoch that the node is in.
    pub epoch: Epoch,
    /// Which base backup its data is; 0, and left out, if it was started in another way.
    pub rebuild: u32,
    /// Whom a commit waits for, as [`super::sync_names`] renders it.
    pub synchronous_standby_names: Option<String>,
    /// Whom the node follows, as [`super::PrimaryConninfo::render`] renders it.
    pub primary_conninfo: Option<String>,
    /// The slot that keeps the WAL for the node on the server that it follows.
    pub primary_slot_name: Option<String>,
    /// Other settings.
    pub extra: Vec<Setting>,
}

impl AutoConf {
    /// The file's text.
    pub fn render(&self) -> String {
        let mut text = String::from("# Written by the control plane. It will be overwritten.\n");
        push_setting(&mut text, EPOCH_SETTING, &self.epoch.to_string());
        if self.rebuild > 0 {
            push_setting(&mut text, REBUILD_SETTING, &self.rebuild.to_string());
        }
        for (name, value) in [
            ("synchronous_standby_names", &self.synchronous_standby_names),
            ("primary_conninfo", &self.primary_conninfo),
            ("primary_slot_name", &self.primary_slot_name),
        ] {
            if let Some(value) = value {
                push_setting(&mut text, name, value);
            }
        }
        for setting in &self.extra {
            push_setting(&mut text, setting.name(), setting.value());
        }
        text
    }

    /// Reads the file, also after `ALTER SYSTEM` has rewritten it. The last of repeated settings wins, as in
    /// PostgreSQL; an epoch or a base backup's number that is missing or is not a number is 0.
    pub fn parse(text: &str) -> Result<AutoConf, InvalidConfLine> {
        let mut conf = AutoConf::default();
        for setting in parse_conf(text)? {
            let value = setting.value().to_owned();
            match setting.name().to_ascii_lowercase().as_str() {
                EPOCH_SETTING => conf.epoch = parse_number(&value).unwrap_or_default(),
                REBUILD_SETTING => conf.rebuild = value.parse().unwrap_or_default(),
                "synchronous_standby_names" => conf.synchronous_standby_names = Some(value),
                "primary_conninfo" => conf.primary_conninfo = Some(value),
                "primary_slot_name" => conf.primary_slot_name = Some(value),
                name => {
                    conf.extra
                        .retain(|other| !other.name().eq_ignore_ascii_case(name));
                    conf.extra.push(setting);
                }
            }
        }
        Ok(conf)
    }

    /// The epoch in the text of a `postgresql.auto.conf`: the last `dbaas.epoch` wins, as in PostgreSQL.
    /// Lines that PostgreSQL would refuse are passed over, so that a damaged file does not hide a high epoch.
    pub fn parse_epoch(text: &str) -> Option<Epoch> {
        let mut epochs = text.split('\n').filter_map(|line| match parse_line(line) {
            Line::Setting(setting) if setting.name().eq_ignore_ascii_case(EPOCH_SETTING) => Some(setting),
            _ => None,
        });
        parse_number(epochs.next_back()?.value())
    }
}

fn parse_number(value: &str) -> Option<Epoch> {
    let is_plain = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
    if is_plain {
        value.parse().ok().map(Epoch)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn golden() {
        let conf = AutoConf {
            epoch: Epoch(5),
            rebuild: 3,
            synchronous_standby_names: Some("ANY 1 (\"n1_e5\", \"n2_e5\")".into()),
            primary_conninfo: Some("host='10.0.0.1' port='5432'".into()),
            primary_slot_name: Some("dbaas_n1".into()),
            extra: vec![Setting::new("recovery_target_timeline", "latest").unwrap()],
        };
        insta::assert_snapshot!(conf.render(), @r#"
        # Written by the control plane. It will be overwritten.
        dbaas.epoch = '5'
        dbaas.rebuild = '3'
        synchronous_standby_names = 'ANY 1 ("n1_e5", "n2_e5")'
        primary_conninfo = 'host=''10.0.0.1'' port=''5432'''
        primary_slot_name = 'dbaas_n1'
        recovery_target_timeline = 'latest'
        "#);
        assert_eq!(AutoConf::parse(&conf.render()), Ok(conf));
        assert!(!AutoConf::default().render().contains("rebuild"));
    }

    #[test]
    fn the_last_epoch_wins() {
        for (text, epoch) in [
            ("", None),
            ("dbaas.epoch = '7'", Some(7)),
            ("dbaas.epoch = 7", Some(7)),
            ("DBaaS.Epoch 7", Some(7)),
            ("dbaas.epoch = '9'\ndbaas.epoch = '7'\n", Some(7)),
            ("dbaas.epoch = '7'\nthis line is broken\n", Some(7)),
            (
                "dbaas.epoch = '7'\n#dbaas.epoch = '8'\nport = '''dbaas.epoch = 9'",
                Some(7),
            ),
            ("dbaas.epoch = 'x'", None),
            ("dbaas.epoch = ''", None),
            ("dbaas.epoch = '-1'", None),
            ("dbaas.epoch = '+1'", None),
            ("dbaas.epoch = '99999999999999999999999'", None),
            ("primary_conninfo = 'dbaas.epoch=9'", None),
        ] {
            assert_eq!(AutoConf::parse_epoch(text), epoch.map(Epoch), "{text}");
        }
    }

    proptest! {
        #[test]
        fn comes_back(
            epoch in any::<u64>(),
            rebuild in any::<u32>(),
            names in proptest::option::of("[^\0]{0,40}"),
            conninfo in proptest::option::of("[^\0]{0,40}"),
            slot in proptest::option::of("[a-z0-9_]{1,63}"),
            extra in proptest::collection::btree_map("x_[a-z]{1,9}", "[^\0]{0,20}", 0..4),
        ) {
            let conf = AutoConf {
                epoch: Epoch(epoch),
                rebuild,
                synchronous_standby_names: names,
                primary_conninfo: conninfo,
                primary_slot_name: slot,
                extra: extra.into_iter().map(|(name, value)| Setting::new(name, value).unwrap()).collect(),
            };
            prop_assert_eq!(AutoConf::parse_epoch(&conf.render()), Some(Epoch(epoch)));
            prop_assert_eq!(AutoConf::parse(&conf.render()), Ok(conf));
        }

        #[test]
        fn nothing_panics(text in ".*") {
            let _ = AutoConf::parse(&text);
            let _ = AutoConf::parse_epoch(&text);
        }
    }
}
