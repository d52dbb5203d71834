"use strict";
// Sorts tables by the buttons in their heads, and switches between light and dark. Without it the page reads the same.
for (const button of document.querySelectorAll("th > button")) {
  button.addEventListener("click", () => {
    const head = button.parentElement;
    const table = head.closest("table");
    const place = Array.from(head.parentElement.children).indexOf(head);
    const falling = head.getAttribute("aria-sort") === "ascending";
    for (const other of head.parentElement.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", falling ? "descending" : "ascending");
    const value = (row) => row.cells[place].dataset.sort ?? row.cells[place].textContent;
    const numeric = head.classList.contains("number");
    const order = (one, two) =>
      numeric ? Number(value(one)) - Number(value(two)) : value(one).localeCompare(value(two), undefined, {numeric: true});
    const body = table.tBodies[0];
    body.append(...Array.from(body.rows).sort((one, two) => (falling ? -1 : 1) * order(one, two)));
  });
}
const theme = document.getElementById("theme");
theme.hidden = false;
theme.addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});
for (const button of document.querySelectorAll("button.copy")) {
  button.hidden = !navigator.clipboard;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(button.parentElement.querySelector("code").textContent);
    button.textContent = "copied";
  });
}
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details.table")) details.open = true;
});
