// Beside and above the text: the library, history, release, and export.

import { $, fill, get, h, joined, language, make, moment, notice, number, open, pick, post, query, textPath, w } from "./base.js";
import { add, change, discard, doc, docs, load, outgoing, restore, state, view, written } from "./desk.js";
import { compare, WORDS } from "./model.js";
import { rate } from "./rate.js";

const MOST_BYTES = 2_000_000;

/** All texts in the folder, as they were last listed. */
export let library = [];

/** List the texts and drafts that fit; returns the drafts that are not open. */
export const refresh = async () => {
	const [words, wanted] = ["query", "state"].map((id) => $(id).value);
	const { texts, drafts, more } = await query("/api/texts", { query: words, state: wanted });
	if (!words && !wanted) library = texts;
	const shown = (each) => ({ ...each, detail: joined(each.show, each.form, `${number(each.words)} ${w("words")}`, moment(each.changed)), act: () => load(each.id) });
	fill("library", "item", texts.map(shown), w(words || wanted ? "noTexts" : "noTextsYet"));
	if (more) $("library").append(make("none", { none: w("moreTexts", number(more)) }));
	const left = drafts.filter(({ draft }) => !docs.some(({ text }) => text.draft === draft));
	const named = left.map((each) => ({ ...each, name: joined(each.title || w("untitled"), each.show, moment(each.at)) }));
	fill("drafts", "draft", named.map((each) => ({ ...each, back: () => restore(each.draft), drop: () => discard(each.draft) })));
	view.tabs();
	return named;
};

/** List what a batch or an eval run holds. */
export const openFolder = async () => {
	const path = $("open-folder").elements.path.value;
	const { kind, rows, message } = await query("/api/folder", { path }).catch(({ message }) => ({ rows: [], message }));
	$("rate-run").hidden = kind !== "eval";
	$("rate-run").onclick = () => rate({ run: path });
	const bad = rows.filter(({ state }) => ["refused", "failed"].includes(state)).length;
	$("folder").textContent = message ?? w("folderRows", number(rows.length), number(bad));
	const shown = ({ key, title, state, reason, text }) => ({ title: title || key, state, detail: reason, act: () => (text ? add(text) : notice(w("noText", reason), { key: "row" })) });
	fill("rows", "item", rows.map(shown));
};

/** Open files that a person dropped or chose. */
export const importFiles = async (files) => {
	for (const file of files) {
		const { name, size } = file;
		if (size > MOST_BYTES) {
			notice(w("tooLarge", name, number(Math.ceil(size / 1_000_000))), { kind: "warn" });
			continue;
		}
		try {
			const { texts, messages } = await post(`/api/import?name=${encodeURIComponent(name)}`, new Blob([file]));
			texts.forEach(add);
			notice(w("imported", name), { lines: messages });
		} catch ({ message }) {
			notice(message, { kind: "warn" });
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
			notice(w("restored", moment(at)), { key: "restored" });
		});
	};
	const shown = (each) => ({ title: moment(each.at), maker: each.maker === "model" ? each.model : w("person"), detail: joined(each.request?.note, `${number(each.words)} ${w("words")}`), act: () => look(each) });
	fill("versions", "item", versions.map(shown), w("noVersions"));
	open("history");
};

/** A person's word that the text may go out; errors that are left need a reason. */
export const release = () => {
	const which = doc;
	const { id, hash } = which.text;
	const errors = which.findings.filter(({ level, waived }) => level === "error" && !waived);
	fill("reasons", "reason", errors.map((each) => ({ ...each, name: w(`check_${each.check}`) })));
	open("release", async (data) => {
		const by = data.get("by");
		const waivers = Object.fromEntries(errors.map(({ check }) => [check, data.get(check)]));
		written(which, await post("/api/release", { id, hash, by, waivers }));
		localStorage.setItem("synopsis-by", by);
	});
	$("release").querySelector("[name=by]").value = localStorage.getItem("synopsis-by") ?? "";
};

/** Show the record of a release under the findings. */
export const showRecord = (record) => {
	const shown = (key, value) => {
		if (key === "at") return moment(value);
		if (key.endsWith("_share")) return value.toLocaleString(language, { style: "percent" });
		return key === "waived" ? value.map(({ check, reason }) => `${w(`check_${check}`)}: ${reason}`).join("; ") : String(value);
	};
	const rows = Object.entries(record ?? {}).filter(([, value]) => value?.length !== 0 && value !== null);
	$("record").hidden = !record;
	$("record").firstElementChild.textContent = w("releasedBy", record?.by);
	$("record").lastElementChild.replaceChildren(...rows.flatMap(([key, value]) => [h("dt", w(`record_${key}`)), h("dd", shown(key, value))]));
};

/** The text as a file in another format. */
export const exporting = () => {
	fill("formats", "file", state.formats.map((format) => ({ format, query: new URLSearchParams({ id: doc.text.id, format }) })));
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
