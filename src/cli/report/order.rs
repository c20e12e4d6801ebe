//! An order of classes in which those that are taken for each other stand side by side.

use std::collections::BTreeMap;

/// Orders things by how similar pairs of them are: chains are joined at their ends, the most similar first.
pub(super) fn by_similarity(count: usize, pairs: &BTreeMap<(usize, usize), usize>) -> Vec<usize> {
    let mut edges: Vec<(usize, usize, usize)> =
        pairs.iter().map(|(&(one, other), &weight)| (weight, one, other)).collect();
    edges.sort_by(|a, b| b.0.cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    let mut chains: Vec<Vec<usize>> = (0..count).map(|at| vec![at]).collect();
    for (_, one, other) in edges {
        let find = |chains: &[Vec<usize>], at| chains.iter().position(|chain| is_end(chain, at));
        let (Some(first), Some(second)) = (find(&chains, one), find(&chains, other)) else { continue };
        if first == second {
            continue;
        }
        let mut right = std::mem::take(&mut chains[second]);
        let left = &mut chains[first];
        if left.last() != Some(&one) {
            left.reverse();
        }
        if right.first() != Some(&other) {
            right.reverse();
        }
        left.extend(right);
    }
    chains.sort_by_key(|chain| std::cmp::Reverse(chain.len()));
    chains.concat()
}

fn is_end(chain: &[usize], at: usize) -> bool {
    chain.first() == Some(&at) || chain.last() == Some(&at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_similar_are_neighbours_and_everything_is_there_once() {
        let pairs = [((0, 4), 9), ((4, 2), 5), ((1, 3), 2), ((0, 2), 1)].into_iter().collect();
        let order = by_similarity(6, &pairs);
        let at = |thing: usize| order.iter().position(|other| *other == thing).unwrap();
        assert_eq!(at(0).abs_diff(at(4)), 1, "{order:?}");
        assert_eq!(at(4).abs_diff(at(2)), 1, "{order:?}");
        assert_eq!(at(1).abs_diff(at(3)), 1, "{order:?}");
        let mut all = order;
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3, 4, 5]);
    }
}
