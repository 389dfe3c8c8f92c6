// The text, a <p> a paragraph. Typing is the browser's own, pasting is ours. A place is a number of UTF-16 units, with
// one for the break between two paragraphs.

import { $, h, on } from "./base.js";

const INVISIBLE = /[\0-\x08\x0e-\x1f\x7f\xad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g;

export const host = $("body");
const paragraphs = host.children; // a live list
let last = [Infinity, Infinity];

export const heard = {};

// A line is a paragraph, and nothing invisible is left.
const cleaned = text => text.replace(/\r\n?|[\v\f\u2028\u2029]/g, "\n").replace(INVISIBLE, "").replace(/\xa0/g, " ").replace(/\n\s*/g, "\n").replace(/^\n|\n$/g, "");

const content = (nodes = paragraphs) => [...nodes].map(({ textContent }) => textContent).join("\n");

export const get = () => [...paragraphs].map(({ dataset, textContent }) => ({ storyline: dataset.storyline ?? "A", text: textContent }));

export function set(texts) {
	const made = (texts.length ? texts : [{ storyline: "A" }]).map(({ storyline, text }) => {
		const element = h("p", text || h("br"));
		element.dataset.storyline = storyline;
		return element;
	});
	host.replaceChildren(...made);
	mark();
}

function mark() {
	host.classList.toggle("empty", paragraphs.length === 1 && !host.textContent);
	host.classList.toggle("stranded", get().some(({ storyline }) => storyline !== "A"));
}

// Start and end, or what they were when the selection was in the text; at first the text's end.
export function selection() {
	const now = getSelection();
	if (now.rangeCount && host.contains(now.anchorNode)) {
		const { startContainer, startOffset, endContainer, endOffset } = now.getRangeAt(0);
		last = [place(startContainer, startOffset), place(endContainer, endOffset)];
	}
	return last.map(each => Math.min(each, content().length));
}

export function select(start, end = start, isShown = false) {
	host.focus({ preventScroll: true });
	getSelection().setBaseAndExtent(...point(start), ...point(end));
	if (isShown) paragraphs[indexOf(start)].scrollIntoView({ block: "center" });
}

export function range(start, end) {
	const made = document.createRange();
	made.setStart(...point(start));
	made.setEnd(...point(end));
	return made;
}

// Put text in the place of what is between two places; each \n begins a paragraph.
export function splice(start, end, text) {
	const texts = get();
	const [first, before] = locate(start);
	const [final, after] = locate(end);
	const { storyline } = texts[first];
	const lines = (texts[first].text.slice(0, before) + text + texts[final].text.slice(after)).split("\n");
	set(texts.toSpliced(first, final - first + 1, ...lines.map(line => ({ storyline, text: line }))));
	select(start + text.length);
	if (lines.length > 1) paragraphs[indexOf(start + text.length)].scrollIntoView({ block: "nearest" });
	heard.changed();
}

// Underline spans by the name of a highlight. Browsers without highlights have the findings' quotes.
export function underline(spans) {
	for (const name in spans) CSS.highlights?.set(name, new Highlight(...spans[name].map(span => range(...span))));
}

// Put right what a browser left: text outside paragraphs, markup and line breaks in them.
function repair() {
	const isPlain = ({ nodeName, children, childNodes }) => nodeName === "P" && (!children.length || childNodes.length === 1);
	const nodes = [...host.childNodes];
	if (nodes.length && nodes.every(isPlain)) return mark();
	const [start] = selection();
	const texts = ({ innerText, textContent, dataset }) => (innerText ?? textContent).replace(/\n$/, "").split("\n").map(text => ({ storyline: dataset?.storyline ?? "A", text }));
	set(nodes.flatMap(texts));
	if (document.activeElement === host) select(start);
}

// The paragraph of a place, and the units before it in there.
function locate(place) {
	const size = index => paragraphs[index]?.textContent.length ?? 0;
	let index = 0;
	while (place > size(index) && index < paragraphs.length - 1) place -= size(index++) + 1;
	return [index, Math.min(place, size(index))];
}
const indexOf = place => locate(place)[0];

export const current = () => indexOf(selection()[0]);
export const startOf = index => content([...paragraphs].slice(0, index)).length + Math.sign(index);

function place(node, offset) {
	const before = document.createRange();
	before.setStart(host, 0);
	before.setEnd(node, offset);
	return content(before.cloneContents().childNodes).length;
}

function point(place) {
	const [index, offset] = locate(place);
	const element = paragraphs[index] ?? host;
	element.normalize();
	return element.textContent ? [element.firstChild, offset] : [element, 0];
}

on(host, "beforeinput", event => {
	const { inputType: kind, isComposing, data } = event;
	if (/^(format|history|insertFromPaste)/.test(kind)) return event.preventDefault();
	heard.before(kind.slice(0, 6));
	let [start, end] = selection();
	const text = content();
	if (start === end && /^delete.*Backward$/.test(kind) && text[start - 1] === "\n") start--;
	else if (start === end && /^delete.*Forward$/.test(kind) && text[end] === "\n") end++;
	const isBreak = /^insert(Paragraph|LineBreak)$/.test(kind);
	if (isComposing || !(isBreak || text.slice(start, end).includes("\n"))) return;
	event.preventDefault();
	splice(start, end, isBreak ? "\n" : (data ?? ""));
});
on(host, "input compositionend", event => {
	if (!event.isComposing) repair();
	heard.changed();
});
on(host, "paste", event => {
	event.preventDefault();
	const { clipboardData: data } = event;
	if (data.files.length) return;
	const text = cleaned(data.getData("text/plain"));
	heard.before("paste");
	splice(...selection(), text);
	heard.pasted(text.length);
});
on(document, "selectionchange", () => document.activeElement === host && heard.moved());
