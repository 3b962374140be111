// What every page needs: tabs, menus, the theme, and forms that a click fills. All else works without a script.

// -- tabs --------------------------------------------------------------------------------------
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
  const copier = event.target.closest("[data-copies]");
  if (copier) copy(copier);
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") closeMenus();
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) send(event);
  const tab = event.target.closest?.("[role=tab]");
  if (!tab || !["ArrowLeft", "ArrowRight"].includes(event.key)) return;
  const step = event.key === "ArrowRight" ? 1 : -1;
  const tabs = [...tab.parentElement.querySelectorAll("[role=tab]")];
  const next = tabs.at((tabs.indexOf(tab) + step) % tabs.length);
  select(next);
  next.focus();
});

function closeMenus() {
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    const wasInside = menu.contains(document.activeElement);
    menu.open = false;
    if (wasInside) menu.querySelector("summary").focus();
  }
}

// -- forms -------------------------------------------------------------------------------------
/** Ctrl+Enter in a text area sends its form. */
function send(event) {
  const form = event.target.closest?.("textarea")?.form;
  if (!form || event.defaultPrevented) return;
  event.preventDefault();
  form.requestSubmit();
}

/** An example says everything: its mode, its task, and each setting (what it does not name is as usual). */
function fill(example, event) {
  event.preventDefault();
  const task = document.getElementById("id_task");
  task.value = example.dataset.task;
  const { form } = task;
  const mode = form.querySelector(`[name=mode][value="${example.dataset.mode}"]`);
  if (mode) mode.checked = true;
  showSettings(form);
  const wanted = JSON.parse(example.dataset.config || "{}");
  const prefix = `config-${example.dataset.mode}-`;
  for (const field of form.querySelectorAll(`[name^="${prefix}"]`)) {
    set(field, wanted[field.name.slice(prefix.length)]);
  }
  task.focus();
}

function set(field, value) {
  if (field.type === "checkbox") field.checked = Boolean(value);
  else field.value = typeof value === "object" && value ? JSON.stringify(value) : (value ?? "");
}

/** Only the settings of the mode that is chosen. */
function showSettings(form) {
  const chosen = form.querySelector("[name=mode]:checked")?.value;
  for (const part of form.querySelectorAll("[data-of-mode]")) part.hidden = part.dataset.ofMode !== chosen;
}

for (const form of document.querySelectorAll("form:has([data-of-mode])")) {
  showSettings(form);
  form.addEventListener("change", () => showSettings(form));
}

async function copy(button) {
  const said = button.textContent;
  try {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copies).textContent);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(document.getElementById(button.dataset.copies)); // a browser that asks first
    button.textContent = "Press Ctrl+C";
  }
  setTimeout(() => (button.textContent = said), 2500);
}

// -- the theme ---------------------------------------------------------------------------------
const theme = document.getElementById("theme");

function showTheme(name) {
  const chosen = ["light", "dark"].includes(name) ? name : "system";
  if (chosen === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = chosen;
  theme.querySelector(`[value=${chosen}]`).checked = true;
}

function keepTheme(name) {
  try {
    localStorage.setItem("theme", name);
  } catch {
    // kept nowhere: it holds for this page
  }
}

if (theme) {
  theme.hidden = false;
  showTheme(document.documentElement.dataset.theme);
  theme.addEventListener("change", ({ target }) => {
    showTheme(target.value);
    keepTheme(target.value);
  });
  addEventListener("storage", ({ key, newValue }) => key === "theme" && showTheme(newValue));
}
