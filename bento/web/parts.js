// What both halves of the page are made of: elements, bars and the search in all labels.

const SHOWN = 8;
let numPickers = 0;

export const at = (id) => document.getElementById(id);
export const percent = (p) => (p >= 0.9995 ? "100 %" : p < 0.0005 ? "< 0.1 %" : `${(p * 100).toFixed(1)} %`);

export function element(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.includes("-") || name === "role") node.setAttribute(name, value);
    else node[name] = value;
  }
  node.append(...children);
  return node;
}

export function show(id, message) {
  at(id).textContent = message ?? "";
  at(id).hidden = !message;
}

// One label with its probability; a button where `choose` is given.
export function bar({ label, probability, key, chosen, choose }) {
  const fill = element("span", { className: "fill", "aria-hidden": "true" });
  fill.style.width = `${probability * 100}%`;
  const parts = [fill];
  if (key) parts.push(element("kbd", { textContent: key, "aria-hidden": "true" }));
  parts.push(element("span", { className: "name", textContent: label }));
  parts.push(element("span", { className: "value", textContent: percent(probability) }));
  const className = chosen ? "bar chosen" : "bar";
  const whole = choose
    ? element("button", { type: "button", className, onclick: () => choose(label) }, ...parts)
    : element("div", { className }, ...parts);
  return element("li", {}, whole);
}

const plain = (text) => text.toLowerCase().replaceAll(/[_\s-]+/g, " ").trim();

// Labels that hold every word of `query`, those that begin with it first.
function matches(labels, query) {
  const words = plain(query).split(" ");
  const found = labels.filter((label) => words.every((word) => plain(label).includes(word)));
  return found.sort((a, b) => plain(b).startsWith(plain(query)) - plain(a).startsWith(plain(query)));
}

// A search in all labels: type, arrow keys, Enter; what no label is can be saved as a new one.
export class Picker {
  constructor(place, name, choose) {
    const id = `picker-${(numPickers += 1)}`;
    this.choose = choose;
    this.labels = [];
    this.options = [];
    this.active = 0;
    this.list = element("ul", { id: `${id}-list`, role: "listbox", "aria-label": name, hidden: true });
    this.input = element("input", {
      id, type: "text", role: "combobox", autocomplete: "off", spellcheck: false, maxLength: 256, "aria-expanded": "false",
      "aria-controls": `${id}-list`, "aria-autocomplete": "list", oninput: () => this.open(), onfocus: () => this.open(),
      onblur: () => this.close(), onkeydown: (event) => this.key(event),
    });
    place.append(element("label", { htmlFor: id, textContent: name }), this.input, this.list);
  }

  use(labels) {
    this.labels = labels;
    this.input.placeholder = `Search ${labels.length} labels`;
  }

  clear() {
    this.input.value = "";
    this.close();
  }

  open() {
    const query = this.input.value.trim();
    const found = matches(this.labels, query);
    this.options = found.slice(0, SHOWN).map((label) => ({ label, text: label, isNew: false }));
    if (query && !this.labels.includes(query)) this.options.push({ label: query, text: `Save “${query}” as a new label`, isNew: true });
    const hint = found.length > SHOWN ? [element("li", { className: "hint", role: "presentation", textContent: `and ${found.length - SHOWN} more: type to narrow` })] : [];
    this.list.replaceChildren(...this.options.map((option, index) => element("li", {
      id: `${this.list.id}-${index}`, role: "option", textContent: option.text, className: option.isNew ? "new" : "",
      onmousedown: (event) => { event.preventDefault(); this.take(index); },
    })), ...hint);
    this.list.hidden = false;
    this.input.setAttribute("aria-expanded", "true");
    this.mark(0);
  }

  close() {
    this.list.hidden = true;
    this.input.setAttribute("aria-expanded", "false");
    this.input.removeAttribute("aria-activedescendant");
  }

  mark(index) {
    this.active = Math.max(0, Math.min(index, this.options.length - 1));
    for (const [position, node] of [...this.list.querySelectorAll("[role=option]")].entries()) {
      node.setAttribute("aria-selected", String(position === this.active));
      if (position === this.active) node.scrollIntoView({ block: "nearest" });
    }
    this.input.setAttribute("aria-activedescendant", `${this.list.id}-${this.active}`);
  }

  key(event) {
    if (event.isComposing) return;
    if (event.key === "ArrowDown") this.mark(this.active + 1);
    else if (event.key === "ArrowUp") this.mark(this.active - 1);
    else if (event.key === "Enter" && this.input.value.trim()) this.take(this.active);
    else if (event.key === "Escape") { this.clear(); this.input.blur(); }
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  take(index) {
    const option = this.options[index];
    if (!option) return;
    this.clear();
    this.input.blur();
    this.choose(option.label, option.isNew);
  }
}
