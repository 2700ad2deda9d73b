//! The word that was probably meant.

/// Number of letters to insert, delete, replace or swap with their neighbour that make one word of the other
/// (optimal string alignment distance).
fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for i in 1..=left.len() {
        let mut next = vec![i; right.len() + 1];
        for j in 1..=right.len() {
            let replaced = row[j - 1] + usize::from(left[i - 1] != right[j - 1]);
            next[j] = replaced.min(row[j] + 1).min(next[j - 1] + 1);
            if i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1] {
                next[j] = next[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut row, next);
    }
    row[right.len()]
}

/// The candidate that is fewest letters away, if it is near enough to have been meant: a third of its letters, and at
/// least one; else one that begins with the word. The first of several.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A longer word cannot be near any name, and comparing it would take long.
    if word.len() > 64 {
        return None;
    }
    let word = word.to_ascii_lowercase();
    let candidates: Vec<&str> = candidates.into_iter().collect();
    let near = |candidate: &&&str| distance(&word, candidate) <= (candidate.len() / 3).max(1);
    let nearest = candidates.iter().filter(near).min_by_key(|candidate| distance(&word, candidate));
    nearest.or_else(|| candidates.iter().find(|candidate| word.len() >= 3 && candidate.starts_with(&word))).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_found_and_a_far_one_is_not() {
        let words = ["conv", "relu", "maxpool", "softmax"];
        assert_eq!(nearest("conw", words), Some("conv"));
        assert_eq!(nearest("Rleu", words), Some("relu"));
        assert_eq!(nearest("maxpol", words), Some("maxpool"));
        assert_eq!(nearest("soft", words), Some("softmax"));
        assert_eq!(nearest("transformer", words), None);
        assert_eq!((distance("", "abc"), distance("abc", ""), distance("same", "same")), (3, 3, 0));
    }
}
