// SPDX-License-Identifier: LGPL-2.1-or-later
// The first part of the page's one script (page_template.py); answer.js and pointing.js follow.
// Search, zoom, and what one points at. All is on the page without it; it only hides rows and draws lines anew.
// Texts from the log go into the page as text alone, and nothing is fetched.
const facts = JSON.parse(document.getElementById("facts").textContent);
const controls = document.getElementById("controls");
if (!controls) return;
const field = name => document.getElementById(name);
const length = facts.end - facts.start, columns = facts.columns, smallest = 60;
const FAILED = 1, DIFFER = 2, HELD = 4, OPEN = 8;

// --- the entries: each block of rows has its numbers beside it, and a row's place is the entry's place ---
const blocks = [...document.querySelectorAll("details.block")];
const opened = blocks.map(block => block.open), summaries = blocks.map(block => block.querySelector("summary").textContent);
const total = blocks.reduce((sum, block) => sum + block.querySelector("tbody").rows.length, 0);
const guest = new Int32Array(total), device = new Int32Array(total), blockOf = new Int32Array(total);
const start = new Float64Array(total), end = new Float64Array(total), flags = new Uint8Array(total);
const shown = new Uint8Array(total).fill(1), seen = new Uint8Array(total).fill(1);  // asked for; not hidden
const firstOf = [], deviceFirst = [], deviceEnd = [];
let number = 0;
blocks.forEach((block, at) => {
  const [guests, starts, lasts, said] = JSON.parse(block.querySelector("script").textContent);
  const of = Number(block.parentElement.dataset.device);
  let time = 0;
  firstOf.push(number);
  deviceFirst[of] ??= number;
  for (let row = 0; row < guests.length; row++, number++) {
    time += starts[row];
    guest[number] = guests[row]; device[number] = of; blockOf[number] = at;
    start[number] = time; end[number] = time + lasts[row]; flags[number] = said[row];
  }
  deviceEnd[of] = number;
});
firstOf.push(total);
const rowOf = entry => blocks[blockOf[entry]].querySelector("tbody").rows[entry - firstOf[blockOf[entry]]];
const line = new Map(facts.lines.map(([id, of, who]) => [id, {id, device: of, guest: who}]));
const lineOf = new Map(facts.lines.map(([id, of, who]) => [`${of} ${who}`, id]));

// --- times are seconds since the trail's start; shown is the local time of the host that made the page ---
const offset = time => {
  let found = facts.zones[0][1];
  for (const [from, seconds] of facts.zones) if (from <= time) found = seconds; else break;
  return found;
};
const local = time => new Date((facts.start + time + offset(facts.start + time)) * 1000);
const two = value => String(value).padStart(2, "0");
const written = time => local(time).toISOString().slice(0, 19).replace("T", " ");
const read = (text, rest) => {  // rest is the time of day where only a date is given; NaN for what is no time
  const parts = /^(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})(?:(?:T|\s+)(\d{1,2}):(\d\d)(?::(\d\d))?)?$/i.exec(text.trim());
  if (!parts) return NaN;
  const [, year, month, day, hour, minute, second] = parts, date = `${year}-${two(month)}-${two(day)}`;
  const time = Date.parse(`${date}T${hour === undefined ? rest : `${two(hour)}:${minute}:${second ?? "00"}`}Z`) / 1000;
  if (isNaN(time) || !new Date(time * 1000).toISOString().startsWith(date)) return NaN;  // 30 February
  return time - offset(time - offset(time)) - facts.start;
};

// --- what is asked for ---
let window_ = [0, length];
const option = (select, value, text) => select.append(Object.assign(document.createElement("option"), {value, textContent: text}));
const often = name => facts.guests.filter(each => each[1] === name).length > 1;
facts.guests.forEach(([letters, name, uuid], at) => option(field("guest"), at, `${letters} ${name}${often(name) ? ` ${uuid}` : ""}`));
facts.devices.forEach((name, at) => option(field("device"), at + 1, name));
const lower = {
  guests: facts.guests.map(each => [each[0], each[2], each[4]].join(" ").toLowerCase()), devices: facts.devices.map(each => each.toLowerCase()),
};
const asked = () => {
  const words = field("text").value.toLowerCase().split(/\s+/).filter(Boolean).map(word => ({
    word, guests: lower.guests.map(each => each.includes(word)), devices: lower.devices.map(each => each.includes(word)),
  }));
  const who = field("guest").value, what = field("device").value, result = field("result").value;
  const [from, to] = window_;
  const results = {success: flag => !(flag & FAILED), failed: flag => flag & FAILED, differ: flag => flag & DIFFER,
    held: flag => flag & HELD}[result] ?? (() => true);
  return entry => start[entry] <= to && end[entry] >= from && (who === "" || guest[entry] === Number(who)) &&
    (what === "" || device[entry] === Number(what)) && results(flags[entry]) &&
    words.every(({word, guests, devices}) => devices[device[entry] - 1] || (guest[entry] >= 0 ? guests[guest[entry]] :
      rowOf(entry).cells[0].textContent.toLowerCase().includes(word)));
};
const timed = () => window_[0] !== 0 || window_[1] !== length;
const narrowed = () => Boolean(field("text").value.trim() || field("guest").value || field("device").value || field("result").value || timed());

