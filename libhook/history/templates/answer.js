// SPDX-License-Identifier: LGPL-2.1-or-later
// The second part of the page's script: what is asked of the time, and what is said of the answer.

// What is no time has no answer: the old one must not stay there as if it were one.
function complain(names, text) {
  field("wrong").textContent = text;
  field("wrong").hidden = !text;
  for (const name of ["from", "to"]) {
    field(name).setAttribute("aria-invalid", String(names.includes(name)));
    if (names.includes(name)) field(name).setAttribute("aria-describedby", "wrong"); else field(name).removeAttribute("aria-describedby");
  }
  document.body.classList.toggle("stale", Boolean(text));
}
function between() {
  const names = ["from", "to"], texts = names.map(name => field(name).value.trim());
  const times = texts.map((text, at) => text === written(window_[at]) ? window_[at] : text ? read(text, at ? "23:59:59" : "00:00:00") : at ? length : 0);
  let wrong = names.filter((_, at) => isNaN(times[at])), text = "";
  const like = `${written(0).slice(0, 16)} or ${written(0).slice(0, 10)}`;
  if (wrong.length) text = `${wrong.map(name => `${name === "from" ? "From" : "To"}: \u201c${texts[names.indexOf(name)]}\u201d is no time.`).join(" ")} Write it like ${like}.`;
  else if (times[0] > times[1]) { wrong = names; text = "To is before From: no time lies between them."; }
  if (text) {
    complain(wrong, text);
    field("found").textContent = field("made-shown").textContent = "";
    hide();
    return;
  }
  window_ = [times[0], Math.max(times[1], times[0] + 1)];
  apply();
}

// The recorded times without a trail within what is asked for: of one device's host, or of all.
const silentOf = number => facts.silences.flatMap((each, at) => number && facts.silent[number - 1] !== at + 1 ? [] :
  each.filter(([from, to]) => from <= window_[1] && to >= window_[0])
    .map(([from, to]) => [Math.max(from, window_[0]), Math.min(to, window_[1]), facts.nodes[at]]));
const outside = () => facts.unknown || window_[0] < 0 || window_[1] > length;

function answer(found, some) {
  const counted = count => `${count} ${count === 1 ? "entry" : "entries"}`;
  if (!some) return counted(total);
  const chosen = name => field(name).selectedOptions[0].textContent, parts = [`from ${written(window_[0])} to ${written(window_[1])}`];
  for (const name of ["device", "guest", "result"]) if (field(name).value) parts.push(`${name === "result" ? "only" : name} ${chosen(name)}`);
  if (field("text").value.trim()) parts.push(`with \u201c${field("text").value.trim()}\u201d`);
  const said = [`Shown: ${found} of ${counted(total)}, ${parts.join(", ")}.`], [begins, ends] = facts.whole;
  if (window_[0] < 0) said.push(begins ? `The trail begins ${written(0)}: what was before is not known.` : `This page begins ${written(0)}: what was before is not on it.`);
  if (window_[1] > length) said.push(ends ? `The trail ends ${written(length)}: what was after is not known.` : `This page ends ${written(length)}: what was after is not on it.`);
  if (window_[1] <= 0 || window_[0] >= length) return said.join(" ");
  if (facts.unknown) return [...said, facts.unknown].join(" ");
  const gaps = silentOf(Number(field("device").value)), rest = said.length > 1 ? "For the rest of this time" : "For this time";
  const list = gaps.slice(0, 3).map(([from, to, node]) => `from ${written(from)} to ${written(to)}${node ? ` on ${node}` : ""}`).join(", ");
  if (gaps.length) said.push(`There is no trail ${list}${gaps.length > 3 ? ` and ${gaps.length - 3} more times` : ""}: who had what then is not known.`);
  else if (!facts.cut) said.push(`${rest} no gap in the trail is recorded.`);
  if (facts.cut) said.push("Further times without a trail may be listed below.");
  if (facts.missing) said.push("Not all of the logs could be read, as said at the top.");
  return said.join(" ");
}

// A device without an entry keeps its line, with the times without a trail, where the answer is about it.
function emptied(row, gone) {
  const device = field("device").value, others = field("text").value.trim() || field("guest").value || field("result").value;
  const kept = device ? row.dataset.device === device : !others, none = row.querySelector(".empty");
  row.hidden = gone && !kept;
  none.hidden = !gone;
  if (gone) none.textContent = `no ${others ? "such " : ""}entry${timed() ? " in this time" : ""}` +
    (silentOf(Number(row.dataset.device)).length || outside() ? "; unknown where it is grey" : "");
}

