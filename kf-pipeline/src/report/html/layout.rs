//! Where the boxes of a drawn DAG go, and how its edges run: a pure layered layout.
//!
//! The steps are those of Sugiyama, Tagawa and Toda ("Methods for visual understanding of hierarchical system
//! structures", 1981): ranks by longest path, bounded in width; an order within each rank by barycentres; places
//! by isotonic regression towards the neighbours. Edges go down, and sideways only between ranks, so that none
//! crosses a box. Long edges of one box run together until they part.

use std::collections::{BTreeMap, BTreeSet};

use crate::report::model::{Edge, EdgeKind};

const GAP_X: f64 = 22.0;
const GAP_Y: f64 = 34.0;
/// The room that a passing edge takes.
const LANE: f64 = 6.0;
const SWEEPS: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Size {
    pub(super) width: f64,
    pub(super) height: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    pub(super) x: f64,
    pub(super) y: f64,
}

/// A piece of one or more edges: down to the end of `from`'s rank, across, down to `to`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub(super) from: Point,
    /// Where it begins to go sideways.
    pub(super) leaves: f64,
    /// Where it has gone sideways.
    pub(super) arrives: f64,
    pub(super) to: Point,
    /// Whether it ends at a box.
    pub(super) arrow: bool,
    pub(super) kind: EdgeKind,
}

#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) size: Size,
    /// The upper left corner of each box.
    pub(super) places: Vec<Point>,
    pub(super) segments: Vec<Segment>,
}

/// Lays out boxes; a rank becomes at most `max_width` wide where its boxes allow. Edges must go from lower to
/// higher indices; others are left out.
pub(super) fn layout(sizes: &[Size], edges: &[Edge], max_width: f64) -> Layout {
    let edges: Vec<Edge> =
        edges.iter().copied().filter(|edge| edge.from < edge.to && edge.to < sizes.len()).collect();
    let mut ranks = Ranks::new(sizes, &edges, max_width);
    ranks.order();
    ranks.place(sizes)
}

/// A box, or an edge that passes a rank.
struct Item {
    rank: usize,
    width: f64,
    node: Option<usize>,
    up: Vec<usize>,
    down: Vec<usize>,
}

struct Ranks {
    items: Vec<Item>,
    ranks: Vec<Vec<usize>>,
    /// From item, to item, and why.
    links: BTreeSet<(usize, usize, EdgeKind)>,
}

impl Ranks {
    fn new(sizes: &[Size], edges: &[Edge], max_width: f64) -> Self {
        let rank_of = ranks(sizes, edges, max_width);
        let count = rank_of.iter().max().map_or(0, |last| last + 1);
        let item = |rank, width, node| Item { rank, width, node, up: Vec::new(), down: Vec::new() };
        let mut items: Vec<Item> = sizes
            .iter()
            .enumerate()
            .map(|(node, size)| item(rank_of[node], size.width, Some(node)))
            .collect();
        let mut links = BTreeSet::new();
        let (mut out, mut into) = (vec![0_usize; sizes.len()], vec![0_usize; sizes.len()]);
        for edge in edges {
            out[edge.from] += 1;
            into[edge.to] += 1;
        }
        // The passing items, by the box that they belong to, whether they leave it or go to it, rank and kind.
        let mut lanes: BTreeMap<(usize, bool, usize, EdgeKind), usize> = BTreeMap::new();
        for edge in edges {
            let leaving = out[edge.from] >= into[edge.to];
            let owner = if leaving { edge.from } else { edge.to };
            let mut last = edge.from;
            for rank in rank_of[edge.from] + 1..rank_of[edge.to] {
                let lane = *lanes.entry((owner, leaving, rank, edge.kind)).or_insert_with(|| {
                    items.push(item(rank, LANE, None));
                    items.len() - 1
                });
                links.insert((last, lane, edge.kind));
                last = lane;
            }
            links.insert((last, edge.to, edge.kind));
        }
        for (from, to, _) in &links {
            items[*from].down.push(*to);
            items[*to].up.push(*from);
        }
        let mut ranks = vec![Vec::new(); count];
        for (index, item) in items.iter().enumerate() {
            ranks[item.rank].push(index);
        }
        Self { items, ranks, links }
    }

