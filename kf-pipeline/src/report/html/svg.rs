//! The drawn DAG.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use super::icons::word;
use super::layout::{Layout, Point, Segment, Size, layout};
use crate::TaskState;
use crate::report::model::{Counts, Dag, Edge, EdgeKind, Facts, Item};
use crate::report::text::{Safe, clipped, count as number, duration, first_line, plural, put};

/// How many tasks are drawn.
const DRAWN: usize = 120;
const MAX_WIDTH: f64 = 1_080.0;
const NODE_HEIGHT: f64 = 46.0;
const PAD: f64 = 16.0;
const HEADER: f64 = 40.0;
/// How many characters of a task's name are shown.
const NAME: usize = 28;
/// About how wide a character is: of names, of what is below them, and at a group's head.
const BOLD: f64 = 7.9;
const FINE: f64 = 6.5;
const HEAD: f64 = 7.4;
/// By how much the sheets behind a loop show.
const SHEET: f64 = 4.0;

/// A DAG with the places of its boxes.
struct Sketch<'t> {
    layout: Layout,
    shapes: Vec<Shape<'t>>,
    sizes: Vec<Size>,
}

enum Shape<'t> {
    Task {
        item: &'t Item,
        state: TaskState,
        note: String,
    },
    Group {
        item: &'t Item,
        state: TaskState,
        title: String,
        note: String,
        inside: Sketch<'t>,
    },
    /// Tasks that are not drawn.
    More(usize),
}

/// What drawing goes to, and looks things up in.
struct Pen<'a, 'r> {
    out: &'a mut String,
    facts: &'a Facts<'r>,
    listed: &'a HashSet<usize>,
    critical: &'a HashSet<usize>,
}

/// Draws the pipeline; `listed` are the tasks that have a row to jump to, `critical` those of the critical path.
pub(super) fn draw(
    out: &mut String,
    root: &Dag,
    facts: &Facts<'_>,
    listed: &HashSet<usize>,
    critical: &HashSet<usize>,
) -> Size {
    let mut left = DRAWN;
    let sketch = sketch(root, facts, &mut left, true, None, MAX_WIDTH);
    let margin = 2.0;
    let size = Size {
        width: sketch.layout.size.width + 2.0 * margin,
        height: sketch.layout.size.height + 2.0 * margin,
    };
    put!(
        out,
        "<svg class=dag width=\"{w:.0}\" height=\"{h:.0}\" viewBox=\"0 0 {w:.0} {h:.0}\" \
         role=img aria-label=\"The tasks and what they depend on\">\
         <defs><marker id=arrow viewBox=\"0 0 8 8\" refX=7 refY=4 markerWidth=7 markerHeight=7 orient=auto>\
         <path d=\"M0 .8 7.4 4 0 7.2z\" class=tip /></marker></defs>\n",
        w = size.width,
        h = size.height,
    );
    sketch.draw(&mut Pen { out, facts, listed, critical }, Point { x: margin, y: margin });
    out.push_str("</svg>\n");
    if has_fallbacks(root) {
        out.push_str("<p class=note>An amber arrow leads to what stands for a task that fails.</p>");
    }
    if !critical.is_empty() {
        out.push_str("<p class=note><span class=dot></span>on the critical path</p>");
    }
    let left_out = root.leaves().saturating_sub(DRAWN);
    if left_out > 0 {
        put!(
            out,
            "<p class=note>The first {DRAWN} tasks are drawn; {} more are in the list below.</p>",
            number(left_out)
        );
    }
    size
}

fn has_fallbacks(dag: &Dag) -> bool {
    let inside = |item: &Item| item.inside.as_ref().is_some_and(has_fallbacks);
    dag.edges.iter().any(|edge| edge.kind == EdgeKind::Fallback) || dag.items.iter().any(inside)
}

