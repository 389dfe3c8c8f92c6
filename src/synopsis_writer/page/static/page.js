// The page: shows the open text with its brief, and ties keys and buttons to what they do.

import { $, all, fill, h, joined, label, language, notice, number, on, speak, w } from "./base.js";
import * as desk from "./desk.js";
import * as editor from "./editor.js";
import * as findings from "./findings.js";
import * as model from "./model.js";
import * as panels from "./panels.js";

const CHECK_AFTER = 40; // milliseconds after a key
const SEARCH_AFTER = 150;
const POLL = 3000;
const LONG_PASTE = 20_000; // characters
const REGIONS = ["left", "middle", "right"];

const { elements: brief } = $("brief");
const { elements: wish } = $("wish");
const timers = {};
const later = (name, act, after) => {
	clearTimeout(timers[name]);
	timers[name] = setTimeout(act, after);
};
const lines = (value) => value.split("\n").map((line) => line.trim()).filter(Boolean);
const options = (list) => list.map(({ name }) => h("option", name));
const readBrief = () => Object.fromEntries(new FormData($("brief")));

/** Show who plays in the show, and what the form is for. */
const showCast = () => {
	const isIt = (name) => name.toLowerCase() === brief.show.value.trim().toLowerCase();
	const cast = desk.state.shows.find(({ name, aliases }) => [name, ...aliases].some(isIt))?.cast ?? [];
	const chosen = lines(brief.characters.value);
	const toggle = (name) => () => {
		brief.characters.value = (chosen.includes(name) ? chosen.filter((each) => each !== name) : [...chosen, name]).join("\n");
		changeBrief();
	};
	$("cast").hidden = !cast.length;
	fill("chips", "chip", cast.map(({ name, role }) => ({ name, role, pressed: String(chosen.includes(name)), toggle: toggle(name) })));
	const form = desk.state.house.forms.find(({ name }) => name === brief.form.value);
	$("purpose").textContent = form ? `${form.purpose} ${model.limitsOf(form)}.` : "";
};

const changeBrief = (kind) => {
	desk.remember(kind);
	desk.doc.text.brief = readBrief();
	desk.touch();
	showCast();
};

const show = (place) => {
	const { doc } = desk;
	const { text } = doc;
	const isGrowing = model.job?.doc === doc && model.job.kind === "write";
	const hadFocus = document.activeElement === editor.host;
	const { start } = editor.selection();
	for (const name of ["title", "logline"]) Object.assign($(name), { value: text[name], readOnly: isGrowing });
	$("characters").value = text.characters.map(({ name, role }) => `${name}: ${role}`).join("\n");
	editor.set(text.paragraphs);
	if (hadFocus) editor.select(place ?? start, undefined, Boolean(place));
	$("body").hidden = isGrowing;
	$("growing").hidden = !isGrowing;
	for (const each of brief) if (each.name) each.value = [text.brief[each.name] ?? ""].flat().join("\n");
	showCast();
	panels.showRecord(text.release);
	showTabs();
	showKept();
	showPlace();
	findings.check();
};

const showTabs = () => {
	const { doc, docs } = desk;
	const isOpen = (key, value) => value && docs.some(({ text }) => text[key] === value);
	const siblings = panels.library.filter(({ id, story }) => isOpen("story", story) && !isOpen("id", id));
	const close = (each) => docs.length > 1 && { closing: w("closeTab", each.name), close: () => desk.leave(each) };
	const tab = (each) => ({ form: each.text.brief.form, name: each.name + (each.isDirty ? " •" : ""), current: String(each === doc), go: () => desk.go(each), ...close(each) });
	const sibling = ({ id, form, title }) => ({ form, name: title, current: "false", go: () => desk.load(id) });
	fill("open", "tab", [...docs.map(tab), ...siblings.map(sibling)]);
	$("open").hidden = docs.length + siblings.length < 2;
	document.title = `${doc.name} – synopsis`;
};

const showKept = (words) => {
	const { text, isDirty } = desk.doc;
	$("kept").textContent = words ?? (isDirty ? w("unsaved") : text.id ? w(text.state) : "");
	$("kept").className = isDirty ? "soft" : text.state;
};

/** Show where the cursor is: which paragraph, and its storyline. */
const showPlace = () => {
	const { paragraphs } = desk.doc.text;
	const { index } = editor.selection().start;
	$("where").textContent = w("paragraphOf", index + 1, Math.max(1, paragraphs.length));
	wish.scope.options[1].textContent = w("thisParagraph", index + 1);
	for (const each of all("#place button")) {
		const { action } = each.dataset;
		if (action.length === 1) each.ariaPressed = action === paragraphs[index]?.storyline;
		else each.disabled = !paragraphs[action === "up" ? index - 1 : index + 1];
	}
};

Object.assign(editor.heard, {
	before: desk.remember,
	changed() {
		desk.doc.text.paragraphs = editor.get();
		desk.touch();
		showPlace();
	},
	moved() {
		showPlace();
		findings.markCurrent();
	},
	pasted: (length) => length > LONG_PASTE && notice("paste", { words: w("longPaste", number(length)) }),
});
Object.assign(desk.view, {
	show,
	kept: showKept,
	place: () => editor.selection().start,
	refresh: panels.refresh,
	compare: model.compare,
	tabs: showTabs,
	touch() {
		showKept();
		showTabs();
		later("check", findings.check, CHECK_AFTER);
	},
});

// Actions

