// The model at work: writing, revising, other lengths; and what it would be asked.

import { $, announce, fill, h, joined, make, notice, open, pick, post, range, run, unnotice, w, write as say } from "./base.js";
import { add, change, discard, doc, go, outgoing, save, state, view } from "./desk.js";

/** What of a text a model or an older version has. */
export const WORDS = ["title", "logline", "characters", "paragraphs"];

/** What is under way, and the text it is for: only one at a time. */
export let job = null;

export const budgetWords = () => {
	const { budget } = state;
	return budget && w("budget", budget.amount ?? w("tokens", budget.tokens));
};

/** Start a job and show it as it goes; returns the texts, or nothing where there are none. */
const work = async (kind, body) => {
	if (job) return announce("busy");
	const which = doc;
	const isWriting = kind === "write";
	let grown = { paragraphs: [] };
	let tokens = 0;
	const charge = (cost) => say("bill", joined(tokens && w("tokens", tokens), cost && w(cost), budgetWords()));
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
	const show = (running) => {
		job = running;
		which.isBusy = Boolean(running);
		$("job").classList.toggle("running", which.isBusy);
		view.show();
	};
	unnotice("job");
	for (const id of ["attempts", "growing", "bill", "stage"]) say(id);
	say("doing", w(isWriting ? "writing" : "revising"));
	$("job").hidden = false;
	show({ kind, doc: which });
	try {
		const [name, data] = await run(`/api/${kind}`, body, heard, (stop) => (job.stop = stop));
		const part = [data.text, grown].find((text) => text?.paragraphs.length);
		const text = data.texts?.[0] ?? part;
		const partKept = isWriting && !data.texts && part && w("partKept");
		if (isWriting && text) adopt(which, text);
		say("doing", `${w(name)} ${partKept || ""}`);
		if (name === "failed" || name === "lost") notice("job", [data.message ?? w("jobLost"), partKept].filter(Boolean).join(". "), { kind: "warning" });
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
};

/** Put a model's text into an open one, as one step to undo. */
const adopt = (which, text) => {
	const shown = doc;
	const { draft, id, hash, brief } = which.text;
	go(which);
	change({ ...text, draft, id, hash, brief: { ...brief, ...text.brief } });
	go(shown);
	if (text.draft) discard(text.draft);
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

export const revise = async (note, paragraphs, variants) => {
	if (doc.text.id && !(await save())) return;
	const which = doc;
	const texts = await work("revise", { text: outgoing(), note, paragraphs, variants });
	if (!texts) return;
	go(which);
	choose(texts);
};

/** In which words `after` differs, paragraph by paragraph where both have as many. */
const differences = async (...texts) => {
	const [old, now] = texts.map((text) => outgoing(text).paragraphs.map((each) => each.text));
	return (await post("/api/diff", { old, new: now })).pieces;
};

/** A text to read, in pieces that say what is new; `more` may add something to each paragraph. */
const reading = (text, pieces, more = () => "") => {
	const marked = ({ kind, text }) => (kind === "same" ? text : h(kind === "in" ? "ins" : "del", text));
	return make("reading", { ...text, paragraphs: pieces.flatMap((piece, index) => [h("p", ...piece.map(marked)), more(piece, index) || ""]) });
};
export const plain = (text) => reading(text, text.paragraphs.map(({ text }) => [{ kind: "same", text }]));

/** Show in which words `after` differs from `before`; `restore` takes it. */
export const compare = async (before, after, restore) => {
	$("different").replaceChildren(reading(after, await differences(before, after)));
	$("difference").querySelector(".primary").hidden = !restore;
	open("difference", restore);
};

/** New versions beside the text: one is taken whole, or paragraphs of it. */
const choose = async (texts) => {
	const which = doc;
	const base = outgoing();
	const pieces = await Promise.all(texts.map((text) => differences(base, text)));
	const take = (values, { origin, request }, ...words) => {
		change({ ...values, origin });
		if (which.text.id) save(request);
		announce(...words);
	};
	const whole = (index) => {
		$("variants").close();
		take(pick(texts[index], WORDS), texts[index], "variant", index + 1);
	};
	const column = (text, index) => {
		const isAligned = pieces[index].length === base.paragraphs.length && base.paragraphs.length > 1;
		const one = (place) => ({ currentTarget }) => {
			currentTarget.disabled = true;
			take({ paragraphs: outgoing().paragraphs.with(place, text.paragraphs[place]) }, text, "takenParagraph", place + 1);
		};
		const more = (piece, place) => isAligned && piece.some(({ kind }) => kind !== "same") && make("piece", { place: place + 1, act: one(place) });
		return { ...text, number: index + 1, name: w("variant", index + 1), take: () => whole(index), text: [reading(text, pieces[index], more)] };
	};
	fill("sides", "variant", [{ name: w("current"), text: [plain(base)] }, ...texts.map(column)]);
	open("variants");
	$("variants").onkeydown = ({ key, ctrlKey, altKey }) => texts[key - 1] && !ctrlKey && !altKey && whole(key - 1);
	$("variants").onclose = () => discard(...texts.map(({ draft }) => draft));
	$("sides").querySelector(".primary").focus();
};

export const limitsOf = (form) => ["words", "characters", "bytes", "paragraphs"].map((unit) => range(form[unit], unit)).filter(Boolean).join(", ");

export const lengths = () => {
	const { text } = doc;
	const others = state.house.forms.filter(({ name }) => name !== text.brief.form);
	fill("forms", "choice", others.map((form) => ({ ...form, limits: limitsOf(form) })));
	const tell = async (forms) => (await work("lengths", { text: outgoing(text), forms }))?.forEach(add);
	open("lengths", (data) => {
		const forms = data.getAll("form");
		if (forms.length) tell(forms);
		return forms.length > 0;
	});
};

export const prompt = async (brief) => {
	const { messages, examples } = await post("/api/prompt", { brief });
	fill("chosen", "item", examples, "noExamples");
	fill("asked", "message", messages);
	open("prompt");
};