fn sketch<'t>(
    dag: &'t Dag,
    facts: &Facts<'_>,
    left: &mut usize,
    ready: bool,
    around: Option<TaskState>,
    max_width: f64,
) -> Sketch<'t> {
    let ready = facts.ready(dag, ready);
    let (mut shapes, mut sizes) = (Vec::new(), Vec::new());
    for (item, ready) in dag.items.iter().zip(ready) {
        if *left == 0 {
            break;
        }
        let (shape, size) = match &item.inside {
            None => {
                *left -= 1;
                task(item, facts, ready, around)
            }
            Some(inside) => {
                // A group with nothing inside takes room as well.
                *left -= usize::from(item.leaves() == 0);
                group(item, inside, facts, left, ready, around, max_width)
            }
        };
        shapes.push(shape);
        sizes.push(size);
    }
    let drawn = shapes.len();
    let mut edges: Vec<Edge> = dag.edges.iter().copied().filter(|edge| edge.to < drawn).collect();
    if drawn < dag.items.len() {
        let more = dag.items[drawn..].iter().map(|item| item.leaves().max(1)).sum();
        shapes.push(Shape::More(more));
        sizes.push(Size { width: 170.0, height: NODE_HEIGHT });
        let leaving: BTreeSet<usize> = dag
            .edges
            .iter()
            .filter(|edge| edge.from < drawn && edge.to >= drawn)
            .map(|edge| edge.from)
            .collect();
        edges.extend(leaving.into_iter().map(|from| Edge { from, to: drawn, kind: EdgeKind::Order }));
    }
    Sketch { layout: layout(&sizes, &edges, max_width), shapes, sizes }
}

/// About how wide text is in the drawing's fonts.
fn text_width(text: &str, each: f64) -> f64 {
    text.chars().count() as f64 * each
}

fn task<'t>(item: &'t Item, facts: &Facts<'_>, ready: bool, around: Option<TaskState>) -> (Shape<'t>, Size) {
    let counts = facts.leaf(item, ready, around);
    let note = task_note(item, facts, counts);
    let wide = text_width(&clipped(&item.name, NAME), BOLD).max(text_width(&note, FINE)) + 52.0;
    let size = Size { width: wide.clamp(136.0, 280.0), height: NODE_HEIGHT };
    (Shape::Task { item, state: counts.overall(), note }, size)
}

fn task_note(item: &Item, facts: &Facts<'_>, counts: Counts) -> String {
    let state = counts.overall();
    if item.is_report && state == TaskState::Running {
        return "writing this report".to_owned();
    }
    let took: Vec<Duration> = facts.all(item).iter().filter_map(|index| facts.took(*index)).collect();
    let (shortest, longest) = (took.iter().min(), took.iter().max());
    let mut parts = Vec::new();
    if counts.total() > 1 {
        parts.push(format!("{}×", number(counts.total())));
        let attempts: u64 = facts.all(item).iter().map(|index| u64::from(facts.task(*index).attempts)).sum();
        if attempts > counts.total() as u64 {
            parts.push(format!("{attempts} attempts"));
        }
        if counts.present().count() > 1 {
            parts.extend(counts.present().map(|(state, count)| format!("{count} {}", word(state))));
        } else if let (Some(shortest), Some(longest)) = (shortest, longest) {
            let (shortest, longest) = (duration(*shortest), duration(*longest));
            parts.push(if shortest == longest { longest } else { format!("{shortest} – {longest}") });
        }
        return parts.join(" · ");
    }
    if state == TaskState::Failed && facts.all_tolerated(item) {
        parts.push("failed, tolerated".to_owned());
    } else if state != TaskState::Succeeded {
        parts.push(word(state).to_owned());
    }
    if let (Some(longest), false) = (longest, state == TaskState::Cached) {
        parts.push(duration(*longest));
    }
    let attempts = facts.all(item).iter().map(|index| facts.task(*index).attempts).max().unwrap_or(0);
    if attempts > 1 {
        parts.push(format!("{attempts} attempts"));
    }
    parts.join(" · ")
}

fn group<'t>(
    item: &'t Item,
    inside: &'t Dag,
    facts: &Facts<'_>,
    left: &mut usize,
    ready: bool,
    around: Option<TaskState>,
    max_width: f64,
) -> (Shape<'t>, Size) {
    let not_run = facts.not_run(item).or(around);
    let inside = sketch(inside, facts, left, ready, not_run, max_width - 2.0 * PAD);
    let counts = facts.group(item);
    let state = match (counts.total(), not_run) {
        (0, Some(state)) => state,
        (0, None) => inside.state(),
        _ => counts.overall(),
    };
    let (title, note) = group_words(item, facts, counts, state);
    let words = text_width(&title, HEAD).max(text_width(&note, FINE)) + 44.0;
    let width = (inside.layout.size.width + 2.0 * PAD).max(words);
    let height = HEADER + inside.layout.size.height + PAD;
    let size = Size { width: width + sheets(item), height: height + sheets(item) };
    (Shape::Group { item, state, title, note, inside }, size)
}

