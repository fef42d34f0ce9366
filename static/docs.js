// The docs page: samples that speak of the very server they were read on, a button to copy each, and
// Swagger UI on /openapi.json.

const show = (selector, text) => {
  for (const place of document.querySelectorAll(selector)) place.textContent = text;
};
show(".origin", location.origin);
show(".scheme", location.protocol.replace(":", ""));
show(".host", location.host);

// Browsers lend the clipboard to secure pages alone; elsewhere the text is selected instead.
async function copy(sample, button) {
  const text = sample.querySelector("code").textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(sample.querySelector("code"));
    button.textContent = "Selected";
  }
  setTimeout(() => (button.textContent = "Copy"), 2000);
}

for (const sample of document.querySelectorAll(".sample")) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.textContent = "Copy";
  button.addEventListener("click", () => copy(sample, button));
  sample.append(button);
}

// Swagger UI fills every field that has an example: a filter that need not be there would then hide the
// coffee just logged. What is optional says its example in words instead.
async function readDocument() {
  const reply = await fetch("/openapi.json");
  if (!reply.ok) throw new Error(`The server answered ${reply.status}`);
  const spec = await reply.json();
  const operations = Object.values(spec.paths).flatMap(Object.values);
  for (const parameter of operations.flatMap((operation) => operation.parameters ?? [])) {
    if (parameter.required || parameter.example === undefined) continue;
    parameter.description = `${parameter.description ?? ""} For example \`${parameter.example}\`.`;
    delete parameter.example;
  }
  return spec;
}

// What its markup lacks for those who listen to it: a name for the request's body, the name that is
// written on a button, and no link inside the button that opens a route (the address follows it anyway).
const forListeners = ({ React: { createElement } }) => ({
  wrapComponents: {
    TextArea: (Original) => (props) => createElement(Original, { "aria-label": "Request body", ...props }),
    Button: (Original) => (props) => createElement(Original, { ...props, "aria-label": undefined }),
    DeepLink: () => ({ text }) => createElement("span", null, text),
  },
});

const spec = await readDocument().catch((failure) => {
  const why = failure instanceof TypeError ? "The server cannot be reached" : failure.message;
  document.querySelector("#swagger p").textContent = `${why}. Reload this page in a moment.`;
});

if (spec) window.SwaggerUIBundle({
  spec,
  plugins: [forListeners],
  dom_id: "#swagger",
  deepLinking: true,
  docExpansion: "list",
  defaultModelsExpandDepth: -1,
  defaultModelRendering: "example",
  displayRequestDuration: true,
  tryItOutEnabled: false,
  // Its badge would ask a server elsewhere.
  validatorUrl: null,
});
