// The open texts: what can be undone, and how they are kept on disk.

import { connection, drop, get, LostError, post, put, RefusedError, textPath } from "./api.js";
import { announce, joined, notice, unnotice } from "./dom.js";
import { moment, w } from "./words.js";

const JOURNAL_AFTER = 500; // milliseconds after a key
const ONE_STEP = 800; // a longer pause begins another step to undo
const LONGEST_STEP = 5000;
const MOST_STEPS = 300;
const CONTENT = ["title", "logline", "characters", "paragraphs", "brief", "waived"];
const BACKUP = "synopsis-draft-";

/** What the program can do: `/api/state`. */
export let state = null;
/** @type {Doc[]} */
export const docs = [];
/** The text that is shown. @type {Doc} */
export let doc = null;
/** What shows it; the page sets these. */
export const view = { show() {}, touch() {}, kept() {}, place: () => null, refresh() {} };

const newId = () => [...crypto.getRandomValues(new Uint16Array(4))].map((each) => each.toString(16)).join("");
const content = (text) => JSON.stringify(CONTENT.map((key) => text[key]));

/** An open text: `text` as the server has it, its steps to undo and redo, and what was saved last. */
class Doc {
	undo = [];
	redo = [];
	findings = [];
	step = { kind: "", began: 0, last: 0 };

	constructor(text = {}) {
		const brief = { show: "", theme: "", form: state.house.forms[0].name, characters: [], beats: [], before: [], words: null, character_count: null, air_date: null, notes: null };
		const empty = { id: null, hash: "", title: "", logline: "", characters: [], paragraphs: [], state: "draft", release: null, story: null, waived: [] };
		this.text = { ...empty, ...text, draft: text.draft || `d-${newId()}`, brief: { ...brief, ...text.brief } };
		this.saved = content(this.text.id ? this.text : { ...empty, brief: this.text.brief });
	}

	get isDirty() {
		return content(this.text) !== this.saved;
	}

	get name() {
		return this.text.title || w("untitled");
	}
}

export const start = async () => {
	state = await get("/api/state");
	docs.push(new Doc());
	[doc] = docs;
};

/** The text as it is sent: no paragraph is empty. */
export const outgoing = ({ journal, ...text } = doc.text) => ({ ...text, paragraphs: text.paragraphs.filter((each) => each.text.trim()) });

export const report = (error, key = error.message) => {
	if (error instanceof LostError || error.name === "AbortError") return;
	if (!(error instanceof RefusedError)) console.error(error); // ours
	if (error.status === 403) for (const each of docs) if (each.isDirty) backUp(each);
	notice(error.status === 403 ? w("forbidden") : error.message, { key: error.status === 403 ? "lost" : key, kind: "warn" });
};

// What can be undone

const snapshot = () => ({ ...Object.fromEntries(CONTENT.map((key) => [key, doc.text[key]])), place: view.place() });

/** Keep the content as it is, as a step to undo; steps of one kind in a row are one. */
export const remember = (kind = "") => {
	const now = performance.now();
	const { step } = doc;
	const isSame = kind && kind === step.kind && now - step.last < ONE_STEP && now - step.began < LONGEST_STEP;
	doc.step = { kind, began: isSame ? step.began : now, last: now };
	doc.redo = [];
	if (!isSame) doc.undo.push(snapshot());
	if (doc.undo.length > MOST_STEPS) doc.undo.shift();
};

/** Change the text in one step that can be undone. */
export const change = (values) => {
	remember();
	Object.assign(doc.text, values);
	view.show();
	touch();
};

const travel = (from, to) => {
	let step;
	do step = from.pop();
	while (step && content(step) === content(doc.text));
	if (!step) return announce(w("nothingToUndo"));
	to.push(snapshot());
	const { place, ...values } = step;
	Object.assign(doc.text, values);
	doc.step = { kind: "" };
	view.show(place);
	touch();
	announce(w("undone"));
};

