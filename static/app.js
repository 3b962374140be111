// What every page needs: tabs and forms that are filled by a click. All else works without a script.

function select(tab) {
  const tabs = tab.parentElement.querySelectorAll("[role=tab]");
  for (const other of tabs) {
    other.setAttribute("aria-selected", other === tab);
    other.tabIndex = other === tab ? 0 : -1;
  }
  if (tab.dataset.view) showView(tab.dataset.view);
  else showPanel(tab);
}

function showPanel(tab) {
  for (const other of tab.parentElement.querySelectorAll("[role=tab]")) {
    document.getElementById(other.getAttribute("aria-controls")).hidden = other !== tab;
  }
}

// On a phone one part of the session page fills the screen at a time.
function showView(view) {
  const columns = document.querySelector(".cols");
  columns.dataset.view = view;
  const inner = { console: "tab-console", results: "tab-plots" }[view];
  if (inner) select(document.getElementById(inner));
}

document.addEventListener("click", (event) => {
  const tab = event.target.closest("[role=tab]");
  if (tab) select(tab);
  const opener = event.target.closest("[data-opens]");
  if (opener) select(document.getElementById(opener.dataset.opens));
  const example = event.target.closest("[data-task]");
  if (example) fill(example, event);
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
});

function fill(example, event) {
  event.preventDefault();
  const task = document.getElementById("id_task");
  task.value = example.dataset.task;
  task.focus();
}

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    document.querySelectorAll("details.menu[open]").forEach((menu) => (menu.open = false));
  }
  const tab = event.target.closest?.("[role=tab]");
  if (!tab || !["ArrowLeft", "ArrowRight"].includes(event.key)) return;
  const step = event.key === "ArrowRight" ? 1 : -1;
  const tabs = [...tab.parentElement.querySelectorAll("[role=tab]")];
  const next = tabs.at((tabs.indexOf(tab) + step) % tabs.length);
  select(next);
  next.focus();
});
