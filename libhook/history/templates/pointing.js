// SPDX-License-Identifier: LGPL-2.1-or-later
// The last part of the page's script: what one points at or reaches by keyboard, print, and links.

// A screen reader hears the same as the value of the line.
const tip = Object.assign(document.createElement("div"), {id: "tip", hidden: true, ariaHidden: "true"});
const here = Object.assign(document.createElement("div"), {id: "here", hidden: true});
document.body.append(tip, here);
let told = null;  // the line of which something is said
const hide = () => { tip.hidden = here.hidden = true; told = null; };
const said = entry => {
  const cells = [...rowOf(entry).cells].map(cell => cell.textContent);
  const name = document.querySelector(`li[data-device="${device[entry]}"] a`).textContent;
  const to = cells[2] ? ` to ${cells[2]}` : "", lasting = cells[3] ? `, ${cells[3]}` : "";
  return `${name}: ${cells[0]}\n${cells[1]}${to}${lasting}\n${cells[4]}, recorded by ${cells[5].trim().replace(/ (\d+(?: \u2026 \d+)?)$/, ", event $1")}`;
};
const lanes = [...document.querySelectorAll("svg.lane")];
const ids = new Map(lanes.map(lane => [lane, lane.dataset.lines.trim().split(" ").map(Number)]));
const within = lane => {  // the entries of a lane, oldest first
  const of = line.get(ids.get(lane)[0]).device, all = ids.get(lane).length === 1 ? ids.get(lane)[0] : 0, found = [];
  for (let entry = deviceFirst[of]; entry < deviceEnd[of]; entry++)
    if (shown[entry] && (!all || (lineOf.get(`${of} ${guest[entry]}`) ?? lineOf.get(`${of} -1`)) === all)) found.push(entry);
  return found;
};
let entries = [], current = -1, chosen = null;

function show(lane, entry) {
  const box = lane.getBoundingClientRect(), unit = box.width / columns;
  const left = box.left + column(start[entry]) * unit, right = Math.max(box.left + column(end[entry]) * unit, left + 4);
  tip.textContent = said(entry);
  told = lane;
  tip.hidden = here.hidden = false;
  Object.assign(here.style, {left: `${left - 2 + scrollX}px`, top: `${box.top + scrollY}px`, width: `${right - left + 4}px`, height: `${box.height}px`});
  const wide = tip.offsetWidth, above = box.top - tip.offsetHeight - 6;
  const at = Math.min(Math.max((left + right - wide) / 2, 4), document.documentElement.clientWidth - wide - 4);
  Object.assign(tip.style, {left: `${at + scrollX}px`, top: `${(above > 0 ? above : box.bottom + 6) + scrollY}px`});
}
const pointed = (lane, x) => {
  const box = lane.getBoundingClientRect(), wide = window_[1] - window_[0];
  const time = window_[0] + (x - box.left) / box.width * wide, near = wide / box.width * 6;
  let best = -1, least = near;
  for (const entry of within(lane)) {
    const far = Math.max(start[entry] - time, time - end[entry], 0);
    // of several at this place the shortest, which is the hardest to hit
    if (far < least || (far === least && best >= 0 && end[entry] - start[entry] < end[best] - start[best])) { best = entry; least = far; }
  }
  return best;
};
let drag = null;
for (const lane of lanes) {
  const name = lane.getAttribute("aria-label");
  lane.setAttribute("role", "slider");
  lane.setAttribute("aria-valuemin", "0");
  lane.setAttribute("aria-valuemax", "0");
  lane.setAttribute("aria-valuenow", "0");
  lane.setAttribute("aria-valuetext", "use the arrow keys");
  lane.setAttribute("aria-label", name);
  lane.addEventListener("pointermove", event => {
    if (drag) {
      const [left, right] = [Math.min(drag.x, event.clientX), Math.max(drag.x, event.clientX)], box = lane.getBoundingClientRect();
      Object.assign(here.style, {left: `${left + scrollX}px`, width: `${right - left}px`, top: `${box.top + scrollY}px`, height: `${box.height}px`});
      here.hidden = right - left < 8;
      tip.hidden = true;
      return;
    }
    const entry = pointed(lane, event.clientX);
    if (entry >= 0) show(lane, entry); else hide();
  });
  lane.addEventListener("pointerdown", event => { drag = {x: event.clientX, lane}; lane.setPointerCapture(event.pointerId); });
  lane.addEventListener("pointerup", event => {
    const box = lane.getBoundingClientRect(), wide = window_[1] - window_[0];
    const [left, right] = drag ? [Math.min(drag.x, event.clientX), Math.max(drag.x, event.clientX)] : [0, 0];
    drag = null;
    if (right - left >= 8) {
      const time = x => window_[0] + Math.min(Math.max((x - box.left) / box.width, 0), 1) * wide;
      zoom(time(left), time(right));
    } else {
      const entry = pointed(lane, event.clientX);
      if (entry >= 0) show(lane, entry);
    }
  });
  lane.addEventListener("pointercancel", () => { drag = null; });
  // A finger that is lifted leaves, too: what a tap has shown stays until the next tap.
  lane.addEventListener("pointerleave", event => { if (!drag && event.pointerType !== "touch" && document.activeElement !== lane) hide(); });
  lane.addEventListener("blur", () => { if (told === lane) hide(); });
  lane.addEventListener("keydown", event => key(lane, event));
}
document.addEventListener("pointerdown", event => { if (!event.target.closest("svg.lane")) hide(); });