    /// Orders each rank so that few links cross.
    fn order(&mut self) {
        let mut best = (self.crossings(), self.ranks.clone());
        for sweep in 0..SWEEPS {
            if best.0 == 0 {
                break;
            }
            let down = sweep % 2 == 0;
            let mut position = self.positions();
            let count = self.ranks.len();
            for step in 0..count {
                let rank = if down { step } else { count - 1 - step };
                let centre = |index: &usize| {
                    let item = &self.items[*index];
                    let near = if down { &item.up } else { &item.down };
                    match near.len() {
                        0 => position[*index],
                        len => near.iter().map(|other| position[*other]).sum::<f64>() / len as f64,
                    }
                };
                let mut order: Vec<(f64, usize)> =
                    self.ranks[rank].iter().map(|index| (centre(index), *index)).collect();
                order.sort_by(|a, b| a.0.total_cmp(&b.0));
                self.ranks[rank] = order.into_iter().map(|(_, index)| index).collect();
                for (place, index) in self.ranks[rank].iter().enumerate() {
                    position[*index] = place as f64;
                }
            }
            let crossings = self.crossings();
            if crossings < best.0 {
                best = (crossings, self.ranks.clone());
            }
        }
        self.ranks = best.1;
    }

    fn positions(&self) -> Vec<f64> {
        let mut position = vec![0.0; self.items.len()];
        for rank in &self.ranks {
            for (place, index) in rank.iter().enumerate() {
                position[*index] = place as f64;
            }
        }
        position
    }

    fn crossings(&self) -> usize {
        let position = self.positions();
        let mut between: Vec<Vec<(f64, f64)>> = vec![Vec::new(); self.ranks.len()];
        for (from, to, _) in &self.links {
            between[self.items[*from].rank].push((position[*from], position[*to]));
        }
        let crosses = |a: &(f64, f64), b: &(f64, f64)| (a.0 - b.0) * (a.1 - b.1) < 0.0;
        let pairs = |links: &Vec<(f64, f64)>| -> usize {
            links
                .iter()
                .enumerate()
                .map(|(n, a)| links[n + 1..].iter().filter(|b| crosses(a, b)).count())
                .sum()
        };
        between.iter().map(pairs).sum()
    }

    fn place(&self, sizes: &[Size]) -> Layout {
        let centres = self.centres();
        let left = |index: usize| centres[index] - self.items[index].width / 2.0;
        let right = |index: usize| centres[index] + self.items[index].width / 2.0;
        let all = || 0..self.items.len();
        let start = all().map(left).fold(f64::INFINITY, f64::min);
        let end = all().map(right).fold(f64::NEG_INFINITY, f64::max);
        let height = |rank: &Vec<usize>| {
            let heights =
                rank.iter().filter_map(|index| self.items[*index].node).map(|node| sizes[node].height);
            heights.fold(0.0, f64::max)
        };
        let heights: Vec<f64> = self.ranks.iter().map(height).collect();
        let mut tops = Vec::new();
        let mut y = 0.0;
        for height in &heights {
            tops.push(y);
            y += height + GAP_Y;
        }
        let total = Size { width: (end - start).max(0.0), height: (y - GAP_Y).max(0.0) };
        let places: Vec<Point> = sizes
            .iter()
            .enumerate()
            .map(|(node, size)| {
                let rank = self.items[node].rank;
                Point { x: left(node) - start, y: tops[rank] + (heights[rank] - size.height) / 2.0 }
            })
            .collect();
        let segment = |&(from, to, kind): &(usize, usize, EdgeKind)| {
            let (above, below) = (self.items[from].rank, self.items[to].rank);
            let bottom = tops[above] + heights[above];
            Segment {
                from: Point {
                    x: centres[from] - start,
                    y: self.items[from].node.map_or(tops[above], |node| places[node].y + sizes[node].height),
                },
                leaves: bottom,
                arrives: tops[below],
                to: Point {
                    x: centres[to] - start,
                    y: self.items[to].node.map_or(tops[below], |node| places[node].y),
                },
                arrow: self.items[to].node.is_some(),
                kind,
            }
        };
        let segments = self.links.iter().map(segment).collect();
        Layout { size: total, places, segments }
    }

