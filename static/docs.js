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

// Swagger UI has its own dark colours, for a class on the root.
const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();

window.SwaggerUIBundle({
  url: "/openapi.json",
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
