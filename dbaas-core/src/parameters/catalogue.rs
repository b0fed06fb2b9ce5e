//! Every setting of every major version, as servers say.

use std::sync::LazyLock;

use super::value::{Kind, Unit};
use crate::version::PostgresMajor;

/// When a setting takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Context {
    /// At the server's next start.
    Postmaster,
    /// When the configuration is loaded.
    Sighup,
    /// When the configuration is loaded; sessions keep what they have set. Superusers may set it.
    Superuser,
    /// For sessions that begin after that.
    Backend,
    /// When the configuration is loaded; sessions keep what they have set.
    User,
}

impl Context {
    /// PostgreSQL's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Context::Postmaster => "postmaster",
            Context::Sighup => "sighup",
            Context::Superuser => "superuser",
            Context::Backend => "backend",
            Context::User => "user",
        }
    }
}

/// A setting of a major version.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// Its name, as PostgreSQL spells it.
    pub name: &'static str,
    /// Which values it takes.
    pub kind: Kind,
    /// When it takes effect.
    pub context: Context,
    /// PostgreSQL's default (`boot_val`), in units.
    pub default: &'static str,
    /// PostgreSQL's description.
    pub description: &'static str,
}

const TABLES: [(u32, &str); 5] = [
    (14, include_str!("catalogue/14.tsv")),
    (15, include_str!("catalogue/15.tsv")),
    (16, include_str!("catalogue/16.tsv")),
    (17, include_str!("catalogue/17.tsv")),
    (18, include_str!("catalogue/18.tsv")),
];

static CATALOGUES: LazyLock<[Vec<Parameter>; 5]> = LazyLock::new(|| {
    TABLES.map(|(_, table)| {
        let lines = table.lines().filter(|line| !line.starts_with('#'));
        let mut parameters: Vec<Parameter> = lines.filter_map(parse).collect();
        parameters.sort_by_key(|parameter| parameter.name.to_ascii_lowercase());
        parameters
    })
});

/// The settings of a major version, by name without regard to case. Of one that is newer than all known:
/// those of the newest known.
pub fn catalogue(major: PostgresMajor) -> &'static [Parameter] {
    let index = TABLES.iter().rposition(|(of, _)| *of <= major.get()).unwrap_or(0);
    &CATALOGUES[index]
}

/// A setting by its name, in any case.
pub fn parameter(major: PostgresMajor, name: &str) -> Option<&'static Parameter> {
    let all = catalogue(major);
    let wanted = name.to_ascii_lowercase();
    let found = all.binary_search_by_key(&wanted, |parameter| parameter.name.to_ascii_lowercase());
    found.ok().and_then(|index| all.get(index))
}

/// A line of a table; a test holds that none is passed over.
fn parse(line: &'static str) -> Option<Parameter> {
    let mut cells = line.split('\t');
    let mut next = || cells.next();
    let (name, kind, unit, context) = (next()?, next()?, next()?, next()?);
    let (min, max, values, default, description) = (next()?, next()?, next()?, next()?, next()?);
    let unit = match unit {
        "" => None,
        unit => Some(Unit::parse(unit)?),
    };
    let kind = match kind {
        "bool" => Kind::Bool,
        "integer" => Kind::Integer {
            min: min.parse().ok()?,
            max: max.parse().ok()?,
            unit,
        },
        "real" => Kind::Real {
            min: min.parse().ok()?,
            max: max.parse().ok()?,
            unit,
        },
        "enum" => Kind::Enum(values.split(',').collect()),
        "string" => Kind::String,
        _ => return None,
    };
    let context = match context {
        "postmaster" => Context::Postmaster,
        "sighup" => Context::Sighup,
        "superuser" => Context::Superuser,
        "backend" | "superuser-backend" => Context::Backend,
        "user" => Context::User,
        _ => return None,
    };
    Some(Parameter {
        name,
        kind,
        context,
        default,
        description,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_read() {
        for (major, table) in TABLES {
            let lines = table.lines().filter(|line| !line.starts_with('#')).count();
            let major = PostgresMajor::new(major).unwrap();
            assert_eq!(catalogue(major).len(), lines);
            assert!(lines > 300);
        }
    }

    #[test]
    fn settings_are_found_in_any_case() {
        let major = |major| PostgresMajor::new(major).unwrap();
        let found = parameter(major(15), "TIMEZONE").unwrap();
        assert_eq!((found.name, found.context), ("TimeZone", Context::User));
        assert_eq!(parameter(major(15), "work_mem").unwrap().default, "4096");
        assert!(parameter(major(17), "io_method").is_none());
        assert!(parameter(major(18), "io_method").is_some());
        assert!(parameter(major(19), "io_method").is_some(), "as the newest known");
    }
}