// Tab goes to the first line of a group that is shown, the arrow keys to its others.
const groups = [...document.querySelectorAll(".lanes")].map(group => [...group.querySelectorAll("svg.lane")]);
function rove() {
  for (const group of groups) {
    const first = group.find(lane => !lane.closest("tr, li").hidden);
    for (const lane of group) lane.setAttribute("tabindex", lane === first ? "0" : "-1");
  }
}
rove();

function key(lane, event) {
  if (event.key === "Escape") { hide(); return; }
  const group = [...lane.closest(".lanes").querySelectorAll("svg.lane")].filter(each => each.getClientRects().length);
  const other = {ArrowUp: -1, ArrowDown: 1}[event.key];
  if (other) {
    const next = group[group.indexOf(lane) + other];
    if (next) { lane.setAttribute("tabindex", "-1"); next.setAttribute("tabindex", "0"); next.focus(); }
  } else if (["ArrowLeft", "ArrowRight", "Home", "End"].includes(event.key)) {
    const before = chosen === lane ? entries[current] : undefined;
    entries = within(lane);
    current = before === undefined ? -1 : entries.indexOf(before);
    const last = entries.length - 1;
    current = {Home: 0, End: last, ArrowRight: Math.min(current + 1, last), ArrowLeft: current < 0 ? last : Math.max(current - 1, 0)}[event.key];
    chosen = lane;
    if (last < 0) { hide(); lane.setAttribute("aria-valuetext", "no entry"); return; }
    show(lane, entries[current]);
    lane.setAttribute("aria-valuemax", String(entries.length));
    lane.setAttribute("aria-valuemin", "1");
    lane.setAttribute("aria-valuenow", String(current + 1));
    lane.setAttribute("aria-valuetext", tip.textContent);
  } else if (event.key === "Enter" && chosen === lane && entries[current] !== undefined) {
    const row = rowOf(entries[current]);
    for (const each of document.querySelectorAll("tr.chosen")) each.classList.remove("chosen");
    row.closest("details").open = true;
    row.classList.add("chosen");
    row.tabIndex = -1;
    row.focus();
    row.scrollIntoView({block: "center"});
  } else return;
  event.preventDefault();
}

// Print opens what is folded; page.css does the same in browsers that know ::details-content.
let folded = [];
addEventListener("beforeprint", () => { blocks.forEach((_, at) => sync(at)); folded = [...document.querySelectorAll("details:not([open])")]; for (const each of folded) each.open = true; });
addEventListener("afterprint", () => { for (const each of folded) each.open = false; });
// A link to a part that is folded opens it.
const unfold = () => { const target = document.getElementById(location.hash.slice(1)); if (target?.tagName === "DETAILS") target.open = true; };
addEventListener("hashchange", unfold);
unfold();

controls.hidden = false;
field("from").value = written(0);
field("to").value = written(length);
field("found").textContent = answer(total, false);
