// What opens beside the text: the model at work, library, history, release, export, and blind rating.

import { $, announce, fill, get, h, joined, make, moment, notice, on, open, pick, post, range, root, run, textPath, unnotice, w, write as say } from "./base.js";
import { add, change, discard, doc, docs, go, load, outgoing, restore, save, state, view, written } from "./desk.js";

const MOST_BYTES = 2_000_000;
const NAME = "synopsis-by"; // of the person, kept in this browser

// What of a text a model or an older version has.
const ANSWER = ["title", "logline", "characters", "paragraphs"];

export let job = null; // only one at a time

export function budgetWords() {
	const { budget } = state;
	return budget && w("budget", budget.amount ?? w("tokens", budget.tokens));
}

// Start a job and show it as it goes; returns the texts, if there are any.
async function work(kind, body) {
	if (job) return announce("busy");
	const which = doc;
	const isWriting = kind === "write";
	let grown = { paragraphs: [] };
	let tokens = 0;
	const charge = cost => say("bill", joined(tokens && w("tokens", tokens), cost && w(cost), budgetWords()));
	const heard = {
		status: ({ message }) => say("stage", message),
		growing(now) {
			if (JSON.stringify(now).length >= JSON.stringify(grown).length) grown = now; // a retry begins anew
			if (which !== doc || !isWriting) return;
			$("title").value = now.title;
			$("growing").replaceChildren(...now.paragraphs.map(({ text }) => h("p", text)));
		},
		attempt({ number, passed, form, findings, usage, cost }) {
			grown = { paragraphs: [] };
			const names = findings.map(({ check }) => w(`check_${check}`));
			const why = findings.map(({ message }, index) => h("li", h("b", names[index]), ` ${message}`));
			$("attempts").append(make("attempt", { verdict: joined(kind === "lengths" && form, w(passed ? "attemptPassed" : "attemptRefused", number)), why }));
			tokens += usage.prompt + usage.completion;
			charge(cost);
			if (!passed) say("doing", w("attemptBecause", number + 1, number, names.join(", ")));
		},
	};
	function show(running) {
		job = running;
		which.isBusy = Boolean(running);
		$("job").classList.toggle("running", which.isBusy);
		view.show();
	}
	unnotice("job");
	for (const id of ["attempts", "growing", "bill", "stage"]) say(id);
	say("doing", w(isWriting ? "writing" : "revising"));
	$("job").hidden = false;
	show({ kind, doc: which });
	try {
		const [name, data] = await run(kind, body, heard, stop => (job.stop = stop));
		const part = [data.text, grown].find(text => text?.paragraphs.length);
		const text = data.texts?.[0] ?? part;
		const partKept = isWriting && !data.texts && part && w("partKept");
		if (isWriting && text) adopt(which, text);
		say("doing", `${w(name)} ${partKept || ""}`);
		if (/failed|lost/.test(name)) notice("job", [data.message ?? w("jobLost"), partKept].filter(Boolean).join(". "), { kind: "warning" });
		tokens = data.tokens ?? tokens;
		charge(data.cost);
		return data.texts;
	} catch (error) {
		$("job").hidden = true;
		throw error;
	} finally {
		say("stage");
		show(null);
	}
}

function adopt(which, text) {
	const shown = doc;
	const { draft, id, hash, brief } = which.text;
	go(which);
	change({ ...text, draft, id, hash, brief: { ...brief, ...text.brief } });
	go(shown);
	if (text.draft) discard(text.draft);
}

export async function write(best_of) {
	const { brief } = doc.text;
	if (doc.text.id) {
		if (!(await save())) return;
		add();
		doc.text.brief = brief;
	}
	work("write", { brief, best_of });
}

export async function revise(note, paragraphs, variants) {
	if (doc.text.id && !(await save())) return;
	const which = doc;
	const texts = await work("revise", { text: outgoing(), note, paragraphs, variants });
	if (!texts) return;
	go(which);
	choose(texts);
}

// In which words texts differ, by paragraphs where both have as many.
async function differences(...texts) {
	const [old, now] = texts.map(text => outgoing(text).paragraphs.map(each => each.text));
	return (await post("diff", { old, new: now })).pieces;
}

// A text to read, in pieces that say what is new; `more` may add something to each paragraph.
function reading(text, pieces, more = () => "") {
	const marked = ({ kind, text }) => (kind === "same" ? text : h(kind === "in" ? "ins" : "del", text));
	return make("reading", { ...text, paragraphs: pieces.flatMap((piece, index) => [h("p", ...piece.map(marked)), more(piece, index) || ""]) });
}
const plain = text => reading(text, text.paragraphs.map(({ text }) => [{ kind: "same", text }]));

