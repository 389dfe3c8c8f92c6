// Elements, notices and dialogs. Data becomes text nodes and attributes, never markup.

import { has, w } from "./words.js";

export const $ = (id) => document.getElementById(id);

/** Listen to events, several names with a blank between them. */
export const on = (target, names, act) => {
	for (const name of names.split(" ")) target.addEventListener(name, act);
};

/** Make an element: `on…` are listeners, all else attributes; children that are false or empty are left out. */
export const h = (tag, attributes = {}, ...children) => {
	const element = document.createElement(tag);
	for (const [key, value] of Object.entries(attributes)) {
		if (typeof value === "function") on(element, key.slice(2), value);
		else if (value !== null && value !== false && value !== undefined) element.setAttribute(key, value === true ? "" : value);
	}
	element.append(...children.flat(3).filter((child) => child || child === 0));
	return element;
};

export const button = (words, onclick, more = {}) => h("button", { type: "button", onclick, ...more }, words);
export const closer = (onclick, name = w("close")) => button("×", onclick, { class: "close", "aria-label": name });
export const item = (onclick, ...children) => h("li", {}, button(children, onclick, { class: "item" }));
export const field = (words, control, hint) => h("label", { class: "field" }, h("span", {}, words), control, hint && h("small", {}, hint));
export const badge = (state) => h("span", { class: `badge ${state}` }, has(state) ? w(state) : state);
export const soft = (...words) => h("p", { class: "soft" }, words);
export const joined = (...words) => words.filter(Boolean).join(" · ");

/** Put the page's words into all elements that name them. */
export const label = () => {
	for (const element of document.querySelectorAll("[data-w], [data-label], [data-hint]")) {
		const { w: words, label: name, hint } = element.dataset;
		if (words) element.textContent = w(words);
		if (name) element.setAttribute("aria-label", w(name));
		if (hint) element.setAttribute("placeholder", w(hint));
	}
};

/** Tell a screen reader, politely. */
export const announce = (words) => {
	$("announcer").textContent = words;
};

/**
 * Show a line above the text; one with the same key takes its place.
 * @param {string} words
 * @param {{key?: string, kind?: string, actions?: [string, () => void][], lines?: string[]}} options
 */
export const notice = (words, { key = words, kind = "", actions = [], lines = [] } = {}) => {
	unnotice(key);
	const run = (act) => () => {
		element.remove();
		act();
	};
	const element = h(
		"div",
		{ class: `notice ${kind}`, "data-key": key, role: kind === "error" && "alert" },
		h("p", {}, words),
		lines.length > 0 && h("ul", {}, lines.map((line) => h("li", {}, line))),
		h("div", { class: "row" }, actions.map(([name, act]) => button(name, run(act))), closer(run(() => {}))),
	);
	$("notices").append(element);
};

export const unnotice = (...keys) => {
	for (const element of [...$("notices").children]) if (keys.includes(element.dataset.key)) element.remove();
};

/**
 * Open a dialog; it is gone once it is closed.
 * @param {string} title
 * @param {(Node|string)[]} content
 * @param {{wide?: boolean, leave?: string, primary?: string, submit?: (data: FormData) => unknown}} options
 *     the dialog stays open if `submit` gives false
 */
export const dialog = (title, content, { wide, leave = "close", primary, submit } = {}) => {
	const close = () => element.close();
	const send = async (event) => {
		event.preventDefault();
		if ((await submit?.(new FormData(event.target))) !== false) close();
	};
	const buttons = [button(w(leave), close), primary && h("button", { class: "primary" }, primary)];
	const form = h("form", { onsubmit: send }, content, h("div", { class: "row end" }, buttons));
	const element = h("dialog", { "aria-label": title, class: wide && "wide", onclose: () => element.remove() }, h("h2", {}, title), form);
	document.body.append(element);
	element.showModal();
	return element;
};

/** The parts of a difference in words. */
export const marked = (parts) => parts.map(({ kind, text }) => (kind === "same" ? text : h(kind === "in" ? "ins" : "del", {}, text)));