// Rows of a block that is folded are hidden and shown once it is opened: of 100,000 that would take seconds.
function sync(at) {
  const rows = blocks[at].querySelector("tbody").rows;
  for (let entry = firstOf[at]; entry < firstOf[at + 1]; entry++)
    if (seen[entry] !== shown[entry]) { seen[entry] = shown[entry]; rows[entry - firstOf[at]].hidden = !shown[entry]; }
}
blocks.forEach((block, at) => block.addEventListener("toggle", () => { if (block.open) sync(at); }));

function apply() {
  const wanted = asked(), some = narrowed();
  const counts = new Uint32Array(blocks.length), lines = new Set();
  let found = 0;
  for (let at = 0; at < blocks.length; at++) {
    for (let entry = firstOf[at]; entry < firstOf[at + 1]; entry++) {
      shown[entry] = wanted(entry) ? 1 : 0;
      if (shown[entry]) { counts[at]++; lines.add(lineOf.get(`${device[entry]} ${guest[entry]}`) ?? lineOf.get(`${device[entry]} -1`)); }
    }
    found += counts[at];
  }
  const devices = new Set();
  blocks.forEach((block, at) => {
    block.hidden = some && !counts[at];
    block.open = some ? counts[at] > 0 && found <= 500 : opened[at];
    if (block.open) sync(at);
    const all = firstOf[at + 1] - firstOf[at];
    block.querySelector("summary").textContent = counts[at] < all ? `${counts[at]} of ${summaries[at]}` : summaries[at];
    if (counts[at]) devices.add(block.parentElement.dataset.device);
  });
  for (const each of document.querySelectorAll("[data-device]")) {
    const gone = some && !devices.has(each.dataset.device);
    if (each.tagName !== "SECTION") { emptied(each, gone); continue; }
    each.classList.toggle("gone", gone);  // hidden would make the browser style all of its rows first
    each.ariaHidden = gone ? "true" : null;
  }
  for (const table of document.querySelectorAll("table.shares")) {
    let any = false;
    for (const row of table.tBodies[0].rows) {
      const has = lines.has(Number(row.dataset.line));
      row.hidden = some && !has;
      any ||= has;
    }
    const holder = table.closest("details.guest");
    if (holder) holder.hidden = some && !any;
  }
  draw(lines);
  for (const [at, name] of ["from", "to"].entries()) field(name).value = written(window_[at]);
  complain([], "");
  document.body.classList.toggle("narrowed", some);
  const said = answer(found, some);
  field("found").textContent = said;
  field("made-shown").textContent = some ? said : "";
  hide();
  rove();
}

