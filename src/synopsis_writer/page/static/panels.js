// Beside and above the text: the library, history, release, export, and blind rating.

import { $, checkName, fill, get, h, joined, language, make, moment, notice, number, on, open, pick, post, textPath, w } from "./base.js";
import { add, change, discard, doc, docs, load, outgoing, restore, state, view, written } from "./desk.js";
import { compare, plain, WORDS } from "./model.js";

const MOST_BYTES = 2_000_000;
const NAME = "synopsis-by"; // of the person, kept in this browser

/** All texts in the folder, as they were last listed. */
export let library = [];

const words = (count) => `${number(count)} ${w("words")}`;
const more = (id, count) => count && $(id).append(make("none", { none: w("moreTexts", number(count)) }));

/** List the texts and drafts that fit; returns the drafts that are not open. */
export const refresh = async () => {
	const asked = { query: $("query").value, state: $("state").value };
	const isAll = !asked.query && !asked.state;
	const { texts, drafts, more: rest } = await get(`/api/texts?${new URLSearchParams(asked)}`);
	if (isAll) library = texts;
	const shown = (each) => ({ ...each, detail: joined(each.show, each.form, words(each.words), moment(each.changed)), act: () => load(each.id) });
	fill("library", "item", texts.map(shown), w(isAll ? "noTextsYet" : "noTexts"));
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
	const bad = rows.filter(({ state }) => ["refused", "failed"].includes(state)).length;
	$("folder").textContent = message ?? w("folderRows", number(rows.length), number(bad));
	const shown = ({ key, title, state, reason, text }) => ({ title: text?.title || key, state, detail: reason, act: () => (text ? add(text) : notice("row", { words: w("noText", reason) })) });
	fill("rows", "item", rows.map(shown));
	more("rows", rest);
};

export const importFiles = async (files) => {
	for (const file of files) {
		const { name, size } = file;
		try {
			if (size > MOST_BYTES) throw new Error(w("tooLarge", name, number(Math.ceil(size / 1_000_000))));
			const { texts, messages } = await post(`/api/import?name=${encodeURIComponent(name)}`, new Blob([file]));
			texts.forEach(add);
			notice(`imported ${name}`, { words: w("imported", name), lines: messages });
		} catch ({ message }) {
			notice(`imported ${name}`, { words: message, kind: "warn" });
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
			notice("restored", { words: w("restored", moment(at)) });
		});
	};
	const shown = (each) => ({ title: moment(each.at), maker: each.maker === "model" ? each.model : w("person"), detail: joined(each.request?.note, words(each.words)), act: () => look(each) });
	fill("versions", "item", versions.map(shown), w("noVersions"));
	open("history");
};

/** A person's word that the text may go out; errors that are left need a reason. */
export const release = () => {
	const which = doc;
	const { id, hash } = which.text;
	const errors = which.findings.filter(({ level, waived }) => level === "error" && !waived);
	fill("reasons", "reason", errors.map((each) => ({ ...each, name: checkName(each.check) })));
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
		return key === "waived" ? value.map(({ check, reason }) => `${checkName(check)}: ${reason}`).join("; ") : String(value);
	};
	const rows = Object.entries(record ?? {}).filter(([, value]) => value?.length !== 0 && value !== null);
	$("record").hidden = !record;
	$("record").firstElementChild.textContent = w("releasedBy", record?.by);
	$("record").lastElementChild.replaceChildren(...rows.flatMap(([key, value]) => [h("dt", w(`record_${key}`)), h("dd", shown(key, value))]));
};

export const exporting = () => {
	const { id } = doc.text;
	const download = async (format) => {
		$("export").close();
		const file = await get(`/api/export?${new URLSearchParams({ id, format })}`, undefined, { isFile: true });
		const link = Object.assign(h("a"), { href: URL.createObjectURL(file), download: file.name });
		link.click();
		setTimeout(URL.revokeObjectURL, 60_000, link.href); // a slow disk takes its time
	};
	fill("formats", "button", state.formats.map((format) => ({ words: format, act: () => download(format) })));
	open("export");
};

/** Every action with its key; typing narrows them, Enter runs the first. */
export const showActions = () => {
	const { children } = $("every");
	const narrow = (words = "") => {
		for (const each of children) each.hidden = !each.textContent.toLowerCase().includes(words.toLowerCase());
	};
	$("narrow").oninput = ({ target }) => narrow(target.value);
	narrow();
	open("actions", () => [...children].find((each) => !each.hidden)?.firstElementChild.click());
};

// Blind rating: two texts for one brief, side by side; nothing says where they come from.

let asked = {};
let pair = {};

const next = async (choice) => {
	pair = await post("/api/rate", { ...asked, ...choice });
	const { id, done, pairs, brief, texts = [] } = pair;
	$("rated").textContent = id ? w("ratedOf", number(done), number(pairs)) : w(pairs ? "ratedAll" : "ratedNone", number(pairs));
	$("rate-brief").textContent = id ? `${brief.show}, ${brief.form}: ${brief.theme}` : "";
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
	for (const id of ["pair", "rated", "rate-brief"]) $(id).replaceChildren();
	if (rater.value) rater.form.requestSubmit();
};

on($("rate"), "keydown click", ({ type, key, target }) => {
	const choice = type === "click" ? target.dataset.choice : !target.matches("input") && key;
	if (choice === "r") $("pair").classList.toggle("open");
	else if (/^[012]$/.test(choice) && pair.id) next({ pair: pair.id, choice: Number(choice) });
});
