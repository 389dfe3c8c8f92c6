// Blind rating: two texts for one brief, side by side; nothing says where they come from.

import { $, fill, number, on, open, post, w } from "./base.js";
import { plain, reading } from "./model.js";

let asked = {};
let pair = {};

const next = async (more) => {
	pair = await post("/api/rate", { ...asked, ...more });
	const { id, done, pairs, brief, texts } = pair;
	$("rated").textContent = id ? w("ratedOf", number(done), number(pairs)) : w(pairs ? "ratedAll" : "ratedNone", number(pairs));
	$("rate-brief").textContent = id ? `${brief.show}, ${brief.form}: ${brief.theme}` : "";
	const column = (text, index) => ({ name: w(["firstText", "secondText", "reference"][index]), text: [reading(text, plain(text))] });
	fill("pair", "variant", (texts ?? []).map(column));
	$("pair").classList.remove("open");
};

/** Rate pairs of a run as somebody: `values` are run, other, rater and suite. */
export const rate = (values) => {
	const by = $("rate").querySelector("[name=rater]");
	open("rate", () => {
		asked = { ...values, rater: by.value };
		localStorage.setItem("synopsis-by", by.value);
		next().then(() => $("rate").focus());
		return false;
	});
	by.value = values.rater || localStorage.getItem("synopsis-by") || "";
	fill("pair", "variant", []);
	for (const id of ["rated", "rate-brief"]) $(id).textContent = "";
	if (by.value) by.form.requestSubmit();
};

on($("rate"), "keydown click", ({ type, key, target }) => {
	const choice = type === "click" ? target.dataset.choice : !target.matches("input") && key;
	if (choice === "r") $("pair").classList.toggle("open");
	else if (/^[012]$/.test(choice) && pair.id) next({ pair: pair.id, choice: Number(choice) });
});