// --- drawing: as drawing.py and timeline.py do it, for a part of the time ---
const column = time => Math.round((Math.min(Math.max(time, window_[0]), window_[1]) - window_[0]) * columns / (window_[1] - window_[0]));
const svg = (name, attributes, text) => {
  const made = document.createElementNS(field("grid").namespaceURI, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
};
const first = new Map([...document.querySelectorAll("defs > [id^=l]")].map(group =>
  [Number(group.id.slice(1)), new Map([...group.children].map(path => [path.getAttribute("class"), path.getAttribute("d")]))]));
const firstLetters = [...document.querySelectorAll(".letters")].map(group => [group, [...group.childNodes]]);
const silences = facts.silences.map((each, at) => [field(`s${at + 1}`), field(`s${at + 1}`).getAttribute("d"), each]);

function draw(lines) {
  const whole = !narrowed();
  const drawn = new Map();
  if (!whole) for (let entry = 0; entry < total; entry++) {
    if (!shown[entry]) continue;
    const id = lineOf.get(`${device[entry]} ${guest[entry]}`) ?? lineOf.get(`${device[entry]} -1`);
    let each = drawn.get(id);
    if (!each) drawn.set(id, each = {bars: [], marks: {failed: new Set(), differs: new Set(), open: new Set()}});
    const from = column(start[entry]);
    if (flags[entry] & DIFFER && start[entry] >= window_[0]) each.marks.differs.add(from);
    if (flags[entry] & FAILED) { each.marks.failed.add(from); continue; }
    const at = Math.min(from, columns - 2), until = Math.max(column(end[entry]), at + 2), before = each.bars.at(-1);
    if (before && at <= before[1]) before[1] = Math.max(before[1], until); else each.bars.push([at, until]);
    if (flags[entry] & OPEN && end[entry] <= window_[1]) each.marks.open.add(until);
  }
  for (const [id, kinds] of first) {
    const group = field(`l${id}`), each = drawn.get(id);
    if (whole) { group.replaceChildren(...[...kinds].map(([kind, d]) => svg("path", {class: kind, d}))); continue; }
    if (!each) { group.replaceChildren(); continue; }
    group.replaceChildren(svg("path", {class: "bar", d: each.bars.map(([from, to]) => `M${from} 5h${to - from}`).join("")}),
      ...Object.entries(each.marks).filter(([, at]) => at.size).map(([kind, at]) =>
        svg("path", {class: kind, d: [...at].map(from => kind === "differs" ? `M${from} 8h0` : `M${from} 1v8`).join("")})));
  }
  for (const [group, children] of firstLetters) {
    if (whole) { group.replaceChildren(...children); continue; }
    const ids = group.parentElement.dataset.lines.trim().split(" ").map(Number);
    const texts = ids.filter(id => line.get(id).guest >= 0).flatMap(id => (drawn.get(id)?.bars ?? []).map(([from, to]) => {
      const [letters, name, , look] = facts.guests[line.get(id).guest];
      const text = [`${letters} ${name}`, letters].find(each => to - from >= facts.label * (each.length + 0.5));
      return text && [from, text, look];
    }).filter(Boolean));
    group.replaceChildren(...texts.slice(0, 60).map(([from, text, look]) =>
      svg("text", {class: `g${look}`, x: `${(from + 5) * 100 / columns}%`, y: "50%"}, text)));
  }
  for (const [path, d, each] of silences) path.setAttribute("d", whole ? d : each
    .filter(([from, to]) => from <= window_[1] && to >= window_[0])
    .map(([from, to]) => `M${column(from)} 0h${Math.max(column(to) - column(from), 1)}v10h-${Math.max(column(to) - column(from), 1)}z`).join(""));
  const areas = facts.unknown ? [window_] : whole ? [] : [[window_[0], Math.min(0, window_[1])], [Math.max(length, window_[0]), window_[1]]];
  field("outside").setAttribute("d", areas.filter(([from, to]) => from < to)
    .map(([from, to]) => `M${column(from)} 0h${column(to) - column(from)}v10h${column(from) - column(to)}z`).join(""));
  const marks = ticks(), wide = window_[1] - window_[0];
  const place = time => (time - window_[0]) * 100 / wide;
  field("grid").setAttribute("d", marks.map(([time]) => `M${place(time) * columns / 100} 0v10`).join(""));
  field("axis").replaceChildren(...marks.map(([time, text], at) => svg("text", {x: `${place(time)}%`, y: "1rem",
    "text-anchor": place(time) < 6 ? "start" : place(time) > 94 ? "end" : "middle", ...(at % 2 ? {class: "odd"} : {})}, text)),
  svg("text", {x: "0", y: "2.1rem"}, written(window_[0]).slice(0, 16)),
  svg("text", {x: "100%", y: "2.1rem", "text-anchor": "end"}, written(window_[1]).slice(0, 16)));
}

const MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(" ");
function ticks() {
  const minutes = (window_[1] - window_[0]) / 60, steps = [1, 5, 15, 30, 60, 180, 360, 720, 1440, 2880, 10080, 20160];
  const step = steps.find(each => minutes / each <= 7), found = [];
  const at = local(window_[0]);
  at.setUTCSeconds(0, 0);
  if (!step || step >= 1440) at.setUTCHours(0, 0); else at.setUTCHours(0, Math.floor((at.getUTCHours() * 60 + at.getUTCMinutes()) / step) * step);
  let months = 0;
  if (!step) { months = [1, 3, 6, 12, 24, 60, 120].find(each => minutes / 43200 / each <= 7) ?? 120; at.setUTCDate(1); }
  for (let count = 0; count < 30; count++) {
    const time = read(at.toISOString().slice(0, 19), "");
    if (time > window_[1]) break;
    const text = months ? `${MONTHS[at.getUTCMonth()]} ${at.getUTCFullYear()}` :
      step >= 1440 ? `${two(at.getUTCDate())} ${MONTHS[at.getUTCMonth()]}` : `${two(at.getUTCHours())}:${two(at.getUTCMinutes())}`;
    if (time >= window_[0]) found.push([time, text]);
    if (months) at.setUTCMonth(at.getUTCMonth() + months); else at.setUTCMinutes(at.getUTCMinutes() + step);
  }
  return found;
}

// --- zoom ---
function zoom(from, to) {
  // From and To may lie outside the trail: what is shown may stay, and the trail can be reached from there
  const first = Math.min(0, window_[0]), last = Math.max(length, window_[1]);
  const wide = Math.min(Math.max(to - from, Math.min(smallest, length)), last - first);
  const at = Math.min(Math.max((from + to - wide) / 2, first), last - wide);
  window_ = [Math.round(at), Math.round(at + wide)];
  apply();
}
const by = (widen, move) => () => {
  const wide = window_[1] - window_[0], middle = (window_[0] + window_[1]) / 2 + move * wide;
  zoom(middle - wide * widen / 2, middle + wide * widen / 2);
};
field("in").onclick = by(0.5, 0);
field("out").onclick = by(2, 0);
field("earlier").onclick = by(1, -0.5);
field("later").onclick = by(1, 0.5);
controls.onsubmit = event => event.preventDefault();
controls.onreset = () => setTimeout(() => { window_ = [0, length]; apply(); });
let waiting = 0;
field("text").oninput = () => { clearTimeout(waiting); waiting = setTimeout(between, 150); };
for (const name of ["guest", "device", "result", "from", "to"]) field(name).onchange = between;
for (const name of ["from", "to"]) field(name).onfocus = () => field(name).select();
