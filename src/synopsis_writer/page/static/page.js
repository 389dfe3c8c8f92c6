// The editor's page: shows the open text with its brief, and ties keys and buttons to what they do.

import * as desk from "./desk.js";
import { $, button, closer, h, joined, label, notice, on } from "./dom.js";
import { Editor } from "./editor.js";
import * as findings from "./findings.js";
import * as model from "./model.js";
import * as panels from "./panels.js";
import { language, number, range, speak, w } from "./words.js";

const CHECK_AFTER = 40; // milliseconds after a key
const SEARCH_AFTER = 150;
const POLL = 3000;
const LONG_PASTE = 20_000; // characters
const STATES = ["draft", "refused", "accepted", "released", "changed"];
const FIELDS = ["show", "theme", "form", "air_date", "notes"];
const REGIONS = ["left", "middle", "right"];

const { elements: brief } = $("brief");
const { elements: wish } = $("wish");
const timers = {};
const later = (name, act, after) => {
	clearTimeout(timers[name]);
	timers[name] = setTimeout(act, after);
};

const editor = new Editor($("body"), {
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
	pasted: (length) => length > LONG_PASTE && notice(w("longPaste", number(length)), { key: "paste" }),
});

// The brief

const lines = (value) => value.split("\n").map((line) => line.trim()).filter(Boolean);
const oneLine = (value) => value.replace(/\s*\n\s*/g, " ");

const readBrief = () => {
	const pressed = [...document.querySelectorAll('#cast [aria-pressed="true"]')].map((chip) => chip.textContent);
	const length = brief.measure.value.trim().replace(/\s*–\s*/, "-") || null;
	const read = Object.fromEntries(FIELDS.map((name) => [name, oneLine(brief[name].value)]));
	const characters = [...pressed, ...lines(brief.people.value)];
	const measures = { words: null, character_count: null, [brief.unit.value]: length };
	return { ...read, ...measures, characters, beats: lines(brief.beats.value), before: lines(brief.before.value) };
};

const showBrief = () => {
	const { text } = desk.doc;
	for (const name of FIELDS) brief[name].value = text.brief[name] ?? "";
	for (const name of ["beats", "before"]) brief[name].value = (text.brief[name] ?? []).join("\n");
	brief.unit.value = text.brief.character_count ? "character_count" : "words";
	brief.measure.value = text.brief.words ?? text.brief.character_count ?? "";
	showCast();
	showPurpose();
};

const showCast = () => {
	const { show: name, characters } = desk.doc.text.brief;
	const isIt = (other) => other.toLowerCase() === (name ?? "").trim().toLowerCase();
	const cast = desk.state.shows.find((each) => [each.name, ...each.aliases].some(isIt))?.cast ?? [];
	const toggle = ({ currentTarget: chip }) => {
		chip.setAttribute("aria-pressed", chip.getAttribute("aria-pressed") !== "true");
		changeBrief();
	};
	const chips = cast.map((each) => button(each.name, toggle, { class: "chip", title: each.role, "aria-pressed": String(characters.includes(each.name)) }));
	$("cast").hidden = !chips.length;
	$("cast").lastElementChild.replaceChildren(...chips);
	brief.people.value = characters.filter((each) => !cast.some((other) => other.name === each)).join("\n");
};

const showPurpose = () => {
	const form = desk.state.house.forms.find(({ name }) => name === brief.form.value);
	const limits = ["words", "characters", "bytes", "paragraphs"].map((unit) => form?.[unit] && `${range(form[unit])} ${w(unit)}`);
	$("purpose").textContent = form ? `${form.purpose} ${limits.filter(Boolean).join(", ")}.` : "";
};

const changeBrief = (kind) => {
	desk.remember(kind);
	desk.doc.text.brief = readBrief();
	desk.touch();
};

// The text

const show = (place) => {
	const { doc } = desk;
	const { text } = doc;
	const isGrowing = model.job?.doc === doc && model.job.kind === "write";
	const hasFocus = document.activeElement === editor.host;
	$("title").value = text.title;
	$("logline").value = text.logline;
	$("people").value = text.characters.map(({ name, role }) => `${name}: ${role}`).join("\n");
	const before = place ?? editor.selection().start;
	editor.set(text.paragraphs);
	if (hasFocus) editor.select({ ...before, index: Math.min(before.index, editor.host.children.length - 1) }, undefined, Boolean(place));
	$("body").hidden = isGrowing;
	$("growing").hidden = !isGrowing;
	$("title").readOnly = $("logline").readOnly = isGrowing;
	showBrief();
	panels.showRecord(text.release);
	showTabs();
	showKept();
	showPlace();
	findings.check();
};