    /// The middle of each item: as near to its neighbours' as its rank and the widest one allow.
    fn centres(&self) -> Vec<f64> {
        let mut centres = vec![0.0; self.items.len()];
        let width = |rank: &Vec<usize>| {
            let widths: f64 = rank.iter().map(|index| self.items[*index].width + GAP_X).sum();
            widths - GAP_X
        };
        let half = self.ranks.iter().map(width).fold(0.0, f64::max) / 2.0;
        for rank in &self.ranks {
            self.settle(rank, &vec![0.0; rank.len()], half, &mut centres);
        }
        for sweep in 0..6 * SWEEPS {
            let count = self.ranks.len();
            for step in 0..count {
                let rank = &self.ranks[if sweep % 2 == 0 { step } else { count - 1 - step }];
                let wanted: Vec<f64> = rank
                    .iter()
                    .map(|index| {
                        let item = &self.items[*index];
                        // Lanes run straight down, or each rank would lean further out than the one above.
                        let is_lane = |other: &&usize| self.items[**other].node.is_none();
                        let all = || item.up.iter().chain(&item.down);
                        let straight = item.node.is_none() && all().any(|other| is_lane(&other));
                        let near = || all().filter(|other| !straight || is_lane(other));
                        median(near().map(|other| centres[*other]).collect()).unwrap_or(centres[*index])
                    })
                    .collect();
                self.settle(rank, &wanted, half, &mut centres);
            }
        }
        centres
    }

    /// Puts the items of a rank as near to `wanted` as their order and widths allow (pool adjacent violators), and
    /// no further than `half` from the middle.
    fn settle(&self, rank: &[usize], wanted: &[f64], half: f64, centres: &mut [f64]) {
        let mut offsets = Vec::with_capacity(rank.len());
        let mut offset = 0.0;
        for (place, index) in rank.iter().enumerate() {
            if place > 0 {
                offset += (self.items[rank[place - 1]].width + self.items[*index].width) / 2.0 + GAP_X;
            }
            offsets.push(offset);
        }
        // Blocks of items that touch: the sum of where they want to be, and how many they are.
        let mut blocks: Vec<(f64, usize)> = Vec::new();
        for (want, offset) in wanted.iter().zip(&offsets) {
            let mut block = (want - offset, 1);
            while let Some(last) = blocks.last() {
                if last.0 / (last.1 as f64) <= block.0 / (block.1 as f64) {
                    break;
                }
                block = (block.0 + last.0, block.1 + last.1);
                blocks.pop();
            }
            blocks.push(block);
        }
        let edge = |index: Option<&usize>| half - index.map_or(0.0, |index| self.items[*index].width / 2.0);
        let (low, high) = (-edge(rank.first()), edge(rank.last()) - offset);
        let mut place = 0;
        for (sum, len) in blocks {
            let start = (sum / len as f64).min(high).max(low);
            for _ in 0..len {
                centres[rank[place]] = start + offsets[place];
                place += 1;
            }
        }
    }
}

/// The middle value, or the mean of the two in the middle. Unlike the mean it keeps chains straight.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let (low, high) = (values.len().checked_sub(1)? / 2, values.len() / 2);
    Some(f64::midpoint(values[low], values[high]))
}

