// What the check says of the text: underlined in it, listed beside it, and counted under it.

import { post, RefusedError } from "./api.js";
import { change, doc, outgoing, remember, report } from "./desk.js";
import { $, announce, button, dialog, field, h, notice } from "./dom.js";
import { language, number, range, w } from "./words.js";

const LONG_SPAN = 160; // of more characters only a thin line is drawn
const SAY_AFTER = 1500; // milliseconds after the last key
const NEAR = 0.95; // of a limit
const FIRST_QUOTES = 6;

let editor;
let asking = null;
let starts = []; // where each paragraph that is not empty begins in the text as it is checked
let saying;
let said = "";

export const connect = (given) => {
	editor = given;
};

const placeOf = (offset) => {
	const { index, from } = starts.findLast((each) => each.from <= offset) ?? { index: 0, from: 0 };
	return { index, offset: offset - from };
};

/** Check the text as it is now; an older check that is still under way is given up. */
export const check = async () => {
	asking?.abort();
	asking = new AbortController();
	const checked = doc;
	let from = 0;
	starts = [];
	for (const [index, { text }] of doc.text.paragraphs.entries()) {
		if (!text.trim()) continue;
		starts.push({ index, from });
		from += text.length + 2;
	}
	try {
		const result = await post("/api/check", outgoing(), { signal: asking.signal });
		if (checked === doc && !result.superseded) show(result);
	} catch (error) {
		if (error instanceof RefusedError) show({ findings: [], counts: {}, limits: {}, problem: error.message });
	}
};

const rank = ({ waived, level }) => (waived ? 2 : level === "error" ? 0 : 1);
const isLong = ([start, end]) => start.index !== end.index || end.offset - start.offset > LONG_SPAN;
const amount = (value, one, many) => value && (value === 1 ? w(one) : w(many, value));

const show = ({ findings, counts, limits, problem }) => {
	const places = (span) => span.map(placeOf);
	const found = findings.map((each) => ({ ...each, spans: each.spans.map(places), fixes: (each.fixes ?? []).map(({ start, end, text }) => ({ text, span: places([start, end]) })) }));
	found.sort((one, other) => rank(one) - rank(other));
	doc.findings = found;
	const spans = { long: [], warning: [], error: [] };
	for (const each of found) if (!each.waived) for (const span of each.spans) spans[isLong(span) ? "long" : each.level].push(span);
	editor.underline(spans);
	const [errors, warnings] = [0, 1].map((level) => found.filter((each) => rank(each) === level).length);
	const verdict = [amount(errors, "error1", "errors"), amount(warnings, "warning1", "warnings")].filter(Boolean).join(", ") || w(starts.length ? "clean" : "emptyHint");
	$("verdict").className = `verdict ${starts.length ? (errors ? "refused" : "accepted") : "soft"}`;
	$("verdict").replaceChildren(verdict, found.some((each) => fixesOf(each).length) ? button(w("fixAll"), fixAll) : "");
	$("found").textContent = errors + warnings || "";
	$("problem").textContent = problem ?? "";
	const focused = document.activeElement.closest("#findings li")?.dataset.key;
	$("findings").replaceChildren(...found.map(card));
	if (focused) (document.querySelector(`#findings [data-key="${CSS.escape(focused)}"] button`) ?? $("right")).focus();
	if (said !== verdict) {
		said = verdict;
		clearTimeout(saying);
		saying = setTimeout(() => announce(verdict), SAY_AFTER);
	}
	$("counts").replaceChildren(...Object.keys(counts).map((unit) => counter(unit, counts[unit], limits[unit])));
	markCurrent();
};

const counter = (unit, value, limit) => {
	const words = h("span", {}, h("b", {}, number(value)), ` ${w(unit)}`);
	if (!limit) return h("div", { class: "count" }, words);
	const [least, most] = limit;
	const rest = value > most ? w("overBy", number(value - most)) : value < least ? w("under", number(least - value)) : w("left", number(most - value));
	const fill = h("span", { class: "fill" });
	fill.style.width = `${Math.min(100, (100 * value) / most)}%`;
	const level = value > most ? "over" : value > NEAR * most ? "near" : "";
	return h("div", { class: `count ${level}` }, words, h("span", { class: "rest" }, `${range(limit)} · ${rest}`), h("span", { class: "meter", "aria-hidden": "true" }, fill));
};

const quote = (span) => {
	const words = editor.range(...span).toString();
	return words.length > 60 ? `${words.slice(0, 58)}…` : words;
};
const fixesOf = ({ waived, fixes }) => (waived ? [] : fixes);

