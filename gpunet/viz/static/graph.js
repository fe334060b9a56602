"use strict";
// The page of a graph: boxes laid out by dagre, layers that fold, a slider that goes forward and then backward.
const data = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";
const READABLE = 0.72; // the smallest scale that nobody asked for
const MOST = 240; // boxes that dagre lays out without a wait
const byId = (id) => document.getElementById(id);
const canvas = document.createElement("canvas").getContext("2d");
function wide(text, size, bold) {
  canvas.font = (bold ? "700 " : "") + size + "px system-ui, 'DejaVu Sans', sans-serif";
  return canvas.measureText(text).width;
}
function make(tag, attributes, parent, text) {
  const e = document.createElementNS(SVG, tag);
  for (const name in attributes) e.setAttribute(name, attributes[name]);
  if (text !== undefined) e.textContent = text;
  if (parent) parent.appendChild(e);
  return e;
}
const labelWidth = (lines) => Math.max(...lines.map((line) => wide(line, 11)));
const count = (n) => n.toLocaleString("en") + (n === 1 ? " node" : " nodes");
const bracket = (text) => (text.startsWith("−") ? "(" + text + ")" : text);

class Pane {
  constructor(model, title) {
    this.model = model; this.items = model.items; this.title = title;
    this.gates = this.items.map((item, i) => i).filter((i) => this.items[i].op);
    this.when = new Map(this.gates.map((i, k) => [i, k + 1])); // step at which a gate computes
    this.last = this.items.some((i) => i.gradient) ? 2 * this.gates.length + 2 : this.gates.length + 1; // the last one: done
    this.timeGradients();
    this.groups = [];
    this.number(model.tree, null);
    this.root = this.groups[0];
    const small = this.items.length <= model.open;
    this.groups.forEach((g) => { g.isOpen = small || g === this.root; });
    this.element = document.createElement("div"); this.element.className = "pane";
    const head = document.createElement("h2"); head.textContent = title; this.element.appendChild(head);
    this.svg = make("svg", { role: "group", "aria-label": title }, this.element);
    this.handlePointer();
  }
  sends(i) { return 2 * this.gates.length + 2 - this.when.get(i); } // step at which gate i sends its gradient back
  timeGradients() {
    for (const item of this.items) item.gradientAt = item.gradient && !item.readers ? this.gates.length + 1 : item.gradient ? 0 : Infinity;
    for (const g of this.gates)
      for (const [source, , product] of this.items[g].wires)
        if (product) this.items[source].gradientAt = Math.max(this.items[source].gradientAt, this.sends(g));
    // a result that others read too: its own gradient is there from the start, and theirs come later
  }
  number(group, parent) {
    const g = { title: group.title, detail: group.detail, parent, id: "g" + this.groups.length, children: [], members: [] };
    this.groups.push(g);
    for (const child of group.children) {
      if (typeof child === "number") { g.children.push(child); g.members.push(child); }
      else { const made = this.number(child, g); g.children.push(made); for (const m of made.members) g.members.push(m); }
    }
    return g;
  }
  // ---------------------------------------------------------------- what is seen
  seen() {
    const boxes = [], clusters = [], box = new Array(this.items.length);
    const walk = (g) => {
      for (const child of g.children) {
        if (typeof child === "number") { box[child] = boxes.length; boxes.push({ id: "i" + child, item: child, within: g }); }
        else if (child.isOpen) { clusters.push(child); walk(child); }
        else { for (const m of child.members) box[m] = boxes.length; boxes.push({ id: child.id, group: child, within: g }); }
      }
    };
    walk(this.root);
    return { boxes, clusters, box };
  }
  lines(b) { // what is written in a box: [text, class]
    if (b.group) {
      const gates = b.group.members.filter((m) => this.items[m].op), last = this.items[gates[gates.length - 1] ?? b.group.members[0]];
      b.shows = gates[gates.length - 1] ?? b.group.members[0];
      return [[b.group.title, "sign"], ...(b.group.detail ? [[b.group.detail.length > 44 ? b.group.detail.slice(0, 42) + "…" : b.group.detail, "soft"]] : []),
        ["⊞ " + count(b.group.members.length), "soft"], [last.value, "value"], ...(last.gradient ? [[last.gradient, "gradient"]] : [])];
    }
    const i = this.items[b.item], role = this.model.texts[i.role], shape = this.model.texts[i.shape];
    b.shows = b.item;
    const lines = i.op ? [[i.sign, "sign"], [role ? role + "  " + i.name : i.name, "soft"]] : i.name === i.value ? [] : [[i.name, "sign"]];
    if (!shape.startsWith("number")) lines.push([shape.split(" ")[0], "soft"]);
    lines.push([i.value, "value"]);
    if (i.gradient) lines.push([(i.readers > 1 ? "Σ branches " : "") + i.gradient, "gradient"]);
    return lines;
  }
  draw() {
    const { boxes, clusters, box } = this.seen();
    const g = new dagre.graphlib.Graph({ compound: clusters.length > 0, multigraph: true });
    g.setGraph({ rankdir: "LR", nodesep: 14, ranksep: 20, edgesep: 8, marginx: 14, marginy: 14 });
    for (const c of clusters) g.setNode(c.id, {});
    for (const b of boxes) {
      b.lines = this.lines(b);
      const width = Math.max(...b.lines.map(([t, c]) => wide(t, c === "sign" ? 15 : c === "soft" ? 11 : 12, c === "sign"))) + 18;
      g.setNode(b.id, { width, height: b.lines.length * 17 + 10 });
    }
    if (clusters.length) {
      for (const c of clusters) if (c.parent && c.parent !== this.root) g.setParent(c.id, c.parent.id);
      for (const b of boxes) if (b.within !== this.root) g.setParent(b.id, b.within.id);
    }
    const wires = new Map();
    for (const to of this.gates) this.items[to].wires.forEach(([from, local, product], k) => {
      const a = boxes[box[from]], b = boxes[box[to]];
      if (a === b) return;
      const single = !a.group && !b.group, key = a.id + " " + b.id + (single ? " " + k : "");
      const label = single && product ? [this.items[to].gradient + " × " + bracket(local), "= " + product] : null;
      if (!wires.has(key)) wires.set(key, { a: a.id, b: b.id, label, gates: [to] }); else wires.get(key).gates.push(to);
    });
    for (const [key, w] of wires)
      g.setEdge(w.a, w.b, w.label ? { width: labelWidth(w.label) + 8, height: 30, labelpos: "c" } : {}, key);
    dagre.layout(g);
    this.paint(g, boxes, clusters, wires);
  }
  paint(g, boxes, clusters, wires) {
    this.svg.replaceChildren();
    const arrow = "arrow" + panes.indexOf(this);
    const m = make("marker", { id: arrow, viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 8, markerHeight: 8, markerUnits: "userSpaceOnUse", orient: "auto" }, make("defs", {}, this.svg));
    make("path", { d: "M0 0L8 4L0 8z" }, m);
    const layers = make("g", {}, this.svg), lines = make("g", { class: "wires" }, this.svg), front = make("g", {}, this.svg);
    for (const c of clusters) {
      const n = g.node(c.id), e = make("g", { class: "cluster", tabindex: 0, role: "button", "data-cluster": c.id, "aria-label": "fold " + c.title }, layers);
      make("rect", { x: n.x - n.width / 2, y: n.y - n.height / 2 - 8, width: n.width, height: n.height + 8, rx: 6 }, e);
      make("text", { x: n.x - n.width / 2 + 8, y: n.y - n.height / 2 + 3 }, e, "⊟ " + c.title + "  " + c.detail);
      onPress(e, () => { c.isOpen = false; this.changed(c.id); });
    }
    this.wires = [];
    for (const [key, w] of wires) {
      const e = g.edge(w.a, w.b, key);
      const path = make("path", { d: "M" + e.points.map((p) => p.x.toFixed(1) + " " + p.y.toFixed(1)).join("L"), "marker-end": "url(#" + arrow + ")" }, lines);
      const label = w.label ? make("g", { class: "wire" }, lines) : null;
      if (label) {
        const width = labelWidth(w.label) + 4;
        make("rect", { x: e.x - width / 2, y: e.y - 15, width, height: 30 }, label);
        w.label.forEach((line, k) => make("text", { class: "wire", x: e.x, y: e.y - 7 + 14 * k }, label, line));
      }
      this.wires.push({ path, label, at: Math.min(...w.gates.map((i) => this.sends(i))), gates: w.gates });
    }
    this.boxes = boxes;
    for (const b of boxes) {
      const n = g.node(b.id), item = b.group ? null : this.items[b.item];
      const kind = b.group ? "group" : item.op ? "gate" : "leaf";
      const name = b.group ? "open " + b.group.title + " " + b.group.detail : (item.sign + " " + item.name).trim();
      b.element = make("g", { class: "box " + kind, tabindex: 0, role: "button", "data-id": b.id, "aria-label": name }, front);
      make("rect", { x: n.x - n.width / 2, y: n.y - n.height / 2, width: n.width, height: n.height, rx: kind === "leaf" ? 2 : 7 }, b.element);
      b.texts = b.lines.map(([text, c], k) => make("text", { class: c, x: n.x, y: n.y - n.height / 2 + 14 + 17 * k }, b.element, text));
      onPress(b.element, () => (b.group ? this.open(b.group) : this.choose(b)));
    }
    this.size = [Math.max(g.graph().width, 10), Math.max(g.graph().height, 10)];
    byId("panes").classList.toggle("stacked", this.size[0] > 2 * this.size[1]);
    this.fit(READABLE);
    this.show();
  }
  // ---------------------------------------------------------------- folding
  open(group) {
    const path = new Set();
    for (let p = group; p; p = p.parent) path.add(p);
    group.isOpen = true;
    let folded = 0;
    if (this.seen().boxes.length > MOST) for (const g of this.groups) if (g.isOpen && !path.has(g)) { g.isOpen = false; folded++; }
    this.changed(null);
    this.centre(group);
    if (folded) say("Others were folded, so that this one can be read.");
  }
  openAll() {
    for (const g of this.groups) { // breadth first, as far as it can be read
      if (g === this.root || (g.parent && !g.parent.isOpen)) continue;
      g.isOpen = true;
      if (this.seen().boxes.length > MOST) { g.isOpen = false; break; }
    }
    this.changed(null);
  }
  centre(group) { // what was just opened comes into sight
    const e = this.svg.querySelector('[data-cluster="' + group.id + '"] rect');
    if (!e) return;
    const [x, y, w, h] = ["x", "y", "width", "height"].map((a) => +e.getAttribute(a)), [vx, vy, vw, vh] = this.view;
    if (x >= vx && y >= vy && x + w <= vx + vw && y + h <= vy + vh) return;
    this.view = [w < vw ? x + w / 2 - vw / 2 : x - 10, h < vh ? y + h / 2 - vh / 2 : y - 10, vw, vh];
    this.look();
    e.parentNode.focus({ preventScroll: true });
  }
  foldAll() { for (const g of this.groups) if (g !== this.root) g.isOpen = false; this.changed(null); }
  changed(focus) {
    this.draw();
    const e = focus && this.svg.querySelector('[data-id="' + focus + '"]');
    if (e) e.focus();
  }
  // ---------------------------------------------------------------- steps
  get step() { return this.last ? Math.round(fraction * this.last) : 0; }
  show() {
    const s = this.step, n = this.gates.length, going = s <= n ? this.gates[s - 1] : s > n + 1 ? this.gates[2 * n + 1 - s] : this.gates[n - 1];
    for (const b of this.boxes) {
      const item = this.items[b.shows], value = !item.op || this.when.get(b.shows) <= s, gradient = item.gradientAt <= s;
      b.lines.forEach(([, c], k) => {
        if (c === "value") b.texts[k].classList.toggle("later", !value);
        if (c === "gradient") b.texts[k].classList.toggle("later", !gradient);
      });
      const active = s > 0 && s < this.last && (b.group ? b.group.members.includes(going) : b.item === going);
      b.element.classList.toggle("active", active);
    }
    for (const w of this.wires) {
      if (w.label) w.label.classList.toggle("later", s < w.at);
      w.path.classList.toggle("back", s > n + 1 && s < this.last && w.gates.includes(going) && s === this.sends(going));
    }
    return this.words(s, going);
  }
  words(s, going) {
    const n = this.gates.length, item = this.items[going];
    if (s === this.last) return "Done: every value is computed" + (this.last > n + 1 ? " and every gradient is back" : "") + ". Move the slider to step through.";
    if (s === 0) return "Start: the leaves have their values.";
    const from = (w) => this.items[w[0]].name;
    if (s <= n) return "Forward " + s + " of " + n + ": " + item.name + " = " + item.op + "(" + item.wires.map(from).join(", ") + ") = " + item.value;
    if (s === n + 1) return "Backward begins at the result: its own gradient is " + item.gradient + ".";
    const role = this.model.texts[item.role], sent = item.wires.filter((w) => w[2]);
    const told = sent.map((w) => from(w) + " gets " + item.gradient + " × " + bracket(w[1]) + " = " + w[2]).join("; ");
    return "Backward " + (s - n - 1) + " of " + n + ": " + item.name + (role ? ", a " + role : "") + ": " + (told || "sends no gradient");
  }
  // ---------------------------------------------------------------- details
  choose(b) {
    for (const p of panes) for (const other of p.boxes) other.element.classList.toggle("chosen", other === b);
    const i = this.items[b.item], t = this.model.texts, aside = byId("detail");
    aside.replaceChildren();
    const add = (tag, text, className) => { const e = document.createElement(tag); e.textContent = text; if (className) e.className = className; aside.appendChild(e); return e; };
    add("h2", (i.sign ? i.sign + "  " : "") + i.name);
    if (i.op) add("p", i.op + (t[i.settings] ? " (" + t[i.settings] + ")" : "") + (t[i.role] ? ": " + t[i.role] : ""));
    if (t[i.does]) add("p", t[i.does]);
    add("p", t[i.shape] + (t[i.note] ? ". " + t[i.note] : ""));
    if (i.wires.length) table(aside, ["input", "upstream", "local", "product"], i.wires.map((w) => [this.items[w[0]].name, w[2] ? i.gradient : "", w[1], w[2] || "none"]));
    const readers = this.gates.flatMap((g) => this.items[g].wires.filter((w) => w[0] === b.item && w[2]).map((w) => [this.items[g].name, w[2]]));
    if (readers.length > 1) { add("p", "It branches: the gradients that come back add up to " + i.gradient); table(aside, ["from", "gradient"], readers); }
    for (const [what, of, c] of [["value", i.of_value, "value"], ["gradient", i.of_gradient, "gradient"]]) {
      if (!of) continue;
      add("h2", what, c);
      table(aside, null, Object.entries(of[0]));
      if (of[1].length) {
        const bars = document.createElement("div"), most = Math.max(...of[1]); bars.className = "bars " + c; bars.title = "histogram, from min to max";
        for (const n of of[1]) { const bar = document.createElement("i"); bar.style.height = (100 * n) / most + "%"; bars.appendChild(bar); }
        aside.appendChild(bars);
      }
    }
  }
  // ---------------------------------------------------------------- moving about
  fit(least = 0) { // all of it, or no smaller than can be read, from the left
    const [w, h] = this.size, r = this.svg.getBoundingClientRect();
    const scale = Math.max(Math.min(r.width / w, r.height / h, 1.6), least) || 1;
    const x = w * scale > r.width ? 0 : w / 2 - r.width / scale / 2;
    this.view = [x, h / 2 - r.height / scale / 2, r.width / scale || w, r.height / scale || h];
    this.look();
  }
  look() { this.svg.setAttribute("viewBox", this.view.map((v) => v.toFixed(1)).join(" ")); }
  zoom(factor, x, y) {
    const [vx, vy, vw, vh] = this.view, r = this.svg.getBoundingClientRect();
    const px = vx + (vw * (x ?? r.width / 2)) / r.width, py = vy + (vh * (y ?? r.height / 2)) / r.height;
    this.view = [px - (px - vx) * factor, py - (py - vy) * factor, vw * factor, vh * factor];
    this.look();
  }
  handlePointer() {
    let from = null;
    this.svg.addEventListener("wheel", (e) => { e.preventDefault(); const r = this.svg.getBoundingClientRect(); this.zoom(e.deltaY > 0 ? 1.12 : 0.89, e.clientX - r.left, e.clientY - r.top); }, { passive: false });
    this.svg.addEventListener("pointerdown", (e) => { from = [e.clientX, e.clientY, ...this.view]; });
    this.svg.addEventListener("pointermove", (e) => {
      if (!from) return;
      const k = this.view[2] / this.svg.getBoundingClientRect().width;
      this.view = [from[2] - (e.clientX - from[0]) * k, from[3] - (e.clientY - from[1]) * k, this.view[2], this.view[3]];
      this.look();
    });
    for (const end of ["pointerup", "pointerleave"]) this.svg.addEventListener(end, () => { from = null; });
  }
}

