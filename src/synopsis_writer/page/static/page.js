// The page: shows the open text with its brief, and ties keys and buttons to what they do.

import { $, all, fill, joined, label, later, notice, on, root, w, write } from "./base.js";
import { add, change, doc, docs, edit, go, leave, load, poll, recover, redo, remember, save, start, state, touch, undo, view } from "./desk.js";
import * as editor from "./editor.js";
import * as findings from "./findings.js";
import * as panels from "./panels.js";

const SEARCH_AFTER = 150; // milliseconds after a key
const POLL = 3000;
const LONG_PASTE = 20_000; // characters
const REGIONS = ["left", "middle", "right"];

const { elements: brief } = $("brief");
const { elements: wish } = $("wish");
const oneLine = value => value.replace(/\s*\n\s*/g, " ");
const lines = value => value.split("\n").map(line => line.trim()).filter(Boolean);
const readBrief = () => Object.fromEntries(new FormData($("brief")));

function showCast() {
	const isIt = name => name.toLowerCase() === brief.show.value.trim().toLowerCase();
	const cast = state.shows.find(({ name, aliases }) => [name, ...aliases].some(isIt))?.cast ?? [];
	const chosen = lines(brief.characters.value);
	function chip({ name, role }) {
		const others = chosen.filter(each => each !== name);
		const pressed = others.length < chosen.length;
		function toggle() {
			brief.characters.value = (pressed ? others : [...chosen, name]).join("\n");
			changeBrief();
		}
		return { name, role, pressed, toggle };
	}
	$("cast").hidden = !cast.length;
	fill("chips", "chip", cast.map(chip));
	const form = state.house.forms.find(({ name }) => name === brief.form.value);
	write("purpose", form && `${form.purpose} ${panels.limitsOf(form)}.`);
}

function changeBrief(kind) {
	edit({ brief: readBrief() }, kind);
	showCast();
}

function show(cursor) {
	const { text } = doc;
	const isGrowing = panels.job?.doc === doc && panels.job.kind === "write";
	const hadFocus = document.activeElement === editor.host;
	const [start] = editor.selection();
	for (const name of ["title", "logline"]) Object.assign($(name), { value: text[name], readOnly: isGrowing });
	$("characters").value = text.characters.map(({ name, role }) => `${name}: ${role}`).join("\n");
	editor.set(text.paragraphs);
	if (hadFocus) editor.select(cursor ?? start, undefined, cursor !== undefined);
	$("body").hidden = isGrowing;
	$("growing").hidden = !isGrowing;
	for (const each of brief) if (each.name) each.value = [text.brief[each.name] ?? ""].flat().join("\n");
	showCast();
	panels.showRecord(text.release);
	showPlace();
	view.touch();
}

function showTabs() {
	const isOpen = (key, value) => value && docs.some(({ text }) => text[key] === value);
	const siblings = panels.library.filter(({ id, story }) => isOpen("story", story) && !isOpen("id", id));
	const tab = each => ({
		form: each.text.brief.form,
		name: each.name + (each.isDirty ? " •" : ""),
		current: each === doc,
		go: () => go(each),
		closing: w("closeTab", each.name),
		close: docs.length > 1 && (() => leave(each)),
	});
	const sibling = ({ id, form, title }) => ({ form, name: title, current: false, go: () => load(id) });
	fill("open", "tab", [...docs.map(tab), ...siblings.map(sibling)]);
	$("open").hidden = docs.length + siblings.length < 2;
	document.title = `${doc.name} – synopsis`;
}

function showKept() {
	const { text, isDirty } = doc;
	write("kept", isDirty ? w("unsaved") : text.id && w(text.state));
	$("kept").className = `soft ${text.state}`;
}

function showPlace() {
	const { paragraphs } = doc.text;
	const index = editor.current();
	write("where", w("paragraphOf", index + 1, Math.max(1, paragraphs.length)));
	wish.scope.options[1].textContent = w("thisParagraph", index + 1);
	for (const each of all("#place button")) {
		const { action } = each.dataset;
		if (action.length === 1) each.ariaPressed = action === paragraphs[index]?.storyline;
		else each.disabled = !paragraphs[action === "up" ? index - 1 : index + 1];
	}
}

Object.assign(editor.heard, {
	before: remember,
	changed() {
		doc.text.paragraphs = editor.get();
		touch();
		showPlace();
	},
	moved() {
		showPlace();
		findings.markCurrent();
	},
	pasted: length => length > LONG_PASTE && notice("paste", w("longPaste", length)),
});
Object.assign(view, {
	show,
	place: () => editor.selection()[0],
	refresh: panels.refresh,
	compare: panels.compare,
	tabs: showTabs,
	touch() {
		showKept();
		showTabs();
		findings.check();
	},
});

// Actions

const withParagraph = (edited, by = 0) => () => {
	const { paragraphs } = doc.text;
	const index = editor.current();
	if (!paragraphs[index] || !paragraphs[index + by]) return;
	change({ paragraphs: edited(paragraphs, index) });
	editor.select(editor.startOf(index + by), undefined, true);
};
const move = by => withParagraph((texts, index) => texts.toSpliced(index, 1).toSpliced(index + by, 0, texts[index]), by);
const tell = storyline => withParagraph((texts, index) => texts.with(index, { ...texts[index], storyline }));

