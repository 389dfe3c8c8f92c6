// The words of the page, German and English, from words.json.

const WORDS = await (await fetch("/static/words.json")).json();

/** The language of the page: "de" or "en". */
export let language = document.documentElement.lang;

export const speak = (name) => {
	language = document.documentElement.lang = name;
};

/** The words for `key`, with `values` in their places. */
export const w = (key, ...values) =>
	(WORDS[key]?.[language === "en" ? 1 : 0] ?? key).replace(/\{(\d)\}/g, (whole, place) => values[place] ?? whole);

export const has = (key) => Object.hasOwn(WORDS, key);
export const number = (value) => Number(value).toLocaleString(language);
export const range = (limits) => limits && w("limits", ...limits.map(number));

/** A moment as the language writes it, without the day if that is today. */
export const moment = (iso) => {
	const date = new Date(iso);
	const day = date.toDateString() === new Date().toDateString() ? {} : { day: "numeric", month: "short" };
	return date.toLocaleString(language, { ...day, hour: "2-digit", minute: "2-digit" });
};