/// The two lines at a group's head.
fn group_words(item: &Item, facts: &Facts<'_>, counts: Counts, state: TaskState) -> (String, String) {
    if item.is_loop {
        let over = item.loop_items.as_deref().map(|items| format!(" over {items}")).unwrap_or_default();
        let title = clipped(&format!("for each{over}"), 44);
        let states: Vec<String> =
            counts.present().map(|(state, count)| format!("{} {}", number(count), word(state))).collect();
        let mut note = match state {
            TaskState::Skipped | TaskState::Canceled if counts.total() == 0 => word(state).to_owned(),
            _ if counts.total() == 0 && !facts.report.run.state.is_terminal() => {
                "no iteration has ended".to_owned()
            }
            _ => plural(counts.total(), "iteration"),
        };
        if counts.total() > 0 {
            note = format!("{note} · {}", states.join(", "));
        }
        return (title, note);
    }
    if let Some(condition) = &item.condition {
        let note = match state {
            TaskState::Skipped => "false: skipped".to_owned(),
            TaskState::Succeeded => "true".to_owned(),
            state => word(state).to_owned(),
        };
        return (clipped(&format!("when {condition}"), 52), note);
    }
    let error = facts.all(item).iter().find_map(|index| facts.task(*index).error.as_deref());
    let note = error.map_or_else(|| word(state).to_owned(), |error| first_line(error, 60));
    (clipped(&item.name, 44), note)
}

impl Shape<'_> {
    fn state(&self) -> TaskState {
        match self {
            Self::Task { state, .. } | Self::Group { state, .. } => *state,
            Self::More(_) => TaskState::Pending,
        }
    }
}

impl Sketch<'_> {
    /// What the tasks inside came to, where the group itself is not reported yet.
    fn state(&self) -> TaskState {
        let mut counts = Counts::default();
        for shape in &self.shapes {
            counts.add(shape.state(), 1);
        }
        counts.overall()
    }

    fn draw(&self, pen: &mut Pen<'_, '_>, at: Point) {
        for segment in &self.layout.segments {
            edge(pen.out, at, segment);
        }
        for ((shape, place), size) in self.shapes.iter().zip(&self.layout.places).zip(&self.sizes) {
            let place = Point { x: at.x + place.x, y: at.y + place.y };
            match shape {
                Shape::Task { item, state, note } => draw_task(pen, item, *state, note, place, size.width),
                Shape::Group { item, state, title, note, inside } => {
                    draw_group(pen, item, *state, [title, note], place, *size);
                    let width = size.width - sheets(item);
                    let left = (width - inside.layout.size.width) / 2.0;
                    inside.draw(pen, Point { x: place.x + left, y: place.y + HEADER });
                }
                Shape::More(more) => {
                    put!(
                        pen.out,
                        "<g class=\"node more\"><rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=8 />\
                         <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=middle class=sub>and {}</text></g>\n",
                        place.x,
                        place.y,
                        size.width,
                        size.height,
                        place.x + size.width / 2.0,
                        place.y + 27.0,
                        plural(*more, "more task"),
                    );
                }
            }
        }
    }
}

/// The room that the sheets behind a loop take.
fn sheets(item: &Item) -> f64 {
    if item.is_loop { 2.0 * SHEET } else { 0.0 }
}

fn draw_group(pen: &mut Pen<'_, '_>, item: &Item, state: TaskState, words: [&str; 2], at: Point, size: Size) {
    let (width, height) = (size.width - sheets(item), size.height - sheets(item));
    let name = word(state);
    let tolerated =
        if state == TaskState::Failed && pen.facts.all_tolerated(item) { " tolerated" } else { "" };
    put!(
        pen.out,
        "<g class=\"group s-{name}{tolerated}\"><title>{}</title>",
        Safe(&clipped(&item.path, 300))
    );
    let mut sheet = |class: &str, shift: f64| {
        let (x, y) = (at.x + shift, at.y + shift);
        put!(
            pen.out,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=10 class={class} />"
        );
    };
    if item.is_loop {
        sheet("sheet", 2.0 * SHEET);
        sheet("sheet", SHEET);
    }
    sheet("frame", 0.0);
    put!(
        pen.out,
        "<use href=\"#i-{name}\" x=\"{ix:.1}\" y=\"{iy:.1}\" width=13 height=13 />\
         <text x=\"{tx:.1}\" y=\"{ty:.1}\" class=head>{}</text>\
         <text x=\"{tx:.1}\" y=\"{ny:.1}\" class=sub>{}</text></g>\n",
        Safe(words[0]),
        Safe(words[1]),
        ix = at.x + 12.0,
        iy = at.y + 9.0,
        tx = at.x + 31.0,
        ty = at.y + 19.5,
        ny = at.y + 33.0,
    );
}

