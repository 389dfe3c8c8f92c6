// Beside and above the text: the library, history, release, export, and blind rating.

import { $, fill, get, h, joined, language, make, moment, notice, on, open, pick, post, textPath, w, write } from "./base.js";
import { add, change, discard, doc, docs, load, outgoing, restore, state, view, written } from "./desk.js";
import { compare, plain, WORDS } from "./model.js";

const MOST_BYTES = 2_000_000;
const NAME = "synopsis-by"; // of the person, kept in this browser

/** All texts in the folder, as they were last listed. */
export let library = [];

const more = (id, count) => count && $(id).append(make("none", { none: w("moreTexts", count) }));

/** List the texts and drafts that fit; returns the drafts that are not open. */
export const refresh = async () => {
	const asked = { query: $("query").value, state: $("state").value };
	const isAll = !asked.query && !asked.state;
	const { texts, drafts, more: rest } = await get(`/api/texts?${new URLSearchParams(asked)}`);
	if (isAll) library = texts;
	const shown = (each) => ({ ...each, detail: joined(each.show, each.form, w("wordsOf", each.words), moment(each.changed)), act: () => load(each.id) });
	fill("library", "item", texts.map(shown), isAll ? "noTextsYet" : "noTexts");
	more("library", rest);
	const left = drafts.filter(({ draft }) => !docs.some(({ text }) => text.draft === draft));
	const named = left.map(({ draft, title, show, at }) => ({ draft, name: joined(title || w("untitled"), show, moment(at)), back: () => restore(draft), drop: () => discard(draft) }));
	fill("drafts", "draft", named);
	view.tabs();
	return named;
};

export const openFolder = async () => {
	const path = $("open-folder").elements.path.value;
	const { kind, rows, more: rest, message } = await get(`/api/folder?${new URLSearchParams({ path })}`).catch(({ message }) => ({ rows: [], message }));
	$("rate-run").hidden = kind !== "eval";
	$("rate-run").onclick = () => rate({ run: path });
	const bad = rows.filter(({ state }) => ["refused", "failed"].includes(state));
	write("folder", message ?? w("folderRows", rows.length, bad.length));
	const shown = ({ key, text, ...row }) => ({ ...row, title: text?.title || key, act: () => (text ? add(text) : notice("row", w("noText", row.reason))) });
	fill("rows", "item", rows.map(shown));
	more("rows", rest);
};

export const importFiles = async (files) => {
	for (const file of files) {
		const { name, size } = file;
		try {
			if (size > MOST_BYTES) throw new Error(w("tooLarge", name, Math.ceil(size / 1_000_000)));
			const { texts, messages } = await post(`/api/import?name=${encodeURIComponent(name)}`, new Blob([file]));
			texts.forEach(add);
			notice(`imported ${name}`, w("imported", name), { lines: messages });
		} catch ({ message }) {
			notice(`imported ${name}`, message, { kind: "warning" });
		}
	}
};

/** The versions in the log; each can be compared and restored. */
export const history = async () => {
	const { id } = doc.text;
	const { versions } = id ? await get(textPath(id, "/versions")) : { versions: [] };
	const look = async ({ id: version, at }) => {
		const values = pick(await get(`/api/versions/${encodeURIComponent(version)}`), WORDS);
		compare(outgoing(), values, () => {
			change(values);
			$("history").close();
			notice("restored", w("restored", moment(at)));
		});
	};
	const shown = (each) => ({ title: moment(each.at), maker: each.maker === "model" ? each.model : w("person"), detail: joined(each.request?.note, w("wordsOf", each.words)), act: () => look(each) });
	fill("versions", "item", versions.map(shown), "noVersions");
	open("history");
};

/** A person's word that the text may go out; errors that are left need a reason. */
export const release = () => {
	const which = doc;
	const { id, hash } = which.text;
	const errors = which.findings.filter(({ level, waived }) => level === "error" && !waived);
	fill("reasons", "reason", errors.map((each) => ({ ...each, name: w(`check_${each.check}`) })));
	const fields = open("release", async (data) => {
		const by = data.get("by");
		const waivers = Object.fromEntries(errors.map(({ check }) => [check, data.get(check)]));
		written(which, await post("/api/release", { id, hash, by, waivers }));
		localStorage.setItem(NAME, by);
	});
	fields.by.value = localStorage.getItem(NAME) ?? "";
};

export const showRecord = (record) => {
	const shown = (key, value) => {
		if (key === "at") return moment(value);
		if (key.endsWith("_share")) return value.toLocaleString(language, { style: "percent" });
		return key === "waived" ? value.map(({ check, reason }) => `${w(`check_${check}`)}: ${reason}`).join("; ") : String(value);
	};
	const rows = Object.entries(record ?? {}).filter(([, value]) => value !== null && value.length !== 0);
	$("record").replaceChildren(record ? make("record", { words: w("releasedBy", record.by), rows: rows.flatMap(([key, value]) => [h("dt", w(`record_${key}`)), h("dd", shown(key, value))]) }) : "");
};

export const exporting = () => {
	const { id } = doc.text;
	const download = async (format) => {
		$("export").close();
		const file = await get(`/api/export?${new URLSearchParams({ id, format })}`);
		const link = Object.assign(h("a"), { href: URL.createObjectURL(file), download: file.name });
		link.click();
		setTimeout(URL.revokeObjectURL, 60_000, link.href); // a slow disk takes its time
	};
	fill("formats", "button", state.formats.map((format) => ({ words: format, act: () => download(format) })));
	open("export");
};

/** Show only the actions whose names have these words. */
export const narrow = (words) => {
	for (const each of $("every").children) each.hidden = !each.textContent.toLowerCase().includes(words.toLowerCase());
};

/** Every action with its key; Enter runs the first one that is shown. */
export const showActions = () => {
	narrow("");
	open("actions", () => document.querySelector("#every li:not([hidden]) button")?.click());
};

// Blind rating: two texts for one brief, side by side; nothing says where they come from.

let asked = {};
let pair = {};

const next = async (choice) => {
	pair = await post("/api/rate", { ...asked, ...choice });
	const { id, done, pairs, brief, texts = [] } = pair;
	write("rated", id ? w("ratedOf", done, pairs) : w(pairs ? "ratedAll" : "ratedNone", pairs));
	write("rate-brief", id && `${brief.show}, ${brief.form}: ${brief.theme}`);
	fill("pair", "variant", texts.map((text, index) => ({ name: w(["firstText", "secondText", "reference"][index]), text: [plain(text)] })));
	$("pair").classList.remove("open");
};

/** Rate pairs of a run as somebody: `values` are run, other, rater and suite. */
export const rate = (values) => {
	const { rater } = open("rate", () => {
		asked = { ...values, rater: rater.value };
		localStorage.setItem(NAME, rater.value);
		next().then(() => $("rate").focus());
		return false;
	});
	rater.value = values.rater || localStorage.getItem(NAME) || "";
	for (const id of ["pair", "rated", "rate-brief"]) write(id);
	if (rater.value) rater.form.requestSubmit();
};

on($("rate"), "keydown click", ({ type, key, target }) => {
	const choice = type === "click" ? target.dataset.choice : !target.matches("input") && key;
	if (choice === "r") $("pair").classList.toggle("open");
	else if (/^[012]$/.test(choice) && pair.id) next({ pair: pair.id, choice: Number(choice) });
});
