// What ties the page together: links to tasks, the search, the theme, tables that sort, printing.
let wantsFocus = false;
const byTask = new Map(rows.filter((row) => row.task !== null).map((row) => [row.task, row]));
const reveal = (focus) => {
  const found = /^#t(\d+)$/.exec(location.hash);
  const row = found && byTask.get(Number(found[1]));
  if (!row) return hide(false);
  for (let at = row.parent; at >= 0; at = rows[at].parent) rows[at].open = true;
  findVisible();
  const place = visible.indexOf(row);
  if (place >= 0) goTo(place);
  show(row, focus);
};

const start = () => {
  plant();
  addEventListener("hashchange", () => { reveal(wantsFocus); wantsFocus = false; });
  for (const link of document.querySelectorAll("a[href^='#t']")) link.addEventListener("click", () => { wantsFocus = true; if (link.hash === location.hash || link.getAttribute("href") === location.hash) reveal(true); });
  addEventListener("keydown", (event) => { if (event.key === "Escape") hide(true); });
  addEventListener("beforeprint", () => { everything = true; render(); });
  addEventListener("afterprint", () => { everything = false; render(); });
  tools();
  theme();
  for (const table of document.querySelectorAll("table.sorts")) sorts(table);
  if (location.hash) reveal(false);
};

const tools = () => {
  const box = document.querySelector(".tools");
  if (!box) return;
  box.hidden = false;
  const [search, filters, only, fold] = box.children;
  const again = () => { if (tree) tree.scrollTop = 0; findVisible(); current = 0; render(); };
  search.oninput = () => { filter.text = search.value.trim().toLowerCase(); again(); };
  only.onclick = () => {
    filter.critical = !filter.critical;
    only.setAttribute("aria-pressed", filter.critical);
    again();
  };
  const counts = new Map();
  for (const row of rows) if (row.kind === "task") counts.set(row.state, (counts.get(row.state) ?? 0) + 1);
  for (const state of data.states.filter((state) => counts.has(state) && counts.size > 1)) {
    const button = el("button", { type: "button", "aria-pressed": "false", onclick: () => {
      filter.state = filter.state === state ? null : state;
      for (const other of filters.children) other.setAttribute("aria-pressed", String(other === button && filter.state === state));
      again();
    } }, icon(state), `${count(counts.get(state))} ${state}`);
    filters.append(button);
  }
  const folds = rows.filter(isFold);
  fold.hidden = folds.length === 0;
  const label = () => { fold.textContent = folds.every((row) => row.open) ? "Fold all" : "Unfold all"; };
  fold.onclick = () => {
    const open = !folds.every((row) => row.open);
    for (const row of folds) row.open = open;
    label();
    again();
  };
  label();
};

const theme = () => {
  const button = document.querySelector(".theme");
  const kept = () => { try { return localStorage.getItem("kf-report-theme"); } catch { return null; } };
  const themes = ["auto", "light", "dark"];
  let now = themes.includes(kept()) ? kept() : "auto";
  const apply = () => {
    if (now === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = now;
    button.textContent = { auto: "◐ Auto", light: "☀ Light", dark: "☾ Dark" }[now];
    button.setAttribute("aria-label", `Theme: ${now}`);
  };
  button.hidden = false;
  button.onclick = () => {
    now = themes[(themes.indexOf(now) + 1) % themes.length];
    try { localStorage.setItem("kf-report-theme", now); } catch { /* not kept */ }
    apply();
  };
  apply();
};

const sorts = (table) => {
  const [head] = table.tHead.rows;
  const body = table.tBodies[0];
  const text = (row, column) => { const cell = row.cells[column]; return cell.firstElementChild?.title || cell.textContent; };
  const numbers = (text) => text.replace(/[[\]]/g, " ").trim().split(/\s+/).map(Number);
  const compare = (a, b) => {
    const [left, right] = [numbers(a), numbers(b)];
    for (let n = 0; n < Math.min(left.length, right.length); n += 1) {
      if (Number.isNaN(left[n]) || Number.isNaN(right[n])) return a.localeCompare(b);
      if (left[n] !== right[n]) return left[n] - right[n];
    }
    return left.length - right.length;
  };
  [...head.cells].forEach((cell, column) => {
    const button = el("button", { type: "button" }, ...cell.childNodes);
    cell.append(button);
    button.onclick = () => {
      const down = cell.getAttribute("aria-sort") !== "descending";
      for (const other of head.cells) other.removeAttribute("aria-sort");
      cell.setAttribute("aria-sort", down ? "descending" : "ascending");
      const sorted = [...body.rows].sort((a, b) => compare(text(a, column), text(b, column)));
      body.append(...(down ? sorted.reverse() : sorted));
    };
  });
};

start();
