// Beside and above the text: the library, history, release, export, and all actions.

import { get, post, textPath } from "./api.js";
import { add, discard, doc, docs, draftName, load, outgoing, change, report, restore, state, view, written } from "./desk.js";
import { $, badge, button, dialog, field, h, item, joined, notice, soft } from "./dom.js";
import { compare } from "./model.js";
import { language, moment, number, w } from "./words.js";

const MOST_BYTES = 2_000_000;

/** All texts in the folder, as they were last listed. */
export let library = [];

/** List the texts and drafts that fit; returns the drafts that are not open. */
export const refresh = async () => {
	const query = $("query").value.trim();
	const wanted = $("state").value;
	try {
		const { texts, drafts } = await get(`/api/texts?${new URLSearchParams({ query, state: wanted })}`);
		if (!query && !wanted) library = texts;
		const row = (each) => item(() => load(each.id), h("b", {}, each.title), badge(each.state), h("small", {}, joined(each.show, each.form, `${number(each.words)} ${w("words")}`, moment(each.changed))));
		$("library").replaceChildren(...(texts.length ? texts.map(row) : [h("li", { class: "soft" }, w(query || wanted ? "noTexts" : "noTextsYet"))]));
		const left = drafts.filter(({ draft }) => !docs.some(({ text }) => text.draft === draft));
		const waiting = (each) => h("li", { class: "waiting" }, draftName(each), h("div", { class: "row" }, button(w("restore"), () => restore(each.draft)), button(w("discard"), () => discard([each.draft]))));
		$("drafts").replaceChildren(...left.map(waiting));
		view.tabs();
		return left;
	} catch (error) {
		report(error, "library");
		return [];
	}
};

/** List what a batch or an eval run holds. */
export const openFolder = async (event) => {
	event.preventDefault();
	const list = $("rows");
	try {
		const { rows } = await get(`/api/folder?${new URLSearchParams(new FormData(event.target))}`);
		const bad = rows.filter((row) => row.state === "refused" || row.state === "failed").length;
		$("folder").textContent = w("folderRows", number(rows.length), number(bad));
		const open = (row) => (row.text ? add(row.text) : notice(w("noText", row.reason), { key: "row" }));
		list.replaceChildren(...rows.map((row) => item(() => open(row), h("b", {}, row.title || row.key), badge(row.state), row.reason && h("small", {}, row.reason))));
	} catch (error) {
		$("folder").textContent = error.message;
		list.replaceChildren();
	}
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
			const { texts, messages } = await post(`/api/import?${new URLSearchParams({ name })}`, new Blob([file]));
			for (const text of texts) add(text, false);
			notice(w("imported", name), { lines: messages });
		} catch (error) {
			report(error);
		}
	}
};

/** The versions in the log; each can be compared and restored. */
export const history = async () => {
	const { id } = doc.text;
	try {
		const { versions } = id ? await get(textPath(id, "/versions")) : { versions: [] };
		const open = async (version) => {
			const { title, logline, characters, paragraphs } = await get(`/api/versions/${encodeURIComponent(version.id)}`);
			const back = () => {
				change({ title, logline, characters, paragraphs });
				list.close();
				notice(w("restored", moment(version.at)), { key: "restored" });
			};
			compare(outgoing(), { title, logline, paragraphs }, w("restore"), back);
		};
		const row = (each) => {
			const maker = each.maker === "model" ? each.model : w("person");
			const asked = typeof each.request === "string" ? each.request : each.request?.note;
			return item(() => open(each).catch(report), h("b", {}, moment(each.at)), maker, h("small", {}, joined(asked, `${number(each.words)} ${w("words")}`)));
		};
		const list = dialog(w("history"), [versions.length ? h("ul", { class: "list" }, versions.map(row)) : soft(w("noVersions"))]);
	} catch (error) {
		report(error);
	}
};

/** A person's word that the text may go out; errors that are left need a reason. */
export const release = () => {
	const which = doc;
	const errors = which.findings.filter(({ level, waived }) => level === "error" && !waived);
	const checks = [...new Set(errors.map(({ check }) => check))];
	const problem = h("p", { class: "problem", role: "alert" });
	const input = (name, value = "") => h("input", { name, value, required: true, maxlength: 400 });
	const reason = (check) => field(check, input(`waive ${check}`), errors.find((each) => each.check === check).message);
	const submit = async (data) => {
		const by = data.get("by");
		const { id, hash } = which.text;
		const waivers = Object.fromEntries(checks.map((check) => [check, data.get(`waive ${check}`)]));
		try {
			written(which, await post("/api/release", { id, hash, by, waivers }));
			localStorage.setItem("synopsis-by", by);
		} catch ({ message, body }) {
			problem.textContent = [message, ...(body?.findings ?? []).map((each) => each.message)].join(" ");
			return false;
		}
	};
	const content = [h("p", {}, w("releaseLead")), field(w("by"), input("by", localStorage.getItem("synopsis-by") ?? "")), checks.length > 0 && h("p", {}, w("releaseWaive")), checks.map(reason), problem];
	dialog(w("release"), content, { leave: "cancel", primary: w("release"), submit });
};

/** Show the record of a release under the findings. */
export const showRecord = (record) => {
	const shown = (key, value) => {
		if (key === "at") return moment(value);
		if (key.endsWith("_share")) return value.toLocaleString(language, { style: "percent" });
		return key === "waived" ? value.map(({ check, reason }) => `${check}: ${reason}`).join("; ") : String(value);
	};
	const rows = Object.entries(record ?? {}).filter(([, value]) => value?.length !== 0 && value !== null);
	const list = h("dl", {}, rows.map(([key, value]) => [h("dt", {}, w(`record_${key}`)), h("dd", {}, shown(key, value))]));
	$("record").replaceChildren(...(record ? [h("details", { open: true }, h("summary", {}, w("releasedBy", record.by)), list)] : []));
};

/** The text as a file in another format. */
export const exporting = () => {
	const problem = h("p", { class: "problem", role: "alert" });
	const save = async (format) => {
		try {
			const response = await get(`/api/export?${new URLSearchParams({ id: doc.text.id, format })}`);
			const [, name] = /filename\*=UTF-8''([^;]+)/i.exec(response.headers.get("Content-Disposition")) ?? [];
			const href = URL.createObjectURL(await response.blob());
			h("a", { href, download: name ? decodeURIComponent(name) : `text.${format}` }).click();
			URL.revokeObjectURL(href);
			element.close();
		} catch ({ message }) {
			problem.textContent = message;
		}
	};
	const element = dialog(w("export"), [h("div", { class: "row" }, state.formats.map((format) => button(format, () => save(format)))), problem]);
};

/** Every action with its key; typing narrows them, Enter runs the first. */
export const showActions = (all) => {
	const narrow = ({ target }) => {
		for (const row of list.children) row.hidden = !row.textContent.toLowerCase().includes(target.value.toLowerCase());
	};
	const find = h("input", { type: "search", "aria-label": w("actionsFind"), placeholder: w("actionsFind"), oninput: narrow });
	const row = ([name, [act, key]]) => {
		const run = () => {
			element.close();
			act();
		};
		return item(run, w(name), key && h("kbd", {}, key));
	};
	const list = h("ul", { class: "list actions" }, Object.entries(all).map(row));
	const submit = () => [...list.children].find((each) => !each.hidden)?.firstChild.click();
	const element = dialog(w("actions"), [find, list], { submit });
};
