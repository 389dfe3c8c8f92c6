// The text: an editable host, a <p> a paragraph. Typing is the browser's own; pasting is ours, and what a browser
// leaves behind is put right. A place in the text is {index, offset}: a paragraph, and UTF-16 units in it.

import { $, h, on } from "./base.js";

const INVISIBLE = /[\0-\x08\x0e-\x1f\x7f\xad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g;

export const host = $("body");
const paragraphs = host.children; // a live list
let last = {};

export const heard = {};

/** Pasted text as this page has it: a line is a paragraph, and nothing invisible is left. */
const cleaned = (text) => text.replace(/\r\n?|[\v\f\u2028\u2029]/g, "\n").replace(INVISIBLE, "").replace(/\xa0/g, " ").replace(/\n\s*/g, "\n").replace(/^\n|\n$/g, "");

export const get = () => [...paragraphs].map(({ dataset, textContent }) => ({ storyline: dataset.storyline ?? "A", text: textContent }));

export const set = (texts) => {
	const made = (texts.length ? texts : [{ storyline: "A" }]).map(({ storyline, text }) => {
		const element = h("p", text || h("br"));
		element.dataset.storyline = storyline;
		return element;
	});
	host.replaceChildren(...made);
	mark();
};

const mark = () => {
	host.classList.toggle("empty", paragraphs.length === 1 && !host.textContent);
	host.classList.toggle("stranded", get().some(({ storyline }) => storyline !== "A"));
};

/** Where the selection begins and ends, or where it did when it was in the text; at first the text's end. */
export const selection = () => {
	const now = getSelection();
	if (now.rangeCount && host.contains(now.anchorNode)) {
		const { startContainer, startOffset, endContainer, endOffset } = now.getRangeAt(0);
		last = { start: place(startContainer, startOffset), end: place(endContainer, endOffset) };
	}
	return { start: within(last.start), end: within(last.end) };
};

export const select = (start, end = start, isShown = false) => {
	const { startContainer, startOffset, endContainer, endOffset } = range(start, end);
	host.focus({ preventScroll: true });
	getSelection().setBaseAndExtent(startContainer, startOffset, endContainer, endOffset);
	if (isShown) paragraphs[start.index]?.scrollIntoView({ block: "center" });
};

export const range = (start, end) => {
	const made = document.createRange();
	made.setStart(...point(start));
	made.setEnd(...point(end));
	return made;
};

/** Put `text` in the place of what is between two places; each \n begins a paragraph. */
export const splice = (start, end, text) => {
	const texts = get();
	const { storyline } = texts[start.index];
	const lines = (texts[start.index].text.slice(0, start.offset) + text).split("\n");
	const to = { index: start.index + lines.length - 1, offset: lines.at(-1).length };
	lines.push(lines.pop() + texts[end.index].text.slice(end.offset));
	set(texts.toSpliced(start.index, end.index - start.index + 1, ...lines.map((line) => ({ storyline, text: line }))));
	select(to);
	if (lines.length > 1) paragraphs[to.index].scrollIntoView({ block: "nearest" });
	heard.changed();
};

/** Underline spans, [from, to] each, by the name of a highlight. Browsers without highlights have the findings' quotes. */
export const underline = (spans) => {
	for (const name in spans) CSS.highlights?.set(name, new Highlight(...spans[name].map((span) => range(...span))));
};

/** Put right what a browser left behind: text outside paragraphs, markup and line breaks in them. */
const repair = () => {
	const isPlain = ({ nodeName, childNodes }) => nodeName === "P" && [...childNodes].every((each) => each.nodeType === Node.TEXT_NODE || childNodes.length === 1);
	const nodes = [...host.childNodes];
	if (nodes.length && nodes.every(isPlain)) return mark();
	const { start } = selection();
	const texts = ({ innerText, textContent, dataset }) => (innerText ?? textContent).replace(/\n$/, "").split("\n").map((text) => ({ storyline: dataset?.storyline ?? "A", text }));
	set(nodes.flatMap(texts));
	if (document.activeElement === host) select(start);
};

/** The break between two paragraphs, where a key at it deletes that. */
const joint = (kind) => {
	const { start, end } = selection();
	const { index, offset } = start;
	if (index !== end.index || offset !== end.offset) return null;
	if (/^delete.*Backward$/.test(kind) && index && !offset) return { start: textEnd(index - 1), end };
	if (/^delete.*Forward$/.test(kind) && offset === textEnd(index).offset) return { start, end: within({ index: index + 1, offset: 0 }) };
	return null;
};

const textEnd = (index = Math.max(0, paragraphs.length - 1)) => ({ index, offset: paragraphs[index]?.textContent.length ?? 0 });

/** The place, or the text's end where it lies beyond that. */
const within = (place) => (paragraphs[place?.index] ? place : textEnd());

const place = (node, offset) => {
	const index = node === host ? offset : [...paragraphs].findIndex((each) => each.contains(node));
	if (!paragraphs[index]) return textEnd();
	if (node === host) return { index, offset: 0 };
	const before = document.createRange();
	before.setStart(paragraphs[index], 0);
	before.setEnd(node, offset);
	return { index, offset: before.toString().length };
};

const point = ({ index, offset }) => {
	const element = paragraphs[index] ?? host.lastElementChild;
	const nodes = [...element.childNodes].filter((node) => node.nodeType === Node.TEXT_NODE);
	for (const node of nodes) {
		if (offset <= node.length) return [node, offset];
		offset -= node.length;
	}
	return nodes.length ? [nodes.at(-1), nodes.at(-1).length] : [element, 0];
};

on(host, "beforeinput", (event) => {
	const { inputType: kind, isComposing, data } = event;
	if (/^(format|history|insertFromPaste)/.test(kind)) return event.preventDefault();
	heard.before(kind.slice(0, 6));
	const { start, end } = joint(kind) ?? selection();
	const isBreak = /^insert(Paragraph|LineBreak)$/.test(kind);
	if (isComposing || (start.index === end.index && !isBreak)) return;
	event.preventDefault();
	splice(start, end, isBreak ? "\n" : (data ?? ""));
});
on(host, "input compositionend", (event) => {
	if (!event.isComposing) repair();
	heard.changed();
});
on(host, "paste", (event) => {
	event.preventDefault();
	const { clipboardData: data } = event;
	if (data.files.length) return;
	const text = cleaned(data.getData("text/plain"));
	const { start, end } = selection();
	heard.before("paste");
	splice(start, end, text);
	heard.pasted(text.length);
});
on(document, "selectionchange", () => document.activeElement === host && heard.moved());
