// One answer on the page. Text of models and rows only ever becomes text nodes.

import { words } from "./words.js";

/** An answer that grows; `openRow(citation)` is called when somebody opens a source. */
export class Answer {
  constructor(model, openRow) {
    this.text = "";
    this.annotations = [];
    this.context = null;
    this.finishReason = null;
    this._openRow = openRow;
    this._startedMs = performance.now();
    this._firstMs = null;
    this._about = make("div", "who", make("b", "", model));
    this._words = make("p", "words");
    this.node = make("article", "answer", this._about, this._words);
    this.node.dataset.model = model;
    this.node.setAttribute("aria-label", model);
    this.node.setAttribute("aria-busy", "true");
  }

  /** Add what a chunk brings. */
  add({ text, annotations, context, finishReason }) {
    if (text) {
      this._firstMs ??= performance.now();
      this.text += text;
      this._words.append(text);
    }
    if (annotations) this.annotations.push(...annotations);
    if (context) this.context = context;
    if (finishReason) this.finishReason = finishReason;
  }

  /** Show the answer as complete, its markers as buttons. */
  finish() {
    this.node.setAttribute("aria-busy", "false");
    this._words.replaceChildren(...this._marked());
    const cited = new Map(this.annotations.map((one) => this._source(one)).filter(Boolean));
    if (cited.size) {
      const numbers = [...cited.keys()].sort((a, b) => a - b);
      const items = numbers.map((number) => make("li", "", this._button("", `[${number}] ${cited.get(number).title}`, cited.get(number))));
      this.node.append(make("ol", "sources", ...items));
    }
    if (this.context?.no_answer) this._badge(words().refused, "refused");
    const nearest = this.context?.nearest;
    if (nearest) this.node.append(make("p", "sources", this._button("", `${words().nearest} ${nearest.title}`, nearest)));
    if (this.context?.quoted) this._badge(words().quoted, "quoted");
    if (this.finishReason === "length") this._badge(words().cut, "cut");
    this._time();
  }

  /** Show that somebody stopped it. */
  stop() {
    this.node.setAttribute("aria-busy", "false");
    this._badge(words().stopped, "stopped");
    this._time();
  }

  /** Show why there is no complete answer. */
  fail(message) {
    this.node.setAttribute("aria-busy", "false");
    this.node.append(make("p", "fault", message));
  }

  _badge(text, kind) {
    const badge = make("span", "badge", text);
    badge.dataset.kind = kind;
    this._about.append(badge);
  }

  _time() {
    const seconds = (untilMs) => ((untilMs - this._startedMs) / 1000).toFixed(1);
    const nowMs = performance.now();
    this._about.append(make("span", "", words().timing(seconds(this._firstMs ?? nowMs), seconds(nowMs))));
  }

  /** The text with a button for each mark. Offsets count characters, which JavaScript's own do not. */
  _marked() {
    const letters = Array.from(this.text);
    const nodes = [];
    let at = 0;
    for (const annotation of this.annotations) {
      const { start_index: start, end_index: end } = annotation.url_citation;
      const [number, citation] = this._source(annotation) ?? [];
      if (number === undefined || start < at) continue;
      nodes.push(letters.slice(at, start).join(""), this._button("mark", String(number), citation));
      at = end;
    }
    return [...nodes, letters.slice(at).join("")];
  }

  /** The number that an annotation's mark shows and the row behind it, or null where they do not fit. */
  _source({ url_citation: cited }) {
    const mark = Array.from(this.text).slice(cited.start_index, cited.end_index).join("");
    const number = Number(/^\[(\d+)\]$/.exec(mark)?.[1]);
    const citation = this.context?.citations?.[number - 1];
    return citation ? [number, citation] : null;
  }

  _button(kind, text, citation) {
    const button = make("button", kind, text);
    button.type = "button";
    button.title = citation.title;
    button.setAttribute("aria-label", `${words().source} ${text}: ${citation.title}`);
    button.addEventListener("click", () => this._openRow(citation));
    return button;
  }
}

/** An element with a class and children; text children become text. */
export function make(tag, kind, ...children) {
  const node = document.createElement(tag);
  if (kind) node.className = kind;
  node.append(...children);
  return node;
}