const toRegion = by => () => {
	const here = REGIONS.findIndex(id => $(id).contains(document.activeElement));
	const next = REGIONS[(here + by + 3) % 3];
	if (next === "middle") editor.select(editor.selection()[0]);
	else ($(next).querySelector("summary, button") ?? $(next)).focus();
};
const toPart = (part, control) => () => {
	$(part).open = true;
	control.focus();
};
const saved = act => async () => (await save()) && act();

function translate(to) {
	root.lang = to;
	label();
	const { model: engine, house } = state;
	write("house", house.is_own ? house.name : w("builtIn"));
	write("model", joined(w(`model_${engine.kind}`, engine.name), panels.budgetWords()));
	const ways = engine.ways_out.map(({ kind, command }) => w(`way_${kind}`, command));
	if (ways.length) notice("noModel", w("noModel"), { lines: [engine.why, w("waysOut"), ...ways] });
	show();
	panels.refresh();
}

function newText() {
	const { show: name, form } = doc.text.brief;
	add();
	Object.assign(doc.text.brief, { show: name, form });
	doc.saved = null;
	show();
	ACTIONS.brief();
}

function revise() {
	const note = wish.note.value.trim();
	if (note) panels.revise(note, wish.scope.value ? [editor.current() + 1] : [], wish.variants.value);
	else wish.note.focus();
}

const ACTIONS = {
	write: () => ($("wish").contains(document.activeElement) ? revise() : panels.write($("best-of").value)),
	stop: () => panels.job?.stop(),
	save,
	undo,
	redo,
	...findings.actions,
	revise: () => wish.note.focus(),
	prompt: () => panels.prompt(readBrief()),
	history: panels.history,
	lengths: saved(panels.lengths),
	export: saved(panels.exporting),
	release: saved(panels.release),
	newText,
	import: () => $("file").click(),
	brief: toPart("part-brief", brief.show),
	search: toPart("part-texts", $("query")),
	nextRegion: toRegion(1),
	lastRegion: toRegion(-1),
	up: move(-1),
	down: move(1),
	A: tell("A"),
	B: tell("B"),
	C: tell("C"),
	language: () => translate(root.lang === "de" ? "en" : "de"),
	actions: panels.showActions,
	hide: () => ($("job").hidden = true),
};
const KEYS = Object.fromEntries(all("[data-key]").flatMap(({ dataset: { key, action } }) => key.split(" ").map(each => [each, action])));
const SUBMITS = { wish: revise, "open-folder": panels.openFolder };

// By the id of the field or of its form.
const INPUTS = {
	brief: ({ name }) => name && changeBrief(`brief ${name}`),
	title: ({ value }) => edit({ title: oneLine(value) }, "title"),
	logline: ({ value }) => edit({ logline: oneLine(value) }, "logline"),
	characters({ value }) {
		const people = lines(value).map(line => /^([^:]*):?(.*)$/.exec(line));
		edit({ characters: people.map(([, name, role]) => ({ name: name.trim(), role: role.trim() })) }, "characters");
	},
	query: () => later("search", SEARCH_AFTER, panels.refresh),
	state: panels.refresh,
	narrow: ({ value }) => panels.narrow(value),
	file(field) {
		panels.importFiles([...field.files]);
		field.value = "";
	},
};

on(window, "keydown", event => {
	const { key, shiftKey, altKey, ctrlKey, metaKey, isComposing, target } = event;
	const name = key === "?" ? key : `${ctrlKey || metaKey ? "Ctrl+" : ""}${shiftKey ? "Shift+" : ""}${key.length === 1 ? key.toUpperCase() : key}`;
	const isTyped = name === "?" && target.matches("input, textarea, select, [contenteditable]");
	const act = name === "Enter" && target.id === "title" ? () => $("logline").focus() : ACTIONS[KEYS[name]];
	if (!act || isComposing || altKey || isTyped || document.querySelector("dialog[open]") || (key === "Escape" && !panels.job)) return;
	event.preventDefault();
	act();
});
on(document, "click", ({ target }) => {
	target.closest("dialog [data-action], [data-close]")?.closest("dialog").close();
	ACTIONS[target.closest("[data-action]")?.dataset.action]?.();
});
on(document, "submit", event => {
	event.preventDefault();
	SUBMITS[event.target.id]?.();
});
on(document, "input", ({ target }) => (INPUTS[target.id] ?? INPUTS[target.form?.id])?.(target));
on($("part-texts"), "toggle", panels.refresh);
on(window, "dragover drop dragleave paste", event => {
	const { files, types } = event.dataTransfer ?? event.clipboardData;
	const isOver = event.type === "dragover" && types.includes("Files");
	document.body.classList.toggle("dropping", isOver);
	if (isOver || files.length) event.preventDefault();
	if (!isOver && files.length) panels.importFiles([...files]);
});

label();
await start();
fill("form", "option", state.house.forms);
fill("shows", "option", state.shows);
for (const element of all('[data-action="write"]')) element.disabled = !state.model.can_write;
for (const element of wish) element.disabled = !state.model.can_revise;
translate(root.lang);
setInterval(poll, POLL);
const address = location.hash.slice(1);
const { rate, ...how } = Object.fromEntries(new URLSearchParams(address));
if (rate) panels.rate({ run: rate, ...how });
if (address.includes(".")) await load(decodeURIComponent(address)).catch(() => {});
await recover();
root.dataset.ready = "";
