//! One concept a file: files that can be read in one sitting.

use crate::Breach;
use crate::repository::Repository;

/// Production lines that no file exceeds.
const HARD_MAX: usize = 600;
/// Production lines that half of the files, and nine in ten, do not exceed.
const MEDIAN_MAX: usize = 150;
const P90_MAX: usize = 400;
/// Lines of a `main.rs`: it only wires parts together.
const MAIN_MAX: usize = 80;
/// Lines of an inline test module before it moves to a file of its own.
const INLINE_TESTS_MAX: usize = 200;

pub(crate) fn check(repository: &Repository) -> Vec<Breach> {
    let mut breaches = Vec::new();
    let mut sizes = Vec::new();
    for source in repository.rust() {
        let lines = source.production_lines();
        if lines > HARD_MAX {
            breaches.push(Breach::new(
                format!("{} has {lines} production lines", source.path),
                "a file has at most 600 production lines",
                "split it by concept",
            ));
        }
        if source.path.ends_with("/main.rs") && lines > MAIN_MAX {
            breaches.push(Breach::new(
                format!("{} has {lines} lines", source.path),
                "main.rs has at most 80 lines",
                "move the logic to a module of the library",
            ));
        }
        if !source.is_test() && source.test_lines().len() > INLINE_TESTS_MAX {
            breaches.push(Breach::new(
                source.path,
                "inline tests have at most 200 lines",
                "move them to a tests.rs in a folder named as the module",
            ));
        }
        if !source.is_test() {
            sizes.push(lines);
        }
    }
    sizes.sort_unstable();
    for (share, max, law) in [
        (50, MEDIAN_MAX, "the median file has at most 150 production lines"),
        (90, P90_MAX, "nine files in ten have at most 400 production lines"),
    ] {
        let lines = quantile(&sizes, share);
        if lines > max {
            let place = format!("quantile {share} of all files is {lines} lines");
            breaches.push(Breach::new(place, law, "split the largest files by concept"));
        }
    }
    breaches
}

/// The value that `percent` of the sorted `values` do not exceed.
fn quantile(values: &[usize], percent: usize) -> usize {
    let rank = (values.len() * percent).div_ceil(100).max(1);
    values.get(rank - 1).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #[test]
    fn quantiles_take_the_nearest_rank() {
        let values: Vec<usize> = (1..=10).collect();
        assert_eq!((super::quantile(&values, 50), super::quantile(&values, 90)), (5, 9));
    }
}