export const undo = () => travel(doc.undo, doc.redo);
export const redo = () => travel(doc.redo, doc.undo);

// What is open

export const go = (to) => {
	doc = to;
	unnotice("conflict", "window", "newer");
	if (doc.text.id) windows.postMessage({ id: doc.text.id, isNew: true });
	history.replaceState(null, "", doc.text.id ? `#${doc.text.id}` : location.pathname);
	view.show();
};

/** Open a text in a tab of its own, or go to the tab where it is open. */
export const add = (text, isSaved = Boolean(text?.id)) => {
	const known = text?.id && docs.find((each) => each.text.id === text.id);
	if (known) return go(known);
	const made = new Doc(isSaved ? { ...text, draft: "" } : text); // each window has a draft of its own
	if (text && !isSaved) made.saved = null;
	const isUnused = text && !doc.text.id && !doc.isDirty && !doc.undo.length && !doc.job;
	docs.splice(isUnused ? docs.indexOf(doc) : docs.length, isUnused ? 1 : 0, made);
	go(made);
	if (text && !isSaved) touch();
};

export const load = async (id) => {
	try {
		const text = await get(textPath(id));
		add(text);
		if (!text.journal || doc.isDirty) return;
		const { draft, at, text: newer } = text.journal;
		const actions = [[w("restore"), () => restore(draft)], [w("showDifference"), () => view.compare(text, newer)], [w("discard"), () => discard([draft])]];
		notice(w("newerDraft", moment(at)), { key: "newer", actions });
	} catch (error) {
		report(error);
	}
};

export const leave = async (which) => {
	await sendJournal();
	const index = docs.indexOf(which);
	docs.splice(index, 1);
	go(which === doc ? (docs[index - 1] ?? docs[0]) : doc);
	view.refresh();
};

// What is kept

const unsent = new Set();
let timer = null;
let sending = Promise.resolve();

/** The text changed: show that, check it, and keep it within a second. */
export const touch = () => {
	unsent.add(doc);
	timer ??= setTimeout(sendJournal, JOURNAL_AFTER);
	if (doc.isDirty) doc.text.state = "draft";
	view.touch();
};

/** Send what is unsent, one request after the other. */
const sendJournal = () => {
	clearTimeout(timer);
	timer = null;
	return (sending = sending.then(sendAll));
};

const sendAll = async () => {
	for (const each of [...unsent]) {
		unsent.delete(each);
		const path = `/api/journal/${each.text.draft}`;
		try {
			if (each.isDirty) await put(path, outgoing(each.text));
			else if (each.isKept) await drop(path);
			each.isKept = each.isDirty;
			localStorage.removeItem(BACKUP + each.text.draft);
			if (each === doc && each.isDirty) view.kept(w("journaled"));
		} catch (error) {
			backUp(each);
			if (error instanceof LostError) unsent.add(each);
			else report(error, "journal");
		}
	}
};

const backUp = ({ text }) => {
	try {
		localStorage.setItem(BACKUP + text.draft, JSON.stringify(outgoing(text)));
	} catch {} // the browser's store is full: the text is still in this window
};

/** The file is another than the one that was opened: let the person choose. */
const choose = (which, theirs) => {
	const mine = () => {
		Object.assign(which.text, { id: null, hash: "", release: null });
		which.saved = null;
		go(which);
		save();
	};
	const other = () => {
		go(which);
		change({ ...theirs, draft: which.text.draft });
		which.saved = content(which.text);
		touch();
	};
	const compare = () => {
		choose(which, theirs);
		view.compare(which.text, theirs);
	};
	const actions = [[w("keepMine"), mine], [w("takeTheirs"), other], [w("showDifference"), compare]];
	notice(w("conflict"), { key: "conflict", kind: "warn", actions });
};

const windows = new BroadcastChannel("synopsis"); // of one browser
windows.addEventListener("message", ({ data }) => {
	if (!docs.some(({ text }) => text.id === data.id)) return;
	notice(w("window"), { key: "window" });
	if (data.isNew) windows.postMessage({ id: data.id });
});