/// The rank of each box: below all that it depends on, and where there is room.
fn ranks(sizes: &[Size], edges: &[Edge], max_width: f64) -> Vec<usize> {
    let mut before: Vec<Vec<usize>> = vec![Vec::new(); sizes.len()];
    for edge in edges {
        before[edge.to].push(edge.from);
    }
    let mut rank_of: Vec<usize> = Vec::with_capacity(sizes.len());
    let mut widths: Vec<f64> = Vec::new();
    for (node, size) in sizes.iter().enumerate() {
        let mut rank = before[node].iter().map(|from| rank_of[*from] + 1).max().unwrap_or(0);
        while widths.get(rank).is_some_and(|width| *width > 0.0 && width + GAP_X + size.width > max_width) {
            rank += 1;
        }
        if widths.len() <= rank {
            widths.resize(rank + 1, 0.0);
        }
        widths[rank] += size.width + if widths[rank] > 0.0 { GAP_X } else { 0.0 };
        rank_of.push(rank);
    }
    rank_of
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KINDS: [EdgeKind; 3] = [EdgeKind::Data, EdgeKind::Order, EdgeKind::Fallback];

    fn graphs() -> impl Strategy<Value = (Vec<Size>, Vec<Edge>)> {
        (1_usize..60).prop_flat_map(|count| {
            let size = (60.0..400.0_f64, 30.0..300.0_f64).prop_map(|(width, height)| Size { width, height });
            let edge = (0..count, 0..count, 0..3_usize).prop_map(|(a, b, kind)| Edge {
                from: a,
                to: b,
                kind: KINDS[kind],
            });
            (prop::collection::vec(size, count), prop::collection::vec(edge, 0..2 * count))
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn boxes_are_apart_and_inside_and_edges_go_down_around_them((sizes, edges) in graphs()) {
            let laid = layout(&sizes, &edges, 900.0);
            prop_assert_eq!(laid.places.len(), sizes.len());
            for (a, place) in laid.places.iter().enumerate() {
                let (right, bottom) = (place.x + sizes[a].width, place.y + sizes[a].height);
                prop_assert!(place.x >= -0.01 && place.y >= -0.01);
                prop_assert!(right <= laid.size.width + 0.01 && bottom <= laid.size.height + 0.01);
                for (b, other) in laid.places.iter().enumerate().skip(a + 1) {
                    let apart = right < other.x || other.x + sizes[b].width < place.x
                        || bottom < other.y || other.y + sizes[b].height < place.y;
                    prop_assert!(apart, "boxes {} and {} overlap", a, b);
                }
            }
            for edge in edges.iter().filter(|edge| edge.from < edge.to) {
                prop_assert!(laid.places[edge.from].y + sizes[edge.from].height < laid.places[edge.to].y);
            }
            for segment in &laid.segments {
                prop_assert!(segment.from.y <= segment.leaves + 0.01 && segment.leaves < segment.arrives);
                prop_assert!(segment.arrives <= segment.to.y + 0.01);
                // Sideways only where no box is; down only where no other box is in the way.
                for (node, place) in laid.places.iter().enumerate() {
                    let bottom = place.y + sizes[node].height;
                    prop_assert!(bottom <= segment.leaves + 0.01 || place.y >= segment.arrives - 0.01);
                    let over = |x: f64| place.x + 0.01 < x && x < place.x + sizes[node].width - 0.01;
                    let crossed = |x, from: f64, to: f64| over(x) && from < bottom - 0.01 && to > place.y + 0.01;
                    prop_assert!(!crossed(segment.from.x, segment.from.y, segment.leaves));
                    prop_assert!(!crossed(segment.to.x, segment.arrives, segment.to.y));
                }
            }
        }

        #[test]
        fn every_edge_is_a_path_of_segments((sizes, edges) in graphs()) {
            let laid = layout(&sizes, &edges, 900.0);
            let near = |a: Point, b: Point| (a.x - b.x).abs() < 0.01 && (a.y - b.y).abs() < 0.01;
            for edge in edges.iter().filter(|edge| edge.from < edge.to) {
                let at = |node: usize, y: f64| Point { x: laid.places[node].x + sizes[node].width / 2.0, y };
                let goal = at(edge.to, laid.places[edge.to].y);
                let mut open = vec![at(edge.from, laid.places[edge.from].y + sizes[edge.from].height)];
                let mut reached = false;
                for _ in 0..=sizes.len() {
                    reached |= open.iter().any(|point| near(*point, goal));
                    open = laid.segments.iter()
                        .filter(|segment| segment.kind == edge.kind)
                        .filter(|segment| open.iter().any(|point| near(*point, segment.from)))
                        .map(|segment| segment.to)
                        .collect();
                }
                prop_assert!(reached, "no path from {} to {}", edge.from, edge.to);
            }
        }
    }

    #[test]
    fn a_wide_fan_is_folded() {
        let sizes = vec![Size { width: 180.0, height: 46.0 }; 62];
        let fan = |n| {
            [Edge { from: 0, to: n, kind: EdgeKind::Data }, Edge { from: n, to: 61, kind: EdgeKind::Data }]
        };
        let edges: Vec<Edge> = (1..61).flat_map(fan).collect();
        let laid = layout(&sizes, &edges, 900.0);
        assert!(laid.size.width < 900.0, "{:?}", laid.size);
        assert!(laid.size.height < 1_500.0, "{:?}", laid.size);
    }

    #[test]
    fn nothing_takes_no_room() {
        assert_eq!(layout(&[], &[], 900.0).size, Size { width: 0.0, height: 0.0 });
    }
}