const showTabs = () => {
	const { doc, docs } = desk;
	const opened = new Set(docs.map(({ text }) => text.id));
	const stories = new Set(docs.map(({ text }) => text.story).filter(Boolean));
	const siblings = panels.library.filter(({ id, story }) => stories.has(story) && !opened.has(id));
	const tab = (each) => {
		const name = [h("b", {}, each.text.brief.form), ` ${each.name}${each.isDirty ? " •" : ""}`];
		return h("span", { class: "tab" }, button(name, () => desk.go(each), { "aria-current": each === doc && "true" }), docs.length > 1 && closer(() => desk.leave(each), w("closeTab", each.name)));
	};
	const sibling = (each) => button([h("b", {}, each.form), ` ${each.title}`], () => desk.load(each.id), { class: "sibling" });
	$("open").replaceChildren(...docs.map(tab), ...siblings.map(sibling));
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
	const { storyline } = paragraphs[index] ?? { storyline: "A" };
	const key = `${index} ${paragraphs.length} ${storyline} ${language}`;
	if ($("place").dataset.key === key) return;
	$("place").dataset.key = key;
	const put = (list, to = index) => {
		desk.change({ paragraphs: list });
		editor.select({ index: to, offset: 0 }, undefined, true);
	};
	const move = (by) => put(paragraphs.with(index, paragraphs[index + by]).with(index + by, paragraphs[index]), index + by);
	const letter = (name) => button(name, () => put(paragraphs.with(index, { ...paragraphs[index], storyline: name })), { class: "icon", "aria-pressed": String(name === storyline), "aria-label": `${w("storyline")} ${name}` });
	const arrow = (sign, by, name) => button(sign, () => move(by), { class: "icon", "aria-label": w(name), disabled: !paragraphs[index + by] });
	const letters = paragraphs.length > 0 && [h("small", {}, w("storyline")), ["A", "B", "C"].map(letter)];
	$("place").replaceChildren(...h("p", {}, h("small", {}, w("paragraphOf", index + 1, Math.max(1, paragraphs.length))), letters, arrow("↑", -1, "up"), arrow("↓", 1, "down")).childNodes);
	wish.scope.options[1].textContent = w("thisParagraph", index + 1);
};

Object.assign(desk.view, {
	show,
	kept: showKept,
	place: () => editor.selection().start,
	refresh: panels.refresh,
	compare: model.compare,
	tabs: showTabs,
	touch() {
		const { doc } = desk;
		showKept();
		const shown = `${doc.name} ${doc.text.brief.form} ${doc.isDirty}`;
		if (shown !== doc.shown) showTabs();
		doc.shown = shown;
		later("check", findings.check, CHECK_AFTER);
	},
});

// Actions

const showPart = (part) => {
	for (const name of ["brief", "texts"]) {
		const isShown = name === part;
		$(`panel-${name}`).hidden = !isShown;
		$(`tab-${name}`).setAttribute("aria-selected", isShown);
		$(`tab-${name}`).tabIndex = isShown ? 0 : -1;
	}
	if (part === "texts") panels.refresh();
};

const toRegion = (by) => {
	const here = REGIONS.findIndex((id) => $(id).contains(document.activeElement));
	const next = REGIONS[(here + by + 3) % 3];
	if (next === "middle") editor.select(editor.selection().start);
	else ($(next).querySelector('button:not([tabindex="-1"])') ?? $(next)).focus();
};

const saved = (act) => async () => (await desk.save()) && act();

const translate = (to = language) => {
	speak(to);
	label();
	for (const element of document.querySelectorAll("[data-action]")) {
		const [, key] = ACTIONS[element.dataset.action];
		const words = w(element.dataset.action);
		if (element.classList.contains("icon")) element.setAttribute("aria-label", words);
		else element.textContent = words;
		element.title = joined(words, key);
	}
	const { value } = $("state");
	$("state").replaceChildren(...["", ...STATES].map((each) => h("option", { value: each }, w(each || "all"))));
	$("state").value = value;
	if (!desk.state) return;
	const { model: engine, budget } = desk.state;
	$("model").textContent = joined(engine.name, budget && w("budget", budget.amount ?? w("tokens", number(budget.tokens))));
	const ways = (engine.ways_out ?? []).map(({ kind, command }) => w(`way_${kind}`, command));
	if (ways.length) notice(w("noModel"), { key: "model", lines: [w("waysOut"), ...ways] });
	show();
	panels.refresh();
};

const newText = () => {
	const { show: name, form } = desk.doc.text.brief;
	desk.add();
	Object.assign(desk.doc.text.brief, { show: name, form });
	desk.doc.saved = null;
	show();
	showPart("brief");
	brief.theme.focus();
};

const revise = () => {
	const note = wish.note.value.trim();
	if (note) model.revise(note, wish.scope.value ? editor.selection().start.index : null, Number(wish.variants.value));
	else wish.note.focus();
};

