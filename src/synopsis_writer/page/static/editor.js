// The text: a host that is edited as plain text, a <p> a paragraph. What happens inside one paragraph is the
// browser's own (input methods, spell-check, deleting words); what crosses paragraphs, Enter and paste are ours.

import { h, on } from "./dom.js";

const HAS_HIGHLIGHTS = "highlights" in CSS;
const INVISIBLE = /[\0-\x08\x0e-\x1f\x7f\xad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g;

/** Pasted text as this page has it: a line is a paragraph, and nothing invisible is left. */
const cleaned = (text) =>
	text
		.replace(/\r\n?|[\v\f\u2028\u2029]/g, "\n")
		.replace(INVISIBLE, "")
		.replace(/\xa0/g, " ")
		.replace(/\n\s*/g, "\n");

const paragraph = ({ storyline, text }) => h("p", { "data-storyline": storyline }, text || h("br"));

/**
 * A place in the text: a paragraph, and UTF-16 units in it.
 * @typedef {{index: number, offset: number}} Place
 */

export class Editor {
	#last = null;

	/**
	 * @param {HTMLElement} host
	 * @param {{before: (kind: string) => void, changed: () => void, moved: () => void, pasted: (length: number) => void}} heard
	 */
	constructor(host, heard) {
		this.host = host;
		this.heard = heard;
		host.contentEditable = "true"; // for browsers that do not know the next one
		try {
			host.contentEditable = "plaintext-only";
		} catch {}
		on(host, "beforeinput", (event) => this.#edit(event));
		on(host, "input", (event) => {
			if (!event.isComposing) this.#repair();
			heard.changed();
		});
		on(host, "compositionend", () => this.#repair());
		on(host, "paste", (event) => {
			event.preventDefault();
			if (event.clipboardData.files.length) return;
			const text = cleaned(event.clipboardData.getData("text/plain")).replace(/^\n|\n$/g, "");
			const { start, end } = this.selection();
			heard.before("paste");
			this.splice(start, end, text);
			heard.pasted(text.length);
		});
		on(document, "selectionchange", () => document.activeElement === host && heard.moved(this.selection()));
	}

	/** The paragraphs as they are now. */
	get() {
		return [...this.host.children].map((each) => ({ storyline: each.dataset.storyline || "A", text: each.textContent }));
	}

	set(paragraphs) {
		this.host.replaceChildren(...(paragraphs.length ? paragraphs : [{ storyline: "A", text: "" }]).map(paragraph));
		this.#mark();
	}

	/** Where the selection begins and ends, or where it did when it was in the text; at first the text's end. */
	selection() {
		const selection = getSelection();
		if (selection.rangeCount && this.host.contains(selection.anchorNode)) this.#last = this.#places(selection.getRangeAt(0));
		const end = this.#end();
		const within = (place) => (!place || place.index > end.index ? end : place);
		return { start: within(this.#last?.start), end: within(this.#last?.end) };
	}

	/** Select from `start` to `end`. */
	select(start, end = start, isShown = false) {
		const { startContainer, startOffset, endContainer, endOffset } = this.range(start, end);
		this.host.focus({ preventScroll: true });
		getSelection().setBaseAndExtent(startContainer, startOffset, endContainer, endOffset);
		if (isShown) this.host.children[start.index]?.scrollIntoView({ block: "center" });
	}

	range(start, end) {
		const range = document.createRange();
		range.setStart(...this.#point(start));
		range.setEnd(...this.#point(end));
		return range;
	}

	/** Put `text` in the place of what is between two places; each \n begins a paragraph. */
	splice(start, end, text) {
		const { children } = this.host;
		const { storyline = "A" } = children[start.index].dataset;
		const before = children[start.index].textContent.slice(0, start.offset) + text;
		const after = children[end.index].textContent.slice(end.offset);
		const made = (before + after).split("\n").map((part) => paragraph({ storyline, text: part }));
		for (let index = end.index; index > start.index; index--) children[index].remove();
		children[start.index].replaceWith(...made);
		const lines = before.split("\n");
		this.#mark();
		this.select({ index: start.index + lines.length - 1, offset: lines.at(-1).length });
		if (made.length > 1) children[start.index + lines.length - 1].scrollIntoView({ block: "nearest" });
		this.heard.changed();
	}

	/**
	 * Underline spans, by the name of a highlight.
	 * @param {Record<string, [Place, Place][]>} spans
	 */
	underline(spans) {
		if (!HAS_HIGHLIGHTS) return; // the findings' quotes lead to the words
		for (const name in spans) CSS.highlights.set(name, new Highlight(...spans[name].map((span) => this.range(...span))));
	}

	#edit(event) {
		const { inputType: kind, isComposing, dataTransfer, data } = event;
		if (/^(format|history|insertFromPaste)/.test(kind)) return event.preventDefault();
		this.heard.before(kind.slice(0, 6));
		if (isComposing || kind === "insertCompositionText") return;
		const [target] = event.getTargetRanges();
		const { start, end } = this.#joint(kind) ?? (target ? this.#places(target) : this.selection());
		const isEnter = /^insert(Paragraph|LineBreak)$/.test(kind);
		const given = isEnter ? "\n" : kind.startsWith("insert") ? cleaned(dataTransfer?.getData("text/plain") ?? data ?? "") : "";
		if (start.index === end.index && !given.includes("\n")) return;
		event.preventDefault();
		this.splice(start, end, given);
	}

	/** The break between two paragraphs, where a key deletes that. */
	#joint(kind) {
		const { start, end } = this.selection();
		const { index, offset } = start;
		if (!/^delete.*(Back|For)ward$/.test(kind) || index !== end.index || offset !== end.offset) return null;
		const length = (place) => this.host.children[place].textContent.length;
		if (kind.endsWith("Backward")) return offset || !index ? null : { start: { index: index - 1, offset: length(index - 1) }, end };
		return offset < length(index) || index === this.#end().index ? null : { start, end: { index: index + 1, offset: 0 } };
	}

	/** Put right what a browser left behind: text outside paragraphs, markup in them. */
	#repair() {
		const nodes = [...this.host.childNodes];
		const isPlain = (node) => node.nodeName === "P" && [...node.childNodes].every((each) => each.nodeName === "#text" || node.childNodes.length === 1);
		if (!nodes.length || !nodes.every(isPlain)) {
			const { start } = this.selection();
			this.set(nodes.flatMap(({ textContent, dataset }) => textContent.split("\n").map((text) => ({ storyline: dataset?.storyline ?? "A", text }))));
			if (document.activeElement === this.host) this.select(start);
		}
		for (const element of this.host.children) if (!element.firstChild) element.append(h("br"));
		this.#mark();
	}

	#mark() {
		const all = [...this.host.children];
		this.host.classList.toggle("empty", all.length === 1 && !all[0].textContent);
		this.host.classList.toggle("stranded", all.some((each) => each.dataset.storyline !== "A"));
	}

	#end() {
		const index = Math.max(0, this.host.children.length - 1);
		return { index, offset: this.host.children[index]?.textContent.length ?? 0 };
	}

	#places({ startContainer, startOffset, endContainer, endOffset }) {
		return { start: this.#place(startContainer, startOffset), end: this.#place(endContainer, endOffset) };
	}

	#place(node, offset) {
		const { children } = this.host;
		if (node === this.host) return offset < children.length ? { index: offset, offset: 0 } : this.#end();
		const index = [...children].findIndex((each) => each.contains(node));
		if (index < 0) return this.#end();
		const before = document.createRange();
		before.setStart(children[index], 0);
		before.setEnd(node, offset);
		return { index, offset: before.toString().length };
	}

	#point({ index, offset }) {
		const element = this.host.children[Math.min(index, this.host.children.length - 1)];
		const nodes = [...element.childNodes].filter((node) => node.nodeName === "#text");
		for (const node of nodes) {
			if (offset <= node.length) return [node, offset];
			offset -= node.length;
		}
		return nodes.length ? [nodes.at(-1), nodes.at(-1).length] : [element, 0];
	}
}
