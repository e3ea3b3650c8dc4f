// The panel that tells all of one task.
const panel = document.getElementById("detail");

// Lists end with the number of what is left out.
const listed = (list) => (list ?? []).filter((entry) => typeof entry !== "number");
const rest = (list, word) => {
  const last = (list ?? []).at(-1);
  return typeof last === "number" ? el("p", { class: "note" }, `${plural(last, `more ${word}`)} not shown.`) : null;
};
const pairsTable = (pairs) =>
  el("table", { class: "pairs" }, listed(pairs).map(([name, text, short, exact]) =>
    el("tr", {}, el("th", {}, name), el("td", { class: short ? "" : "long", title: exact ?? null }, text))));
const block = (title, ...inside) => el("section", {}, el("h3", {}, title), inside);
const parameters = (title, pairs) =>
  listed(pairs).length ? block(title, pairsTable(pairs), rest(pairs, "parameter")) : null;

const picture = (number) => {
  const found = document.getElementById(`v${number}`);
  if (!found) return null;
  const copy = found.content ? found.content.cloneNode(true) : found.cloneNode(true);
  if (!found.content) copy.removeAttribute("id");
  return el("div", { class: "visual" }, ...(found.content ? [copy] : [...copy.childNodes]));
};
const artifact = ([name, number]) => {
  const found = data.artifacts[number];
  if (!found) return el("div", { class: "artifact" }, el("b", {}, name), el("p", { class: "note" }, "Left out to keep the report small."));
  const [kind, uri, digest, bytes, metadata] = found;
  const shape = listed(metadata).filter(([name]) => !["confidenceMetrics", "confusionMatrix", "evaluationSlices"].includes(name));
  const drawn = picture(number);
  return el("div", { class: "artifact" },
    el("div", { class: "what" }, el("b", {}, name), el("span", { class: "kind" }, kind), digest ? el("span", { class: "soft", title: `${count(bytes)} bytes` }, size(bytes)) : null),
    uri ? el("code", { class: "uri" }, uri) : null,
    digest ? el("code", { class: "digest", title: "digest of the content" }, digest) : uri ? el("p", { class: "fine" }, "content not read, so no digest") : null,
    shape.length ? pairsTable(shape) : null,
    drawn ?? (listed(metadata).length > shape.length ? pairsTable(listed(metadata).filter((pair) => !shape.includes(pair))) : null),
    rest(metadata, "entry"));
};
const artifacts = (title, list) =>
  listed(list).length ? block(title, listed(list).map(artifact), rest(list, "artifact")) : null;

const attempts = (task, row) => {
  if (!listed(task.failed).length) return null;
  const lines = listed(task.failed).map(([number, from, to, error]) =>
    el("details", { class: "attempt" },
      el("summary", {}, icon("failed"), `Attempt ${number} failed after ${duration(to - from)}`, el("span", {}, firstLine(error, 80))),
      el("pre", { class: "error" }, error)));
  const last = el("p", { class: "attempt" }, icon(row.state), `Attempt ${task.attempts}: ${row.state}`);
  return block("Attempts", lines, last);
};
const NOTHING = [null, null, null];
// What each attempt used; the last one is the task's own.
const usage = (task) => {
  const failed = listed(task.failed).map(([number, , , , used]) => [number, used ?? NOTHING]);
  if (!task.used && !failed.some(([, used]) => used !== NOTHING)) return null;
  const all = [...failed, [task.attempts, task.used ?? NOTHING]];
  const cell = (value, words) => el("td", {}, value === null ? el("span", { class: "soft" }, "not known") : words(value));
  return block("Usage", el("table", { class: "usage" },
    el("tr", {}, ["Attempt", "Ran for", "CPU time", "Peak memory"].map((name) => el("th", { scope: "col" }, name))),
    all.map(([number, [wall, cpu, memory]]) =>
      el("tr", {}, el("th", { scope: "row" }, String(number)), cell(wall, duration), cell(cpu, duration), cell(memory, size)))));
};
const events = (task) => {
  const of = (number, list) => listed(list).map(([at, text]) => [number, at, text]);
  const all = [...listed(task.failed).flatMap(([number, , , , , list]) => of(number, list)), ...of(task.attempts, task.events)];
  if (!all.length) return null;
  const several = task.attempts > 1;
  return block("Events", el("ul", { class: "events" }, all.map(([number, at, text]) =>
    el("li", {}, el("span", { class: "soft" }, `${several ? `Attempt ${number}, ` : ""}${moment(data.start + at)}`), " ", text))), rest(task.events, "event"));
};
const log = (task) => {
  if (!task.log) return null;
  const [text, path, bytes] = task.log;
  const shown = new TextEncoder().encode(text).length;
  const what = shown < bytes ? `The last ${size(shown)} of ${size(bytes)}, whole in ` : `All ${size(bytes)}, in `;
  return block("Log", el("pre", { class: "log", tabindex: 0 }, text), el("p", { class: "fine" }, what, el("code", { class: "uri" }, path)));
};

