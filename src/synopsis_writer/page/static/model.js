// The model at work: writing, revising, other lengths; and what it would be asked.

import { get, post, run } from "./api.js";
import { add, change, discard, doc, docs, go, outgoing, report, save, state, view } from "./desk.js";
import { $, announce, badge, button, closer, dialog, h, joined, label, marked, notice, soft, unnotice } from "./dom.js";
import { number, range, w } from "./words.js";

/** What is under way, and the text it is for: only one at a time. */
export let job = null;

const each = (paragraphs) => paragraphs.map((one) => (typeof one === "string" ? { storyline: "A", text: one } : one));

/** Start a job and show it as it goes; returns the texts, or null where there are none. */
const work = async (kind, body, which = doc) => {
	if (job) return null;
	job = { kind, doc: which, stop() {} };
	unnotice("job");
	const isWriting = kind === "write";
	const line = h("p", { role: "status" }, w(isWriting ? "writing" : "revising"));
	const attempts = h("ol");
	const [bill, stage] = [soft(), soft()];
	const stop = button(w("stop"), () => job?.stop());
	$("job").replaceChildren(h("div", { class: "row" }, line, stop), attempts, bill, stage);
	$("job").hidden = false;
	$("growing").replaceChildren();
	view.show();
	let [grown, tokens] = [null, 0];
	const charge = (cost, all) => {
		tokens = all ?? tokens;
		bill.textContent = joined(tokens && w("tokens", number(tokens)), cost === "unpriced" ? w(cost) : cost, state.budget && w("budget", state.budget.amount ?? w("tokens", number(state.budget.tokens))));
	};
	const heard = (name, data) => {
		if (name === "status") stage.textContent = data.message;
		else if (name === "growing") {
			const now = { title: data.title || which.text.title, paragraphs: each(data.paragraphs) };
			if (joinedText(now).length >= joinedText(grown ?? { paragraphs: [] }).length) grown = now; // a retry begins anew
			if (which !== doc || !isWriting) return;
			$("title").value = now.title;
			$("growing").replaceChildren(...now.paragraphs.map(({ text }) => h("p", {}, text)));
		} else {
			grown = null;
			const { number: count, passed, form, findings, usage, cost } = data;
			const errors = findings.filter(({ level, waived }) => level === "error" && !waived);
			const why = errors.map((finding) => h("li", {}, h("b", {}, finding.check), ` ${finding.message}`));
			attempts.append(h("li", {}, form && kind === "lengths" && `${form}: `, w(passed ? "attemptPassed" : "attemptRefused", count), h("ul", {}, why)));
			charge(cost, tokens + (usage?.prompt ?? 0) + (usage?.completion ?? 0));
			if (!passed) line.textContent = w("attemptBecause", count + 1, count, errors.map((finding) => finding.check).join(", "));
		}
	};
	try {
		const [name, data] = await run(`/api/${kind}`, body, heard, (act) => (job.stop = act));
		job = null;
		stage.remove();
		const part = data.text?.paragraphs.length ? data.text : grown;
		const text = name === "done" ? data.texts[0] : part;
		if (isWriting && text) adopt(which, text);
		else view.show();
		const hasPart = isWriting && part ? w("partKept") : "";
		line.textContent = name === "stopped" ? `${w("stopped")} ${hasPart}` : w(name === "done" ? "written" : "failed");
		if (name === "failed" || name === "lost") notice(`${data.message ?? w("jobLost")}${hasPart && `. ${hasPart}`}`, { key: "job", kind: "warn" });
		charge(data.cost, typeof data.tokens === "number" ? data.tokens : undefined);
		stop.replaceWith(closer(() => ($("job").hidden = true)));
		return name === "done" ? data.texts : null;
	} catch (error) {
		job = null;
		$("job").hidden = true;
		view.show();
		report(error, "job");
		return null;
	}
};

/** Put a model's text into an open one, as one step to undo. */
const adopt = (which, text) => {
	const shown = doc;
	const { draft } = which.text;
	if (which !== shown) go(which);
	change({ ...text, id: which.text.id, hash: which.text.hash, paragraphs: each(text.paragraphs), brief: { ...which.text.brief, ...text.brief } });
	if (which !== shown) go(shown);
	if (which.text.draft !== draft) discard([draft]);
};

export const write = async (best_of) => {
	const { brief } = doc.text;
	if (doc.text.id) {
		if (!(await save())) return;
		add();
		doc.text.brief = brief;
	}
	work("write", { brief, best_of });
};

export const revise = async (note, index, count) => {
	if (doc.text.id && !(await save())) return;
	const which = doc;
	const request = { note, paragraphs: index === null ? [] : [index + 1], variants: count };
	const texts = await work("revise", { text: outgoing(), ...request, keep: [], only: null, words: null });
	if (!texts) return;
	go(which);
	variants(texts);
};

const joinedText = ({ paragraphs }) => paragraphs.map(({ text }) => text).join("\n\n");

