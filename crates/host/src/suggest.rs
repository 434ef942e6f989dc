//! "Did you mean": the closest of a few known words. Nothing is decided by it.

/// The word that is closest to `wrong`, if one is close enough to have been meant.
pub(crate) fn closest<'a>(wrong: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let distances = known.map(|word| (distance(wrong, word), word));
    let (least, word) = distances.min_by_key(|(distance, _)| *distance)?;
    (least <= wrong.len().div_ceil(3)).then_some(word)
}

/// Insertions, removals and replacements that lead from one to the other (Levenshtein).
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_word_and_nonsense_finds_none() {
        let known = ["server.api_addr", "server.plain_addr", "worker.queues"];
        for (wrong, meant) in [
            ("server.api_adr", Some("server.api_addr")),
            ("server.plainaddr", Some("server.plain_addr")),
            ("worker.queue", Some("worker.queues")),
            ("colour", None),
        ] {
            assert_eq!(closest(wrong, known.into_iter()), meant, "{wrong}");
        }
    }
}
