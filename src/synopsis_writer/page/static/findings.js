// What the check says of the text: underlined in it, listed beside it, and counted under it.

import { $, announce, checkName, fill, make, notice, number, open, post, range, w } from "./base.js";
import { change, doc, outgoing, remember } from "./desk.js";
import * as editor from "./editor.js";

const LONG_SPAN = 160; // of more characters only a thin line is drawn
const LONG_QUOTE = 60;
const MOST_QUOTES = 6;
const SAY_AFTER = 1500; // milliseconds after the last key
const NEAR = 0.95; // of a limit

let asking = null;
let saying;
let said = "";

/** Check the text as it is now; an older check that is still under way is given up. */
export const check = async () => {
	asking?.abort();
	asking = new AbortController();
	const checked = doc;
	const failed = (error) => {
		if (!error.body) throw error;
		return { findings: [], counts: {}, problem: error.message };
	};
	const result = await post("/api/check", doc.text, { signal: asking.signal }).catch(failed);
	if (checked !== doc || result.superseded) return;
	doc.findings = result.findings;
	show(result);
};

const unwaived = () => doc.findings.filter((each) => !each.waived);
const isLong = ([start, end]) => start.index !== end.index || end.offset - start.offset > LONG_SPAN;
const isBefore = (one, other) => one.index < other.index || (one.index === other.index && one.offset < other.offset);

const show = ({ counts, limits, problem }) => {
	const hasText = doc.text.paragraphs.some(({ text }) => text.trim());
	const spans = { long: [], warning: [], error: [] };
	const numbers = { error: 0, warning: 0 };
	for (const each of unwaived()) {
		numbers[each.level]++;
		for (const span of each.spans) spans[isLong(span) ? "long" : each.level].push(span);
	}
	editor.underline(spans);
	const { error, warning } = numbers;
	const amounts = [error && w(error === 1 ? "error1" : "errors", error), warning && w(warning === 1 ? "warning1" : "warnings", warning)];
	const verdict = amounts.filter(Boolean).join(", ") || w(hasText ? "clean" : "emptyHint");
	$("verdict").className = hasText ? (error ? "refused" : "accepted") : "soft";
	$("verdict").replaceChildren(verdict, unwaived().some(({ fixes }) => fixes.length) ? make("button", { words: w("fixAll"), act: fixAll }) : "");
	$("found").textContent = error + warning || "";
	$("problem").textContent = problem;
	const focused = document.activeElement.closest("#findings li")?.dataset.key;
	fill("findings", "finding", doc.findings.map(card));
	if (focused) (document.querySelector(`#findings [data-key="${CSS.escape(focused)}"] button`) ?? $("right")).focus();
	fill("counts", "count", Object.keys(counts).map((unit) => counter(unit, counts[unit], limits[unit])));
	markCurrent();
	if (said === verdict) return;
	said = verdict;
	clearTimeout(saying);
	saying = setTimeout(() => ($("judged").textContent = verdict), SAY_AFTER); // apart, or it would replace what was announced
};

const counter = (unit, value, limit) => {
	const count = { unit: w(unit), count: number(value), value };
	if (!limit) return count;
	const [least, most] = limit;
	const rest = value > most ? w("overBy", number(value - most)) : value < least ? w("under", number(least - value)) : w("left", number(most - value));
	return { ...count, most, level: value > most ? "over" : value > NEAR * most ? "near" : "within", rest: `${range(limit, unit)} · ${rest}` };
};

const quote = (span) => {
	const words = editor.range(...span).toString();
	return words.length > LONG_QUOTE ? `${words.slice(0, LONG_QUOTE - 2)}…` : words;
};

const card = (finding) => {
	const { check: id, level, spans, fixes, waived } = finding;
	const word = spans.length ? quote(spans[0]) : "";
	const [fix, ...others] = waived ? [] : fixes;
	return {
		...finding,
		kind: waived ? "waived" : level,
		key: `${id} ${word}`,
		name: checkName(id),
		quotes: spans.slice(0, MOST_QUOTES).map((span) => make("quote", { words: quote(span), act: () => editor.select(...span, true) })),
		reason: waived && w("waivedBecause", waived),
		fixWords: fix && (others.length || !fix.text.trim() ? w("fix") : w("fixTo", fix.text)),
		fix: () => applyFix(finding),
		ourWord: !waived && id === "spelling" && /^[\p{L}\p{M}'’-]{2,60}$/u.test(word) && w("ourWord", word),
		own: () => ours(word),
		waiveWords: w(waived ? "unwaive" : "waive"),
		waive: () => (waived ? unwaive : waive)(finding),
	};
};

const applyFix = ({ fixes }) => {
	if (!fixes.length) return announce("fixedNone");
	remember();
	for (const { span, text } of fixes.toReversed()) editor.splice(...span, text);
};

export const fixAll = async () => {
	const { text, fixed } = await post("/api/fix", outgoing());
	change({ paragraphs: text.paragraphs });
	announce(fixed.length ? "fixed" : "fixedNone", fixed.join(", "));
};

const waive = ({ check: id, message, words }) => {
	$("unwaived").textContent = message;
	open("waive", (data) => change({ waived: [...doc.text.waived, { check: id, words, reason: data.get("reason") }] }));
};

const unwaive = ({ check: id, words }) => {
	change({ waived: doc.text.waived.filter((each) => each.check !== id || !each.words.some((word) => words.includes(word))) });
};

const ours = async (word) => {
	await post("/api/words", { word });
	notice("word", { words: w("ourWordDone", word) });
	check();
};

const current = () => {
	const { start } = editor.selection();
	return unwaived().find(({ spans }) => spans.some(([from, to]) => !isBefore(start, from) && !isBefore(to, start)));
};

export const markCurrent = () => {
	if (document.activeElement !== editor.host) return;
	const cards = [...$("findings").children];
	const here = cards[doc.findings.indexOf(current())];
	for (const each of cards) each.classList.toggle("current", each === here);
	if (matchMedia("(min-width: 60rem)").matches) here?.scrollIntoView({ block: "nearest" });
};

/** For the finding at the cursor, or else the first one. */
const withCurrent = (act) => () => {
	const finding = current() ?? unwaived()[0];
	if (finding) act(finding);
	else announce("clean");
};
export const fixCurrent = withCurrent(applyFix);
export const waiveCurrent = withCurrent(waive);

/** Go to the next words that a finding marks, or to the ones before. */
export const step = (by) => {
	const all = unwaived().flatMap(({ spans, ...finding }) => spans.map((span) => ({ ...finding, span })));
	all.sort(({ span: [one] }, { span: [other] }) => (isBefore(one, other) ? -by : by));
	const { start } = editor.selection();
	const next = all.find(({ span: [from] }) => (by > 0 ? isBefore(start, from) : isBefore(from, start))) ?? all[0];
	if (!next) return announce("clean");
	editor.select(...next.span, true);
	announce(`${next.message} ${next.hint}`);
};
