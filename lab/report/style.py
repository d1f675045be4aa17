"""How the page looks. Colours are of Okabe and Ito's set, which the colour-blind tell apart, and of different lightness, which
print keeps; what matters is said by words or signs, too."""

from __future__ import annotations

LIGHT = """
  --ground: #ffffff; --raised: #f6f8fa; --ink: #1b1f24; --soft: #57606a; --rule: #d0d7de; --grid: #e4e8ec;
  --a0: #0067a8; --a1: #d55e00; --a2: #007a5a; --a3: #a8488f; --on: #ffffff;
  --good: #116329; --bad: #b3261e; --aim: #7a4d00; --band: #eef1f4; --cut: #b3261e; --restore: #116329; --rekey: #7b3fb3;
"""
DARK = """
  --ground: #0d1117; --raised: #161b22; --ink: #e6edf3; --soft: #9da7b3; --rule: #30363d; --grid: #21262d;
  --a0: #56b4e9; --a1: #f0a34a; --a2: #3ecf9c; --a3: #e08cc4; --on: #0d1117;
  --good: #56d364; --bad: #ff8a80; --aim: #e3b341; --band: #161c24; --cut: #ff8a80; --restore: #56d364; --rekey: #d2a8ff;
"""
STYLE = f"""
:root {{ color-scheme: light dark; {LIGHT} }}
@media (prefers-color-scheme: dark) {{ :root {{ {DARK} }} }}
@media print {{ :root {{ color-scheme: light; {LIGHT} }} }}
* {{ box-sizing: border-box; }}
""" + """
body { font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; margin: 0 auto; max-width: 64rem;
  padding: 1.5rem 1rem 4rem;
  background: var(--ground); color: var(--ink); overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; } h2 { font-size: 1.2rem; margin: 2.2rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1.3rem 0 .3rem; } p { margin: .3rem 0 .6rem; } .soft, figcaption, small { color: var(--soft); }
a { color: inherit; }
.verdict { display: inline-block; padding: .05rem .7rem; border-radius: 1rem; border: 2px solid; font-size: 1.1rem;
  vertical-align: .12em; }
.pass { color: var(--good); } .fail { color: var(--bad); } .missed { color: var(--aim); }
td.fail, td.missed { font-weight: 600; }
nav { margin: .8rem 0 0; font-size: .9rem; } nav a { margin-right: .9rem; white-space: nowrap; }
.alert { border-left: 4px solid var(--bad); background: var(--raised); padding: .5rem .9rem; margin: 1rem 0; }
.empty { border: 1px dashed var(--rule); border-radius: 6px; padding: .8rem 1rem; color: var(--soft); }
.wide { overflow-x: auto; max-width: 100%; }
figure { margin: .6rem 0 1.2rem; } figcaption { font-size: .85rem; margin-bottom: .2rem; } figcaption b { color: var(--ink); }
.plot { overflow-x: auto; } .plot > svg { display: block; width: 100%; min-width: 660px; height: auto; }
.small { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); gap: .6rem 1.2rem; }
td.dots { min-width: 15rem; } td.dots svg { width: 15rem; height: auto; display: block; }
.small svg { width: 100%; max-width: 32rem; height: auto; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .18rem .75rem .18rem 0; text-align: right; vertical-align: top; border-bottom: 1px solid var(--grid);
  overflow-wrap: normal; }
th { color: var(--soft); font-weight: 600; border-bottom-color: var(--rule); vertical-align: bottom; }
td.left, th.left { text-align: left; white-space: nowrap; }
td.words { text-align: left; min-width: 12rem; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .15rem 1rem; font-size: .9rem; }
dt { color: var(--soft); }
dd { margin: 0; grid-column: 2; }
details { margin: .6rem 0; } summary { cursor: pointer; } pre { overflow-x: auto; background: var(--raised);
  padding: .7rem; border-radius: 6px; font-size: .8rem; line-height: 1.4; }
.key { display: inline-block; width: .9em; height: .7em; border-radius: 2px; margin: 0 .3em 0 .8em; }
.key.a0 { background: var(--a0); } .key.a1 { background: var(--a1); } .key.a2 { background: var(--a2); }
.key.a3 { background: var(--a3); }
.key.state-active { background: var(--a0); } .key.state-idle { background: color-mix(in srgb, var(--a0) 38%, var(--ground)); }
.key.state-standby { background: color-mix(in srgb, var(--a0) 20%, var(--ground)); outline: 1px solid var(--a0); }
.key.state-suspect { background: color-mix(in srgb, var(--aim) 55%, var(--ground)); }
.key.state-failed { background: color-mix(in srgb, var(--cut) 55%, var(--ground)); }
.key.state-none { outline: 1px solid var(--rule); }
svg text { font: 12px system-ui, "Segoe UI", "DejaVu Sans", sans-serif; fill: var(--ink); } svg .soft { fill: var(--soft); }
svg .lab { paint-order: stroke; stroke: var(--ground); stroke-width: 4px; stroke-linejoin: round; }
svg .strong { font-weight: 600; } svg .on { fill: var(--on); font-weight: 600; } svg .grid { stroke: var(--grid); }
svg .axis { stroke: var(--soft); } svg .band.b0 { fill: var(--band); } svg .band.b1 { fill: none; }
svg .line { fill: none; stroke: currentColor; stroke-width: 1.5; stroke-linejoin: round; }
svg .a0 { --of: var(--a0); } svg .a1 { --of: var(--a1); } svg .a2 { --of: var(--a2); } svg .a3 { --of: var(--a3); }
svg .line.a0, svg .line.a1, svg .line.a2, svg .line.a3, svg .flow { stroke: var(--of); }
svg .line.a1 { stroke-dasharray: 7 2.5; } svg .line.a2 { stroke-dasharray: 2 2; }
svg .area { fill: var(--of); fill-opacity: .85; stroke: none; }
svg .area + .line { stroke: var(--ground); stroke-width: .7; stroke-dasharray: none; }
svg text.a0, svg text.a1, svg text.a2, svg text.a3 { fill: var(--of); font-weight: 600; }
svg .range { stroke: var(--of); stroke-width: 1.5; }
svg .bar, svg .pill { fill: var(--of); } svg .wires { fill: var(--raised); stroke: var(--rule); }
svg .goodput { fill: var(--ink); }
svg .way-up { stroke: var(--a2); } svg .way-down { stroke: var(--a3); stroke-dasharray: 7 2.5; }
svg text.way-up { fill: var(--a2); stroke: none; font-weight: 600; }
svg text.way-down { fill: var(--a3); stroke: none; font-weight: 600; }
svg .box { fill: var(--raised); stroke: var(--soft); } svg .control { fill: none; stroke: var(--soft); stroke-dasharray: 3 3; }
svg .link { stroke: var(--soft); fill: none; } svg .flow { fill: none; stroke-opacity: .9; }
svg .flow.nothing { stroke-dasharray: 2 4; }
svg .mark { stroke: var(--soft); stroke-width: 1; stroke-dasharray: 3 3; } svg .lead { stroke: var(--rule); }
svg .mark.cut { stroke: var(--cut); } svg .mark.restore { stroke: var(--restore); } svg .mark.rekey { stroke: var(--rekey); }
svg .sign { fill: var(--soft); stroke: none; } svg .sign.cut { fill: none; stroke: var(--cut); stroke-width: 2.5; }
svg .sign.restore { fill: var(--restore); } svg .sign.rekey { fill: var(--rekey); }
svg .state { stroke: var(--ground); stroke-width: .5; fill: none; } svg .state.active { fill: var(--of); }
svg .state.idle { fill: var(--of); fill-opacity: .38; }
svg .state.standby { fill: var(--of); fill-opacity: .2; stroke: var(--of); }
svg .state.suspect { fill: var(--aim); fill-opacity: .55; } svg .state.failed { fill: var(--cut); fill-opacity: .55; }
svg .state.validating, svg .state.abandoned { fill: var(--soft); fill-opacity: .35; } svg .onstate { fill: var(--ink); }
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; } nav, details:not([open]) { display: none; }
  figure, tr, .alert, dl, .small > * { break-inside: avoid; } h2, h3 { break-after: avoid; }
  .plot, .wide { overflow: visible; } .plot > svg { min-width: 0; } table { font-size: 8pt; } th, td { padding-right: .45rem; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
