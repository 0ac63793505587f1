// What the page's controls do: one conversation with a model, or one with each model side by side.

import { Answer, make } from "./answer.js";
import { Fault, ask, fetchRow, key, listModels } from "./service.js";
import { label, switchLanguage, words } from "./words.js";

const at = (id) => document.getElementById(id);
const log = at("log");
const question = at("question");

let models = [];
// What was said, by model in the side-by-side view; under "" in the other, where models take turns.
let said = new Map();
let running = null;

const isComparing = () => at("compare").getAttribute("aria-pressed") === "true";

function start() {
  at("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });
  question.addEventListener("keydown", (event) => {
    // Enter that chooses a word in an input method sends nothing.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
    event.preventDefault();
    send();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !event.isComposing && !document.querySelector("dialog[open]")) running?.abort();
  });
  at("stop").addEventListener("click", () => running?.abort());
  at("fresh").addEventListener("click", clear);
  at("compare").addEventListener("click", () => {
    at("compare").setAttribute("aria-pressed", String(!isComparing()));
    at("model").disabled = isComparing();
    clear();
  });
  at("language").addEventListener("click", () => {
    switchLanguage();
    relabel();
  });
  at("key").addEventListener("click", () => askForKey());
  at("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    key.keep(at("key-field").value.trim());
    closeKeyDialog();
    load();
  });
  at("key-forget").addEventListener("click", () => {
    key.forget();
    closeKeyDialog();
  });
  relabel();
  load();
}

function relabel() {
  label(document);
  at("language").textContent = words().other;
}

function closeKeyDialog() {
  at("key-field").value = "";
  at("key-dialog").close();
}

function askForKey(fault = "") {
  at("key").hidden = false;
  at("key-fault").textContent = fault;
  at("key-fault").hidden = !fault;
  if (!at("key-dialog").open) at("key-dialog").showModal();
}

async function load() {
  const chosen = at("model").value;
  try {
    models = await listModels();
  } catch (error) {
    if (error.status === 401) askForKey(key.get() ? error.message : "");
    else log.append(make("p", "fault", error.message));
    return;
  }
  at("key").hidden = !key.get();
  at("model").replaceChildren(...models.map((id) => make("option", "", id)));
  at("model").value = models.includes(chosen) ? chosen : models.at(-1);
  question.focus();
}

function clear() {
  running?.abort();
  said = new Map();
  log.replaceChildren(at("hint") ?? hint());
  question.focus();
}

function hint() {
  const node = make("p", "hint", words().hint);
  node.id = "hint";
  node.dataset.text = "hint";
  return node;
}

async function send() {
  const text = question.value.trim();
  const asked = isComparing() ? models : models.filter((id) => id === at("model").value);
  if (!text || running) return;
  if (!asked.length) {
    load();
    return;
  }
  running = new AbortController();
  at("hint")?.remove();
  question.value = "";
  setRunning(true);
  const conversation = said;
  const answers = asked.map((model) => new Answer(model, openRow));
  const turn = make("section", "turn", make("p", "asked", text), make("div", "answers", ...answers.map((one) => one.node)));
  turn.classList.toggle("wide", answers.length > 1);
  log.append(turn);
  log.scrollTop = log.scrollHeight;
  tell(words().answering);
  const { signal } = running;
  const faults = await Promise.all(
    asked.map((model, place) => answerInto(answers[place], model, isComparing() ? model : "", text, conversation, signal)),
  );
  running = null;
  setRunning(false);
  const fault = faults.find(Boolean);
  if (fault && !question.value && said === conversation) question.value = text;
  if (fault?.status === 401) askForKey(key.get() ? fault.message : "");
  else if (said === conversation) tell(answers.map((one) => (answers.length > 1 ? `${one.node.dataset.model}: ` : "") + one.text).join("\n"));
}

/** Stream one model's answer; the turn enters its history only when complete. Returns the fault, if there was one. */
async function answerInto(answer, model, thread, text, conversation, signal) {
  const messages = [...(conversation.get(thread) ?? []), { role: "user", content: text }];
  try {
    for await (const piece of ask(model, messages, signal)) follow(answer, () => answer.add(piece));
  } catch (error) {
    if (error.name === "AbortError") {
      answer.stop();
      return null;
    }
    answer.fail(error instanceof Fault ? error.message : String(error));
    return error;
  }
  follow(answer, () => answer.finish());
  conversation.set(thread, [...messages, { role: "assistant", content: answer.text }]);
  return null;
}

/** Change an answer and keep its end in view, for who has not scrolled away; of several, their beginning. */
function follow(answer, change) {
  const isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 80;
  change();
  if (!isAtEnd) return;
  const turn = answer.node.closest(".turn.wide");
  log.scrollTop = turn ? log.scrollTop + turn.getBoundingClientRect().top - log.getBoundingClientRect().top : log.scrollHeight;
}

function setRunning(isRunning) {
  const hadFocus = document.activeElement === at("stop") || document.activeElement === at("send");
  at("send").hidden = isRunning;
  at("stop").hidden = !isRunning;
  if (hadFocus) question.focus();
}

function tell(text) {
  at("told").textContent = text;
}

/** Show a cited row as the knowledge base has it now; where that fails, as the answer had it. */
async function openRow(citation) {
  let row = { question: citation.title, answer: citation.content, source: citation.filepath, row_id: citation.chunk_id };
  let fault = "";
  try {
    row = await fetchRow(citation.chunk_id);
  } catch (error) {
    fault = `${words().rowMissing} (${error.message})`;
  }
  at("row-question").textContent = row.question;
  at("row-answer").textContent = row.answer;
  at("row-path").textContent = [row.info_1, row.info_2].filter(Boolean).join(" · ");
  at("row-source").textContent = row.source;
  at("row-id").textContent = row.row_id;
  at("row-fault").textContent = fault;
  at("row-fault").hidden = !fault;
  at("row").showModal();
}

start();
