//! The order of resources: each after what it refers to.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hash;

/// An order in which everything comes after what it depends on, or a cycle: the first one comes again at its
/// end. Of what could stand in any order, the lesser comes first.
pub fn sorted<K: Ord + Clone + Hash>(dependencies: &BTreeMap<K, BTreeSet<K>>) -> Result<Vec<K>, Vec<K>> {
    let mut waiting: BTreeMap<&K, usize> = BTreeMap::new();
    let mut dependents: BTreeMap<&K, Vec<&K>> = BTreeMap::new();
    for (key, needs) in dependencies {
        let needs = needs.iter().filter(|need| dependencies.contains_key(need));
        let mut count = 0;
        for need in needs {
            count += 1;
            dependents.entry(need).or_default().push(key);
        }
        waiting.insert(key, count);
    }
    let mut ready: BTreeSet<&K> = waiting
        .iter()
        .filter(|(_, count)| **count == 0)
        .map(|(key, _)| *key)
        .collect();
    let mut order = Vec::with_capacity(dependencies.len());
    // Ends: each key becomes ready once.
    while let Some(key) = ready.pop_first() {
        order.push(key.clone());
        for dependent in dependents.get(key).into_iter().flatten() {
            if let Some(count) = waiting.get_mut(dependent) {
                *count -= 1;
                if *count == 0 {
                    ready.insert(dependent);
                }
            }
        }
    }
    if order.len() == dependencies.len() {
        return Ok(order);
    }
    Err(cycle(dependencies, &order))
}

/// What is left has a need that is left, each of it: following them comes round.
fn cycle<K: Ord + Clone>(dependencies: &BTreeMap<K, BTreeSet<K>>, done: &[K]) -> Vec<K> {
    let done: BTreeSet<&K> = done.iter().collect();
    let is_left = |key: &&K| dependencies.contains_key(*key) && !done.contains(*key);
    let mut path: Vec<&K> = dependencies.keys().find(is_left).into_iter().collect();
    // Ends: there are only so many keys, and the first one that comes twice ends it.
    while let Some(last) = path.last() {
        let next = dependencies
            .get(*last)
            .and_then(|needs| needs.iter().find(is_left));
        let Some(next) = next else { break };
        if let Some(at) = path.iter().position(|key| *key == next) {
            path.push(next);
            return path[at..].iter().map(|key| (*key).clone()).collect();
        }
        path.push(next);
    }
    path.into_iter().cloned().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn graph(edges: &[(u8, u8)]) -> BTreeMap<u8, BTreeSet<u8>> {
        let mut found: BTreeMap<u8, BTreeSet<u8>> = BTreeMap::new();
        for (key, need) in edges {
            found.entry(*key).or_default().insert(*need);
            found.entry(*need).or_default();
        }
        found
    }

    #[test]
    fn a_cycle_is_told_with_its_path() {
        assert_eq!(
            sorted(&graph(&[(1, 2), (2, 3), (3, 2), (4, 1)])),
            Err(vec![2, 3, 2])
        );
        assert_eq!(sorted(&graph(&[(1, 1)])), Err(vec![1, 1]));
        assert_eq!(sorted(&graph(&[(3, 1), (2, 1)])), Ok(vec![1, 2, 3]));
    }

    proptest! {
        #[test]
        fn an_order_respects_every_need_and_a_cycle_is_one(edges in prop::collection::vec((0u8..12, 0u8..12), 0..30)) {
            let graph = graph(&edges);
            match sorted(&graph) {
                Ok(order) => {
                    prop_assert_eq!(order.len(), graph.len());
                    for (key, needs) in &graph {
                        let at = |wanted: &u8| order.iter().position(|key| key == wanted);
                        prop_assert!(needs.iter().all(|need| at(need) < at(key)));
                    }
                }
                Err(cycle) => {
                    prop_assert!(cycle.len() > 1 && cycle.first() == cycle.last());
                    prop_assert!(cycle.windows(2).all(|pair| graph[&pair[0]].contains(&pair[1])));
                }
            }
        }
    }
}