/** Change the paragraph at the cursor, and go where it is then. */
const withParagraph = (edit) => () => {
	const { paragraphs } = desk.doc.text;
	const { index } = editor.selection().start;
	const [changed, to] = edit(paragraphs, index);
	if (!paragraphs[index] || !paragraphs[to]) return;
	desk.change({ paragraphs: changed });
	editor.select({ index: to, offset: 0 }, undefined, true);
};
const move = (by) => withParagraph((texts, index) => [texts.toSpliced(index, 1).toSpliced(index + by, 0, texts[index]), index + by]);
const tell = (storyline) => withParagraph((texts, index) => [texts.map((each, place) => (place === index ? { ...each, storyline } : each)), index]);

const toRegion = (by) => () => {
	const here = REGIONS.findIndex((id) => $(id).contains(document.activeElement));
	const next = REGIONS[(here + by + 3) % 3];
	if (next === "middle") editor.select(editor.selection().start);
	else ($(next).querySelector("summary, button") ?? $(next)).focus();
};
const toPart = (part, control) => () => {
	$(part).open = true;
	control.focus();
};
const saved = (act) => async () => (await desk.save()) && act();

const translate = (to) => {
	speak(to);
	label();
	const { model: engine, house } = desk.state;
	$("house").textContent = house.is_own ? house.name : w("builtIn");
	$("model").textContent = joined(w(`model_${engine.kind}`, engine.name), model.budgetWords());
	const ways = engine.ways_out.map(({ kind, command }) => w(`way_${kind}`, command));
	if (ways.length) notice("noModel", { lines: [engine.why, w("waysOut"), ...ways] });
	show();
	panels.refresh();
};

const newText = () => {
	const { show: name, form } = desk.doc.text.brief;
	desk.add();
	Object.assign(desk.doc.text.brief, { show: name, form });
	desk.doc.saved = null;
	show();
	ACTIONS.brief();
};

const revise = () => {
	const note = wish.note.value.trim();
	if (note) model.revise(note, wish.scope.value ? editor.selection().start.index : null, Number(wish.variants.value));
	else wish.note.focus();
};

const ACTIONS = {
	write: () => ($("wish").contains(document.activeElement) ? revise() : model.write(Number($("best-of").value))),
	stop: () => model.job?.stop(),
	save: () => desk.save(),
	undo: desk.undo,
	redo: desk.redo,
	nextFinding: () => findings.step(1),
	lastFinding: () => findings.step(-1),
	fix: findings.fixCurrent,
	fixAll: findings.fixAll,
	waive: findings.waiveCurrent,
	revise: () => wish.note.focus(),
	prompt: () => model.prompt(readBrief()),
	history: panels.history,
	lengths: saved(model.lengths),
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
	language: () => translate(language === "de" ? "en" : "de"),
	actions: () => panels.showActions(),
	hide: () => ($("job").hidden = true),
};
const KEYS = Object.fromEntries(all("[data-key]").flatMap(({ dataset: { key, action } }) => key.split(" ").map((each) => [each, action])));

on(window, "keydown", (event) => {
	const { key, shiftKey, altKey, ctrlKey, metaKey, isComposing, target } = event;
	const name = key === "?" ? key : `${ctrlKey || metaKey ? "Ctrl+" : ""}${shiftKey ? "Shift+" : ""}${key.length === 1 ? key.toUpperCase() : key}`;
	const isTyped = name === "?" && target.matches("input, textarea, select, [contenteditable]");
	if (isComposing || altKey || isTyped || !KEYS[name] || document.querySelector("dialog[open]") || (key === "Escape" && !model.job)) return;
	event.preventDefault();
	ACTIONS[KEYS[name]]();
});
on(document, "click", ({ target }) => {
	target.closest("dialog [data-action], [data-close]")?.closest("dialog").close();
	ACTIONS[target.closest("[data-action]")?.dataset.action]?.();
});
on($("brief"), "input", ({ target: { name } }) => name && changeBrief(`brief ${name}`));
const oneLine = (value) => value.replace(/\s*\n\s*/g, " ");
const person = (line) => {
	const [, name, role = ""] = /^([^:]*?)\s*(?::\s*(.*))?$/.exec(line);
	return { name, role };
};
const READ = { title: oneLine, logline: oneLine, characters: (value) => lines(value).map(person) };
for (const name in READ)
	on($(name), "input", ({ target }) => {
		desk.remember(name);
		desk.doc.text[name] = READ[name](target.value);
		desk.touch();
	});
on($("title"), "keydown", (event) => {
	if (event.key !== "Enter" || event.ctrlKey || event.isComposing) return;
	event.preventDefault();
	$("logline").focus();
});
for (const [form, act] of [["wish", revise], ["open-folder", panels.openFolder]])
	on($(form), "submit", (event) => {
		event.preventDefault();
		act();
	});
on($("query"), "input", () => later("search", panels.refresh, SEARCH_AFTER));
on($("state"), "change", panels.refresh);
on($("part-texts"), "toggle", panels.refresh);
on($("file"), "change", ({ target }) => {
	panels.importFiles([...target.files]);
	target.value = "";
});
on(window, "dragover drop dragleave paste", (event) => {
	const { files, types } = event.dataTransfer ?? event.clipboardData;
	const isOver = event.type === "dragover" && types.includes("Files");
	document.body.classList.toggle("dropping", isOver);
	if (isOver || files.length) event.preventDefault();
	if (!isOver && files.length) panels.importFiles([...files]);
});

label();
await desk.start();
brief.form.replaceChildren(...options(desk.state.house.forms));
$("shows").replaceChildren(...options(desk.state.shows));
for (const element of all('[data-action="write"]')) element.disabled = !desk.state.model.can_write;
for (const element of wish) element.disabled = !desk.state.model.can_revise;
translate(language);
setInterval(desk.poll, POLL);
const id = decodeURIComponent(location.hash.slice(1));
const { rate: run, ...how } = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
if (run) panels.rate({ run, ...how });
if (id.includes(".")) await desk.load(id).catch(() => {});
await desk.recover();
document.documentElement.dataset.ready = "";
