// The list of tasks: a tree with a time axis, of which only the rows in sight are in the page.
const HEIGHT = 34;
const KINDS = ["task", "group", "branch", "loop", "iteration"];
const rows = data.rows.map(([depth, kind, name, note, state, task, from, to, flags, counts], at) => ({
  at, depth, kind: KINDS[kind], name, note, state: data.states[state] ?? "pending", task, from, to, counts,
  critical: (flags & 1) > 0, open: (flags & 2) > 0, isReport: (flags & 4) > 0, tolerated: (flags & 8) > 0, parent: -1, end: at + 1,
}));
const path = [];
for (const row of rows) {
  while (path.length && path.at(-1).depth >= row.depth) path.pop().end = row.at;
  row.parent = path.at(-1)?.at ?? -1;
  path.push(row);
}
for (const row of path) row.end = rows.length;
const isFold = (row) => row.end > row.at + 1;
const taskOf = (row) => (row.task === null ? null : data.tasks[row.task]);

const span = Math.max(1, ...[0].concat(rows.filter((row) => row.depth === 0 && row.to !== null).map((row) => row.to)));
const filter = { text: "", state: null, critical: false };
let visible = [];
let current = 0;
let everything = false;

const matches = (row) => {
  if (row.kind !== "task" && !(filter.text && !filter.state)) return false;
  if (filter.state && row.state !== filter.state) return false;
  if (filter.critical && !row.critical) return false;
  if (!filter.text) return true;
  const task = taskOf(row);
  return `${row.name} ${row.note} ${task?.path ?? ""} ${task?.error ?? ""}`.toLowerCase().includes(filter.text);
};
const isFiltered = () => filter.text || filter.state || filter.critical;
const findVisible = () => {
  const was = visible[current];
  visible = [];
  if (isFiltered()) {
    const kept = new Set();
    for (const row of rows) {
      if (matches(row)) for (let at = row.at; at >= 0 && !kept.has(at); at = rows[at].parent) kept.add(at);
    }
    visible = rows.filter((row) => kept.has(row.at));
  } else {
    for (let at = 0; at < rows.length;) {
      visible.push(rows[at]);
      at = rows[at].open ? at + 1 : rows[at].end;
    }
  }
  current = Math.max(0, visible.indexOf(was));
};

const percent = (millis) => `${Math.min(100, Math.max(0, (millis / span) * 100)).toFixed(3)}%`;
const bar = (kind, from, to, title) => {
  const made = el("i", { class: kind, title });
  made.style.left = percent(from);
  made.style.width = percent(to - from);
  return made;
};
const track = (row) => {
  const cell = el("div", { class: "track", role: "gridcell", "aria-hidden": "true" });
  if (row.from === null) return cell;
  const whole = `${row.state}${row.tolerated ? ", tolerated" : ""}, ${duration(row.to - row.from)}`;
  if (row.kind !== "task") {
    cell.append(bar(`around s-${row.state}${row.tolerated ? " tolerated" : ""}`, row.from, row.to, whole));
  } else {
    const failed = listed(taskOf(row)?.failed);
    for (const [number, from, to] of failed) cell.append(bar("lost s-failed", from, to, `attempt ${number} failed after ${duration(to - from)}`));
    const start = failed.length ? Math.max(row.from, failed.at(-1)[2]) : row.from;
    cell.append(bar(`s-${row.state}${row.tolerated ? " tolerated" : ""}`, start, Math.max(start, row.to), whole));
  }
  if (row.critical) cell.append(bar("mark", row.from, row.to, "critical path"));
  return cell;
};

const gist = (row) => {
  if (row.kind === "loop" && row.counts) return states(row.counts);
  if (row.isReport && row.state === "running") return ["writing this report"];
  const task = taskOf(row);
  if (!task) return [];
  if (task.error) return [el("span", { class: "bad" }, firstLine(task.error, 140))];
  const parts = listed(task.out).filter((pair) => pair[2]).slice(0, 3).map(([name, text]) => [`${firstLine(name, 30)} `, el("b", {}, firstLine(text, 24))]);
  for (const [name, number] of listed(task.makes).slice(0, 3)) {
    const kind = data.artifacts[number]?.[0] ?? "artifact";
    const plain = ["artifact", "result"].includes(name) || name.toLowerCase() === kind.toLowerCase();
    parts.push([plain ? kind : `${firstLine(name, 30)} (${kind})`]);
  }
  return parts.flatMap((part, n) => (n ? [el("s", {}, "·"), ...part] : part));
};
const states = (counts) => counts.flatMap((number, state) =>
  number ? [el("span", { class: "tally" }, icon(data.states[state]), `${count(number)} ${data.states[state]}`)] : []);