const card = (finding) => {
	const { check: name, level, message, hint, spans, waived } = finding;
	const words = spans.length ? quote(spans[0]) : "";
	const fixes = fixesOf(finding);
	const fix = fixes.length === 1 && fixes[0].text.trim() ? w("fixTo", fixes[0].text) : w("fix");
	const isWord = !waived && name === "spelling" && /^[\p{L}\p{M}'’-]{2,60}$/u.test(words);
	const jump = (span) => button(`„${quote(span)}“`, () => editor.select(...span, true), { class: "quote" });
	return h(
		"li",
		{ class: waived ? "waived" : level, "data-key": `${name} ${words}` },
		h("h3", {}, name, " ", h("small", {}, w(waived ? "isWaived" : level))),
		h("p", {}, message),
		hint && h("p", { class: "hint" }, hint),
		spans.length > 0 && h("div", { class: "quotes" }, spans.slice(0, FIRST_QUOTES).map(jump)),
		waived && h("p", { class: "hint" }, w("waived", waived)),
		h(
			"div",
			{ class: "row" },
			fixes.length > 0 && button(fix, () => applyFix(finding), { class: "fix" }),
			waived ? button(w("unwaive"), () => unwaive(finding)) : button(w("waive"), () => waive(finding)),
			isWord && button(w("ourWord", words), () => ours(words)),
		),
	);
};

const applyFix = (finding) => {
	const fixes = fixesOf(finding);
	if (!fixes.length) return announce(w("fixedNone"));
	remember();
	for (const { text, span } of fixes.toReversed()) editor.splice(...span, text);
};

export const fixAll = async () => {
	try {
		const { text, fixed } = await post("/api/fix", outgoing());
		change({ title: text.title, logline: text.logline, paragraphs: text.paragraphs });
		announce(fixed.length ? w("fixed", fixed.join(", ")) : w("fixedNone"));
	} catch (error) {
		report(error);
	}
};

const waive = ({ check: name, message, words }) => {
	const control = h("input", { name: "reason", required: true, maxlength: 400 });
	const submit = (data) => change({ waived: [...doc.text.waived, { check: name, words, reason: data.get("reason") }] });
	dialog(w("waive"), [h("p", {}, message), field(w("waiveReason"), control)], { leave: "cancel", primary: w("waive"), submit });
};

const unwaive = ({ check: name, words }) => {
	const isIts = (each) => each.check === name && each.words.some((word) => words.includes(word));
	change({ waived: doc.text.waived.filter((each) => !isIts(each)) });
};

const ours = async (word) => {
	try {
		await post("/api/words", { word });
		notice(w("ourWordDone", word), { key: "word" });
		check();
	} catch (error) {
		report(error, "word");
	}
};

const isBefore = (one, other) => one.index < other.index || (one.index === other.index && one.offset < other.offset);
const open = () => doc.findings.filter((each) => !each.waived);
const current = () => {
	const { start } = editor.selection();
	return open().find((each) => each.spans.some(([from, to]) => !isBefore(start, from) && !isBefore(to, start)));
};

/** Mark the finding at the cursor in the list. */
export const markCurrent = () => {
	if (document.activeElement !== editor.host) return;
	const index = doc.findings.indexOf(current());
	for (const [place, element] of [...$("findings").children].entries()) element.classList.toggle("current", place === index);
	if (index >= 0 && matchMedia("(min-width: 60rem)").matches) $("findings").children[index]?.scrollIntoView({ block: "nearest" });
};

/** Do something with the finding at the cursor, or with the first one. */
const withCurrent = (act) => () => {
	const finding = current() ?? open()[0];
	if (finding) act(finding);
	else announce(w("clean"));
};
export const fixCurrent = withCurrent(applyFix);
export const waiveCurrent = withCurrent(waive);

/** Go to the next words that a finding marks, or to the ones before. */
export const step = (by) => {
	const all = open().flatMap((finding) => finding.spans.map((span) => ({ finding, span })));
	if (!all.length) return announce(w("clean"));
	all.sort(({ span: [one] }, { span: [other] }) => (isBefore(one, other) ? -1 : 1));
	const { start } = editor.selection();
	const next = by > 0 ? (all.find(({ span: [from] }) => isBefore(start, from)) ?? all[0]) : (all.findLast(({ span: [from] }) => isBefore(from, start)) ?? all.at(-1));
	editor.select(...next.span, true);
	announce(`${next.finding.message} ${next.finding.hint ?? ""}`);
};