/** In which words `after` differs, paragraph by paragraph where both have as many, else as one. */
const differences = async (before, after) => {
	const compare = async (from, to) => (from === to ? [{ kind: "same", text: to }] : (await post("/api/diff", { from, to })).parts);
	const old = outgoing(before).paragraphs;
	if (old.length !== after.paragraphs.length) return [await compare(joinedText({ paragraphs: old }), joinedText(after))];
	return Promise.all(after.paragraphs.map(({ text }, index) => compare(old[index].text, text)));
};

const reading = ({ title, logline }, pieces, more = () => null) =>
	h("div", { class: "text small", lang: "de" }, h("p", { class: "title" }, title), h("p", { class: "logline" }, logline), pieces.map((piece, index) => [h("p", {}, marked(piece)), more(piece, index)]));

/** Show in which words `after` differs from `before`. */
export const compare = async (before, after, primary, submit) => {
	const pieces = await differences(before, after).catch(report);
	if (pieces) dialog(w("showDifference"), [reading(after, pieces)], { primary, submit });
};

/** New versions beside the text: one is taken whole, or paragraphs of it. */
const variants = async (texts) => {
	const which = doc;
	const base = outgoing();
	const pieces = await Promise.all(texts.map((text) => differences(base, text))).catch(report);
	if (!pieces) return;
	const take = (values, index, words) => {
		const { origin = base.origin, request = null } = texts[index];
		change({ ...values, origin });
		if (which.text.id) save(request ?? {});
		announce(words);
	};
	const whole = (index) => {
		element.close();
		const { title, logline, characters, paragraphs } = texts[index];
		take({ title, logline, characters, paragraphs }, index, w("variant", index + 1));
	};
	const one = (index, place) => {
		const paragraphs = outgoing().paragraphs.map((old, other) => (other === place ? texts[index].paragraphs[place] : old));
		take({ paragraphs }, index, w("takenParagraph", place + 1));
	};
	const column = (text, index) => {
		const isAligned = pieces[index].length === base.paragraphs.length && base.paragraphs.length > 1;
		const more = (piece, place) => {
			const press = ({ currentTarget }) => {
				currentTarget.disabled = true;
				one(index, place);
			};
			return isAligned && piece.some(({ kind }) => kind !== "same") && button(w("takeParagraph"), press, { class: "small", "aria-label": `${w("takeParagraph")} ${place + 1}` });
		};
		const head = h("h3", {}, w("variant", index + 1), " ", badge(text.state));
		return h("section", {}, head, button(`${w("take")} (${index + 1})`, () => whole(index), { class: "primary" }), reading(text, pieces[index], more));
	};
	const now = h("section", {}, h("h3", {}, w("current")), reading(base, base.paragraphs.map(({ text }) => [{ kind: "same", text }])));
	const element = dialog(w("variants"), [soft(w("variantsLead")), h("div", { class: "sides" }, now, texts.map(column))], { wide: true, leave: "keep" });
	element.addEventListener("keydown", ({ key, ctrlKey, altKey }) => texts[key - 1] && !ctrlKey && !altKey && whole(key - 1));
	element.addEventListener("close", () => discard(texts.map(({ draft }) => draft).filter((draft) => draft && draft !== which.text.draft)));
	element.querySelector(".primary").focus();
};

/** The story in other forms; each becomes a tab. */
export const lengths = () => {
	const { text } = doc;
	const choice = ({ name, words, characters, bytes }) => {
		const limit = words ? `${range(words)} ${w("words")}` : characters ? `${range(characters)} ${w("characters")}` : bytes ? `${range(bytes)} ${w("bytes")}` : "";
		return h("label", { class: "choice" }, h("input", { type: "checkbox", name: "form", value: name }), h("b", {}, name), " ", h("small", {}, limit));
	};
	const submit = (data) => {
		const forms = data.getAll("form");
		if (forms.length) make(forms);
		return forms.length > 0;
	};
	const make = async (forms) => {
		const texts = await work("lengths", { text: outgoing(text), forms });
		for (const each of texts ?? []) add(each, false);
	};
	const choices = state.house.forms.filter(({ name }) => name !== text.brief.form).map(choice);
	dialog(w("lengths"), [soft(w("lengthsLead")), choices], { leave: "cancel", primary: w("write"), submit });
};

/** The request for a brief, and the examples in it. */
export const prompt = async (brief) => {
	try {
		const { messages, examples } = await post("/api/prompt", { brief });
		const chosen = examples.map(({ title, reason }) => h("li", {}, h("b", {}, title), " ", h("small", {}, reason)));
		const parts = messages.map(({ role, content }) => [h("h3", {}, role), h("pre", { tabindex: 0, "aria-label": role, lang: "de" }, content)]);
		dialog(w("prompt"), [h("h3", {}, w("examples")), chosen.length ? h("ul", {}, chosen) : soft(w("noExamples")), parts], { wide: true });
	} catch (error) {
		report(error, "job");
	}
};
