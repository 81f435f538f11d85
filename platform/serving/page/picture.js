// The picture of the question: chosen, dropped or pasted; shown, and read as a data URL.

import { say } from "./state.js";

const find = (id) => document.getElementById(id);
// base64 makes four bytes of three, and the question needs some room too
const mostBytes = Math.floor(Number(document.body.dataset.bodyMib) * 2 ** 20 * 0.74);

let picture = null;
let shown = "";

/** The chosen picture as a data URL, or null. */
export function readPicture() {
  if (picture === null) return Promise.resolve(null);
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(picture);
  });
}

function choose(file) {
  if (!file) return;
  if (!file.type.startsWith("image/")) {
    say(find("file-state"), `${file.name || "This"} is no picture.`, true);
    return;
  }
  if (file.size > mostBytes) {
    say(find("file-state"), `${file.name || "The picture"} is too large.`, true);
    return;
  }
  URL.revokeObjectURL(shown);
  picture = file;
  shown = URL.createObjectURL(file);
  find("preview").src = shown;
  find("file-name").textContent = file.name || "pasted picture";
  find("chosen").hidden = false;
  say(find("file-state"), "Picture chosen.");
}

function remove() {
  URL.revokeObjectURL(shown);
  picture = null;
  shown = "";
  find("file").value = "";
  find("preview").removeAttribute("src");
  find("chosen").hidden = true;
  say(find("file-state"), "Picture removed.");
  find("file").focus();
}

/** Let the page take pictures in each of the three ways. */
export function takePictures() {
  const drop = find("drop");
  find("most").textContent = (mostBytes / 1e6).toFixed(1);
  find("file").addEventListener("change", (event) => choose(event.target.files[0]));
  find("remove").addEventListener("click", remove);
  drop.addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    if (!find("ask-fields").disabled) choose(event.dataTransfer.files[0]);
  });
  document.addEventListener("paste", (event) => {
    const file = [...event.clipboardData.files].find((each) => each.type.startsWith("image/"));
    if (!file || find("ask-fields").disabled) return;
    event.preventDefault();
    choose(file);
  });
}