fn edge(out: &mut String, at: Point, segment: &Segment) {
    let end = at.y + if segment.arrow { segment.to.y - 1.0 } else { segment.to.y };
    let (x1, x2) = (at.x + segment.from.x, at.x + segment.to.x);
    let (leaves, arrives) = (at.y + segment.leaves, at.y + segment.arrives);
    let middle = f64::midpoint(leaves, arrives);
    let class = match segment.kind {
        EdgeKind::Data => "edge",
        EdgeKind::Order => "edge order",
        EdgeKind::Fallback => "edge fallback",
    };
    put!(out, "<path class=\"{class}\" d=\"M{x1:.1} {:.1}", at.y + segment.from.y);
    let mut reached = f64::NEG_INFINITY;
    if (x1 - x2).abs() >= 0.5 {
        reached = arrives.min(end);
        put!(out, "V{leaves:.1}C{x1:.1} {middle:.1} {x2:.1} {middle:.1} {x2:.1} {reached:.1}");
    }
    if reached < end {
        put!(out, "V{end:.1}");
    }
    put!(out, "\"{} />\n", if segment.arrow { " marker-end=\"url(#arrow)\"" } else { "" });
}

fn draw_task(pen: &mut Pen<'_, '_>, item: &Item, state: TaskState, note: &str, at: Point, width: f64) {
    let name = word(state);
    let facts = pen.facts;
    let listed = pen.listed;
    let known = || facts.all(item).iter().filter(|index| listed.contains(*index));
    let target =
        known().find(|index| facts.task(**index).state == TaskState::Failed).or_else(|| known().next());
    match target {
        Some(index) => put!(pen.out, "<a href=\"#t{index}\">"),
        None => pen.out.push_str("<g>"),
    }
    let mut title = format!("{}\n{}", item.path, if note.is_empty() { name } else { note });
    if item.at_any_end {
        title.push_str("\nruns however the tasks before it end");
    }
    let error = facts.all(item).iter().find_map(|index| facts.task(*index).error.as_deref());
    if let Some(error) = error {
        title = format!("{title}\n{}", first_line(error, 300));
    }
    let tolerated = state == TaskState::Failed && facts.all_tolerated(item);
    if tolerated {
        let what = facts.all(item).iter().find_map(|index| facts.tolerated(*index)).unwrap_or_default();
        put!(title, "\ntolerated: {what}");
    }
    if let Some(fallback) = &item.fallback {
        put!(title, "\nwhere it fails, {fallback} stands for it");
    }
    let is_critical = facts.all(item).iter().any(|index| pen.critical.contains(index));
    if is_critical {
        title.push_str("\non the critical path");
    }
    put!(
        pen.out,
        "<g class=\"node s-{name}{}\"><title>{}</title>\
         <rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{NODE_HEIGHT}\" rx=8 />\
         <use href=\"#i-{name}\" x=\"{ix:.1}\" y=\"{iy:.1}\" width=18 height=18 />",
        if tolerated { " tolerated" } else { "" },
        Safe(&clipped(&title, 800)),
        x = at.x,
        y = at.y,
        ix = at.x + 12.0,
        iy = at.y + 14.0,
    );
    if is_critical {
        let (x, y) = (at.x + width - 11.0, at.y + 11.0);
        put!(pen.out, "<circle class=critical cx=\"{x:.1}\" cy=\"{y:.1}\" r=3 />");
    }
    let (left, first) = (at.x + 40.0, at.y + if note.is_empty() { 27.5 } else { 20.5 });
    put!(
        pen.out,
        "<text x=\"{left:.1}\" y=\"{first:.1}\" class=name>{}</text>",
        Safe(&clipped(&item.name, NAME))
    );
    put!(
        pen.out,
        "<text x=\"{left:.1}\" y=\"{:.1}\" class=sub>{}</text></g>",
        at.y + 36.0,
        Safe(&clipped(note, 36))
    );
    pen.out.push_str(if target.is_some() { "</a>\n" } else { "</g>\n" });
}