function onPress(e, act) {
  e.addEventListener("click", act);
  e.addEventListener("keydown", (k) => { if (k.key === "Enter" || k.key === " ") { k.preventDefault(); k.stopPropagation(); act(); } });
}
function table(parent, head, rows) {
  const t = document.createElement("table");
  const row = (cells, tag) => { const r = t.insertRow(); for (const c of cells) { const e = document.createElement(tag); if (c instanceof Node) e.appendChild(c); else e.textContent = c; r.appendChild(e); } return r; };
  if (head) row(head, "th");
  for (const r of rows) row(r, "td");
  parent.appendChild(t);
  return t;
}
function say(text) { byId("caption").textContent = text; }

let fraction = 1;
const panes = [];
const main = new Pane(data, (data.fused ? "before fusion: " : "") + count(data.items.length));
panes.push(main); byId("panes").appendChild(main.element);
let fused = null;

function moved() {
  const words = panes.map((p) => p.show());
  say(words[0]);
}
function go(step) {
  const s = Math.min(Math.max(step, 0), main.last);
  byId("slider").value = s; fraction = main.last ? s / main.last : 0; moved();
}
byId("slider").max = main.last;
byId("slider").addEventListener("input", (e) => go(+e.target.value));
byId("back").addEventListener("click", () => go(main.step - 1));
byId("next").addEventListener("click", () => go(main.step + 1));
let timer = null;
function play() {
  if (timer) { clearInterval(timer); timer = null; byId("play").textContent = "▶ play"; return; }
  if (main.step >= main.last) go(0);
  byId("play").textContent = "❚❚ stop";
  const stride = Math.max(1, Math.round(main.last / 200));
  timer = setInterval(() => { go(main.step + stride); if (main.step >= main.last) play(); }, Math.max(60, Math.min(900, 20000 / Math.max(main.last, 1))));
}
byId("play").addEventListener("click", play);
byId("fit").addEventListener("click", () => panes.forEach((p) => p.fit()));
byId("fold").addEventListener("click", () => panes.forEach((p) => p.foldAll()));
byId("unfold").addEventListener("click", () => panes.forEach((p) => p.openAll()));
byId("theme").addEventListener("click", () => {
  const dark = document.documentElement.dataset.theme ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "light" : "dark";
});
document.addEventListener("keydown", (e) => {
  if (e.target.type === "range" || e.ctrlKey || e.metaKey || e.altKey) return;
  const act = { ArrowLeft: () => go(main.step - 1), ArrowRight: () => go(main.step + 1), Home: () => go(0), End: () => go(main.last),
    " ": play, f: () => panes.forEach((p) => p.fit()), "+": () => main.zoom(0.85), "-": () => main.zoom(1.18) }[e.key];
  if (act && !(e.key === " " && ["BUTTON", "INPUT"].includes(e.target.tagName))) { e.preventDefault(); act(); }
});
if (main.groups.length === 1) { byId("fold").hidden = byId("unfold").hidden = true; }
byId("fused-label").hidden = !data.fused;
byId("fused").addEventListener("change", (e) => {
  if (e.target.checked && !fused) fused = new Pane(data.fused, "after fusion: " + count(data.fused.items.length));
  if (e.target.checked) { panes.push(fused); byId("panes").appendChild(fused.element); fused.draw(); }
  else { panes.pop(); fused.element.remove(); }
  panes.forEach((p) => p.fit(READABLE)); moved();
});
byId("steps-label").hidden = !data.steps;
if (data.steps) {
  const most = Math.max(...data.steps.calls.map((c) => c.microseconds), 1e-9), total = data.steps.calls.reduce((a, c) => a + c.microseconds, 0);
  const bar = (c) => { const e = document.createElement("div"); e.style.cssText = "height:10px;background:var(--value);width:" + (100 * c.microseconds) / most + "px"; return e; };
  table(byId("program"), ["call", "op", "shape", "µs", "", "writes", "reads"], data.steps.calls.map((c, i) => [i + 1, c.op, c.shape, c.microseconds.toFixed(1), bar(c), c.writes.join("  "), c.reads.join("  ")]));
  const p = document.createElement("p");
  p.textContent = data.steps.calls.length + " calls, " + total.toFixed(1) + " µs, each kernel alone and at its best; arena of " + data.steps.arena.toLocaleString("en") + " bytes. A place is offset+length in the arena; held is memory of parameters, states and arguments.";
  byId("program").prepend(p);
}
byId("steps").addEventListener("change", (e) => { byId("program").hidden = !e.target.checked; panes.forEach((p) => p.fit()); });
byId("notes").textContent = data.notes.join(" ");
byId("detail").innerHTML = "<p class='hint'>Choose a node to read what it computed and what came back. Layers open on click. Drag to move, wheel to zoom.</p><p class='hint'>Keys: ← → step, space plays, f fits, + − zoom, Tab goes from node to node, Enter opens.</p>";
window.addEventListener("resize", () => panes.forEach((p) => p.fit(READABLE)));
main.draw();
go(main.last);
