// Calls of the API. Paths are relative, so that a proxy may put the page under a path of its own.

import { words } from "./words.js";

const KEPT_AS = "groundtune-key";

/** A call that failed, in words for people; `status` is 0 where nothing answered. */
export class Fault extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export const key = {
  get: () => sessionStorage.getItem(KEPT_AS) ?? "",
  keep: (value) => sessionStorage.setItem(KEPT_AS, value),
  forget: () => sessionStorage.removeItem(KEPT_AS),
};

/** The models that chat, in the server's order. */
export async function listModels() {
  const { data } = await (await call("v1/models")).json();
  return data.filter((card) => card.groundtune?.kind !== "embedding").map((card) => card.id);
}

/** A row of the knowledge base. */
export async function fetchRow(rowId) {
  return (await call(`kb/rows/${encodeURIComponent(rowId)}`)).json();
}

/**
 * Yield what each chunk of a streamed answer brings: {text, annotations, context, finishReason}.
 * Throws a Fault where the answer does not end as it should.
 */
export async function* ask(model, messages, signal) {
  const body = JSON.stringify({ model, messages, stream: true });
  const response = await call("v1/chat/completions", { method: "POST", body, signal });
  for await (const data of events(response.body)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new Fault(response.status, chunk.error.message);
    for (const { delta, finish_reason: finishReason } of chunk.choices) {
      yield { text: delta.content ?? "", annotations: delta.annotations, context: delta.context, finishReason };
    }
  }
  throw new Fault(response.status, words().halfWay);
}

async function call(path, { method = "GET", body, signal } = {}) {
  const headers = { Accept: "application/json" };
  if (body) headers["Content-Type"] = "application/json";
  if (key.get()) headers.Authorization = `Bearer ${key.get()}`;
  let response;
  try {
    response = await fetch(path, { method, body, signal, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Fault(0, words().unreachable);
  }
  if (response.ok) return response;
  const told = await response.json().catch(() => null);
  throw new Fault(response.status, told?.error?.message ?? `${response.status} ${response.statusText}`);
}

/** Yield the data of each server-sent event; a piece of the stream may end anywhere, in a character too. */
async function* events(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let held = "";
  try {
    for (;;) {
      const { done, value } = await reader.read().catch((error) => {
        if (error.name === "AbortError") throw error;
        throw new Fault(0, words().halfWay);
      });
      if (done) return;
      held += decoder.decode(value, { stream: true });
      const lines = held.split("\n");
      held = lines.pop();
      for (const line of lines) if (line.startsWith("data:")) yield line.slice(5).trim();
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