export async function compare(before, after, restore) {
	$("different").replaceChildren(reading(after, await differences(before, after)));
	$("difference").querySelector(".primary").hidden = !restore;
	open("difference", restore);
}

// One is taken whole, or paragraphs of it.
async function choose(texts) {
	const which = doc;
	const base = outgoing();
	const pieces = await Promise.all(texts.map(text => differences(base, text)));
	function take(values, { origin, request }, ...words) {
		change({ ...values, origin });
		if (which.text.id) save(request);
		announce(...words);
	}
	function whole(index) {
		$("variants").close();
		take(pick(texts[index], ANSWER), texts[index], "variant", index + 1);
	}
	function column(text, index) {
		const isAligned = pieces[index].length === base.paragraphs.length && base.paragraphs.length > 1;
		const one = place => ({ currentTarget }) => {
			currentTarget.disabled = true;
			take({ paragraphs: outgoing().paragraphs.with(place, text.paragraphs[place]) }, text, "takenParagraph", place + 1);
		};
		const more = (piece, place) => isAligned && piece.some(({ kind }) => kind !== "same") && make("piece", { place: place + 1, act: one(place) });
		return { ...text, number: index + 1, name: w("variant", index + 1), take: () => whole(index), text: [reading(text, pieces[index], more)] };
	}
	fill("sides", "variant", [{ name: w("current"), text: [plain(base)] }, ...texts.map(column)]);
	open("variants");
	$("variants").onkeydown = ({ key, ctrlKey, altKey }) => texts[key - 1] && !ctrlKey && !altKey && whole(key - 1);
	$("variants").onclose = () => discard(...texts.map(({ draft }) => draft));
	$("sides").querySelector(".primary").focus();
}

export const limitsOf = form => ["words", "characters", "bytes", "paragraphs"].map(unit => range(form[unit], unit)).filter(Boolean).join(", ");

export function lengths() {
	const { text } = doc;
	const others = state.house.forms.filter(({ name }) => name !== text.brief.form);
	fill("forms", "choice", others.map(form => ({ ...form, limits: limitsOf(form) })));
	const tell = async forms => (await work("lengths", { text: outgoing(text), forms }))?.forEach(add);
	open("lengths", data => {
		const forms = data.getAll("form");
		if (forms.length) tell(forms);
		return forms.length > 0;
	});
}

export async function prompt(brief) {
	const { messages, examples } = await post("prompt", { brief });
	fill("chosen", "item", examples, "noExamples");
	fill("asked", "message", messages);
	open("prompt");
}

// The library

export let library = []; // all texts, as they were last listed

const more = (id, count) => count && $(id).append(make("none", { none: w("moreTexts", count) }));

// List the texts and drafts that fit; returns the drafts that are not open.
export async function refresh() {
	const asked = { query: $("query").value, state: $("state").value };
	const isAll = !asked.query && !asked.state;
	const { texts, drafts, more: rest } = await get(`texts?${new URLSearchParams(asked)}`);
	if (isAll) library = texts;
	const shown = each => ({ ...each, detail: joined(each.show, each.form, w("wordsOf", each.words), moment(each.changed)), act: () => load(each.id) });
	fill("library", "item", texts.map(shown), isAll ? "noTextsYet" : "noTexts");
	more("library", rest);
	const left = drafts.filter(({ draft }) => !docs.some(({ text }) => text.draft === draft));
	const named = left.map(({ draft, title, show, at }) => ({ draft, name: joined(title || w("untitled"), show, moment(at)), back: () => restore(draft), drop: () => discard(draft) }));
	fill("drafts", "draft", named);
	view.tabs();
	return named;
}

export async function openFolder() {
	const path = $("open-folder").elements.path.value;
	const { kind, rows, more: rest, message } = await get(`folder?${new URLSearchParams({ path })}`).catch(({ message }) => ({ rows: [], message }));
	$("rate-run").hidden = kind !== "eval";
	$("rate-run").onclick = () => rate({ run: path });
	const bad = rows.filter(({ state }) => ["refused", "failed"].includes(state));
	say("folder", message ?? w("folderRows", rows.length, bad.length));
	const shown = ({ key, text, ...row }) => ({ ...row, title: text?.title || key, act: () => (text ? add(text) : notice("row", w("noText", row.reason))) });
	fill("rows", "item", rows.map(shown));
	more("rows", rest);
}