/** Save the text if it needs it; returns whether the file is now as the text is. */
export const save = async (request = null) => {
	const saving = doc;
	const { text } = saving;
	if (text.id && !saving.isDirty && !request) return true;
	await sendJournal();
	const sent = content(text);
	try {
		const body = { ...outgoing(text), request };
		const now = await (text.id ? put(textPath(text.id), body) : post("/api/texts", body));
		const isSame = content(text) === sent;
		Object.assign(text, isSame ? { ...now, draft: text.draft, brief: { ...text.brief, ...now.brief } } : { id: now.id, hash: now.hash });
		saving.saved = isSame ? content(text) : sent;
		saving.isKept = false;
		unnotice("save", "conflict");
		if (saving === doc) go(doc);
		announce(w("saved"));
		view.refresh();
		return true;
	} catch (error) {
		if (error.status === 409 && error.body.current) choose(saving, error.body.current);
		else report(error, "save");
		return false;
	}
};

/** Take over what the program wrote into the file. */
export const written = (which, text) => {
	Object.assign(which.text, text, { draft: which.text.draft });
	which.saved = content(which.text);
	view.show();
	view.refresh();
};

/** Ask where the open file changed on disk. */
export const poll = async () => {
	const asked = doc;
	const { id, hash } = doc.text;
	if (!id || document.hidden) return;
	const now = await get(textPath(id, "/hash")).catch(() => null);
	if (!now || now.hash === hash || now.hash === asked.noticed || asked.text.hash !== hash || asked !== doc) return;
	asked.noticed = now.hash;
	get(textPath(id)).then((theirs) => choose(asked, theirs), report);
};

/** Open a draft; where it is of a saved text, undo goes back to that. */
export const restore = async (draft) => {
	try {
		const text = await get(`/api/journal/${draft}`);
		const saved = text.id && (await get(textPath(text.id)).catch(() => null));
		if (saved) {
			add(saved);
			change({ ...text, hash: doc.text.hash, draft: doc.text.draft });
		} else add({ ...text, id: null, hash: "" }, false);
		await sendJournal();
		if (doc.text.draft !== draft) await drop(`/api/journal/${draft}`);
		unnotice("drafts", "newer");
		view.refresh();
	} catch (error) {
		report(error);
	}
};

export const discard = (drafts) => Promise.allSettled(drafts.map((draft) => drop(`/api/journal/${draft}`))).then(view.refresh);
export const draftName = ({ title, show, at }) => joined(title || w("untitled"), show, moment(at));

/** Hand in what an earlier page could not, and offer the drafts that were not saved. */
export const recover = async () => {
	for (const key of Object.keys(localStorage).filter((each) => each.startsWith(BACKUP))) {
		const text = JSON.parse(localStorage.getItem(key));
		await put(`/api/journal/${text.draft}`, text).catch(report);
		localStorage.removeItem(key);
	}
	const drafts = (await view.refresh()) ?? [];
	if (!drafts.length) return;
	const actions = [[w("restore"), () => restore(drafts[0].draft)]];
	if (drafts.length > 1) actions.push([w("all"), async () => { for (const { draft } of drafts) await restore(draft); }]);
	const words = drafts.length > 1 ? w("draftsFound", drafts.length) : w("draftFound1");
	notice(words, { key: "drafts", lines: drafts.slice(0, 3).map(draftName), actions });
};

connection.addEventListener("lost", () => notice(w("lost"), { key: "lost", kind: "error" }));
connection.addEventListener("found", async () => {
	unnotice("lost");
	announce(w("found"));
	await sendJournal();
	view.touch();
});
addEventListener("pagehide", () => {
	for (const each of unsent) {
		backUp(each);
		put(`/api/journal/${each.text.draft}`, outgoing(each.text), { keepalive: true }).catch(() => {});
	}
});
