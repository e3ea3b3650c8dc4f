// Elements, numbers and times. Text goes into the page as text only.
const el = (name, props = {}, ...children) => {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(props)) {
    if (key === "class") made.className = value;
    else if (key.startsWith("on")) made[key] = value;
    else if (value !== null && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== ""));
  return made;
};
const icon = (state, tolerated) => {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  svg.setAttribute("class", `icon s-${state}${tolerated ? " tolerated" : ""}`);
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", tolerated ? `${state}, tolerated` : state);
  use.setAttribute("href", `#i-${state}`);
  svg.append(use);
  return svg;
};
const two = (number) => String(number).padStart(2, "0");
const duration = (millis) => {
  const seconds = Math.floor(millis / 1000);
  if (millis < 1000) return `${millis} ms`;
  if (seconds < 10) return `${(millis / 1000).toFixed(2)} s`;
  if (seconds < 60) return `${(millis / 1000).toFixed(1)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${two(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${two(Math.floor(seconds / 60) % 60)} min`;
};
const size = (bytes) => {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let unit = 0;
  while (bytes >= 999.5 && unit + 1 < units.length) { bytes /= 1000; unit += 1; }
  return `${unit > 0 && bytes < 10 ? bytes.toFixed(1) : Math.round(bytes)} ${units[unit]}`;
};
const count = (number) => number.toLocaleString("en-US");
const plural = (number, word) => `${count(number)} ${word}${number === 1 ? "" : "s"}`;
const moment = (millis) => {
  const date = new Date(millis);
  return Number.isNaN(date.getTime()) ? String(millis) : date.toISOString().replace("T", " ").replace(/\.\d+Z$/, " UTC");
};
const firstLine = (text, limit) => {
  const line = text.split("\n", 1)[0];
  return line.length > limit ? `${line.slice(0, limit - 1)}…` : line;
};
const data = JSON.parse(document.getElementById("data").textContent);