/** What every action does, and its key. */
const ACTIONS = {
	write: [() => ($("wish").contains(document.activeElement) ? revise() : model.write(Number(brief.best_of.value))), "Ctrl+Enter"],
	stop: [() => model.job?.stop(), "Escape"],
	save: [() => desk.save(), "Ctrl+S"],
	undo: [desk.undo, "Ctrl+Z"],
	redo: [desk.redo, "Ctrl+Shift+Z"],
	nextFinding: [() => findings.step(1), "F8"],
	lastFinding: [() => findings.step(-1), "Shift+F8"],
	fix: [findings.fixCurrent, "Ctrl+."],
	fixAll: [findings.fixAll],
	waive: [findings.waiveCurrent],
	revise: [() => wish.note.focus(), "F9"],
	prompt: [() => model.prompt(readBrief())],
	history: [panels.history, "Ctrl+H"],
	lengths: [saved(model.lengths)],
	export: [saved(panels.exporting), "Ctrl+E"],
	release: [saved(panels.release)],
	newText: [newText],
	import: [() => $("file").click(), "Ctrl+O"],
	brief: [() => [showPart("brief"), brief.show.focus()]],
	search: [() => [showPart("texts"), $("query").focus()], "Ctrl+F6"],
	nextRegion: [() => toRegion(1), "F6"],
	lastRegion: [() => toRegion(-1), "Shift+F6"],
	language: [() => translate(language === "de" ? "en" : "de")],
	actions: [() => panels.showActions(ACTIONS), "?"],
};
const KEYS = new Map(Object.values(ACTIONS).map(([act, key]) => [key, act]));
KEYS.set("Ctrl+Y", desk.redo).set("Ctrl+K", ACTIONS.actions[0]);

on(window, "keydown", (event) => {
	const { key, shiftKey, altKey, ctrlKey, metaKey, isComposing, target } = event;
	const name = key === "?" ? key : `${ctrlKey || metaKey ? "Ctrl+" : ""}${shiftKey ? "Shift+" : ""}${key.length === 1 ? key.toUpperCase() : key}`;
	const isTyped = name === "?" && target.matches("input, textarea, select, [contenteditable]");
	if (isComposing || altKey || isTyped || !KEYS.has(name) || document.querySelector("dialog[open]") || (key === "Escape" && !model.job)) return;
	event.preventDefault();
	KEYS.get(name)();
});
on(document, "click", ({ target }) => ACTIONS[target.closest("[data-action]")?.dataset.action]?.[0]());
on($("brief"), "input", ({ target: { name } }) => {
	if (name === "best_of") return;
	changeBrief(`brief ${name}`);
	if (name === "show") showCast();
	if (name === "form") showPurpose();
});
for (const key of ["title", "logline"])
	on($(key), "input", ({ target }) => {
		desk.remember(key);
		desk.doc.text[key] = oneLine(target.value);
		desk.touch();
	});
on($("people"), "input", ({ target }) => {
	desk.remember("people");
	desk.doc.text.characters = lines(target.value).map((line) => {
		const [, name, role] = /^([^:]*):?\s*(.*)$/.exec(line);
		return { name: name.trim(), role };
	});
	desk.touch();
});
on($("title"), "keydown", (event) => {
	if (event.key !== "Enter" || event.ctrlKey || event.isComposing) return;
	event.preventDefault();
	$("logline").focus();
});
on($("wish"), "submit", (event) => {
	event.preventDefault();
	revise();
});
for (const name of ["brief", "texts"]) {
	on($(`tab-${name}`), "click", () => showPart(name));
	on($(`tab-${name}`), "keydown", ({ key }) => {
		if (!key.startsWith("Arrow")) return;
		const other = name === "brief" ? "texts" : "brief";
		showPart(other);
		$(`tab-${other}`).focus();
	});
}
on($("query"), "input", () => later("search", panels.refresh, SEARCH_AFTER));
on($("state"), "change", panels.refresh);
on($("open-folder"), "submit", panels.openFolder);
on($("file"), "change", ({ target }) => {
	panels.importFiles([...target.files]);
	target.value = "";
});
on(window, "dragover drop dragleave paste", (event) => {
	const { type, dataTransfer, clipboardData, relatedTarget } = event;
	const data = dataTransfer ?? clipboardData;
	if (type === "dragover" && data.types.includes("Files")) event.preventDefault();
	document.body.classList.toggle("dropping", type === "dragover" && data.types.includes("Files"));
	if (!/^(drop|paste)$/.test(type) || !data.files.length) return;
	event.preventDefault();
	panels.importFiles([...data.files]);
});

const begin = async () => {
	label();
	await desk.start();
	const { house, shows, model: engine } = desk.state;
	findings.connect(editor);
	$("house").textContent = house.name;
	brief.form.replaceChildren(...house.forms.map(({ name }) => h("option", { value: name }, name)));
	$("shows").replaceChildren(...shows.map(({ name }) => h("option", { value: name })));
	for (const element of document.querySelectorAll('[data-action="write"]')) element.disabled = !engine.can_write;
	for (const element of wish) element.disabled = !engine.can_revise;
	translate();
	const id = decodeURIComponent(location.hash.slice(1));
	if (id.includes(".")) await desk.load(id);
	await desk.recover();
	setInterval(desk.poll, POLL);
	document.documentElement.dataset.ready = "";
};
begin().catch(desk.report);