export async function importFiles(files) {
	for (const file of files) {
		const { name, size } = file;
		try {
			if (size > MOST_BYTES) throw new Error(w("tooLarge", name, Math.ceil(size / 1_000_000)));
			const { texts, messages } = await post(`import?name=${encodeURIComponent(name)}`, new Blob([file]));
			texts.forEach(add);
			notice(`imported ${name}`, w("imported", name), { lines: messages });
		} catch ({ message }) {
			notice(`imported ${name}`, message, { kind: "warning" });
		}
	}
}

export async function history() {
	const { id } = doc.text;
	const versions = id ? (await get(textPath(id, "/versions"))).versions : [];
	async function look({ id: version, at }) {
		const values = pick(await get(`versions/${encodeURIComponent(version)}`), ANSWER);
		compare(outgoing(), values, () => {
			change(values);
			$("history").close();
			notice("restored", w("restored", moment(at)));
		});
	}
	const shown = each => ({ title: moment(each.at), maker: each.maker === "model" ? each.model : w("person"), detail: joined(each.request?.note, w("wordsOf", each.words)), act: () => look(each) });
	fill("versions", "item", versions.map(shown), "noVersions");
	open("history");
}

export function release() {
	const which = doc;
	const { id, hash } = which.text;
	const errors = which.findings.filter(({ level, waived }) => level === "error" && !waived);
	fill("reasons", "reason", errors.map(each => ({ ...each, name: w(`check_${each.check}`) })));
	const fields = open("release", async data => {
		const by = data.get("by");
		const waivers = Object.fromEntries(errors.map(({ check }) => [check, data.get(check)]));
		await written(which, post("release", { id, hash, by, waivers }));
		localStorage[NAME] = by;
	});
	fields.by.value = localStorage[NAME] ?? "";
}

export function showRecord(record) {
	function shown(key, value) {
		if (key === "at") return moment(value);
		if (key === "waived") return value.map(({ check, reason }) => `${w(`check_${check}`)}: ${reason}`).join("; ");
		return value.toLocaleString(root.lang, { style: "percent" }); // of a share; words stay as they are
	}
	const rows = Object.entries(record ?? {}).filter(([, value]) => value !== null && value.length !== 0);
	$("record").replaceChildren(record ? make("record", { words: w("releasedBy", record.by), rows: rows.flatMap(([key, value]) => [h("dt", w(`record_${key}`)), h("dd", shown(key, value))]) }) : "");
}

export function exporting() {
	const { id } = doc.text;
	async function download(format) {
		$("export").close();
		const file = await get(`export?${new URLSearchParams({ id, format })}`);
		Object.assign(h("a"), { href: URL.createObjectURL(file), download: file.name }).click();
	}
	fill("formats", "button", state.formats.map(format => ({ words: format, act: () => download(format) })));
	open("export");
}

export function narrow(words) {
	for (const each of $("every").children) each.hidden = !each.textContent.toLowerCase().includes(words.toLowerCase());
}

export function showActions() {
	narrow("");
	open("actions", () => document.querySelector("#every li:not([hidden]) button")?.click()); // Enter takes the first one
}

// Blind rating: two texts for one brief, side by side; nothing says where they come from.

let asked = {};
let pair = {};

async function next(choice) {
	pair = await post("rate", { ...asked, ...choice });
	const { id, done, pairs, brief, texts = [] } = pair;
	say("rated", id ? w("ratedOf", done, pairs) : w(pairs ? "ratedAll" : "ratedNone", pairs));
	say("rate-brief", id && `${brief.show}, ${brief.form}: ${brief.theme}`);
	fill("pair", "variant", texts.map((text, index) => ({ name: w(["firstText", "secondText", "reference"][index]), text: [plain(text)] })));
	$("pair").classList.remove("open");
}

// `values` are run, other, rater and suite.
export function rate(values) {
	const { rater } = open("rate", () => {
		asked = { ...values, rater: rater.value };
		localStorage[NAME] = rater.value;
		next().then(() => $("rate").focus());
		return false;
	});
	rater.value = values.rater || localStorage[NAME] || "";
	for (const id of ["pair", "rated", "rate-brief"]) say(id);
	if (rater.value) rater.form.requestSubmit();
}

on($("rate"), "keydown click", ({ type, key, target }) => {
	const choice = type === "click" ? target.dataset.choice : !target.matches("input") && key;
	if (choice === "r") $("pair").classList.toggle("open");
	else if (/^[012]$/.test(choice) && pair.id) next({ pair: pair.id, choice: Number(choice) });
});
