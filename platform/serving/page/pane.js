// One answer: its reasoning and text as they stream in, the structured answer as a form, and its rating.

import { chat, rate } from "./api.js";
import { say } from "./state.js";

const template = document.getElementById("pane");
let number = 0;

/** A pane for one question to one version. */
export class Pane {
  constructor(model, mode, consent, key) {
    this.model = model;
    this.mode = mode;
    this.consent = consent;
    this.key = key;
    this.reasoning = "";
    this.answer = "";
    this.id = "";
    this.drawing = 0;
    this.element = template.content.firstElementChild.cloneNode(true);
    this.state = this.find(".state");
    const title = this.find("h2");
    number += 1;
    title.id = `pane-${number}`;
    title.textContent = model;
    this.element.setAttribute("aria-labelledby", title.id);
    for (const radio of this.element.querySelectorAll(".rating [type=radio]")) radio.name = `rating-${number}`;
  }

  find(selector) {
    return this.element.querySelector(selector);
  }

  /** Ask, and show what comes; ends when the answer is there, was stopped or failed. */
  async ask(body, signal) {
    const began = performance.now();
    let first = 0;
    let tokens = 0;
    this.busy(true);
    say(this.state, "Waiting for the first word …");
    try {
      for await (const event of chat(this.key, { ...body, model: this.model }, signal)) {
        if (event.residency) this.label(event.residency);
        this.id = event.id ?? this.id;
        tokens = event.usage?.completion_tokens ?? tokens;
        const delta = event.choices?.[0]?.delta ?? {};
        if (!delta.reasoning && !delta.content) continue;
        if (!first) {
          first = performance.now();
          say(this.state, "Answering …");
        }
        this.reasoning += delta.reasoning ?? "";
        this.answer += delta.content ?? "";
        this.drawing ||= requestAnimationFrame(() => this.draw());
      }
      this.finish();
      const took = ((performance.now() - began) / 1000).toFixed(1);
      const wait = first ? `, first word after ${((first - began) / 1000).toFixed(1)} s` : "";
      say(this.state, `Answered in ${took} s${wait}, ${tokens} tokens.`);
    } catch (error) {
      this.draw();
      if (this.mode === "structured") this.find(".answer").hidden = true; // half of it is no answer
      if (error.name === "AbortError") say(this.state, "Stopped.");
      else say(this.state, error.message, true);
    } finally {
      this.busy(false);
    }
  }

  busy(on) {
    // a live region that is busy is read when it is whole, not letter by letter
    for (const text of this.element.querySelectorAll(".text")) text.setAttribute("aria-busy", String(on));
  }

  label(label) {
    this.find("h2").textContent = `${label.model} · version ${label.version}`;
    this.find(".label").textContent = `Checkpoint ${label.checkpoint || "without a name"}. ${label.notice}`;
  }

  draw() {
    cancelAnimationFrame(this.drawing);
    this.drawing = 0;
    this.show(".reasoning", this.reasoning);
    this.show(".answer", this.answer);
  }

  show(selector, text) {
    const part = this.find(selector);
    part.hidden = !text;
    part.querySelector(".text").textContent = text;
  }

  finish() {
    this.draw();
    if (this.mode === "structured") this.fillForm(JSON.parse(this.answer));
    if (document.body.dataset.feedback === "on") this.offerRating();
  }

  fillForm(fields) {
    const form = this.find(".clinical");
    for (const place of form.querySelectorAll("[data-field]")) {
      const value = fields[place.dataset.field];
      const list = place.querySelector("ul, ol");
      if (list) {
        place.hidden = value.length === 0;
        list.replaceChildren(
          ...value.map((text) => {
            const line = document.createElement("li");
            line.textContent = text;
            return line;
          }),
        );
      } else {
        place.querySelector("output").textContent = String(value);
        const meter = place.querySelector("meter");
        if (meter) {
          meter.value = value;
          meter.setAttribute("aria-label", "confidence");
        }
      }
    }
    form.hidden = false;
    this.find(".answer").hidden = true;
  }

  offerRating() {
    const form = this.find(".rating");
    const correction = form.querySelector("textarea");
    const line = form.querySelector(".state");
    correction.disabled = !this.consent;
    form.querySelector(".correction-hint").hidden = this.consent;
    form.hidden = false;
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const rating = { request_id: this.id, rating: form.querySelector(":checked").value, consent: this.consent };
      const text = correction.value.trim();
      if (this.consent && text) rating.corrected_answer = text;
      try {
        await rate(this.key, rating);
        form.querySelector("fieldset").disabled = true;
        say(line, "Thank you: your rating is kept.");
      } catch (error) {
        say(line, error.message, true);
      }
    });
  }
}
