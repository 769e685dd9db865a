# SPDX-License-Identifier: LGPL-2.1-or-later
"""The style of ``libhook history --html``: light and dark, for phones, wide screens and paper."""

STYLE = """
:root {
  color-scheme: light dark;
  --ground: #fbfbf8; --card: #ffffff; --ink: #1b1f24; --soft: #545b64; --line: #d5d8dc; --grid: #e6e8ea;
  --had: #2a62b8; --bad: #b3261e; --differ: #8a5300; --silent: #6b7280; --link: #1d4f9e;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #14171a; --card: #1c2024; --ink: #e7e9eb; --soft: #a9b0b8; --line: #3a4047; --grid: #2a2f35;
    --had: #7fb0ff; --bad: #ff8f85; --differ: #f0b860; --silent: #9aa3ad; --link: #9cc2ff;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 1.5rem clamp(.75rem, 3vw, 2.5rem) 3rem; max-width: 84rem;
  background: var(--ground); color: var(--ink); font: 1rem/1.5 system-ui, sans-serif;
}
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 .25rem; }
h2 { font-size: 1.15rem; line-height: 1.3; margin: 0; }
h2 .bus { color: var(--soft); font-weight: 400; }
p { margin: .25rem 0; }
a { color: var(--link); }
:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
.skip { position: absolute; top: -10rem; }
.skip:focus { top: .5rem; background: var(--card); padding: .4rem .8rem; z-index: 1; }
.soft, footer { color: var(--soft); }
.name { overflow-wrap: anywhere; unicode-bidi: isolate; }
.facts { display: flex; flex-wrap: wrap; gap: .5rem 2rem; margin: 1rem 0; padding: 0; list-style: none; }
.facts b { font-size: 1.3rem; margin-right: .3rem; font-variant-numeric: tabular-nums; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: 1rem; margin: 1rem 0; }
ul.times { margin: .5rem 0 0; padding-left: 1.25rem; }
.list { margin: .5rem 0 0; padding: 0; list-style: none; columns: 22rem; column-gap: 2rem; }
.list li { padding: .15rem 0; break-inside: avoid; }
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1.5rem; margin: .5rem 0; padding: 0; list-style: none; }
.legend li { display: flex; align-items: center; gap: .5rem; }
.legend svg { width: 2.2rem; flex: none; }
.bad { color: var(--bad); } .differ { color: var(--differ); }
.bad, .differ, .held { font-weight: 600; }
figure { margin: .75rem 0; display: grid; grid-template-columns: minmax(6rem, 14rem) 1fr; column-gap: 1rem; }
figure .name { text-align: right; align-self: center; line-height: 1.2; padding: .15rem 0; }
svg { display: block; width: 100%; height: 1.5rem; overflow: visible; }
svg.axis { grid-column: 2; height: 1.4rem; }
svg text { fill: var(--soft); font-size: .8rem; }
.grid { stroke: var(--grid); }
.had { fill: var(--had); }
.open { stroke: var(--had); stroke-width: 3; stroke-dasharray: 3 3; }
.failed { stroke: var(--bad); stroke-width: 2.5; fill: none; }
.differs { stroke: var(--differ); stroke-width: 2.5; fill: none; }
.silence { fill: var(--silent); fill-opacity: .25; } .silence-edge { stroke: var(--silent); stroke-dasharray: 2 2; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
caption, .hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
th { text-align: left; font-weight: 600; color: var(--soft); border-bottom: 1px solid var(--line); }
th, td { padding: .3rem .75rem .3rem 0; vertical-align: top; }
td { border-bottom: 1px solid var(--grid); }
td.name { min-width: 8rem; }
time { white-space: nowrap; }
summary { cursor: pointer; padding: .25rem 0; }
.uuid { color: var(--soft); font-size: .85rem; overflow-wrap: anywhere; }
@media (max-width: 48rem) {
  figure { grid-template-columns: 1fr; }
  figure .name { text-align: left; margin-top: .4rem; }
  svg.axis { grid-column: 1; }
  .odd { display: none; }
  table, tbody, tr, td { display: block; }
  thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  tr { border-bottom: 1px solid var(--line); padding: .5rem 0; }
  td { border: 0; padding: .1rem 0; display: grid; grid-template-columns: 6.5rem 1fr; gap: .5rem; }
  td::before { content: attr(data-label); color: var(--soft); }
}
@media print {
  :root {
    --ground: #fff; --card: #fff; --ink: #000; --soft: #444; --line: #999; --grid: #ccc;
    --had: #2a62b8; --bad: #b3261e; --differ: #8a5300; --silent: #6b7280; --link: #000;
  }
  body { max-width: none; padding: 0; font-size: 10pt; }
  .card { border: 0; border-top: 1px solid var(--line); border-radius: 0; padding: .5rem 0; }
  figure, tr, h2 { break-inside: avoid; } h2, figure { break-after: avoid; }
  svg { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
