// A line that says how something stands; screen readers hear it when it changes.

/** Put the text into a status line; `bad` where something failed. */
export function say(line, text, bad = false) {
  line.textContent = text;
  line.classList.toggle("bad", bad);
}