const draw = (row, place) => {
  const fold = isFold(row);
  const total = row.counts?.reduce((sum, number) => sum + number, 0);
  const words = row.kind === "branch" ? ["when ", el("code", {}, row.note)]
    : row.kind === "loop" ? [row.name, el("em", {}, ` ${row.note} · ${total ? plural(total, "iteration") : row.state === "succeeded" ? "no iterations" : row.state}`)]
    : [row.name, row.note ? el("em", {}, ` ${row.note}`) : null];
  const attempts = row.state === "cached" ? 0 : taskOf(row)?.attempts ?? 0;
  const open = fold && (row.open || isFiltered());
  const name = el("div", { class: "task", role: "gridcell" },
    el("span", { class: "twist", "aria-hidden": "true" }, fold ? (open ? "▾" : "▸") : ""), icon(row.state, row.tolerated),
    el("span", { class: "name", title: taskOf(row)?.path ?? row.name }, words),
    attempts > 1 ? el("span", { class: "attempts" }, `${attempts} attempts`) : null);
  name.style.paddingLeft = `${Math.min(row.depth, 12) * 18}px`;
  const made = el("div", {
    class: `row is-${row.kind} s-${row.state}${row.critical ? " critical" : ""}${row.tolerated ? " tolerated" : ""}${place === current ? " current" : ""}`,
    id: `r${row.at}`, role: "row", "aria-level": row.depth + 1, "aria-rowindex": place + 2,
    "aria-expanded": fold ? String(Boolean(open)) : null,
  }, name, track(row),
  el("div", { class: "num", role: "gridcell" }, row.from === null || row.kind !== "task" ? "" : `+${duration(row.from)}`),
  el("div", { class: "num", role: "gridcell" }, row.from === null ? "" : duration(row.to - row.from)),
  el("div", { class: "gist", role: "gridcell" }, gist(row)));
  made.style.top = `${place * HEIGHT}px`;
  made.onclick = () => { current = place; enter(row); };
  return made;
};

const tree = document.getElementById("tree");
const canvas = el("div", { class: "canvas", role: "rowgroup" });
const PRINTED = 3000;
const render = () => {
  if (!tree) return;
  const all = everything ? Math.min(visible.length, PRINTED) : visible.length;
  canvas.style.height = `${all * HEIGHT}px`;
  const [top, shown] = [tree.scrollTop, tree.clientHeight];
  const first = everything ? 0 : Math.max(0, Math.floor(top / HEIGHT) - 12);
  const last = everything ? all : Math.min(all, Math.ceil((top + shown) / HEIGHT) + 12);
  canvas.replaceChildren(...visible.slice(first, last).map((row, n) => draw(row, first + n)));
  tree.setAttribute("aria-activedescendant", visible[current] ? `r${visible[current].at}` : "");
  tree.setAttribute("aria-rowcount", visible.length + 1);
};
const refresh = () => { findVisible(); render(); };

const toggle = (row, open) => { row.open = open; refresh(); };
const enter = (row, focus) => {
  if (row.task !== null && row.kind === "task") {
    if (location.hash === `#t${row.task}`) reveal(focus);
    else { wantsFocus = Boolean(focus); location.hash = `t${row.task}`; }
    render();
  } else if (isFold(row) && !isFiltered()) toggle(row, !row.open);
  else render();
};
const goTo = (place) => {
  current = Math.min(visible.length - 1, Math.max(0, place));
  const top = current * HEIGHT;
  if (top < tree.scrollTop) tree.scrollTop = top;
  if (top + 2 * HEIGHT > tree.scrollTop + tree.clientHeight) tree.scrollTop = top + 2 * HEIGHT - tree.clientHeight;
  render();
};
const keys = (event) => {
  const row = visible[current];
  if (!row || event.ctrlKey || event.metaKey || event.altKey) return;
  const page = Math.max(1, Math.floor(tree.clientHeight / HEIGHT) - 2);
  const moves = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -visible.length, End: visible.length };
  if (event.key in moves) goTo(current + moves[event.key]);
  else if (event.key === "ArrowRight" && isFold(row)) { if (row.open || isFiltered()) goTo(current + 1); else toggle(row, true); }
  else if (event.key === "ArrowLeft") { if (isFold(row) && row.open && !isFiltered()) toggle(row, false); else if (row.parent >= 0) goTo(visible.indexOf(rows[row.parent])); }
  else if (event.key === "Enter" || event.key === " ") enter(row, true);
  else return;
  event.preventDefault();
};

const axis = () => {
  const steps = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 6e4, 12e4, 3e5, 6e5, 12e5, 18e5, 36e5, 72e5, 144e5, 432e5, 864e5];
  const step = steps.find((step) => span <= step * 6) ?? span / 5;
  const label = (millis) => millis === 0 ? "0" : millis < 1000 ? `${millis} ms` : millis < 6e4 ? `${millis / 1000} s`
    : millis < 36e5 ? `${Math.floor(millis / 6e4)}:${two(Math.floor(millis / 1000) % 60)} min` : `${Math.floor(millis / 36e5)}:${two(Math.floor(millis / 6e4) % 60)} h`;
  const cell = el("div", { class: "track", role: "columnheader", "aria-label": "Timeline" });
  for (let at = 0; at <= span * 0.93; at += step) {
    const tick = el("span", {}, label(at));
    tick.style.left = percent(at);
    cell.append(tick);
  }
  tree.style.setProperty("--step", percent(step));
  return cell;
};
const plant = () => {
  if (!tree) return;
  const titles = ["Start", "Took", "Result"].map((title) => el("div", { class: title === "Result" ? "gist" : "num", role: "columnheader" }, title));
  const head = el("div", { class: "row head", role: "row" }, el("div", { class: "task", role: "columnheader" }, "Task"), axis(), ...titles);
  for (const [name, value] of Object.entries({ role: "treegrid", tabindex: "0", "aria-label": "Tasks" })) tree.setAttribute(name, value);
  tree.append(head, canvas);
  let due = false;
  tree.onscroll = () => {
    if (due) return;
    due = true;
    requestAnimationFrame(() => { due = false; render(); });
  };
  tree.onkeydown = keys;
  addEventListener("resize", render);
  findVisible();
  current = 0;
  render();
};
