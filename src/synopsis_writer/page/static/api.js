// Requests to the program on this machine, and what happens while it does not answer.

import { language } from "./words.js";

const TOKEN = document.querySelector('meta[name="synopsis-token"]').content;
const RETRY = 1500; // milliseconds

/** The program refused a request; `body` is its answer. */
export class RefusedError extends Error {
	constructor(status, body) {
		super(body.error?.message ?? String(status));
		Object.assign(this, { status, body });
	}
}

/** The program did not answer. */
export class LostError extends Error {}

/** Events: `lost` once the program does not answer, `found` once it does again. */
export const connection = new EventTarget();
let isLost = false;

const answered = (now) => {
	if (isLost !== now) return;
	isLost = !now;
	connection.dispatchEvent(new Event(now ? "found" : "lost"));
};

const retry = () => get("/api/journal").catch((error) => error instanceof LostError && setTimeout(retry, RETRY));

/** Ask the program, with JSON or a Blob; returns what its JSON holds. */
const request = (method) => async (path, body, options = {}) => {
	const headers = { "Accept-Language": language, "X-Synopsis-Token": TOKEN };
	const isRaw = body instanceof Blob;
	if (body && !isRaw) headers["Content-Type"] = "application/json";
	let response;
	try {
		response = await fetch(path, { method, headers, body: body && (isRaw ? body : JSON.stringify(body)), ...options });
	} catch (error) {
		if (error.name === "AbortError") throw error;
		if (!isLost) setTimeout(retry, RETRY);
		answered(false);
		throw new LostError(error.message);
	}
	answered(true);
	if (path.startsWith("/api/export") && response.ok) return response;
	const data = await response.json().catch(() => ({}));
	if (!response.ok) throw new RefusedError(response.status, data);
	return data;
};

export const [get, post, put, drop] = ["GET", "POST", "PUT", "DELETE"].map(request);
export const textPath = (id, rest = "") => `/api/texts/${id.split("/").map(encodeURIComponent).join("/")}${rest}`;

/**
 * Start a job and follow it; resolves with the last event, [name, data].
 * @param {string} path
 * @param {object} body
 * @param {(name: string, data: any) => void} heard called for each event before the last one
 * @param {(stop: () => void) => void} started given what stops the job
 */
export const run = async (path, body, heard, started) => {
	const { job } = await post(path, body);
	started(() => post(`/api/jobs/${job}/stop`).catch(() => {}));
	return new Promise((resolve) => {
		const source = new EventSource(`/api/jobs/${job}/events`);
		const end = (...last) => {
			source.close();
			resolve(last);
		};
		const follow = (name, act) => source.addEventListener(name, ({ data }) => act(name, JSON.parse(data)));
		for (const name of ["status", "growing", "attempt"]) follow(name, heard);
		for (const name of ["done", "failed", "stopped"]) follow(name, end);
		source.onerror = () => source.readyState === EventSource.CLOSED && end("lost", {});
	});
};
