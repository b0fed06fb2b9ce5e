//! [`Samples`] of a figure, and [`Table`]: figures beside what they are held against.

use std::fmt::Write as _;
use std::time::Duration;

/// Measurements of one figure.
#[derive(Debug, Clone, Default)]
pub struct Samples {
    values: Vec<Duration>,
}

impl Samples {
    /// One more.
    pub fn push(&mut self, value: Duration) {
        let at = self.values.partition_point(|v| *v <= value);
        self.values.insert(at, value);
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// None at all.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The value that a share of the samples (0 to 1) does not exceed; zero where there are none.
    pub fn quantile(&self, share: f64) -> Duration {
        let Some(last) = self.values.len().checked_sub(1) else {
            return Duration::ZERO;
        };
        let rank = (share * self.values.len() as f64).ceil() as usize;
        self.values[rank.saturating_sub(1).min(last)]
    }

    /// The middle one, of an even number the mean of the two in the middle.
    pub fn median(&self) -> Duration {
        let n = self.values.len();
        match n {
            0 => Duration::ZERO,
            n if n % 2 == 1 => self.values[n / 2],
            n => (self.values[n / 2 - 1] + self.values[n / 2]) / 2,
        }
    }

    /// The smallest.
    pub fn min(&self) -> Duration {
        self.values.first().copied().unwrap_or_default()
    }

    /// The greatest.
    pub fn max(&self) -> Duration {
        self.values.last().copied().unwrap_or_default()
    }
}

/// What a figure is to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Goal {
    /// It is a floor, or shown for its own sake.
    None,
    /// The median at most this.
    Median(Duration),
    /// The 99th percentile at most this.
    P99(Duration),
    /// The median at most so many times the median that it stands beside.
    Times(f64),
}

/// One line of a [`Table`].
#[derive(Debug, Clone)]
pub struct Row {
    what: String,
    samples: Samples,
    beside: Option<Duration>,
    goal: Goal,
}

impl Row {
    /// A figure by itself.
    pub fn new(what: impl Into<String>, samples: &Samples) -> Row {
        Row {
            what: what.into(),
            samples: samples.clone(),
            beside: None,
            goal: Goal::None,
        }
    }

    /// Beside the median of something else: its floor.
    #[must_use]
    pub fn beside(mut self, floor: &Samples) -> Row {
        self.beside = (!floor.is_empty()).then(|| floor.median());
        self
    }

    /// With a goal.
    #[must_use]
    pub fn goal(mut self, goal: Goal) -> Row {
        self.goal = goal;
        self
    }

    fn ratio(&self) -> Option<f64> {
        let beside = self.beside?.as_secs_f64();
        (beside > 0.0).then(|| self.samples.median().as_secs_f64() / beside)
    }

    /// Whether the goal is reached; `None` where there is none, or nothing was measured.
    pub fn is_reached(&self) -> Option<bool> {
        if self.samples.is_empty() {
            return None;
        }
        match self.goal {
            Goal::None => None,
            Goal::Median(most) => Some(self.samples.median() <= most),
            Goal::P99(most) => Some(self.samples.quantile(0.99) <= most),
            Goal::Times(most) => self.ratio().map(|ratio| ratio <= most),
        }
    }
}

/// Figures in milliseconds, as a table of Markdown.
#[derive(Debug, Clone)]
pub struct Table {
    /// What it is about.
    pub title: String,
    /// Its lines.
    pub rows: Vec<Row>,
    /// What is to be known about it.
    pub notes: Vec<String>,
}

