// The page: the key, the question, and one or two panes of answers.

import { listModels } from "./api.js";
import { Pane } from "./pane.js";
import { readPicture, takePictures } from "./picture.js";
import { say } from "./state.js";

const KEY = "residency-key"; // in this tab's storage, nowhere else
const find = (id) => document.getElementById(id);
const feedback = document.body.dataset.feedback === "on";

let stopper = null;

function fillModels(names) {
  const option = (name, text) => new Option(text ?? name, name);
  find("model").replaceChildren(...names.map((name) => option(name)));
  find("other").replaceChildren(option("", "no other version"), ...names.map((name) => option(name)));
}

async function connect() {
  const key = find("key").value.trim();
  say(find("door-state"), "Connecting …");
  try {
    fillModels(await listModels(key));
  } catch (error) {
    say(find("door-state"), error.message, true);
    return;
  }
  sessionStorage.setItem(KEY, key);
  find("ask-fields").disabled = false;
  find("forget").hidden = false;
  say(find("door-state"), "Connected.");
}

function forget() {
  sessionStorage.removeItem(KEY);
  stopper?.abort();
  find("key").value = "";
  find("ask-fields").disabled = true;
  find("forget").hidden = true;
  find("answers").replaceChildren();
  say(find("door-state"), "The key is forgotten.");
  find("key").focus();
}

async function ask() {
  const key = sessionStorage.getItem(KEY);
  const mode = document.querySelector("[name=mode]:checked").value;
  const consent = feedback && find("consent").checked;
  const picture = await readPicture();
  const content = picture ? [{ type: "image_url", image_url: { url: picture } }] : [];
  content.push({ type: "text", text: find("question").value.trim() });
  const body = {
    messages: [{ role: "user", content }],
    temperature: 0, // two versions differ by their weights then, not by chance
    stream_options: { include_usage: true },
    residency: consent ? { mode, consent } : { mode },
  };
  const names = [find("model").value, find("other").value].filter((name) => name !== "");
  const panes = names.map((name) => new Pane(name, mode, consent, key));
  find("answers").classList.toggle("two", panes.length === 2);
  find("answers").replaceChildren(...panes.map((pane) => pane.element));
  stopper = new AbortController();
  find("stop").hidden = false;
  find("send").disabled = true;
  say(find("ask-state"), panes.length === 2 ? "Both versions are asked." : "Asked.");
  await Promise.all(panes.map((pane) => pane.ask(body, stopper.signal)));
  find("stop").hidden = true;
  find("send").disabled = false;
  say(find("ask-state"), panes.length === 2 ? "Both answers are below." : "The answer is below.");
}

find("door").addEventListener("submit", (event) => {
  event.preventDefault();
  connect();
});
find("forget").addEventListener("click", forget);
find("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!find("send").disabled) ask();
});
find("question").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && event.ctrlKey) find("ask").requestSubmit();
});
find("stop").addEventListener("click", () => stopper?.abort());
find("feedback-off").hidden = feedback;
find("consent-line").hidden = !feedback;
takePictures();
find("key").value = sessionStorage.getItem(KEY) ?? "";
if (find("key").value) connect();