const describe = (row) => {
  const task = data.tasks[row.task];
  const around = [];
  for (let at = row.parent; at >= 0; at = rows[at].parent) if (rows[at].kind === "iteration") around.unshift(rows[at].name);
  const note = [around.join(""), row.note].filter((part) => part).join(" ");
  const title = el("h2", { id: "detail-name" }, icon(row.state, row.tolerated), el("span", {}, row.name, note ? el("em", {}, ` ${note}`) : null));
  const close = el("button", { type: "button", class: "close", "aria-label": "Close", onclick: () => hide(true) }, "✕");
  if (!task) return [el("header", {}, title, close), el("p", { class: "note" }, "Details are left out to keep the report small.")];
  const facts = [["State", el("span", { class: `state s-${row.state}${row.tolerated ? " tolerated" : ""}` }, row.state)]];
  if (task.tolerated) facts.push(["Tolerated", task.tolerated]);
  if (row.from !== null) {
    facts.push(["Took", duration(row.to - row.from)], ["Started", `${moment(data.start + row.from)}, +${duration(row.from)}`]);
  }
  facts.push(["Ended", moment(data.start + task.ended)]);
  if (task.attempts > 1 && row.state !== "cached") facts.push(["Attempts", String(task.attempts)]);
  if (task.component) facts.push(["Component", el("code", {}, task.component)]);
  if (task.cached) facts.push(["Outputs from", el("span", {}, "run ", el("code", {}, task.cached[0]), " task ", el("code", {}, task.cached[1]))]);
  if (row.critical) facts.push(["Critical path", "the end of the run waited for this task"]);
  return [
    el("header", {}, title, close),
    el("p", { class: "path" }, task.path),
    el("dl", {}, facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)))),
    task.error ? el("pre", { class: "error", tabindex: 0 }, task.error) : null,
    attempts(task, row),
    usage(task),
    events(task),
    log(task),
    parameters("Parameters in", task.in),
    parameters("Parameters out", task.out),
    artifacts("Artifacts out", task.makes),
    artifacts("Artifacts in", task.reads),
  ];
};
const show = (row, focus) => {
  panel.replaceChildren(...describe(row).filter((part) => part));
  panel.hidden = false;
  panel.scrollTop = 0;
  for (const log of panel.querySelectorAll(".log")) log.scrollTop = log.scrollHeight;
  panel.setAttribute("aria-labelledby", "detail-name");
  document.body.classList.add("with-detail");
  if (focus) panel.focus({ preventScroll: true });
};
const hide = (focus) => {
  if (panel.hidden) return;
  panel.hidden = true;
  panel.replaceChildren();
  document.body.classList.remove("with-detail");
  try { history.replaceState(null, "", location.pathname + location.search); } catch { /* a page inside of another */ }
  if (focus) document.getElementById("tree")?.focus({ preventScroll: true });
  dispatchEvent(new Event("detail-closed"));
};
