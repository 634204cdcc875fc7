//! Figures as lines, each with the promise it stands for, and how many rounds they rest on.

use std::io::Write;
use std::time::Duration;

/// Prints `name value unit`, and whether the goal is met; returns that.
///
/// # Panics
/// If standard output is closed.
pub fn print(name: &str, value: f64, unit: &str, goal_max: Option<f64>) -> bool {
    let met = goal_max.is_none_or(|goal| value <= goal);
    let goal = goal_max.map(|goal| {
        format!("  (goal: at most {goal} {unit}: {})", if met { "met" } else { "MISSED" })
    });
    let line = format!("{name:<44} {value:>12.2} {unit}{}", goal.unwrap_or_default());
    writeln!(std::io::stdout(), "{}", line.trim_end()).expect("standard output is open");
    met
}

/// Prints a remark on how the figures came about.
///
/// # Panics
/// If standard output is closed.
pub fn remark(text: &str) {
    writeln!(std::io::stdout(), "# {text}").expect("standard output is open");
}

/// The middle one, or the mean of the two in the middle; 0 of none.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        length if length % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// Milliseconds of a duration.
#[must_use]
pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// `full` rounds, or `smoke` if the only argument is `smoke`.
#[must_use]
pub fn rounds(full: usize, smoke: usize) -> usize {
    if std::env::args().nth(1).is_some_and(|argument| argument == "smoke") { smoke } else { full }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
    }
}
