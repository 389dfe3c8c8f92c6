// Words, elements, notices, dialogs, and requests to the program.

export const root = document.documentElement; // its lang is "de" or "en"
export const WORDS = await (await fetch("/static/words.json")).json();

// The words for `key` (for `key`1 if the first value is 1), with `values` where they belong.
export function w(key, ...values) {
	const words = (values[0] === 1 && WORDS[`${key}1`]) || WORDS[key] || [key, key];
	return words[Number(root.lang === "en")].replace(/\{(\d)\}/g, (_, place) => values[place]?.toLocaleString(root.lang));
}
export const range = (limits, unit) => limits && `${w("limits", ...limits)} ${w(unit)}`;
export const joined = (...words) => words.filter(Boolean).join(" · ");
export const pick = (object, keys) => Object.fromEntries(keys.map(key => [key, object[key]]));

export function moment(iso) {
	const date = new Date(iso);
	const isToday = date.toDateString() === new Date().toDateString();
	return date.toLocaleString(root.lang, { dateStyle: isToday ? undefined : "medium", timeStyle: "short" });
}

const timers = {};
// Act after some milliseconds in which the name was not given again.
export function later(name, after, act) {
	clearTimeout(timers[name]);
	timers[name] = setTimeout(act, after);
}

// Elements: data become text and attributes, never markup.

export const $ = id => document.getElementById(id);
export const all = (selector, within = document) => [...within.querySelectorAll(selector)];
export const on = (target, names, act) => names.split(" ").forEach(name => target.addEventListener(name, act));
export const write = (id, words = "") => ($(id).textContent = words);

export function h(tag, ...children) {
	const element = document.createElement(tag);
	element.append(...children);
	return element;
}

const filled = (words, data) => words.replace(/\{(\+?)(\w+)\}/g, (_, isKey, name) => (isKey ? w(data[name]) : (data[name] ?? w(name))));

// Make an element from a template: {x} is x of the data, or else the words for x; {+x} are the words for what x is.
// `data-when` leaves out what is empty, `data-slot` takes nodes, `data-act` a function.
export function make(name, data) {
	const made = $(`t-${name}`).content.firstElementChild.cloneNode(true);
	for (const element of [made, ...all("*", made)]) {
		const { when, slot, act } = element.dataset;
		if (when && !data[when]) element.remove();
		if (!made.contains(element)) continue;
		if (act) on(element, "click", data[act]);
		for (const each of [...element.attributes, ...element.childNodes]) if (each.nodeValue) each.nodeValue = filled(each.nodeValue, data);
		if (slot) element.replaceChildren(...data[slot]);
	}
	return made;
}

export function fill(id, name, list, none) {
	$(id).replaceChildren(...list.map(data => make(name, data)));
	if (none && !list.length) $(id).append(make("none", { none: w(none) }));
}

export function label() {
	for (const element of all("[data-w]")) element.textContent = w(element.dataset.w);
	for (const element of all("[data-label]")) element.ariaLabel = w(element.dataset.label);
	for (const element of all("[data-hint]")) element.setAttribute("placeholder", w(element.dataset.hint));
}

export const announce = (...words) => write("announcer", w(...words));

const notices = {}; // each key once
// Show words above the text; `actions` are functions by the words of their buttons.
export function notice(key, words = w(key), { kind = "", actions = {}, lines = [] } = {}) {
	const shut = () => unnotice(key);
	const buttons = Object.entries(actions).map(([name, act]) => make("button", { words: w(name), act: () => [shut(), act()] }));
	const element = make("notice", { words, kind, shut, lines: lines.map(line => h("li", line)), buttons });
	if (kind === "error") element.role = "alert";
	shut();
	notices[key] = element;
	$("notices").append(element);
}
export const unnotice = (...keys) => keys.forEach(key => notices[key]?.remove());

// `submit` gets the dialog's data, and may keep it open by giving false or failing.
export function open(id, submit) {
	const dialog = $(id);
	const form = dialog.querySelector("form");
	const problem = form.querySelector(".problem");
	form.reset();
	problem.textContent = "";
	form.onsubmit = async () => {
		try {
			if ((await submit?.(new FormData(form))) !== false) dialog.close();
		} catch ({ message }) {
			problem.textContent = message;
		}
	};
	dialog.showModal();
	dialog.scrollTop = 0; // the button that has the focus is at the end
	return form.elements;
}

// Requests

const RETRY_AFTER = 1500; // milliseconds

let token = document.querySelector("[name=synopsis-token]").content;
let lost = "";

function lose(why) {
	if (lost !== why) notice("lost", w(why), { kind: "error" });
	lost = why;
	later("retry", RETRY_AFTER, () => get("journal"));
	throw Object.assign(new Error(why), { isLost: true });
}
function failed(error) {
	if (error.isLost || error.name === "AbortError") throw error;
	lose("lost");
}

// Take the token of a restarted program, once this browser opened its address.
async function renew() {
	const page = await fetch("/");
	token = /synopsis-token" content="([^"]+)/.exec(await page.text())?.[1];
	if (!page.ok) lose("restarted");
}

// Send JSON or a Blob, and get JSON or a File. An error `isLost` where nobody answers; else its `body` says why.
const request = method => async (path, body, options) => {
	function send() {
		const headers = { "Accept-Language": root.lang, "X-Synopsis-Token": token };
		return fetch(`/api/${path}`, { method, headers, body: body instanceof Blob ? body : JSON.stringify(body), ...options });
	}
	let response = await send().catch(failed);
	if (response.status === 403) response = await renew().then(send).catch(failed);
	if (lost) {
		lost = "";
		unnotice("lost");
		announce("found");
		dispatchEvent(new Event("found"));
	}
	const file = /filename="(.+)"/.exec(response.headers.get("content-disposition"));
	if (file) return new File([await response.blob()], file[1]);
	const data = await response.json().catch(failed);
	if (!response.ok) throw Object.assign(new Error(data.error?.message), { body: data });
	return data;
};

export const [get, post, put, drop] = ["GET", "POST", "PUT", "DELETE"].map(request);
export const textPath = (id, rest = "") => `texts/${encodeURIComponent(id)}${rest}`;

// `heard` has a function for each kind of event but the last, which is returned.
export async function run(path, body, heard, started) {
	const { job } = await post(path, body);
	started(() => post(`jobs/${job}/stop`));
	return new Promise(resolve => {
		const source = new EventSource(`/api/jobs/${job}/events`);
		const end = (name, data) => [source.close(), resolve([name, data])];
		for (const name in heard) on(source, name, ({ data }) => heard[name](JSON.parse(data)));
		on(source, "done failed stopped", ({ type, data }) => end(type, JSON.parse(data)));
		source.onerror = () => source.readyState === EventSource.CLOSED && end("lost", {});
	});
}
