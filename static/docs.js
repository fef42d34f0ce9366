// Docs page: inserts this server's address and, on request, the API key of this browser into the examples, adds
// copy buttons, and starts Swagger UI with /openapi.json.

import { clear, followOtherTabs, key } from "./app/session.js";

const setTexts = (selector, text) => {
  for (const element of document.querySelectorAll(selector)) element.textContent = text;
};
setTexts(".origin", location.origin);
setTexts(".scheme", location.protocol.replace(":", ""));
setTexts(".host", location.host);

// The clipboard is available only in secure contexts; elsewhere the text is selected instead.
async function copy(example, button) {
  const code = example.querySelector("code");
  try {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(code);
    button.textContent = "Selected";
  }
  setTimeout(() => (button.textContent = "Copy"), 2000);
}

for (const example of document.querySelectorAll(".example")) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.textContent = "Copy";
  button.addEventListener("click", () => copy(example, button));
  example.append(button);
}

// Swagger UI fills every field that has an example. Optional parameters show theirs in the description
// instead: as a filter, it would hide the coffee that was just logged.
async function loadSpec() {
  const response = await fetch("/openapi.json");
  if (!response.ok) throw new Error(`The server returned status ${response.status}`);
  const spec = await response.json();
  const operations = Object.values(spec.paths).flatMap(Object.values);
  for (const parameter of operations.flatMap((operation) => operation.parameters ?? [])) {
    if (parameter.required || parameter.example === undefined) continue;
    parameter.description = `${parameter.description ?? ""} For example \`${parameter.example}\`.`;
    delete parameter.example;
  }
  return spec;
}

// Accessibility fixes: a label for the request body, the visible text as the name of buttons, and no link
// inside the button that opens an operation (the address is updated anyway).
const accessibilityPlugin = ({ React: { createElement } }) => ({
  wrapComponents: {
    TextArea: (Original) => (props) => createElement(Original, { "aria-label": "Request body", ...props }),
    Button: (Original) => (props) => createElement(Original, { ...props, "aria-label": undefined }),
    DeepLink: () => ({ text }) => createElement("span", null, text),
  },
});

const spec = await loadSpec().catch((error) => {
  const reason = error instanceof TypeError ? "Can't reach the server" : error.message;
  document.querySelector("#swagger p").textContent = `${reason}. Reload the page to try again.`;
});

const swagger = spec && window.SwaggerUIBundle({
  spec,
  plugins: [accessibilityPlugin],
  dom_id: "#swagger",
  deepLinking: true,
  docExpansion: "list",
  defaultModelsExpandDepth: -1,
  defaultModelRendering: "example",
  displayRequestDuration: true,
  tryItOutEnabled: false,
  // The validator badge would send a request to another server.
  validatorUrl: null,
});

// The key is inserted only on request, so that it is not on the screen by accident.
document.querySelector("#browser-key").hidden = !key();
const forgetKey = () => {
  clear();
  location.reload();
};
followOtherTabs({ onSignedOut: forgetKey, onKeyChanged: () => location.reload() });
document.querySelector("#use-browser-key").addEventListener("click", ({ target }) => {
  // Inside double quotes of YAML, and inside single quotes of a shell.
  setTexts(".api-key", JSON.stringify(key()).slice(1, -1));
  setTexts("#set-key", `KEY='${key().replaceAll("'", "'\\''")}'`);
  swagger?.preauthorizeApiKey("key", key());
  target.disabled = true;
  setTexts("#browser-key-note", "The examples and the API reference use your key. Anyone who can see this page can see it.");
});
