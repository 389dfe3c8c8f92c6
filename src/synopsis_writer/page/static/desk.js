// The open texts: what can be undone, and how nothing that was typed is lost.

import { announce, drop, get, moment, notice, on, pick, post, put, textPath, unnotice, w, WORDS, write } from "./base.js";

const JOURNAL_AFTER = 500; // milliseconds after a key
const ONE_STEP = 800; // a longer pause begins another step to undo
const LONGEST_STEP = 5000;
const MOST_STEPS = 300;
const CONTENT = ["title", "logline", "characters", "paragraphs", "brief", "waived"];
const BACKUP = "synopsis-draft-";

export let state = null;
export const docs = [];
export let doc = null; // the one that is shown
export const view = {}; // what the page does with it

const content = text => JSON.stringify(pick(text, CONTENT));
const journal = (method, draft, ...more) => method(`journal/${draft}`, ...more);

class Doc {
	undo = [];
	redo = [];
	findings = [];
	step = {};

	constructor(text) {
		const brief = { ...state.empty.brief, form: state.house.forms[0].name, ...text?.brief };
		this.text = { ...state.empty, ...text, brief };
		this.text.draft ||= `d-${crypto.randomUUID().replaceAll("-", "")}`;
		this.saved = text && !text.id ? null : content(this.text);
	}

	get isDirty() {
		return content(this.text) !== this.saved;
	}

	get name() {
		return this.text.title || w("untitled");
	}
}

export async function start() {
	state = await get("state");
	Object.assign(WORDS, state.words);
	docs.push((doc = new Doc()));
}

export const outgoing = (text = doc.text) => ({ ...text, paragraphs: text.paragraphs.filter(each => each.text.trim()) });

// What went wrong becomes one line, wherever it did.
on(window, "unhandledrejection", event => {
	event.preventDefault();
	const { isLost, name, body, message } = event.reason;
	if (isLost || name === "AbortError") return;
	if (!body) console.error(event.reason); // our fault
	notice("refused", message, { kind: "warning" });
});

// What can be undone

const snapshot = () => ({ ...pick(doc.text, CONTENT), place: view.place() });

// Keep a step to undo; steps of one kind in a row are one.
export function remember(kind = "") {
	const now = performance.now();
	const { step, undo: steps } = doc;
	const isSame = kind && kind === step.kind && now - step.last < ONE_STEP && now - step.began < LONGEST_STEP;
	doc.step = { kind, began: isSame ? step.began : now, last: now };
	doc.redo = [];
	if (!isSame) steps.push(snapshot());
	if (steps.length > MOST_STEPS) steps.shift();
}

export function edit(values, kind) {
	remember(kind);
	Object.assign(doc.text, values);
	touch();
}
export function change(values) {
	edit(values);
	view.show();
}

function travel(from, to) {
	let step;
	do step = from.pop();
	while (step && content(step) === content(doc.text));
	if (!step) return announce("nothingToUndo");
	to.push(snapshot());
	Object.assign(doc.text, pick(step, CONTENT));
	doc.step = {};
	view.show(step.place);
	touch();
	announce("undone");
}
export const undo = () => travel(doc.undo, doc.redo);
export const redo = () => travel(doc.redo, doc.undo);

// What is open

export function go(to) {
	doc = to;
	const { id } = doc.text;
	unnotice("conflict", "window", "newer");
	if (id) windows.postMessage({ id, isNew: true });
	history.replaceState(null, "", id ? `#${id}` : location.pathname);
	view.show();
}

export function add(text) {
	const known = text?.id && docs.find(each => each.text.id === text.id);
	if (known) return go(known);
	const made = new Doc(text?.id ? { ...text, draft: "" } : text); // each window has a draft of its own
	const isUnused = text && !doc.text.id && !doc.isDirty && !doc.undo.length && !doc.isBusy;
	docs.splice(isUnused ? docs.indexOf(doc) : docs.length, Number(isUnused), made);
	go(made);
	if (made.isDirty) touch();
}

export async function load(id) {
	const { journal: newest, ...text } = await get(textPath(id));
	add(text);
	if (!newest || doc.isDirty) return;
	const { draft, at, text: newer } = newest;
	const actions = { restore: () => restore(draft), showDifference: () => view.compare(text, newer), discard: () => discard(draft) };
	notice("newer", w("newerDraft", moment(at)), { actions });
}

export async function leave(which) {
	await sendJournal();
	const index = docs.indexOf(which);
	docs.splice(index, 1);
	go(which === doc ? (docs[index - 1] ?? docs[0]) : doc);
	view.refresh();
}

// What is kept

const unsent = new Set();
let timer = null;
let sending = Promise.resolve();

export function touch() {
	unsent.add(doc);
	timer ??= setTimeout(sendJournal, JOURNAL_AFTER);
	if (doc.isDirty) doc.text.state = "draft";
	view.touch();
}