impl Table {
    /// The text.
    pub fn render(&self) -> String {
        let mut lines: Vec<Vec<String>> = vec![
            ["ms", "n", "min", "median", "p99", "max", "ratio", "target", ""]
                .map(str::to_owned)
                .to_vec(),
        ];
        lines.extend(self.rows.iter().map(line));
        let columns = lines[0].len();
        let widths: Vec<usize> = (0..columns)
            .map(|c| lines.iter().map(|l| l[c].chars().count()).max().unwrap_or(0))
            .collect();
        let mut text = format!("### {}\n\n", self.title);
        for (index, cells) in lines.iter().enumerate() {
            push_line(&mut text, cells, &widths);
            if index == 0 {
                let rule: Vec<String> = widths
                    .iter()
                    .enumerate()
                    .map(|(c, w)| {
                        if c == 0 {
                            "-".repeat(*w)
                        } else {
                            format!("{}:", "-".repeat(w.saturating_sub(1).max(1)))
                        }
                    })
                    .collect();
                push_line(&mut text, &rule, &widths);
            }
        }
        for note in &self.notes {
            // Writing to a string does not fail.
            let _ = write!(text, "\n{note}\n");
        }
        text
    }
}

fn push_line(text: &mut String, cells: &[String], widths: &[usize]) {
    for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
        let _ = if column == 0 {
            write!(text, "| {cell:<width$} ")
        } else {
            write!(text, "| {cell:>width$} ")
        };
    }
    text.push_str("|\n");
}

fn line(row: &Row) -> Vec<String> {
    let samples = &row.samples;
    let value = |d: Duration| if samples.is_empty() { "-".to_owned() } else { ms(d) };
    let target = match row.goal {
        Goal::None => String::new(),
        Goal::Median(most) => format!("median <= {}", ms(most)),
        Goal::P99(most) => format!("p99 <= {}", ms(most)),
        Goal::Times(most) => format!("<= {most} x"),
    };
    let verdict = match row.is_reached() {
        None => "",
        Some(true) => "ok",
        Some(false) => "MISSED",
    };
    vec![
        row.what.clone(),
        samples.len().to_string(),
        value(samples.min()),
        value(samples.median()),
        value(samples.quantile(0.99)),
        value(samples.max()),
        row.ratio().map_or(String::new(), |r| format!("{r:.2}")),
        target,
        verdict.to_owned(),
    ]
}

/// Milliseconds: whole ones, or two decimals below ten.
pub fn ms(duration: Duration) -> String {
    let ms = duration.as_secs_f64() * 1000.0;
    if ms < 10.0 {
        format!("{ms:.2}")
    } else {
        format!("{ms:.0}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(values: &[u64]) -> Samples {
        let mut samples = Samples::default();
        for v in values {
            samples.push(Duration::from_millis(*v));
        }
        samples
    }

    #[test]
    fn order_statistics() {
        let s = samples(&[30, 10, 20, 40]);
        assert_eq!(s.min(), Duration::from_millis(10));
        assert_eq!(s.median(), Duration::from_millis(25));
        assert_eq!(s.max(), Duration::from_millis(40));
        assert_eq!(s.quantile(0.5), Duration::from_millis(20));
        assert_eq!(s.quantile(0.99), Duration::from_millis(40));
        assert_eq!(samples(&[]).median(), Duration::ZERO);
    }

    #[test]
    fn goals() {
        let (floor, ours) = (samples(&[100]), samples(&[120, 130, 140]));
        let row = Row::new("x", &ours).beside(&floor).goal(Goal::Times(1.3));
        assert_eq!(row.is_reached(), Some(true));
        assert_eq!(row.clone().goal(Goal::Times(1.29)).is_reached(), Some(false));
        assert_eq!(
            row.clone()
                .goal(Goal::Median(Duration::from_millis(130)))
                .is_reached(),
            Some(true)
        );
        assert_eq!(
            row.clone()
                .goal(Goal::P99(Duration::from_millis(130)))
                .is_reached(),
            Some(false)
        );
        assert_eq!(row.goal(Goal::None).is_reached(), None);
        let text = Table {
            title: "t".into(),
            rows: vec![Row::new("x", &ours).beside(&floor).goal(Goal::Times(1.3))],
            notes: vec![],
        }
        .render();
        let cells: Vec<&str> = text
            .lines()
            .last()
            .unwrap_or_default()
            .split('|')
            .map(str::trim)
            .collect();
        assert!(cells.ends_with(&["1.30", "<= 1.3 x", "ok", ""]), "{text}");
    }
}
