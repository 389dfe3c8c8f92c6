// What the check says of the text: underlined in it, listed beside it, and counted under it.

import { $, announce, fill, later, make, notice, open, post, range, root, w, write } from "./base.js";
import { change, doc, outgoing, remember } from "./desk.js";
import * as editor from "./editor.js";

const LONG_SPAN = 160; // of more characters only a thin line is drawn
const LONG_QUOTE = 60;
const MOST_QUOTES = 6;
const CHECK_AFTER = 40; // milliseconds after the last key
const SAY_AFTER = 1500;
const NEAR = 0.95; // of a limit

export let asking = null; // while the findings are not of the text as it is

export function check() {
	asking?.abort();
	asking = new AbortController();
	later("check", CHECK_AFTER, ask);
}

async function ask() {
	const result = await post("check", doc.text, { signal: asking.signal }).catch(error => {
		if (!error.body) throw error;
		return { findings: [], counts: {}, problem: error.message };
	});
	if (result.superseded) return;
	asking = null;
	doc.findings = result.findings;
	show(result);
	doc.judged?.();
}

const unwaived = () => doc.findings.filter(each => !each.waived);

function show({ counts, limits, problem }) {
	const hasText = doc.text.paragraphs.some(({ text }) => text.trim());
	const left = unwaived();
	const spans = { long: [], warning: [], error: [] };
	for (const each of left) for (const span of each.spans) spans[span[1] - span[0] > LONG_SPAN ? "long" : each.level].push(span);
	editor.underline(spans);
	const [errors, warnings] = ["error", "warning"].map(kind => left.filter(({ level }) => level === kind).length);
	const verdict = [errors && w("errors", errors), warnings && w("warnings", warnings)].filter(Boolean).join(", ") || w(hasText ? "clean" : "emptyHint");
	$("verdict").className = `row ${hasText ? (errors ? "refused" : "accepted") : "soft"}`;
	$("verdict").replaceChildren(verdict, left.some(({ fixes }) => fixes.length) ? make("button", { words: w("fixAll"), act: fixAll }) : "");
	write("found", left.length || "");
	write("problem", problem);
	const focused = document.activeElement.closest("#findings li")?.dataset.key;
	fill("findings", "finding", doc.findings.map(card));
	if (focused) (document.querySelector(`#findings [data-key="${CSS.escape(focused)}"] button`) ?? $("right")).focus();
	fill("counts", "count", Object.keys(counts).map(unit => counter(unit, counts[unit], limits[unit])));
	markCurrent();
	later("judged", SAY_AFTER, () => $("judged").textContent === verdict || write("judged", verdict));
}

function counter(unit, value, limit) {
	const count = { unit: w(unit), count: value.toLocaleString(root.lang), value, level: "" };
	if (!limit) return count;
	const [least, most] = limit;
	const rest = value > most ? w("overBy", value - most) : value < least ? w("under", least - value) : w("left", most - value);
	return { ...count, most, level: value > most ? "over" : value > NEAR * most ? "near" : "", rest: `${range(limit, unit)} · ${rest}` };
}

function quote(span) {
	const words = editor.range(...span).toString();
	return words.length > LONG_QUOTE ? `${words.slice(0, LONG_QUOTE - 2)}…` : words;
}

function card(finding) {
	const { check: id, level, spans, fixes, waived } = finding;
	const quotes = spans.slice(0, MOST_QUOTES).map(span => ({ words: quote(span), act: () => editor.select(...span, true) }));
	const word = quotes[0]?.words ?? "";
	const [fix, ...others] = waived ? [] : fixes;
	return {
		...finding,
		kind: waived ? "waived" : level,
		key: `${id} ${word}`,
		name: w(`check_${id}`),
		quotes: quotes.map(each => make("quote", each)),
		reason: waived && w("waivedBecause", waived),
		fixWords: fix && (others.length || !fix.text.trim() ? w("fix") : w("fixTo", fix.text)),
		fix: acting(applyFix, id),
		ourWord: !waived && id === "spelling" && /^[\p{L}\p{M}'’-]{2,60}$/u.test(word) && w("ourWord", word),
		own: () => own(word),
		waiveWords: w(waived ? "unwaive" : "waive"),
		waive: () => (waived ? unwaive : waive)(finding),
	};
}

function applyFix({ fixes }) {
	if (!fixes.length) return announce("fixedNone");
	remember();
	for (const { span, text } of fixes.toReversed()) editor.splice(...span, text);
}

async function fixAll() {
	const { paragraphs } = doc.text;
	const { text, fixed } = await post("fix", outgoing());
	if (doc.text.paragraphs !== paragraphs) return announce("changedSince");
	change({ paragraphs: text.paragraphs });
	announce(fixed.length ? "fixed" : "fixedNone", fixed.join(", "));
}

function waive({ check: id, message, words }) {
	write("unwaived", message);
	open("waive", data => change({ waived: [...doc.text.waived, { check: id, words, reason: data.get("reason") }] }));
}

function unwaive({ check: id, words }) {
	change({ waived: doc.text.waived.filter(each => each.check !== id || !each.words.some(word => words.includes(word))) });
}

async function own(word) {
	await post("words", { word });
	notice("word", w("ourWordDone", word));
	check();
}

function current() {
	const [cursor] = editor.selection();
	return unwaived().find(({ spans }) => spans.some(([from, to]) => from <= cursor && cursor <= to));
}

export function markCurrent() {
	if (document.activeElement !== editor.host) return;
	const cards = [...$("findings").children];
	const here = cards[doc.findings.indexOf(current())];
	for (const each of cards) each.classList.toggle("current", each === here);
	if (matchMedia("(min-width: 60rem)").matches) here?.scrollIntoView({ block: "nearest" });
}

// Act on a check's finding, or on the one at the cursor or else the first one, in the text as it is.
const acting = (act, id, of = doc) => async () => {
	if (asking) await new Promise(resolve => (doc.judged = resolve));
	const finding = id ? of === doc && unwaived().find(each => each.check === id) : (current() ?? unwaived()[0]);
	if (finding) act(finding);
	else announce("clean");
};

// Go to the next words that a finding marks, or with -1 to the ones before.
const step = by => acting(finding => {
	const [cursor] = editor.selection();
	const all = unwaived().flatMap(({ spans, ...finding }) => spans.map(span => ({ ...finding, span, way: by * (span[0] - cursor) })));
	all.sort((one, other) => one.way - other.way);
	const next = all.find(({ way }) => way > 0) ?? all[0] ?? finding;
	if (next.span) editor.select(...next.span, true);
	announce(`${next.message} ${next.hint}`);
});

export const actions = { fix: acting(applyFix), fixAll, waive: acting(waive), nextFinding: step(1), lastFinding: step(-1) };