function sendJournal() {
	clearTimeout(timer);
	timer = null;
	return (sending = sending.then(async () => {
		for (const each of [...unsent]) await sendDraft(each);
	}));
}

async function sendDraft(which) {
	const { text, isDirty } = which;
	unsent.delete(which);
	try {
		if (isDirty) await journal(put, text.draft, text);
		else if (which.isKept) await journal(drop, text.draft);
		which.isKept = isDirty;
		delete localStorage[BACKUP + text.draft];
		if (which === doc && isDirty && !unsent.has(which)) write("kept", w("journaled"));
	} catch (error) {
		backUp(text);
		if (error.isLost) unsent.add(which);
		else Promise.reject(error);
	}
}

function backUp(text) {
	try {
		localStorage[BACKUP + text.draft] = JSON.stringify(text);
	} catch {} // the browser's store is full: the text is still in this window
}

// The file is another than the one that was opened.
function choose(which, theirs) {
	function keepMine() {
		Object.assign(which.text, { id: null, hash: "", release: null });
		which.saved = null;
		go(which);
		save();
	}
	function takeTheirs() {
		go(which);
		which.saved = content(theirs);
		change({ ...theirs, draft: which.text.draft });
	}
	const showDifference = () => [choose(which, theirs), view.compare(which.text, theirs)];
	notice("conflict", w("conflict"), { kind: "warning", actions: { keepMine, takeTheirs, showDifference } });
}

const windows = new BroadcastChannel("synopsis"); // of one browser
on(windows, "message", ({ data: { id, isNew } }) => {
	if (!docs.some(({ text }) => text.id === id)) return;
	notice("window");
	if (isNew) windows.postMessage({ id });
});

// Returns whether the file is now as the text is.
export async function save(request = null) {
	const saving = doc;
	const { text } = saving;
	if (text.id && !saving.isDirty && !request) return true;
	await sendJournal();
	try {
		const whole = { ...text, request };
		await written(saving, text.id ? put(textPath(text.id), whole) : post("texts", whole));
		unnotice("refused", "conflict");
		announce("saved");
		return true;
	} catch (error) {
		if (!error.body?.current) throw error;
		choose(saving, error.body.current);
		return false;
	}
}

// Take over what the file has now, but not over what was typed meanwhile.
export async function written(which, answer) {
	const { text } = which;
	const sent = content(text);
	const now = await answer;
	const isSame = content(text) === sent;
	Object.assign(text, isSame ? { ...now, draft: text.draft, brief: { ...text.brief, ...now.brief } } : pick(now, ["id", "hash"]));
	which.saved = isSame ? content(text) : sent;
	which.isKept = false;
	if (which === doc) go(doc);
	view.refresh();
}

export async function poll() {
	const asked = doc;
	const { id, hash } = doc.text;
	if (!id || document.hidden) return;
	const now = await get(textPath(id, "/hash")).catch(() => ({ hash }));
	if ([hash, asked.noticed].includes(now.hash) || asked.text.hash !== hash || asked !== doc) return;
	asked.noticed = now.hash;
	choose(asked, await get(textPath(id)));
}

// Where a draft is of a saved text, undo goes back to that.
export async function restore(...drafts) {
	unnotice("drafts", "newer");
	for (const draft of drafts) {
		const text = await journal(get, draft);
		const saved = text.id && (await get(textPath(text.id)).catch(() => null));
		add(saved || { ...text, id: null, hash: "" });
		if (saved) change({ ...text, hash: doc.text.hash, draft: doc.text.draft });
		await sendJournal();
		if (doc.text.draft !== draft) await journal(drop, draft);
	}
	view.refresh();
}

export async function discard(...drafts) {
	for (const draft of drafts) await journal(drop, draft);
	view.refresh();
}

// Hand in what an earlier page could not, and offer the drafts that were not saved.
export async function recover() {
	for (const key of Object.keys(localStorage).filter(each => each.startsWith(BACKUP))) {
		const text = JSON.parse(localStorage[key]);
		await journal(put, text.draft, text);
		delete localStorage[key];
	}
	const found = await view.refresh();
	const drafts = found.map(({ draft }) => draft);
	if (!drafts.length) return;
	const actions = { restore: () => restore(drafts[0]), ...(drafts.length > 1 && { all: () => restore(...drafts) }) };
	notice("drafts", w("draftsFound", drafts.length), { lines: found.slice(0, 3).map(({ name }) => name), actions });
}

on(window, "found", () => [view.touch(), sendJournal()]);
on(window, "pagehide", () => {
	for (const { text } of unsent) {
		backUp(text);
		journal(put, text.draft, text, { keepalive: true }).catch(() => {});
	}
});
